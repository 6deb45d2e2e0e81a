package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/store"
)

// Verdict is what an audit says.
type Verdict string

// The verdicts of an audit.
const (
	Proven     Verdict = "proven"     // no two servers ever owned a unit under overlapping epochs
	Overlap    Verdict = "overlap"    // they did, or one acted without owning the unit
	Incomplete Verdict = "incomplete" // what is there does not contradict it, but something is missing
)

// Report is the outcome of an audit.
type Report struct {
	Verdict  Verdict     `json:"verdict"`
	Ledgers  []Facts     `json:"ledgers"`
	Units    []UnitFacts `json:"units"`
	Findings []string    `json:"findings"` // each one breaks the rule
	Missing  []string    `json:"missing"`  // each one keeps the audit from being a proof
	Warnings []string    `json:"warnings"` // worth knowing, and harmless: the switch has seen to that
}

// Facts is what was read of one server's ledger.
type Facts struct {
	File    string    `json:"file"`
	Server  string    `json:"server"`
	Entries int       `json:"entries"`
	First   uint64    `json:"first"` // positions
	Last    uint64    `json:"last"`
	From    time.Time `json:"from"` // by this server's clock
	To      time.Time `json:"to"`
}

// UnitFacts is one unit's history.
type UnitFacts struct {
	Name   string `json:"name"`
	Group  string `json:"group"`
	Grants int    `json:"grants"`
	Holds  []Hold `json:"holds"`
}

// Hold is a span of epochs, both ends included, in which the unit was one server's.
type Hold struct {
	Owner string `json:"owner"` // empty: nobody
	From  uint32 `json:"from"`
	To    uint32 `json:"to"` // the newest that either ledger shows
	// Inferred: some epochs of the span are in neither ledger, and nobody else can have been the owner.
	Inferred bool `json:"inferred,omitempty"`
}

// Ledger is one server's ledger, read.
type Ledger struct {
	Path    string
	Server  string
	Entries []Entry
	Missing []string // what could not be read
	Notes   []string // what is worth saying of it
}

// Read reads a ledger: a file, or a state directory. What is damaged is told and skipped.
func Read(path string) (*Ledger, error) {
	c, err := store.ReadLog(path, store.LedgerName)
	if err != nil {
		return nil, err
	}
	return FromContents(path, c), nil
}

// FromContents takes a ledger that was read by store.ReadLog.
func FromContents(path string, c store.Contents) *Ledger {
	l := &Ledger{Path: path, Missing: slices.Clone(c.Damaged)}
	if c.Torn != "" {
		l.Notes = append(l.Notes, c.Torn)
	}
	for _, m := range c.Missing {
		l.Missing = append(l.Missing, fmt.Sprintf("%s: there is nothing of position %v", path, m))
	}
	for _, r := range c.Records {
		e, err := Decode(r)
		switch {
		case err != nil:
			l.Missing = append(l.Missing, path+": "+err.Error())
			continue
		case l.Server == "":
			l.Server = e.Server
		case l.Server != e.Server:
			l.Missing = append(l.Missing, fmt.Sprintf(
				"%s: position %d was written by %s, those before by %s: two ledgers in one", path, e.Pos, e.Server, l.Server))
			continue
		}
		l.Entries = append(l.Entries, e)
	}
	return l
}

// auditor carries one audit.
type auditor struct {
	report  Report
	ledgers [2]*Ledger
	units   []*unitHistory
}

// Audit merges the ledgers of the two servers of a pair by the switch's epochs.
func Audit(a, b *Ledger) *Report {
	x := &auditor{ledgers: [2]*Ledger{a, b}}
	x.report.Findings, x.report.Missing, x.report.Warnings = []string{}, []string{}, []string{}
	x.report.Units = []UnitFacts{}
	for _, l := range x.ledgers {
		x.describe(l)
	}
	switch {
	case len(a.Entries) == 0 || len(b.Entries) == 0:
	case a.Server == b.Server:
		x.missing("both ledgers are of %s: the other server's is needed", a.Server)
	default:
		x.collect()
		for _, u := range x.units {
			x.unit(u)
		}
		x.common()
	}
	switch {
	case len(x.report.Findings) > 0:
		x.report.Verdict = Overlap
	case len(x.report.Missing) > 0:
		x.report.Verdict = Incomplete
	default:
		x.report.Verdict = Proven
	}
	return &x.report
}

