// Package decision keeps what each decision of an agent rested on, in such a form that it can be made again: the
// parameters, the state before, the event, and what came of it.
//
// Only decisions are kept, not every beat: a Step that changed the verdict, a group's phase, the hard state, or asked
// for something to be done. This package must never decide anything itself: it asks failover.Step again, and says
// whether the answer is the same.
package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// Kind is the kind of the records that hold decisions.
const Kind = "decision"

// AboutVerdict is what a decision is about that changed the verdict.
const AboutVerdict = "verdict"

// Decision is one Step that mattered.
type Decision struct {
	ID      string    `json:"-"`
	At      time.Time `json:"-"`
	Server  string    `json:"-"`
	Version string    `json:"version"` // of the program
	Rules   string    `json:"rules"`   // digest of the table that was in force
	Names   Names     `json:"names"`
	Links   []Link    `json:"links"`
	// About names what was decided on: the verdict, and groups.
	About []string `json:"about"`
	// Renewals that were not recorded since the decision before this one: a winner's or owner's key for a newer one.
	Renewals int `json:"renewals,omitempty"`
	Lost     int `json:"lost,omitempty"` // decisions before this one that could not be recorded

	Params failover.Params `json:"params"`
	Before failover.State  `json:"before"`
	Event  failover.Event  `json:"event"`
	// Unrecorded: the hard state could not be written, so only what needs no record was decided.
	Unrecorded bool `json:"unrecorded,omitempty"`

	Actions []failover.Action `json:"actions"`
	After   string            `json:"after"` // digest of the state after
}

// Names are those of the configuration, in the order of the decision's indices.
type Names struct {
	Servers [2]string `json:"servers"`
	Groups  []string  `json:"groups"`
	Units   []string  `json:"units"`
}

// Link is what was seen of a link in that moment.
type Link struct {
	Name string        `json:"name"`
	Ever bool          `json:"ever"`   // a beat was heard since the agent's start
	Age  time.Duration `json:"age_ns"` // of the newest beat
}

// Rules is the digest of what this program decides by: the table, and the names that numbers on record stand for.
var Rules = sync.OnceValue(func() string {
	var b strings.Builder
	b.WriteString(failover.Dump())
	for e := failover.EventKind(0); e.Known(); e++ {
		b.WriteString(e.String() + "\n")
	}
	for a := failover.ActionKind(0); a.Known(); a++ {
		b.WriteString(a.String() + "\n")
	}
	for p := failover.Phase(0); p.Known(); p++ {
		b.WriteString(p.String() + "\n")
	}
	return digest([]byte(b.String()))
})

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func stateDigest(s *failover.State) (string, error) {
	b, err := json.Marshal(s)
	return digest(b), err
}

// Record makes the log's record of a decision. after is the state that came of it.
func (d *Decision) Record(after *failover.State) (store.Record, error) {
	var err error
	if d.After, err = stateDigest(after); err != nil {
		return store.Record{}, err
	}
	body, err := json.Marshal(d)
	r := store.Record{ID: d.ID, At: d.At, Server: d.Server, Kind: Kind, Body: body}
	if len(d.About) == 1 && d.About[0] != AboutVerdict {
		r.Group = d.About[0]
	}
	return r, err
}

// Decode reads a decision out of a record. Whatever is not whole is refused, so that a replay never runs beyond it.
func Decode(r store.Record) (*Decision, error) {
	d := &Decision{ID: r.ID, At: r.At, Server: r.Server}
	if r.Kind != Kind || len(r.Body) == 0 {
		return nil, fmt.Errorf("position %d is no decision: %s", r.Pos, r.Text)
	}
	if err := json.Unmarshal(r.Body, d); err != nil {
		return nil, fmt.Errorf("position %d is no decision: %w", r.Pos, err)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("position %d is no decision: %w", r.Pos, err)
	}
	return d, nil
}

