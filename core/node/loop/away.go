package loop

import (
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// An agent that ends for a restart tells the partner until when another one is back. Beats say so, and a message that
// the partner answers when it has that on record: only then may anything here be heard until that time. So what an
// agent leaves never outlasts what its partner knows, and whoever comes next finds on disk what was left to it.

// awayWord tells the partner of an announced absence, again and again until it is answered.
type awayWord struct {
	ID     uint64 `json:"i"`
	LeftMS int64  `json:"l"`
}

// waitWord answers it when it is on record.
type waitWord struct {
	ID uint64 `json:"i"`
}

// announcement is one of this agent's.
type announcement struct {
	id     uint64
	known  func() // called when the partner has it on record; nil when that is known, or nothing is announced
	toldAt time.Time
}

// Restart announces that this agent ends and is back within so long: the partner takes nothing over before. known is
// called, once, when the partner has that on record, and so has this server.
func (lp *Loop) Restart(within time.Duration, reason string, known func()) {
	lp.record(store.Record{Kind: "operator", Step: "restart", Why: reason,
		Text: "The agent is to be restarted, and back within " + within.String() + "."})
	lp.announced.id++
	lp.announced.known, lp.announced.toldAt = known, lp.now() // beats are to say it first, on every link
	lp.step(failover.Event{Kind: failover.OpRestart, Left: failover.Tick(within / time.Millisecond)})
}

// Stay calls the announced restart off: this agent goes on.
func (lp *Loop) Stay(why string) {
	lp.announced.known = nil
	lp.record(store.Record{Kind: "agent", Step: "stays", Text: "The agent goes on, and is not restarted.", Why: why})
	lp.step(failover.Event{Kind: failover.OpStay})
}

// MustBeTold says whether the partner may take this agent's end for a loss unless it has the announcement on record: it
// hears this server, or is to be back soon.
func (lp *Loop) MustBeTold() bool {
	pt := &lp.state.Partner
	return pt.Up || !pt.Left && lp.state.Now < pt.RestartingUntil
}

// PeerBackIn is how long the partner's announced absence lasts at most; 0: there is none.
func (lp *Loop) PeerBackIn() time.Duration {
	if pt := &lp.state.Partner; lp.state.Now < pt.RestartingUntil {
		return max(0, lp.When(pt.RestartingUntil).Sub(lp.now()))
	}
	return 0
}

// tellAway tells the partner of the announced restart until it has it on record.
func (lp *Loop) tellAway() {
	left := lp.Announced()
	if lp.announced.known == nil || left == 0 || lp.now().Sub(lp.announced.toldAt) < lp.cfg.Interconnect.Interval {
		return
	}
	lp.announced.toldAt = lp.now()
	lp.sendJSON(msgAway, awayWord{ID: lp.announced.id, LeftMS: left.Milliseconds() + 1}, false)
}

// onAway takes the partner's announcement, and answers when it is on record.
func (lp *Loop) onAway(w awayWord) {
	left := min(time.Duration(w.LeftMS)*time.Millisecond, time.Duration(failover.MaxAway)*time.Millisecond)
	lp.step(failover.Event{Kind: failover.PeerAway, Left: failover.Tick(left / time.Millisecond)})
	lp.keepRest()
	if lp.kept.PeerBackBy == lp.state.Hard.PeerBackBy {
		lp.sendJSON(msgWaits, waitWord{ID: w.ID}, false)
	}
}

// onWaits takes the partner's answer.
func (lp *Loop) onWaits(w waitWord) {
	known := lp.announced.known
	if known == nil || w.ID != lp.announced.id {
		return
	}
	lp.step(failover.Event{Kind: failover.PeerWaits})
	lp.keepRest()
	if by := lp.state.Hard.BackBy; by != 0 && lp.kept.BackBy == by { // else it is asked again, and recorded again
		lp.announced.known = nil
		known()
	}
}

// BackIn is how much is left of an absence that the partner has on record, of this agent or of the one before; 0: there
// is none, or this agent has found everything and needs no time any more.
func (lp *Loop) BackIn() time.Duration {
	by := min(lp.kept.BackBy, lp.state.Hard.BackBy)
	if by == 0 || lp.state.Found() {
		return 0
	}
	return max(0, time.Duration(by)*time.Millisecond-lp.o.Uptime())
}

// Announced is how long the partner is told to wait for this agent; 0: it is not.
func (lp *Loop) Announced() time.Duration {
	if lp.state.BackAt == 0 {
		return 0
	}
	return max(0, lp.When(lp.state.BackAt).Sub(lp.now()))
}

// Waited says whether the partner is still told to wait for this agent although nothing needs it any more, but what was
// given for so long: Returned is due as soon as nothing here may be heard for longer than LeaseLength.
func (lp *Loop) Waited() bool { return lp.state.BackAt > 0 && lp.state.Found() }

// Returned tells the partner that it need not wait any more.
func (lp *Loop) Returned() { lp.step(failover.Event{Kind: failover.Returned}) }

// LeaseLength is for how long applications may be heard after the loop has said so last. The partner counts its
// time-out from the newest beat that it heard, which may have left an interval before that; the margin is for a word
// that travels for a while.
func LeaseLength(ic *config.Interconnect) time.Duration {
	return ic.Timeout - ic.Interval - min(ic.Interval, ic.Timeout/10)
}

// LeaseFor is for how long applications may be heard after now: while the partner waits for an agent here, whoever puts
// a failed one's predecessor in place has so long.
func (lp *Loop) LeaseFor() time.Duration { return max(LeaseLength(&lp.cfg.Interconnect), lp.BackIn()) }

// LastLease is for how long applications may be heard after this agent's end, when the partner has not heard a goodbye.
// One that has the announced absence on record leaves everything where it is until then. One that has lost the round
// takes over only when it has seen for a while that nobody renews the first unit, and so long is time for a new agent.
// One that is not there as far as can be known takes over only when it has heard this server, or by a startup time-out.
// 0: nothing may be said, the partner may be about to take over.
func (lp *Loop) LastLease() time.Duration {
	ms := func(t failover.Tick) time.Duration { return time.Duration(t) * time.Millisecond }
	s, p := &lp.state, &lp.params
	margin := 2 * lp.cfg.Interconnect.Interval
	switch {
	case lp.BackIn() > 0:
		return lp.BackIn()
	case s.Partner.Lost:
		return max(0, ms(s.WonUntil(p)-lp.ticks())-margin)
	case p.StartupTimeout > 0:
		return 0
	case s.Partner.Left || !s.Partner.Ever && s.Hard.PeerBackBy == 0 && s.NoRound(): // else it may count from before
		return ms(p.RenewTimeout-p.RenewInterval) - margin
	}
	return 0
}
