package failover_test

import (
	"github.com/orscore/ors/core/failover"
)

// act carries out one action.
func (s *server) act(a failover.Action, e failover.Event) {
	w := s.w
	switch a.Kind {
	case failover.Note:
		if a.Group >= 0 {
			w.log("%v g%d %-10s on %v: %s", s.id, a.Group, a.Step, e.Kind, a.Text)
		} else {
			w.log("%v %s: %s", s.id, a.Step, a.Text)
		}
	case failover.Inspect:
		s.inspect(a)
	case failover.Swap:
		s.swaps(a, a.Swaps, func(bool, bool) {
			s.step(failover.Event{Kind: failover.Swapped, Unit: a.Unit, Op: a.Op})
		})
	case failover.Claim, failover.ReKey, failover.Release:
		good, bad := failover.Granted, failover.Denied
		if a.Kind == failover.Release {
			good, bad = failover.Released, failover.ReleaseFailed
		}
		s.swaps(a, a.Swaps, func(done, known bool) {
			switch {
			case done:
				s.step(failover.Event{Kind: good, Group: a.Group, Op: a.Op})
			case known:
				s.step(failover.Event{Kind: bad, Group: a.Group, Op: a.Op})
			}
		})
	case failover.Witness:
		s.later(1+w.upTo(20), func() {
			kind := failover.DiskSilent
			if s.mounted[a.Group] && s.connected(a.Group) {
				kind = failover.DiskAnswered
			}
			s.step(failover.Event{Kind: kind, Group: a.Group, Op: a.Op})
		})
	case failover.CheckReady:
		s.later(10+w.upTo(50), func() {
			kind := failover.ReadyYes
			if s.appBad[a.Group] && w.chance(0.5) {
				kind = failover.ReadyNo
			}
			s.step(failover.Event{Kind: kind, Group: a.Group, Op: a.Op, Text: "missing"})
		})
	case failover.Tell:
		w.log("%v g%d tells %v %s", s.id, a.Group, a.Word, a.Text)
		w.say(s, a)
	case failover.MoveEnded:
		w.log("%v g%d move ended: moved %v: %s", s.id, a.Group, a.Moved, a.Text)
		delete(s.moves, a.Move)
		if a.Moved {
			w.stats.moved++
		}
	case failover.MoveWanted:
		s.moveID++
		s.wanted++
		id := uint64(s.id)<<32 | uint64(s.gen)<<16 | s.moveID
		s.later(0, func() { s.step(failover.Event{Kind: failover.OpMove, Group: a.Group, Move: id, Reason: a.Reason}) })
	default:
		s.give(a)
	}
}

// connected: the switches still connect all units of the group to this server.
func (s *server) connected(g int) bool {
	for _, u := range s.p.Groups[g].Units {
		if s.w.units[u].key.Owner != s.id {
			return false
		}
	}
	return true
}

// exchange is one command to a unit's switch. It may be lost, land late, or lose its answer; the agent hears of it
// exactly once, at the latest at the deadline.
func (s *server) exchange(unit int, deadline tick, land func(), answer func(known bool)) {
	w, gen, told := s.w, s.gen, false
	tell := func(known bool) {
		s.input(gen, func() {
			if !told {
				told = true
				answer(known)
			}
		})
	}
	w.after(s.until(deadline), func() { tell(false) })
	s.later(0, func() { // a paused agent sends when its pause is over
		if w.mute[index(s.id)][unit] || w.chance(w.rates.swLoss) {
			return
		}
		w.after(w.latency(), func() {
			land()
			if w.mute[index(s.id)][unit] || w.chance(w.rates.swLoss) {
				return
			}
			w.after(w.latency(), func() { tell(true) })
		})
	})
}