// withoutGroups are the events of a pair that has no groups.
var withoutGroups = []failover.EventKind{
	failover.Passed, failover.Seen, failover.Heard, failover.PeerStarted, failover.WasLate, failover.OpShutdown,
	failover.OpMode, failover.PeerMode, failover.ModeLeft, failover.OpRestart,
	failover.OpStay, failover.PeerWaits, failover.PeerAway, failover.Returned,
}

// check makes sure that every index leads somewhere.
func (d *Decision) check() error {
	p, s, e := &d.Params, &d.Before, &d.Event
	units, groups := len(p.Units), len(p.Groups)
	bare := units == 0 // a pair that has only its interconnect yet: indexes are not used, and 0
	in := func(i, n int) bool { return i >= 0 && i < n || bare && i == 0 }
	bad := bare != (groups == 0) || bare && !slices.Contains(withoutGroups, e.Kind) ||
		len(s.Units) != units || len(s.Groups) != groups ||
		len(s.Hard.Units) != units || len(s.Hard.Flaps) != groups || len(s.Partner.Held) != units ||
		len(d.Names.Units) != units || len(d.Names.Groups) != groups || !in(e.Unit, units) || !in(e.Group, groups) ||
		!e.Kind.Known() || !e.Word.Known()
	for _, u := range p.Units {
		bad = bad || !in(u.Group, groups)
	}
	for _, g := range p.Groups {
		bad = bad || g.FlapLimit < 0 || g.FlapLimit > failover.MaxFlaps ||
			slices.ContainsFunc(g.Units, func(i int) bool { return !in(i, units) })
	}
	for _, g := range s.Groups {
		bad = bad || !g.Phase.Known() || g.Flaps < 0 || g.Flaps > failover.MaxFlaps
	}
	for _, a := range d.Actions {
		bad = bad || !a.Kind.Known() || !a.Word.Known() || a.Group >= groups || !in(a.Unit, units) ||
			bare && (a.Kind != failover.Note || len(a.Swaps) > 0)
		for _, k := range a.Swaps {
			bad = bad || !in(k.Unit, units)
		}
	}
	if bad || !s.Partner.Verdict.Known() {
		return errors.New("its parts do not fit each other, or are of another version")
	}
	return nil
}

// Recorder picks the decisions out of all steps. It is for one goroutine.
type Recorder struct {
	prefix   string
	count    int
	renewals int
	renewing bool // the newest decision was a renewal
}

// NewRecorder begins the decisions of one run of the agent.
func NewRecorder(incarnation int) *Recorder { return &Recorder{prefix: fmt.Sprint(incarnation)} }

// Pick returns the id of the decision that a step was, what it is about, and how many renewals were passed over before
// it; no id when the step was none.
func (r *Recorder) Pick(names *Names, before, after *failover.State, actions []failover.Action) (id string,
	about []string, renewals int) {
	var worth, renewal bool
	about, worth, renewal = weigh(names, before, after, actions)
	switch {
	case worth:
		r.renewing = false
	case renewal && r.renewing:
		r.renewals++
		return "", nil, 0
	case renewal:
		r.renewing = true
	default:
		return "", nil, 0
	}
	r.count++
	renewals, r.renewals = r.renewals, 0
	return fmt.Sprintf("%s.%d", r.prefix, r.count), about, renewals
}

