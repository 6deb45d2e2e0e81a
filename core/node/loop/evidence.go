package loop

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/store"
)

// BootHash shortens a boot id to what fits a beat.
func BootHash(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()
}

// Interconnect takes what the interconnect saw.
func (lp *Loop) Interconnect(e interconnect.Event) {
	lp.checkLate()
	switch e.Kind {
	case interconnect.BeatHeard:
		lp.onBeat(e)
	case interconnect.SessionOpen:
		lp.onSession(e)
	case interconnect.LinkDown, interconnect.LinkUp:
		lp.record(store.Record{Kind: "link", Step: linkStep(e.Kind), Text: strings.TrimSpace(e.Link + ": " + e.Text)})
		lp.w.Changed()
	case interconnect.MessageIn:
		lp.onMessage(e.Message)
	case interconnect.Refused:
		lp.record(store.Record{Kind: "link", Step: "refused", Code: e.Code, Text: e.Link + ": " + e.Text})
	case interconnect.KeyChanged:
		lp.record(store.Record{Kind: "link", Step: "key", Text: e.Text})
	case interconnect.LinesChanged:
		if e.Lines == interconnect.LinesUp || e.Lines == interconnect.LinesDropped {
			lp.record(store.Record{Kind: "link", Step: "lines", Text: e.Link + ": " + e.Text})
		}
	}
}

func linkStep(k interconnect.EventKind) string {
	if k == interconnect.LinkUp {
		return "open"
	}
	return "closed"
}

func (lp *Loop) onBeat(e interconnect.Event) {
	at := e.At
	if at.IsZero() {
		at = lp.now()
	}
	lp.detector.Heard(e.Link, at)
	if at.Sub(lp.heardAt) >= lp.cfg.Interconnect.Timeout {
		lp.aliveFrom = at
	}
	lp.heardAt = at
	if ev := lp.evidence(lp.now()); !sameEvidence(ev, lp.state.Partner.Evidence) {
		lp.step(failover.Event{Kind: failover.Seen, Evidence: ev})
	}
	b := e.Beat
	digest := binary.BigEndian.Uint32(lp.cfg.Digest[:4])
	lp.view.partnerConfig(b.Config != digest)
	lp.step(failover.Event{Kind: failover.Heard, Beat: failover.Beat{
		HearsUs: b.HearsYou, Leaving: b.Leaving, Restarting: failover.Tick(b.Restarting / time.Millisecond),
		Maintenance: b.Maintenance, Losses: b.Losses, Promised: b.Promised, Common: b.Common,
		HeldUnit: int(b.HeldUnit), Held: b.Held,
	}})
}

// onSession tells a restart of the partner's agent, or of its operating system, from a mere renewal.
func (lp *Loop) onSession(e interconnect.Event) {
	boot, inc := lp.view.partnerIdentity(e.PeerBoot, e.PeerIncarnation)
	switch {
	case boot == 0 && inc == 0:
		lp.record(store.Record{Kind: "link", Step: "session", Text: "The partner has proved the key."})
	case boot != e.PeerBoot:
		lp.step(failover.Event{Kind: failover.PeerStarted, Rebooted: true,
			Text: "The partner has been started anew: another boot id."})
	case inc != e.PeerIncarnation:
		lp.step(failover.Event{Kind: failover.PeerStarted, Text: fmt.Sprintf(
			"The partner's agent has been restarted (start %d).", e.PeerIncarnation)})
	}
}

// evidence says what is heard now. After a pause a link counts as heard only by a beat that came since, and as silent
// only after a whole time-out.
func (lp *Loop) evidence(now time.Time) failover.Evidence {
	v := lp.detector.View(now)
	e := failover.Evidence{Network: lp.network, Lines: lp.lines}
	none := true
	for _, l := range v.Links {
		none = none && !l.Heard
	}
	for _, l := range v.Links {
		silent := !l.Heard && (none || lp.atFault(l, now))
		e.Links = append(e.Links, failover.LinkEvidence{Silent: silent, Ever: l.Ever || !silent})
		lp.noteLink(l.Name, silent, l.Ever)
	}
	return e
}

