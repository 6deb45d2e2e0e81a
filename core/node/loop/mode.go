package loop

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// modeWord is the pair's mode as its sender has it. What is left of a maintenance goes as a span: the two wall clocks
// may differ.
type modeWord struct {
	Seq         uint32 `json:"s"`
	By          uint8  `json:"b"`
	Disabled    bool   `json:"d,omitempty"`
	Maintenance bool   `json:"m,omitempty"`
	LeftMS      int64  `json:"l,omitempty"`
}

// How often the mode is told to the partner until it has said that it has it, and after that.
const (
	tellModeSoon = time.Second
	tellModeSlow = 10 * time.Second
)

// maintenanceLeft is how long the maintenance goes on by the decision's clock.
func (lp *Loop) maintenanceLeft() time.Duration {
	if !lp.state.InMaintenance() || lp.state.ModeEnd == failover.Never {
		return 0
	}
	return lp.When(lp.state.ModeEnd).Sub(lp.now())
}

// beginMode tells the decision, once, what is left of a maintenance by the wall clock.
func (lp *Loop) beginMode() {
	if until := lp.state.Hard.Mode.Until; until != 0 {
		left := time.UnixMilli(until).Sub(lp.now().Round(0)) // the wall clock's: the monotonic one began with the agent
		lp.step(failover.Event{Kind: failover.ModeLeft, Left: failover.Tick(left / time.Millisecond)})
	}
}

// SetMode switches the mode of the pair: what is nil stays. A maintenance of 0 ends the one under way. It reports
// whether that is on record.
func (lp *Loop) SetMode(disabled *bool, maintenance *time.Duration, reason string) bool {
	was := lp.state.Hard.Mode
	m, left := failover.Mode{Disabled: was.Disabled, Until: was.Until}, lp.maintenanceLeft()
	if disabled != nil {
		m.Disabled = *disabled
	}
	if maintenance != nil {
		left, m.Until = *maintenance, 0
	}
	if left > 0 {
		m.Until = lp.now().Add(left).UnixMilli()
	}
	lp.record(store.Record{Kind: "operator", Step: "mode", Why: reason, Text: fmt.Sprintf(
		"An operator switches the mode: switchover disabled %v, maintenance for %v.", m.Disabled, left.Round(time.Second))})
	lp.step(failover.Event{Kind: failover.OpMode, Mode: m, Left: failover.Tick(left / time.Millisecond)})
	lp.modeToldAt = time.Time{}
	lp.tellMode()
	return lp.state.Hard.Mode.Seq > was.Seq
}

// tellMode tells the partner the mode, soon again as long as it has another one.
func (lp *Loop) tellMode() {
	m := lp.state.Hard.Mode
	wait := tellModeSoon
	if lp.partnerHasMode() {
		wait = tellModeSlow
	}
	if m.Seq == 0 || lp.state.Partner.Lost || lp.now().Sub(lp.modeToldAt) < wait {
		return
	}
	lp.modeToldAt = lp.now()
	lp.sendJSON(msgMode, modeWord{Seq: m.Seq, By: uint8(m.By), Disabled: m.Disabled, Maintenance: m.Until != 0,
		LeftMS: lp.maintenanceLeft().Milliseconds()}, false)
}

// partnerHasMode: the partner has told that it has this mode, too.
func (lp *Loop) partnerHasMode() bool {
	m := lp.state.Hard.Mode
	return lp.peerMode.Seq == m.Seq && lp.peerMode.By == uint8(m.By)
}

// onMode takes the partner's mode, and lets it know when it has made a difference or is older than this server's.
func (lp *Loop) onMode(w modeWord) {
	if lp.peerMode.Seq != w.Seq || lp.peerMode.By != w.By {
		lp.modeToldAt = time.Time{}
	}
	lp.peerMode = w
	left := time.Duration(w.LeftMS) * time.Millisecond
	m := failover.Mode{Seq: w.Seq, By: failover.Server(w.By), Disabled: w.Disabled}
	if w.Maintenance {
		m.Until = lp.now().Add(left).UnixMilli()
	}
	lp.step(failover.Event{Kind: failover.PeerMode, Mode: m, Left: failover.Tick(w.LeftMS)})
	lp.tellMode()
}

// modeAlarms shows that the mode keeps things from moving, and who wanted that.
func (lp *Loop) modeAlarms(add func(code, group, text, next string)) {
	m := lp.state.Hard.Mode
	by := "set on " + lp.cfg.ServerName(m.By)
	if !lp.partnerHasMode() {
		by += "; the partner has not confirmed it"
	}
	if m.Disabled {
		add("ORS-1045", "", "Switchover is disabled ("+by+"): nothing is taken over or moved by itself.",
			"`orscore enable` when the work is done")
	}
	if lp.state.InMaintenance() {
		until := "its end is being looked up"
		if left := lp.maintenanceLeft(); left > 0 {
			until = "until " + lp.now().Add(left).Format("2006-01-02 15:04:05") + ", for another " +
				left.Round(time.Second).String()
		}
		add("ORS-1046", "", "Maintenance ("+by+"), "+until+": nothing moves, and failed checks restart nothing.",
			"`orscore maintenance off` when the work is done; it also ends by itself")
	}
	for g := range lp.state.Groups {
		if until, yes := lp.state.Flapping(&lp.params, g); yes {
			name := lp.GroupName(g)
			add("ORS-1044", name, fmt.Sprintf("The group has moved by itself %d times: it stays put until %s.",
				lp.state.Groups[g].Flaps, lp.When(until).Format("15:04:05")),
				"mend what makes it move, then `orscore clear "+name+"`")
		}
	}
}

// mode is the pair's mode for status.
func (lp *Loop) mode() control.Mode {
	m := lp.state.Hard.Mode
	c := control.Mode{Disabled: m.Disabled, Maintenance: lp.state.InMaintenance(), PartnerHasIt: lp.partnerHasMode()}
	if m.Seq > 0 {
		c.By = lp.cfg.ServerName(m.By)
	}
	if left := lp.maintenanceLeft(); left > 0 {
		until := lp.now().Add(left)
		c.Until = &until
	}
	return c
}

// wantMove answers the decision's wish for a planned move with an id that no other move of the pair has.
func (lp *Loop) wantMove(a failover.Action) {
	lp.wantedMoves++
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %s %d %d", lp.o.BootID, lp.self, lp.o.Incarnation, lp.wantedMoves)
	lp.record(store.Record{Kind: "group", Group: lp.GroupName(a.Group), Step: "move-wanted", Text: a.Text,
		Why: a.Reason.String()})
	lp.step(failover.Event{Kind: failover.OpMove, Group: a.Group, Move: h.Sum64(), Reason: a.Reason})
}

// ModeText says in one line how the mode is.
func (lp *Loop) ModeText() string {
	text := "switchover is enabled"
	if lp.state.Hard.Mode.Disabled {
		text = "switchover is disabled"
	}
	if left := lp.maintenanceLeft(); left > 0 {
		text += "; maintenance until " + lp.now().Add(left).Format("2006-01-02 15:04:05 MST")
	} else {
		text += "; no maintenance"
	}
	if lp.state.Partner.Lost {
		return text + "; the partner is lost and learns it when it is back"
	}
	return text
}