func (x *auditor) missing(format string, args ...any) {
	x.report.Missing = append(x.report.Missing, fmt.Sprintf(format, args...))
}

func (x *auditor) finding(format string, args ...any) {
	x.report.Findings = append(x.report.Findings, fmt.Sprintf(format, args...))
}

func (x *auditor) warning(format string, args ...any) {
	x.report.Warnings = append(x.report.Warnings, fmt.Sprintf(format, args...))
}

// describe reports what was read of a ledger.
func (x *auditor) describe(l *Ledger) {
	f := Facts{File: l.Path, Server: l.Server, Entries: len(l.Entries)}
	if n := len(l.Entries); n > 0 {
		f.First, f.Last, f.From, f.To = l.Entries[0].Pos, l.Entries[n-1].Pos, l.Entries[0].At, l.Entries[n-1].At
		if f.First > 1 {
			x.warning("%s begins at position %d: what is older was removed by its rotation and is not part of the proof",
				l.Path, f.First)
		}
	} else {
		x.missing("%s holds no entries", l.Path)
	}
	x.report.Ledgers = append(x.report.Ledgers, f)
	x.report.Missing = append(x.report.Missing, l.Missing...)
	x.report.Warnings = append(x.report.Warnings, l.Notes...)
}

// source says where a fact is written.
type source struct {
	ledger int
	pos    uint64
}

// fact is one epoch of a unit of which the key is known.
type fact struct {
	key Key
	source
}

// unitHistory is what the two ledgers say of one unit.
type unitHistory struct {
	name, group string
	facts       []fact
	spans       []span          // of renewals
	asked       []ask           // swaps that were asked for, by their new epoch
	entries     [2][]*Entry     // of each ledger, in its order
	boots       [2][]bootBegin  // of each ledger
	given       map[uint32]bool // epochs that a server is on record as having been given
	owners      []Hold
	seenBy      [2]bool
}

// ask is a swap that was asked for: whether it was carried out is another matter.
type ask struct {
	before, after Key
	source
}

// span is a run of renewals: all epochs of it are one owner's.
type span struct {
	owner    string
	from, to uint32
	source
}

// bootBegin is a position at which a server's operating system had been started anew.
type bootBegin struct{ pos uint64 }

func (x *auditor) history(e *Entry) *unitHistory {
	for _, u := range x.units {
		if u.name == e.Unit {
			return u
		}
	}
	u := &unitHistory{name: e.Unit, group: e.Group, given: map[uint32]bool{}}
	x.units = append(x.units, u)
	return u
}

// collect sorts the entries by unit and takes the facts out of them.
func (x *auditor) collect() {
	var boots [2][]bootBegin
	for li, l := range x.ledgers {
		boot := ""
		for i := range l.Entries {
			e := &l.Entries[i]
			if boot != "" && e.Boot != boot {
				boots[li] = append(boots[li], bootBegin{e.Pos})
			}
			boot = e.Boot
			if e.Unit == "" {
				continue
			}
			u := x.history(e)
			u.entries[li] = append(u.entries[li], e)
			u.seenBy[li] = true
			u.take(e, source{li, e.Pos})
		}
	}
	for _, u := range x.units {
		u.boots = boots
	}
	slices.SortFunc(x.units, func(a, b *unitHistory) int { return cmp.Compare(a.name, b.name) })
}

