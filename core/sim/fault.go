package sim

import (
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/node/loop"
)

// arrange lets the script's faults happen in their time.
func (w *world) arrange() {
	for i := range w.s.Faults {
		f := &w.s.Faults[i]
		w.after(f.At.of(), func() {
			switch {
			case w.calm:
			case f.When != "":
				w.waiting = append(w.waiting, f)
			default:
				w.strike(f)
			}
		})
	}
}

// entered lets faults happen that wait for a phase.
func (w *world) entered(h *host, g int, phase string) {
	for i, f := range w.waiting {
		if f.Server == int(h.id) && f.Group == g && f.When == phase {
			w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
			w.after(time.Duration(w.faultChance.Int64N(int64(200*time.Millisecond))), func() {
				if !w.calm {
					w.strike(f)
				}
			})
			return
		}
	}
}

// strike lets one fault happen.
func (w *world) strike(f *Fault) {
	w.note("--- %v", *f)
	for i := range classes {
		if classes[i].name == f.Kind {
			w.faults[i]++
		}
	}
	until := w.now + f.For.of()
	if f.Server != 0 {
		h := w.hosts[f.Server-1]
		if w.strikeServer(h, f, until) || w.strikeState(h, f, until) || w.strikeSwitch(h, f, until) ||
			w.strikeGroup(h, f, until) || w.operate(h, f) {
			return
		}
	}
	w.strikeLinks(f, until)
}

// comesBack starts a server, or only its agent, after a while.
func (w *world) comesBack(h *host, d time.Duration) {
	w.after(d, func() {
		if !w.calm && !h.up {
			h.boot()
		}
	})
}

func (w *world) strikeServer(h *host, f *Fault, until time.Duration) bool {
	switch f.Kind {
	case "agent-killed":
		if !h.up {
			return true
		}
		if w.faultChance.IntN(2) == 0 {
			h.killIn = w.faultChance.IntN(6)
			w.after(f.For.of(), func() { h.killIn = -1 })
		} else {
			h.die()
		}
		w.comesBack(h, f.For.of()+time.Second)
	case "power-lost":
		if h.on {
			h.powerOff()
		}
		w.comesBack(h, f.For.of())
	case "both-lost":
		for _, s := range w.hosts {
			if s.on {
				s.powerOff()
			}
			w.comesBack(s, f.For.of()+time.Duration(w.faultChance.Int64N(int64(5*time.Second))))
		}
	case "server-paused":
		h.stop(f.For.of(), true)
	case "agent-stopped":
		h.stop(f.For.of(), false)
	case "agent-starved":
		h.starvedUntil = until
		w.starve(h, h.gen)
	case "clock-step": // a running agent's clock is monotonic: the next start sees it
		h.wall += f.For.of()
	case "network-check-fails":
		w.network(h, failover.No)
		w.after(f.For.of(), func() { w.network(h, failover.Yes) })
	default:
		return false
	}
	return true
}

func (w *world) network(h *host, a failover.Answer) {
	h.network = a
	h.input(func() { h.loop.Network(a) })
}

// starve lets an agent run for moments only.
func (w *world) starve(h *host, gen int32) {
	if h.gen != gen || w.now >= h.starvedUntil {
		return
	}
	d := time.Duration(w.faultChance.Int64N(int64(w.s.Pair.Timeout.of())))
	h.stop(d, false)
	w.after(d+time.Duration(w.faultChance.Int64N(int64(50*time.Millisecond))), func() { w.starve(h, gen) })
}

func (w *world) strikeState(h *host, f *Fault, until time.Duration) bool {
	switch f.Kind {
	case "state-torn":
		h.disk.torn = until
	case "state-fails":
		h.disk.fails = until
	case "disk-full":
		h.disk.full = until
	case "state-lost": // the disk is replaced, which takes longer than any command is under way
		if h.on {
			h.powerOff()
		}
		h.disk.wipe()
		w.check.off[h.i] = false
		w.comesBack(h, 30*time.Second+f.For.of())
	default:
		return false
	}
	return true
}

func (w *world) strikeSwitch(h *host, f *Fault, until time.Duration) bool {
	if f.Other >= len(w.units) {
		return false
	}
	p := &h.ports[f.Other]
	switch f.Kind {
	case "switch-mute":
		p.mute = max(p.mute, until) // a unit without power stays mute
	case "switch-slow":
		p.slow = until
	case "switch-late":
		p.late = until
	case "switch-lossy":
		p.lossy, p.loss = until, f.Rate
	case "switch-fails-mid-claim":
		p.midClaim = until
	case "switch-restarts":
		w.powerCycle(f.Other, until)
	default:
		return false
	}
	return true
}

