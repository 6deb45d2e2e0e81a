package decision

import (
	"fmt"
	"strings"
	"time"

	"github.com/orscore/ors/core/failover"
)

// happened says what an event of each kind tells, without what it carries besides.
var happened = map[failover.EventKind]string{
	failover.Granted: "the claim was granted and read back", failover.Denied: "the claim was refused",
	failover.Attached: "all drives of the group are mounted", failover.AttachFailed: "a drive could not be mounted",
	failover.AppsUp: "all applications of the group run and answer", failover.StartFailed: "an application did not start",
	failover.AppsStopped: "none of the applications runs any more", failover.StopFailed: "an application would not stop",
	failover.Detached: "all drives are unmounted", failover.DetachFailed: "a drive would not unmount",
	failover.Released: "the storage is nobody's, read back", failover.ReleaseFailed: "the release met another key",
	failover.Cleared:      "nothing of the group is left on this server",
	failover.AppsFailed:   "a running application failed its checks",
	failover.OpClear:      "an operator has looked at the group and cleared it",
	failover.PeerCleared:  "an operator cleared the group on the partner",
	failover.OpShutdown:   "this server is to be shut down in order",
	failover.OpRestart:    "this agent is to be restarted, and the partner is told to wait for it",
	failover.OpStay:       "the restart of this agent does not take place",
	failover.PeerWaits:    "the partner has on record until when it waits for this agent",
	failover.PeerAway:     "the partner's agent is to be restarted, and said when it is back",
	failover.Returned:     "nothing here is left on the time that was announced for this agent's restart",
	failover.Passed:       "time passed, and something was due",
	failover.Seen:         "what is seen of links and checks changed",
	failover.Heard:        "a beat of the partner was heard",
	failover.WasLate:      "this server itself had not run for a while",
	failover.UnitRead:     "the switch showed a unit's key",
	failover.UnitMute:     "the switch gave no usable answer",
	failover.Swapped:      "a swap of a unit's key ended; its answer is not used, the key is read again",
	failover.DiskAnswered: "the group's mounted drives can be read past all caches",
	failover.DiskSilent:   "the group's drives cannot be read, or none is mounted",
	failover.OpMove:       "an operator asked for a planned move",
	failover.PeerSaid:     "the partner spoke about a planned move",
	failover.ReadyYes:     "the group could be started here now", failover.ReadyNo: "the group could not be started here",
	failover.PeerStarted: "the partner has been started anew",
	failover.OpMode:      "an operator switched the pair's mode on this server",
	failover.PeerMode:    "the partner told its mode",
	failover.ModeLeft:    "what is left of the maintenance on record is known",
}

// writer collects the lines of an explanation.
type writer struct {
	d *Decision
	b strings.Builder
}

func (w *writer) head(text string)                { w.b.WriteString("\n" + text + "\n") }
func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, "  "+format+"\n", args...) }

// Explain tells a decision in sentences: what happened, what was decided by which rule, what was done, and on what
// evidence.
func (d *Decision) Explain(r *Replay) string {
	w := &writer{d: d}
	fmt.Fprintf(&w.b, "Decision %s of %s, %s (version %s)\n", d.ID, d.Server,
		d.At.Local().Format("2006-01-02 15:04:05.000"), d.Version)
	w.head("What happened")
	w.event()
	w.head("What was decided, and by which rule")
	w.decided(r)
	w.head("What was done")
	w.done()
	w.head("The evidence")
	w.evidence()
	w.head("Made again")
	w.replay(r)
	return w.b.String()
}

func (w *writer) server(s failover.Server) string {
	if s == failover.First || s == failover.Second {
		return w.d.Names.Servers[s-1]
	}
	return "nobody"
}

func (w *writer) key(k failover.Key) string {
	text := fmt.Sprintf("%s at epoch %d", w.server(k.Owner), k.N)
	if k.Tag > 0 {
		text += fmt.Sprintf(", round %d won by %s", k.Tag, w.server(k.By))
	}
	return text
}

// ago tells how long before the decision a moment of the agent's clock was.
func (w *writer) ago(t failover.Tick) string {
	now := max(w.d.Before.Now, w.d.Event.At)
	return ms(now - t)
}

