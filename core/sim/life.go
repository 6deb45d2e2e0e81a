package sim

import (
	"time"

	"github.com/orscore/ors/core/failover"
)

// live runs a script to its end, or to the first violation.
func (w *world) live() {
	w.note("%+v", w.s.Pair)
	w.start()
	w.arrange()
	w.run(w.s.Until.of(), nil)
	if len(w.bad) > 0 {
		return
	}
	w.heal(w.s.Lone)
	if w.s.Lone != 0 {
		w.lone(w.hosts[w.s.Lone-1])
		if len(w.bad) > 0 {
			return
		}
		w.hosts[2-w.s.Lone].boot()
	}
	w.run(w.s.Pair.Interval.of()+time.Second, nil) // a silence from before may still end its time-out
	w.settle("after faults")
	w.calmDown()
	if w.s.Restart != 0 && len(w.bad) == 0 {
		w.restarted(w.hosts[w.s.Restart-1])
	}
	if w.s.Death != 0 && len(w.bad) == 0 {
		w.death(w.hosts[w.s.Death-1])
	}
}

// start switches both servers on and lets them find each other before the first fault.
func (w *world) start() {
	first := w.faultChance.IntN(2)
	w.hosts[first].boot()
	w.run(time.Duration(w.faultChance.Int64N(int64(5*time.Second))), nil)
	w.hosts[1-first].boot()
	w.settle("after the first start")
}

// bound is how long a pair may take to be well again when faults have ended.
func (w *world) bound() time.Duration {
	h := w.hosts[0]
	if !h.up {
		h = w.hosts[1]
	}
	p := h.loop.Params()
	t := p.UnknownTimeout + p.RenewTimeout + p.FinishWindow + p.Holdoff + p.OwnerWait + 4*p.Timeout + p.ArbitrationDelay
	for g := range p.Groups {
		gp := &p.Groups[g]
		t += 3*(gp.AttachTimeout+gp.StartTimeout+gp.StopTimeout) + p.DetachTimeout + p.KillTimeout
	}
	d := time.Duration(t)*time.Millisecond + 30*time.Second
	if w.s.Pair.Automatic {
		d += 2 * failbackDelay
	}
	return d
}

// settle waits until all is well, with an operator who clears what asks for it.
func (w *world) settle(what string) {
	if len(w.bad) == 0 && !w.tend(w.bound(), w.settled) {
		w.violate("L1", "%s the pair is not well again within %v:%v", what, w.bound(), w)
	}
}

// tend lets an operator clear groups until until holds.
func (w *world) tend(d time.Duration, until func() bool) bool {
	for end := w.now + d; w.now < end && len(w.bad) == 0; {
		for _, h := range w.hosts {
			if !h.works() {
				continue
			}
			for g := range h.groups { // restarts in place do not mount anew what has died
				if s := &h.groups[g]; s.dead && h.connected(g) && w.calm {
					h.unmountByHand(g)
					h.die()
					h.boot()
					break
				}
			}
			if !h.works() {
				continue
			}
			st := h.loop.State()
			if st.Off() {
				w.enable(h)
			}
			for g := range st.Groups {
				_, flapping := st.Flapping(h.loop.Params(), g)
				if st.Groups[g].Phase == failover.Faulted && h.groups[g].dead {
					h.unmountByHand(g)
				}
				if gr := &st.Groups[g]; gr.Phase == failover.Faulted || st.Now < gr.BlockedUntil || flapping {
					w.clear(h, g)
				}
			}
		}
		if w.run(2*time.Second, until) {
			return true
		}
	}
	return false
}

// lone is what must come of a server whose partner is dead: it serves all that it may.
func (w *world) lone(h *host) {
	if len(w.bad) > 0 {
		return
	}
	bound := w.bound() + w.s.Pair.Startup.of()
	serves := func() bool {
		for g := range h.groups {
			if !w.mayStay(h, g) && w.runsOn(g) != h.id {
				return false
			}
		}
		return true
	}
	if !w.tend(bound, serves) {
		w.violate("L1", "%v is alone and does not serve all that it could within %v:%v", h.id, bound, w)
	}
}

// mayStay: a group need not run on a lone server: the partner has left in order, or this server has no way to know that
// the partner does not live (W-07, W-10), or the two have never agreed on a round.
func (w *world) mayStay(h *host, g int) bool {
	if w.owner(g) == h.id || !h.up {
		return false
	}
	p := &h.loop.State().Partner
	return p.Left || !p.Ever && w.s.Pair.Startup == 0 || h.loop.State().Hard.Common == 0
}