func (s *server) inspect(a failover.Action) {
	var key failover.Key
	s.exchange(a.Unit, a.Deadline, func() { key = s.w.units[a.Unit].key }, func(known bool) {
		kind := failover.UnitRead
		if !known {
			kind = failover.UnitMute
		}
		s.step(failover.Event{Kind: kind, Unit: a.Unit, Op: a.Op, Key: key})
	})
}

// swaps carries out compare-and-swaps one after the other until one fails.
func (s *server) swaps(a failover.Action, list []failover.KeySwap, end func(done, known bool)) {
	if len(list) == 0 {
		s.later(0, func() { end(true, true) })
		return
	}
	k, hit := list[0], false
	if k.New.N != k.Old.N+1 {
		s.w.fail("%v swaps %v for %v", s.id, k.Old, k.New)
	}
	s.exchange(k.Unit, a.Deadline, func() {
		if hit = s.w.units[k.Unit].key == k.Old; hit {
			s.w.put(k.Unit, k.New, s)
		}
	}, func(known bool) {
		if !known || !hit {
			end(false, known)
			return
		}
		s.swaps(a, list[1:], end)
	})
}

// give hands a group's worker its next action; it cancels the one under way and waits for its end.
func (s *server) give(a failover.Action) {
	k := &s.work[a.Group]
	if !k.busy {
		s.begin(a)
		return
	}
	k.next = &a
	if k.cancelled {
		return
	}
	k.cancelled = true
	token := k.token
	s.later(1+s.w.upTo(30), func() {
		if k.token == token {
			s.endWork(a.Group)
		}
	})
}

func (s *server) endWork(g int) {
	k := &s.work[g]
	k.busy, k.cancelled = false, false
	k.token++
	if k.next != nil {
		a := *k.next
		k.next = nil
		s.begin(a)
	}
}

func (s *server) begin(a failover.Action) {
	w := s.w
	k := &s.work[a.Group]
	k.busy = true
	k.token++
	token := k.token
	d := a.Delay + 10 + w.upTo(150)
	fails := w.chance(w.rates.actionFails)
	if fails && w.chance(0.3) {
		d = s.until(a.Deadline) // hangs
	}
	s.later(min(d, s.until(a.Deadline)), func() {
		if k.token != token || k.cancelled {
			return
		}
		kind := s.carryOut(a, fails)
		s.endWork(a.Group)
		if kind != failover.Passed {
			s.step(failover.Event{Kind: kind, Group: a.Group, Op: a.Op, Text: "it is broken"})
		}
	})
}

// carryOut does what an action does to the server and returns the event that answers it.
func (s *server) carryOut(a failover.Action, fails bool) failover.EventKind {
	g := a.Group
	switch a.Kind {
	case failover.Attach:
		if !s.connected(g) || fails && !s.mounted[g] {
			return failover.AttachFailed
		}
		if !s.mounted[g] {
			s.mounted[g] = true
			for i, u := range s.p.Groups[g].Units {
				s.tenure[g][i] = s.w.units[u].tenure
			}
		}
		s.w.checkMounts()
		return failover.Attached
	case failover.StartApps:
		if s.apps[g] {
			return failover.AppsUp
		}
		if !s.mounted[g] || s.appBad[g] || fails {
			return failover.StartFailed
		}
		s.w.checkStart(s, g)
		s.apps[g] = true
		return failover.AppsUp
	case failover.StopApps:
		if fails {
			return failover.StopFailed
		}
		s.apps[g] = false
		return failover.AppsStopped
	case failover.Detach:
		if s.apps[g] || fails {
			return failover.DetachFailed
		}
		s.mounted[g] = false
		return failover.Detached
	case failover.KillAll:
		if fails {
			return failover.Passed // not sure that nothing is left: no answer
		}
		if s.apps[g] && s.connected(g) {
			s.w.fail("S4: %v kills applications of group %d, which the switch names as its own", s.id, g)
		}
		s.apps[g], s.mounted[g] = false, false
		return failover.Cleared
	}
	s.w.fail("unknown action %v", a.Kind)
	return failover.Passed
}