func (w *world) strikeGroup(h *host, f *Fault, until time.Duration) bool {
	if f.Other >= len(h.groups) {
		return false
	}
	g := &h.groups[f.Other]
	switch f.Kind {
	case "mount-fails":
		g.mountFails = until
	case "unmount-fails":
		g.unmountFails = until
	case "app-starts-slowly":
		g.startsSlowly = until
	case "app-fails":
		g.startFails = until
		h.fail(f.Other, false)
	case "app-hangs":
		g.hangs = until
		h.fail(f.Other, true)
	case "app-ignores-stop":
		g.ignoresStop = until
	case "app-dies":
		h.fail(f.Other, false)
	case "kill-fails":
		g.killFails = until
	case "plugin-dies":
		h.pluginDies(f.Other)
	default:
		return false
	}
	return true
}

func (w *world) strikeLinks(f *Fault, until time.Duration) {
	if f.Other >= len(w.links) {
		return
	}
	l := w.links[f.Other]
	r := rated{until, f.Rate}
	switch f.Kind {
	case "link-cut":
		l.cut = [2]time.Duration{until, until}
	case "link-cut-one-way":
		l.cut[f.Server-1] = until
	case "all-links-cut":
		w.cutAll(0, until)
	case "all-links-cut-one-way":
		w.cutAll(f.Server, until)
	case "frames-lost":
		l.lost = r
	case "frames-doubled":
		l.doubled = r
	case "frames-reordered":
		l.reordered = r
	case "frames-delayed":
		l.delayed = r
	case "frames-garbled":
		l.garbled = r
	case "frames-replayed":
		l.replayed = r
	case "frames-reflected":
		l.reflected = r
	default:
		w.violate("model", "unknown fault %q", f.Kind)
	}
}

// operate is what an operator asks for on a server.
func (w *world) operate(h *host, f *Fault) bool {
	switch f.Kind {
	case "op-move":
		w.move(h, f.Other)
	case "op-failback":
		for g := range w.s.Pair.Primary {
			if h.works() && h.loop.GroupOwner(g) == failover.Server(w.s.Pair.Primary[g]).Other() {
				w.move(h, g)
			}
		}
	case "op-clear":
		w.clear(h, f.Other)
	case "op-shutdown":
		w.shutdown(h, f.For.of())
	case "op-disable":
		off := true
		w.mode(h, &off, nil)
		w.after(f.For.of(), func() {
			if !w.calm {
				w.enable(h)
			}
		})
	case "op-maintenance":
		d := f.For.of()
		w.mode(h, nil, &d)
	case "op-restart": // it may be heard or not, and be back in time or not
		w.announce(h, f.For.of())
		gen := h.gen
		w.after(time.Duration(w.faultChance.Int64N(int64(4*w.s.Pair.Interval.of()))), func() {
			if h.gen == gen && h.up && w.calm {
				h.input(func() { h.loop.Do(func() { h.loop.Stay("all is calm") }) })
			}
			if h.gen == gen && h.up && !w.calm {
				if h.known || h.works() && !h.loop.MustBeTold() {
					h.ends()
				} else {
					h.die()
				}
				w.comesBack(h, time.Duration(w.faultChance.Int64N(int64(f.For.of()+f.For.of()/4+1))))
			}
		})
	default:
		return false
	}
	return true
}

// leave lets an agent of a settled pair announce its restart and end when the partner has that on record.
func (w *world) leave(h *host, within time.Duration) {
	w.announce(h, within)
	if !w.run(w.s.Pair.Interval.of()*3+500*time.Millisecond, func() bool { return h.known }) && len(w.bad) == 0 {
		w.violate("D2", "%v has announced a restart, and its partner does not have that on record", h.id)
	}
	h.ends()
}

// announce lets an agent tell its partner that it is restarted, and how long that takes at most.
func (w *world) announce(h *host, within time.Duration) {
	h.known = false
	h.input(func() { h.loop.Do(func() { h.loop.Restart(within, "simulated", func() { h.known = true }) }) })
}

// mode is what an operator switches for the pair.
func (w *world) mode(h *host, disabled *bool, maintenance *time.Duration) {
	h.input(func() {
		h.loop.Do(func() {
			if h.loop.SetMode(disabled, maintenance, "simulated") {
				w.check.switched(h, disabled, maintenance)
			}
		})
	})
}

// enable lets things move again.
func (w *world) enable(h *host) {
	on, none := false, time.Duration(0)
	w.mode(h, &on, &none)
}

func (w *world) clear(h *host, g int) {
	h.input(func() { h.loop.Do(func() { h.loop.Clear(g) }) })
	w.check.cleared(g)
}