// calmDown: when all is well nothing moves any more, and status tells the truth.
func (w *world) calmDown() {
	if len(w.bad) > 0 {
		return
	}
	// what each was told last is a moment old, and a link is at fault until it has been heard for a while
	w.run(3*time.Second+w.s.Pair.Timeout.of(), nil)
	if len(w.bad) > 0 {
		return
	}
	w.check.truth()
	w.check.keepStill()
	w.run(w.s.Calm.of(), nil)
	if len(w.bad) == 0 && !w.run(5*time.Second, w.settled) && len(w.bad) == 0 {
		w.violate("L2", "nothing happened, and the pair is not well any more:%v", w)
	}
	w.check.still = nil
}

// restarted kills the agent of a settled pair and starts it again: applications do not notice (D2). It is back within
// the time-out, or later, but then the partner was told so.
func (w *world) restarted(h *host) {
	var before []int
	for g := range h.groups {
		before = append(before, h.groups[g].started)
	}
	away := w.s.Pair.Timeout.of() / 2
	if w.faultChance.IntN(2) == 0 {
		away *= 4
		w.leave(h, w.s.Pair.Timeout.of()*3+time.Second)
	} else {
		h.die()
	}
	w.run(time.Duration(w.faultChance.Int64N(int64(away))), nil)
	h.boot()
	w.settle("after a restart of an agent")
	for g := range h.groups {
		s := &h.groups[g]
		if len(w.bad) == 0 && (s.started != before[g] || w.owner(g) == h.id && !s.running) {
			w.violate("D2", "a restart of the agent of %v has ended applications of group %d, or started them again", h.id, g)
		}
	}
	w.calmDown()
	for g := range h.groups {
		if len(w.bad) == 0 && h.groups[g].started != before[g] {
			w.violate("D2", "a restart of the agent of %v has started applications of group %d again", h.id, g)
		}
	}
}

// death takes a server away from a settled pair: the other one takes over within its budget, and keeps what it has when
// the dead one returns. Where its agent was away meanwhile, the budget begins when that was to be back.
func (w *world) death(h *host) {
	o := w.other(h)
	moved := false
	for g := range h.groups {
		moved = moved || w.owner(g) == h.id
	}
	budget := w.budget(o)
	if back := h.loop.State().BackAt; back > 0 {
		budget += h.moment(back) - w.now + time.Second // it has announced an absence, in whole seconds, and is waited for
	}
	if w.s.Away {
		budget += w.away(o, h.powerOff)
	} else {
		h.powerOff()
	}
	all := func() bool {
		for g := range h.groups {
			if w.runsOn(g) != o.id {
				return false
			}
		}
		return true
	}
	if !w.run(budget, all) && len(w.bad) == 0 {
		w.violate("takeover-time", "%v died and %v does not serve all within %v:%v", h.id, o.id, budget, w)
	}
	w.run(time.Duration(w.faultChance.Int64N(int64(20*time.Second))), nil)
	h.boot()
	w.settle("after a death")
	if moved && len(w.bad) == 0 && !all() && !w.s.Pair.Automatic {
		w.violate("ping-pong", "something went back to %v when it returned:%v", h.id, w)
	}
	w.calmDown()
}

// away lets an agent announce an absence, lets meanwhile happen during it, and starts the agent before it is over. It
// returns how much of it is left.
func (w *world) away(h *host, meanwhile func()) time.Duration {
	t := w.s.Pair.Timeout.of()
	end := w.now + 8*t + time.Second
	w.leave(h, end-w.now)
	w.run(time.Duration(w.faultChance.Int64N(int64(t))), nil)
	meanwhile()
	w.run(time.Duration(w.faultChance.Int64N(int64(4*t))), nil)
	h.boot()
	if h.works() && h.loop.State().Off() { // a clock that was set back has brought a maintenance back
		w.enable(h)
	}
	return end - w.now
}

// budget of an unplanned takeover: the detection, the arbitration, some exchanges with the switch, mount and start.
func (w *world) budget(h *host) time.Duration {
	p := h.loop.Params()
	d := w.s.Pair.Timeout.of() + w.s.Pair.Interval.of() + w.s.Pair.Delay.of() + w.s.Pair.Mount.of() + w.s.Pair.Start.of()
	return d + time.Duration(4*p.InspectBusy)*time.Millisecond + time.Duration(len(w.units))*150*time.Millisecond +
		time.Second
}