func ms(t failover.Tick) string { return (time.Duration(t) * time.Millisecond).String() }

func (w *writer) event() {
	e := &w.d.Event
	text, ok := happened[e.Kind]
	if !ok {
		text = e.Kind.String()
	}
	switch {
	case e.Kind == failover.UnitRead || e.Kind == failover.UnitMute || e.Kind == failover.Swapped:
		text += ": " + w.d.Names.Units[e.Unit]
		if e.Kind == failover.UnitRead {
			text += ", " + w.key(e.Key)
		}
	case e.Kind < failover.Passed || e.Kind == failover.DiskAnswered || e.Kind == failover.DiskSilent ||
		e.Kind == failover.OpMove || e.Kind == failover.PeerSaid || e.Kind == failover.ReadyYes ||
		e.Kind == failover.ReadyNo:
		text = "group " + w.d.Names.Groups[e.Group] + ": " + text
	}
	if e.Word != failover.WordNone {
		text += fmt.Sprintf(": %q", e.Word.String())
	}
	if e.Text != "" {
		text += " (" + e.Text + ")"
	}
	if e.Op != 0 {
		text += fmt.Sprintf("; this answers operation %d", e.Op)
	}
	w.line("%s%s [%v]", strings.ToUpper(text[:1]), text[1:], e.Kind)
	if e.Kind == failover.Heard {
		w.words(&e.Beat)
	}
}

func (w *writer) decided(r *Replay) {
	before, after := &w.d.Before, &r.After
	nothing := true
	if w.d.Unrecorded {
		w.line("The state directory could not be written: only what needs no record was decided.")
	}
	if before.Partner.Verdict != after.Partner.Verdict {
		nothing = false
		w.line("The partner: %v -> %v. %s", before.Partner.Verdict, after.Partner.Verdict, after.Partner.Why)
	}
	for _, t := range r.Rows {
		nothing = false
		row := &failover.Table[t.Row]
		w.line("Group %s: %v -> %v. %s", w.d.Names.Groups[t.Group], t.From, row.To, row.Why)
		w.line("    row %d of the table, on %v; facts: %s", t.Row, t.On, orNone(failover.Guard{Need: t.Facts}.String()))
		if guard := row.If.String(); guard != "" {
			w.line("    the row asks for: %s", guard)
		}
	}
	for g := range after.Groups {
		if was, is := before.Groups[g].Move.Role, after.Groups[g].Move.Role; was != is {
			nothing = false
			w.line("Group %s: this server's part in a planned move: %v -> %v", w.d.Names.Groups[g], was, is)
		}
	}
	for _, a := range w.d.Actions {
		if a.Kind == failover.Note && a.Group < 0 && a.Step != "verdict" {
			nothing = false
			w.line("%s [%s]", a.Text, a.Step)
		}
	}
	if p := after.Hard.Promised; p != before.Hard.Promised {
		nothing = false
		w.line("Round %d is promised for the next arbitration.", p)
	}
	if c := after.Hard.Common; c != before.Hard.Common {
		nothing = false
		w.line("Both servers are known to have promised round %d.", c)
	}
	for i, is := range after.Hard.Units {
		was := before.Hard.Units[i]
		if is == was {
			continue
		}
		nothing = false
		w.line("Storage %s, on disk: held under epoch %s, newest asked for %d, release asked for %s", w.d.Names.Units[i],
			epoch(is.Held), is.Asked, epoch(is.Released))
	}
	if nothing {
		w.line("Nothing but what was done, below.")
	}
}

func epoch(n uint32) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (w *writer) done() {
	nothing := true
	for _, a := range w.d.Actions {
		if a.Kind == failover.Note {
			continue
		}
		nothing = false
		text := a.Kind.String()
		switch a.Kind {
		case failover.Inspect, failover.Swap:
			text += " " + w.d.Names.Units[a.Unit]
		default:
			if a.Group >= 0 {
				text += " of group " + w.d.Names.Groups[a.Group]
			}
		}
		if a.Kind == failover.Tell || a.Kind == failover.MoveEnded {
			text += fmt.Sprintf(" %s (move %d) %s", a.Word, a.Move, a.Text)
		} else {
			text += fmt.Sprintf(", operation %d, to be done within %s", a.Op, w.until(a.Deadline))
		}
		w.line("%s", strings.TrimSpace(text))
		for _, s := range a.Swaps {
			w.line("    %s: %s -> %s", w.d.Names.Units[s.Unit], w.key(s.Old), w.key(s.New))
		}
	}
	if nothing {
		w.line("Nothing was to be done.")
	}
	if w.d.Renewals > 0 {
		w.line("(%d renewals of keys before this decision are not recorded.)", w.d.Renewals)
	}
	if w.d.Lost > 0 {
		w.line("(%d decisions before this one could not be recorded.)", w.d.Lost)
	}
}