// seeLines sums up the modem lines of the serial links. Only links on which a line was ever seen on say anything: a
// port without lines, or a cable of three wires, proves nothing by their absence; nor does a port that is closed.
func (lp *Loop) seeLines() {
	lp.lines = failover.NoAnswer
	for _, l := range lp.w.Links() {
		switch {
		case l.Lines == interconnect.LinesUp:
			lp.lines = failover.Yes
		case l.Lines == interconnect.LinesDropped && lp.lines == failover.NoAnswer:
			lp.lines = failover.No
		}
	}
}

// atFault tells a link that is at fault from one that has only fallen silent a little earlier than the others, or is
// not heard again yet: the partner must have been heard elsewhere for about a time-out in which this link was silent.
// Without this every death and every return of the partner would begin with an alarm about a cable.
func (lp *Loop) atFault(l interconnect.LinkView, now time.Time) bool {
	since := lp.aliveFrom
	if last := now.Add(-l.Age); l.Ever && last.After(since) {
		since = last
	}
	ic := &lp.cfg.Interconnect
	return lp.heardAt.Sub(since) >= ic.Timeout-2*ic.Interval
}

// noteLink records when a link falls silent or is heard again.
func (lp *Loop) noteLink(name string, silent, ever bool) {
	was, known := lp.silentWas[name]
	if !ever || known && was == silent {
		return
	}
	lp.silentWas[name] = silent
	switch {
	case silent:
		lp.record(store.Record{Kind: "link", Step: "silent", Code: "ORS-13004", Text: name + ": no beat for the time-out."})
	default:
		lp.record(store.Record{Kind: "link", Step: "heard", Text: name + ": beats are heard."})
	}
}

func sameEvidence(a, b failover.Evidence) bool {
	if a.Network != b.Network || a.Lines != b.Lines || len(a.Links) != len(b.Links) {
		return false
	}
	for i := range a.Links {
		if a.Links[i] != b.Links[i] {
			return false
		}
	}
	return true
}

// publishBeat puts what may be said of this server into the next beats. It speaks only of hard state that is on disk.
func (lp *Loop) publishBeat() {
	s := &lp.state
	lp.heldTurn++
	unit := 0
	if len(s.Hard.Units) > 0 {
		unit = lp.heldTurn % len(s.Hard.Units)
	}
	b := interconnect.Beat{
		Boot: BootHash(lp.o.BootID), Incarnation: uint16(lp.o.Incarnation),
		HearsYou: s.Partner.Evidence.Beats() != failover.BeatsNone && !s.Partner.Lost,
		Leaving:  s.Leaving, Losses: s.Partner.Losses, Promised: s.Hard.Promised, Common: s.Hard.Common,
		Maintenance: s.InMaintenance(), Restarting: wholeSeconds(lp.Announced()),
		HeldUnit: uint8(unit), Config: binary.BigEndian.Uint32(lp.cfg.Digest[:4]),
	}
	if len(s.Hard.Units) > 0 {
		b.Held = s.Hard.Units[unit].Held
	}
	lp.w.SetBeat(b)
}

// wholeSeconds rounds up, as the wire does: what counts down must not make another beat of each moment.
func wholeSeconds(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }

// noteVerdict records a change of the verdict with its evidence.
func (lp *Loop) noteVerdict(before *failover.State) {
	p := &lp.state.Partner
	if p.Verdict == before.Partner.Verdict {
		return
	}
	data := map[string]any{"verdict": p.Verdict.String(), "before": before.Partner.Verdict.String()}
	if last := lp.heardAt; !last.IsZero() {
		data["last_beat_at"] = last.Format(time.RFC3339Nano)
		data["timeout_at"] = last.Add(lp.cfg.Interconnect.Timeout).Format(time.RFC3339Nano)
	}
	r := store.Record{Kind: "verdict", Step: "verdict", Text: "The partner is " + p.Verdict.String() + ".", Why: p.Why,
		Data: data}
	if p.Verdict == failover.VerdictLost || p.Verdict == failover.VerdictIsolated {
		r.Code = "ORS-1040"
	}
	lp.record(r)
}

// Network takes what the network check found.
func (lp *Loop) Network(a failover.Answer) {
	lp.checkLate()
	lp.network = a
}
