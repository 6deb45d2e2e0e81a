package node

import (
	"context"
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

// onInterconnect takes what the interconnect saw.
func (n *Node) onInterconnect(e interconnect.Event) {
	switch e.Kind {
	case interconnect.BeatHeard:
		n.onBeat(e)
	case interconnect.SessionOpen:
		n.onSession(e)
	case interconnect.LinkDown, interconnect.LinkUp:
		n.record(store.Record{Kind: "link", Step: linkStep(e.Kind), Text: strings.TrimSpace(e.Link + ": " + e.Text)})
		n.changed.Notify()
	case interconnect.MessageIn:
		n.onMessage(e.Message)
	case interconnect.Refused:
		n.record(store.Record{Kind: "link", Step: "refused", Code: "ORS-3001", Text: e.Link + ": " + e.Text})
	}
}

func linkStep(k interconnect.EventKind) string {
	if k == interconnect.LinkUp {
		return "open"
	}
	return "closed"
}

func (n *Node) onBeat(e interconnect.Event) {
	at := e.At
	if at.IsZero() {
		at = time.Now()
	}
	n.detector.Heard(e.Link, at)
	if at.Sub(n.heardAt) >= n.cfg.Interconnect.Timeout {
		n.aliveFrom = at
	}
	n.heardAt = at
	if ev := n.evidence(time.Now()); !sameEvidence(ev, n.state.Partner.Evidence) {
		n.step(failover.Event{Kind: failover.Seen, Evidence: ev})
	}
	b := e.Beat
	digest := binary.BigEndian.Uint32(n.cfg.Digest[:4])
	n.live.partnerConfig(b.Config != digest)
	n.step(failover.Event{Kind: failover.Heard, Beat: failover.Beat{
		HearsUs: b.HearsYou, Leaving: b.Leaving, Restarting: failover.Tick(b.Restarting / time.Millisecond),
		Maintenance: b.Maintenance, Losses: b.Losses, Promised: b.Promised, Common: b.Common,
		HeldUnit: int(b.HeldUnit), Held: b.Held,
	}})
}

// onSession tells a restart of the partner's agent, or of its operating system, from a mere renewal.
func (n *Node) onSession(e interconnect.Event) {
	boot, inc := n.live.partnerIdentity(e.PeerBoot, e.PeerIncarnation)
	switch {
	case boot == 0 && inc == 0:
		n.record(store.Record{Kind: "link", Step: "session", Text: "The partner has proved the key."})
	case boot != e.PeerBoot:
		n.step(failover.Event{Kind: failover.PeerStarted, Text: "The partner has been started anew: another boot id."})
	case inc != e.PeerIncarnation:
		n.step(failover.Event{Kind: failover.PeerStarted, Text: fmt.Sprintf(
			"The partner's agent has been restarted (start %d).", e.PeerIncarnation)})
	}
}

// evidence says what is heard now. After a pause a link counts as heard only by a beat that came since, and as silent
// only after a whole time-out.
func (n *Node) evidence(now time.Time) failover.Evidence {
	v := n.detector.View(now)
	e := failover.Evidence{Network: n.network, Lines: failover.NoAnswer}
	none := true
	for _, l := range v.Links {
		none = none && !l.Heard
	}
	for _, l := range v.Links {
		silent := !l.Heard && (none || n.atFault(l, now))
		e.Links = append(e.Links, failover.LinkEvidence{Silent: silent, Ever: l.Ever || !silent})
		n.noteLink(l.Name, silent, l.Ever)
	}
	return e
}

// atFault tells a link that is at fault from one that has only fallen silent a little earlier than the others, or is
// not heard again yet: the partner must have been heard elsewhere for about a time-out in which this link was silent.
// Without this every death and every return of the partner would begin with an alarm about a cable.
func (n *Node) atFault(l interconnect.LinkView, now time.Time) bool {
	since := n.aliveFrom
	if last := now.Add(-l.Age); l.Ever && last.After(since) {
		since = last
	}
	ic := &n.cfg.Interconnect
	return n.heardAt.Sub(since) >= ic.Timeout-2*ic.Interval
}

// noteLink records when a link falls silent or is heard again.
func (n *Node) noteLink(name string, silent, ever bool) {
	was, known := n.silentWas[name]
	if !ever || known && was == silent {
		return
	}
	n.silentWas[name] = silent
	switch {
	case silent:
		n.record(store.Record{Kind: "link", Step: "silent", Code: "ORS-13004", Text: name + ": no beat for the time-out."})
	default:
		n.record(store.Record{Kind: "link", Step: "heard", Text: name + ": beats are heard."})
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
func (n *Node) publishBeat() {
	s := &n.state
	n.heldTurn++
	unit := 0
	if len(s.Hard.Units) > 0 {
		unit = n.heldTurn % len(s.Hard.Units)
	}
	b := interconnect.Beat{
		Boot: BootHash(n.o.BootID), Incarnation: uint16(n.o.Incarnation),
		HearsYou: s.Partner.Evidence.Beats() != failover.BeatsNone && !s.Partner.Lost,
		Leaving:  s.Leaving, Losses: s.Partner.Losses, Promised: s.Hard.Promised, Common: s.Hard.Common,
		HeldUnit: uint8(unit), Config: binary.BigEndian.Uint32(n.cfg.Digest[:4]),
	}
	if len(s.Hard.Units) > 0 {
		b.Held = s.Hard.Units[unit].Held
	}
	n.o.Interconnect.SetBeat(b)
}

// noteVerdict records a change of the verdict with its evidence.
func (n *Node) noteVerdict(before *failover.State) {
	p := &n.state.Partner
	if p.Verdict == before.Partner.Verdict {
		return
	}
	data := map[string]any{"verdict": p.Verdict.String(), "before": before.Partner.Verdict.String()}
	if last := n.heardAt; !last.IsZero() {
		data["last_beat_at"] = last.Format(time.RFC3339Nano)
		data["timeout_at"] = last.Add(n.cfg.Interconnect.Timeout).Format(time.RFC3339Nano)
	}
	r := store.Record{Kind: "verdict", Step: "verdict", Text: "The partner is " + p.Verdict.String() + ".", Why: p.Why,
		Data: data}
	if p.Verdict == failover.VerdictLost || p.Verdict == failover.VerdictIsolated {
		r.Code = "ORS-1040"
	}
	n.record(r)
}

// watchNetwork asks the network check's targets again and again.
func (n *Node) watchNetwork(ctx context.Context) {
	t := time.NewTicker(max(n.cfg.Interconnect.Timeout/4, 100*time.Millisecond))
	defer t.Stop()
	for {
		a := n.o.Network(ctx)
		_ = n.call(ctx, func() { n.network = a })
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// record writes into the journal, with this server's name.
func (n *Node) record(r store.Record) {
	r.Server = n.self
	if r.At.IsZero() {
		r.At = time.Now()
	}
	n.o.Store.Note(r)
	n.live.progress(r)
}