// move asks for a planned move of a group away from its owner, as core/node does for an operator.
func (w *world) move(h *host, g int) {
	h.input(func() {
		owner := h.loop.GroupOwner(g)
		if owner == failover.Nobody {
			return
		}
		w.moveID++
		id := w.moveID
		p := h.loop.Params()
		gp := &p.Groups[g]
		bound := 2*(gp.StopTimeout+gp.AttachTimeout+gp.StartTimeout+p.MoveTimeout+p.DetachTimeout) + 10_000
		h.moves[id] = w.now + time.Duration(bound)*time.Millisecond
		w.check.asked(g)
		w.note("%v: operator asks for a move of group %d", h.id, g)
		h.loop.Do(func() {
			h.loop.StartMove(id, g, owner, "simulated", func(r loop.MoveResult) {
				w.note("%v: move of group %d ended: moved %v: %s", h.id, g, r.Moved, r.Text)
				delete(h.moves, id)
			})
		})
		gen := h.gen
		w.after(time.Duration(bound)*time.Millisecond, func() {
			if _, open := h.moves[id]; open && h.gen == gen {
				delete(h.moves, id)
				h.input(func() { h.loop.ForgetMove(id) })
			}
		})
	})
}

// shutdown ends a server in order, as core/node does, and lets it come back after back.
func (w *world) shutdown(h *host, back time.Duration) {
	if !h.works() || h.leaveFor != 0 {
		return
	}
	h.leaveFor = back + time.Millisecond
	w.check.leaves(h)
	gen := h.gen
	begin := func() {
		if h.gen == gen && !w.calm {
			h.input(func() { h.loop.Do(h.loop.Shutdown) })
			w.awaitParked(h, gen, w.now+40*time.Second)
		}
	}
	if !w.s.Pair.Moves {
		begin()
		return
	}
	for g := range h.groups {
		if h.loop.GroupOwner(g) == h.id {
			w.move(h, g)
		}
	}
	w.await(20*time.Second, func() bool { return h.gen != gen || len(h.moves) == 0 }, begin)
}

// await runs then when until holds, or after d.
func (w *world) await(d time.Duration, until func() bool, then func()) {
	if d <= 0 || until() {
		then()
		return
	}
	w.after(100*time.Millisecond, func() { w.await(d-100*time.Millisecond, until, then) })
}

// awaitParked says goodbye when everything is parked, and ends the server.
func (w *world) awaitParked(h *host, gen int32, until time.Duration) {
	w.await(until-w.now, func() bool { return h.gen != gen || !h.stopped() && h.loop.NotParked() == "" }, func() {
		if h.gen != gen {
			h.leaveFor = 0
			return
		}
		if h.stopped() || h.loop.NotParked() != "" {
			w.note("%v: not all groups have stopped; the agent goes on", h.id)
			return // heal, or power, ends it
		}
		h.input(func() {
			h.parkedAt = w.now
			if h.end.Leave() == nil {
				h.kick = true
			}
		})
		w.await(2*time.Second, func() bool { return h.gen != gen || h.end.LeaveHeard() }, func() {
			if h.gen != gen {
				h.leaveFor = 0
				return
			}
			w.check.gone(h, h.end.LeaveHeard())
			w.note("%v: has left", h.id)
			h.powerOff()
			if !w.calm {
				w.comesBack(h, h.leaveFor)
			}
			h.leaveFor = 0
		})
	})
}

// heal ends all faults. Of lone nothing is started but that server; for 0, both.
func (w *world) heal(lone int) {
	w.note("--- heal%v", w)
	w.calm, w.healed, w.waiting = true, w.now, nil
	for _, l := range w.links {
		l.heal()
	}
	for u := range w.units {
		if w.units[u].off {
			w.restart(u)
		}
	}
	for _, h := range w.hosts {
		clear(h.ports)
		h.disk.torn, h.disk.fails, h.disk.full, h.killIn, h.leaveFor, h.starvedUntil = 0, 0, 0, -1, 0, 0
		for g := range h.groups {
			s := &h.groups[g]
			s.mountFails, s.unmountFails, s.startsSlowly, s.startFails, s.hangs, s.ignoresStop, s.killFails = 0, 0, 0, 0, 0, 0, 0
		}
		if h.up && h.stopped() {
			h.resume()
		}
		w.network(h, failover.Yes)
		if h.up && h.loop.State().Leaving {
			h.die()
		}
		if lone == 0 || lone == int(h.id) {
			if !h.up {
				h.boot()
			}
		} else if h.on {
			h.powerOff()
		}
	}
}