// take notes what an entry says of the unit's key.
func (u *unitHistory) take(e *Entry, s source) {
	add := func(k *Key) {
		if k != nil {
			u.facts = append(u.facts, fact{*k, s})
		}
	}
	switch e.Kind {
	case Granted, Released:
		add(e.Before)
		add(e.After)
		u.given[e.After.Epoch] = true
	case Renewed:
		add(e.Before)
		add(e.After)
		u.given[e.After.Epoch] = true
		u.spans = append(u.spans, span{e.After.Owner, e.Before.Epoch, e.After.Epoch, s})
	case Seen, Revoked, Refused:
		add(e.After)
	case Asked, ReleaseAsked:
		u.asked = append(u.asked, ask{*e.Before, *e.After, s})
	}
}

// common says whether the two ledgers are of one pair at all.
func (x *auditor) common() {
	if len(x.units) == 0 {
		x.missing("neither ledger says anything of a storage unit")
		return
	}
	for _, u := range x.units {
		if u.seenBy[0] && u.seenBy[1] {
			return
		}
	}
	x.missing("no storage unit is in both ledgers: are these the two servers of one pair?")
}

func (x *auditor) where(s source) string {
	return fmt.Sprintf("%s's ledger, position %d", x.ledgers[s.ledger].Server, s.pos)
}

// unit audits one unit.
func (x *auditor) unit(u *unitHistory) {
	slices.SortStableFunc(u.asked, func(a, b ask) int { return cmp.Compare(a.after.Epoch, b.after.Epoch) })
	if x.oneKeyAnEpoch(u) && x.carriedOut(u) && x.oneOwnerASpan(u) {
		x.timeline(u)
		x.byItself(u)
		for li := range x.ledgers {
			x.acts(u, li)
		}
	}
	x.grants(u)
	facts := UnitFacts{Name: u.name, Group: u.group, Holds: orEmpty(u.owners)}
	for li := range u.entries {
		for _, e := range u.entries[li] {
			if e.Kind == Granted {
				facts.Grants++
			}
		}
	}
	x.report.Units = append(x.report.Units, facts)
}

func orEmpty(h []Hold) []Hold {
	if h == nil {
		return []Hold{}
	}
	return h
}

// oneKeyAnEpoch: nobody has seen two keys under one epoch. It leaves one fact an epoch, in their order.
func (x *auditor) oneKeyAnEpoch(u *unitHistory) bool {
	slices.SortStableFunc(u.facts, func(a, b fact) int { return cmp.Compare(a.key.Epoch, b.key.Epoch) })
	kept := u.facts[:0:0]
	good := true
	for _, f := range u.facts {
		if n := len(kept); n > 0 && kept[n-1].key.Epoch == f.key.Epoch {
			if was := kept[n-1]; was.key != f.key {
				good = false
				x.finding("unit %s: epoch %d was %s's (%s) and %s's (%s)", u.name, f.key.Epoch,
					who(was.key), x.where(was.source), who(f.key), x.where(f.source))
			}
			continue
		}
		kept = append(kept, f)
	}
	u.facts = kept
	return good
}

func who(k Key) string {
	owner := k.Owner
	if owner == "" {
		owner = "nobody"
	}
	if k.Round > 0 {
		owner += fmt.Sprintf(" (round %d by %s)", k.Round, k.By)
	}
	return owner
}

// asks are the swaps that were asked for under one new epoch.
func (u *unitHistory) asks(epoch uint32) []ask {
	by := func(a ask, n uint32) int { return cmp.Compare(a.after.Epoch, n) }
	from, _ := slices.BinarySearchFunc(u.asked, epoch, by)
	to, _ := slices.BinarySearchFunc(u.asked, epoch+1, by)
	return u.asked[from:max(from, to)]
}

// carriedOut: where the switch shows a key that only one swap can have led to, that swap was carried out, though its
// answer was not written down; so the key that it was to replace was there before.
func (x *auditor) carriedOut(u *unitHistory) bool {
	var more []fact
	for _, f := range u.facts {
		var from []ask
		for _, a := range u.asks(f.key.Epoch) {
			if a.after == f.key && !slices.ContainsFunc(from, func(b ask) bool { return a.before == b.before }) {
				from = append(from, a)
			}
		}
		if len(from) == 1 {
			more = append(more, fact{from[0].before, from[0].source})
		}
	}
	u.facts = append(u.facts, more...)
	return x.oneKeyAnEpoch(u)
}