// weigh says what a step is about, and whether it is worth a record or only renews a key.
func weigh(names *Names, before, after *failover.State, actions []failover.Action) (about []string,
	worth, renewal bool) {
	group := func(g int) {
		worth = true
		if g >= 0 && g < len(names.Groups) && !slices.Contains(about, names.Groups[g]) {
			about = append(about, names.Groups[g])
		}
	}
	if before.Partner.Verdict != after.Partner.Verdict {
		about, worth = append(about, AboutVerdict), true
	}
	for g := range after.Groups {
		b, a := &before.Groups[g], &after.Groups[g]
		if b.Phase != a.Phase || b.Since != a.Since || b.Move.Role != a.Move.Role {
			group(g)
		}
	}
	for _, a := range actions {
		switch a.Kind {
		case failover.Inspect, failover.Tell:
		case failover.Swap:
			if s := a.Swaps[0]; s.Old.Owner == s.New.Owner && s.Old.Tag == s.New.Tag && s.Old.By == s.New.By {
				renewal = true
			} else {
				group(a.Group)
			}
		default:
			group(a.Group)
		}
	}
	if !before.Hard.Equal(after.Hard) {
		if lasting(before.Hard).Equal(lasting(after.Hard)) {
			renewal = true
		} else {
			worth = true
		}
	}
	return about, worth, renewal
}

// lasting is the hard state without what each renewal changes.
func lasting(h failover.Hard) failover.Hard {
	h.Units = slices.Clone(h.Units)
	for i := range h.Units {
		h.Units[i].Asked, h.Units[i].Held = 0, min(h.Units[i].Held, 1)
	}
	return h
}

// Replay is what came of making a decision again.
type Replay struct {
	Identical bool     `json:"identical"`
	SameRules bool     `json:"same_rules"` // this program decides by the table that was in force
	Differs   []string `json:"differs,omitempty"`

	After   failover.State    `json:"-"`
	Actions []failover.Action `json:"-"`
	Rows    []failover.Taken  `json:"-"`
}

// Replay makes the decision again. A record that no agent can have written is an error.
func (d *Decision) Replay() (_ *Replay, err error) {
	defer func() {
		if p := recover(); p != nil { // the record is outside bytes: whoever reads it must not die of them
			err = fmt.Errorf("decision %s cannot be made again, no agent has been in such a state: %v", d.ID, p)
		}
	}()
	r := &Replay{SameRules: d.Rules == Rules()}
	r.After, r.Actions, r.Rows = failover.Trace(&d.Params, d.Before, d.Event, d.Unrecorded)
	after, err := stateDigest(&r.After)
	if err != nil {
		return nil, err
	}
	was, now := lines(d.Actions), lines(r.Actions)
	for i := range max(len(was), len(now)) {
		switch {
		case i >= len(now):
			r.Differs = append(r.Differs, "then and not now: "+was[i])
		case i >= len(was):
			r.Differs = append(r.Differs, "now and not then: "+now[i])
		case was[i] != now[i]:
			r.Differs = append(r.Differs, "then: "+was[i], "now: "+now[i])
		}
	}
	if after != d.After {
		r.Differs = append(r.Differs, "the state after it is another one")
	}
	r.Identical = len(r.Differs) == 0
	return r, nil
}

// lines are actions as text, to be compared and shown.
func lines(actions []failover.Action) []string {
	out := make([]string, len(actions))
	for i := range actions {
		b, err := json.Marshal(actions[i])
		if err != nil {
			b = []byte(err.Error()) // cannot be: an action holds only text and numbers
		}
		out[i] = actions[i].Kind.String() + " " + string(b)
	}
	return out
}

// Find returns the decision of an id.
func Find(records []store.Record, id string) (*Decision, error) {
	for i := len(records) - 1; i >= 0; i-- {
		if strings.EqualFold(records[i].ID, id) && records[i].Kind == Kind {
			return Decode(records[i])
		}
	}
	return nil, fmt.Errorf("there is no decision %q: it is older than what is kept, or was never made here", id)
}

// Newest returns the newest decision about each group and about the verdict, oldest first.
func Newest(records []store.Record) []*Decision {
	var out []*Decision
	seen := map[string]bool{}
	for i := len(records) - 1; i >= 0; i-- {
		d, err := Decode(records[i])
		if err != nil {
			continue
		}
		news := false
		for _, a := range d.About {
			news = news || !seen[a]
			seen[a] = true
		}
		if news {
			out = append(out, d)
		}
	}
	slices.Reverse(out)
	return out
}