func (w *writer) until(t failover.Tick) string {
	if t == failover.Never {
		return "any time"
	}
	return ms(t - max(w.d.Before.Now, w.d.Event.At))
}

func (w *writer) evidence() {
	for _, l := range w.d.Links {
		if l.Ever {
			w.line("link %s: last beat %s before", l.Name, l.Age.Round(time.Millisecond))
		} else {
			w.line("link %s: no beat since this agent's start", l.Name)
		}
	}
	s := &w.d.Before
	pt, e := &s.Partner, s.Partner.Evidence
	if w.d.Event.Kind == failover.Seen {
		e = w.d.Event.Evidence
	}
	answer := func(a failover.Answer, yes, no, none string) string { return [...]string{none, yes, no}[min(a, 2)] }
	w.line("network check: %s", answer(e.Network, "its targets answer", "none of its targets answers",
		"not configured, or no answer yet"))
	w.line("modem lines: %s", answer(e.Lines, "up", "dropped", "the links have none, or they are not known"))
	switch {
	case !pt.Ever:
		w.line("the partner has not been heard since this agent's start %s before", w.ago(s.Started))
	case pt.HeardAt == s.Started && !pt.Spoke:
		w.line("the partner has not been heard since this agent's start %s before; the agent before this one knew it",
			w.ago(s.Started))
	default:
		w.line("the partner was last heard %s before; the time-out is %s", w.ago(pt.HeardAt), ms(w.d.Params.Timeout))
		w.words(&pt.Beat)
	}
	w.line("the verdict before was: %v (%s)", pt.Verdict, pt.Why)
	if s.Now < s.LateUntil {
		w.line("this server had been late, or restarted: silence counts only from %s on", ms(s.LateUntil-s.Now))
	}
	for i := range s.Units {
		u := &s.Units[i]
		switch {
		case u.Known:
			w.line("storage %s: the switch showed %s (operation %d)", w.d.Names.Units[i], w.key(u.Key), u.ReadSeq)
		case u.Mute:
			w.line("storage %s: the switch does not answer", w.d.Names.Units[i])
		default:
			w.line("storage %s: not read yet, or read before something that put it in doubt", w.d.Names.Units[i])
		}
	}
	w.line("rounds of arbitration: this server has promised %d, both have promised %d", s.Hard.Promised, s.Hard.Common)
}

func (w *writer) words(b *failover.Beat) {
	text := fmt.Sprintf("its words: promised round %d, agreed %d", b.Promised, b.Common)
	if b.HearsUs {
		text += ", it hears this server"
	} else {
		text += ", it does not hear this server"
	}
	if b.Leaving {
		text += ", goodbye"
	}
	if b.Restarting > 0 {
		text += ", back within " + ms(b.Restarting)
	}
	if b.Maintenance {
		text += ", in maintenance"
	}
	if b.Held > 0 && b.HeldUnit >= 0 && b.HeldUnit < len(w.d.Names.Units) {
		text += fmt.Sprintf(", it holds %s under epoch %d", w.d.Names.Units[b.HeldUnit], b.Held)
	}
	w.line("%s", text)
}

func (w *writer) replay(r *Replay) {
	if r.Identical {
		w.line("Identical: the recorded input leads to the same decision.")
	} else {
		w.line("NOT identical: the recorded input leads to another decision.")
		for _, d := range r.Differs {
			w.line("    %s", d)
		}
	}
	if !r.SameRules {
		w.line("The rules have changed since: the table was %s, and is %s in this program.", w.d.Rules, Rules())
	}
}