// at returns the place of the first fact of an epoch or a newer one.
func (u *unitHistory) at(epoch uint32) int {
	i, _ := slices.BinarySearchFunc(u.facts, epoch, func(f fact, n uint32) int { return cmp.Compare(f.key.Epoch, n) })
	return i
}

// oneOwnerASpan: no epoch between the ends of a run of renewals was somebody else's.
func (x *auditor) oneOwnerASpan(u *unitHistory) bool {
	good := true
	slices.SortStableFunc(u.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range u.spans {
		for _, f := range u.facts[u.at(s.from):] {
			if f.key.Epoch > s.to {
				break
			}
			if f.key.Owner != s.owner {
				good = false
				x.finding("unit %s: %s renewed its key from epoch %d to %d (%s), but %d was %s's (%s)", u.name, s.owner,
					s.from, s.to, x.where(s.source), f.key.Epoch, who(f.key), x.where(f.source))
			}
		}
	}
	return good
}

// grants: on each server, in the order of its ledger, every key that it was given is newer than all before.
func (x *auditor) grants(u *unitHistory) {
	for li, l := range x.ledgers {
		newest, at := uint32(0), uint64(0)
		for _, e := range u.entries[li] {
			switch e.Kind {
			case Granted, Renewed, Released:
			case Seen, Revoked:
				if e.Before != nil && e.After.Epoch < e.Before.Epoch {
					x.finding("unit %s: the switch went back from epoch %d to %d (%s's ledger, position %d)", u.name,
						e.Before.Epoch, e.After.Epoch, l.Server, e.Pos)
				}
				continue
			default:
				continue
			}
			if e.Kind != Renewed && e.After.Epoch != e.Before.Epoch+1 || e.After.Epoch <= e.Before.Epoch {
				x.finding("unit %s: a swap led from epoch %d to %d (%s's ledger, position %d)", u.name, e.Before.Epoch,
					e.After.Epoch, l.Server, e.Pos)
			}
			if e.After.Epoch <= newest {
				x.finding("unit %s: %s was given epoch %d (position %d) after epoch %d (position %d)", u.name, l.Server,
					e.After.Epoch, e.Pos, newest, at)
			}
			newest, at = max(newest, e.After.Epoch), e.Pos
		}
	}
}

// timeline makes the spans of ownership, and finds what is in neither ledger.
func (x *auditor) timeline(u *unitHistory) {
	for i, f := range u.facts {
		if i == 0 {
			u.owners = append(u.owners, Hold{Owner: f.key.Owner, From: f.key.Epoch, To: f.key.Epoch})
			continue
		}
		last := &u.owners[len(u.owners)-1]
		gap := f.key.Epoch > last.To+1 && !u.renewedOver(last.To, f.key.Epoch)
		switch {
		case gap && f.key.Owner == last.Owner && f.key.Owner != "":
			last.Inferred = true
		case gap && u.askedOver(last.To+1, f.key.Epoch-1, last):
			last = &u.owners[len(u.owners)-1]
			last.Inferred = true
		case gap:
			x.missing("unit %s: epochs %d to %d are in neither ledger; %s before, %s after (%s)", u.name, last.To+1,
				f.key.Epoch-1, ownerName(last.Owner), ownerName(f.key.Owner), x.where(f.source))
		}
		if f.key.Owner == last.Owner {
			last.To = f.key.Epoch
		} else {
			u.owners = append(u.owners, Hold{Owner: f.key.Owner, From: f.key.Epoch, To: f.key.Epoch})
		}
	}
}

// byItself tells of changes of owner that no server asked for: a switch that was without power comes back connected to
// its default port, under a newer epoch.
func (x *auditor) byItself(u *unitHistory) {
	for i, h := range u.owners {
		asked := slices.ContainsFunc(u.asks(h.From), func(a ask) bool { return a.after.Owner == h.Owner })
		if i > 0 && h.Owner != "" && !asked && !u.given[h.From] && h.From == u.owners[i-1].To+1 {
			x.warning("unit %s: epoch %d went to %s, and no server has on record that it asked for it: the switch did that by "+
				"itself, as after a power cycle, or the record is lost", u.name, h.From, h.Owner)
		}
	}
}

func ownerName(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

// renewedOver: a run of renewals covers all epochs between two known ones.
func (u *unitHistory) renewedOver(from, to uint32) bool {
	i, found := slices.BinarySearchFunc(u.spans, from, func(s span, n uint32) int { return cmp.Compare(s.from, n) })
	if !found {
		i--
	}
	return i >= 0 && u.spans[i].to >= to
}

// askedOver: of every epoch from … to exactly one owner is on record as having asked for it, so that what was asked
// must have been granted, though its answer was not written down. It extends the spans by them.
func (u *unitHistory) askedOver(from, to uint32, last *Hold) bool {
	const most = 64
	if to-from >= most {
		return false
	}
	var owners []string
	for n := from; n <= to; n++ {
		asks := u.asks(n)
		if len(asks) == 0 {
			return false
		}
		owner := asks[0].after.Owner
		if slices.ContainsFunc(asks, func(a ask) bool { return a.after.Owner != owner }) {
			return false
		}
		owners = append(owners, owner)
	}
	for i, owner := range owners {
		n := from + uint32(i)
		if owner == last.Owner {
			last.To = n
			continue
		}
		u.owners = append(u.owners, Hold{Owner: owner, From: n, To: n})
		last = &u.owners[len(u.owners)-1]
	}
	return true
}

// holdOf returns the place of the newest span that begins at an epoch or before it; -1: none does.
func (u *unitHistory) holdOf(epoch uint32) int {
	i, found := slices.BinarySearchFunc(u.owners, epoch, func(h Hold, n uint32) int { return cmp.Compare(h.From, n) })
	if !found {
		i--
	}
	return i
}

// ownerAt says whose an epoch was.
func (u *unitHistory) ownerAt(epoch uint32) (string, bool) {
	i := u.holdOf(epoch)
	if i < 0 || epoch > u.owners[i].To {
		return "", false
	}
	return u.owners[i].Owner, true
}

// lostAfter returns the first epoch after the given one that was not the server's.
func (u *unitHistory) lostAfter(server string, epoch uint32) (Hold, bool) {
	for _, h := range u.owners[u.holdOf(epoch)+1:] {
		if h.Owner != server {
			return h, true
		}
	}
	return Hold{}, false
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	for _, l := range r.Ledgers {
		fmt.Fprintf(&b, "%s: %s, %d entries", l.Server, l.File, l.Entries)
		if l.Entries > 0 {
			const layout = "2006-01-02 15:04:05"
			fmt.Fprintf(&b, ", positions %d to %d, %s to %s", l.First, l.Last, l.From.Local().Format(layout),
				l.To.Local().Format(layout))
		}
		b.WriteString("\n")
	}
	for _, u := range r.Units {
		fmt.Fprintf(&b, "\nunit %s (group %s): %d grants\n", u.Name, u.Group, u.Grants)
		for _, h := range u.Holds {
			inferred := ""
			if h.Inferred {
				inferred = "  (some of these epochs by inference)"
			}
			fmt.Fprintf(&b, "  epoch %6d … %-6d  %s%s\n", h.From, h.To, ownerName(h.Owner), inferred)
		}
	}
	for _, s := range []struct {
		head  string
		lines []string
	}{{"warning", r.Warnings}, {"missing", r.Missing}, {"FINDING", r.Findings}} {
		for i, line := range s.lines {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%s: %s\n", s.head, line)
		}
	}
	switch r.Verdict {
	case Proven:
		b.WriteString("\nPROVEN: ownership never overlapped.\n")
	case Overlap:
		b.WriteString("\nNOT PROVEN: the ledgers contradict it; see the findings.\n")
	case Incomplete:
		b.WriteString("\nNOT PROVEN: nothing contradicts it, but something is missing.\n")
	}
	return b.String()
}
