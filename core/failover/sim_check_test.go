package failover_test

import (
	"github.com/orscore/ors/core/failover"
)

// fenceBound is how long applications may run on a server that does not own the storage any more while its agent
// works and its switch answers: a quiet read's interval, an answer lost, and the kill.
const fenceBound tick = 4_000

// watch looks at the whole world again and again.
func (w *world) watch() {
	w.after(50, func() {
		for _, s := range w.s {
			for g := range s.apps {
				w.checkFence(s, g)
			}
			for id, end := range s.moves {
				if s.works() && w.now > end {
					w.fail("planned move %d of %v has not ended", id, s.id)
				}
			}
		}
		w.watch()
	})
}

// checkFence: applications do not go on for long where the storage is gone.
func (w *world) checkFence(s *server, g int) {
	mute := false
	for _, u := range s.p.Groups[g].Units {
		mute = mute || w.mute[index(s.id)][u]
	}
	if !s.apps[g] || s.connected(g) || mute || !s.works() {
		s.strayed[g] = failover.Never
		return
	}
	if s.strayed[g] == failover.Never {
		s.strayed[g] = w.now
	}
	bound := fenceBound
	if w.rates.swLoss > 0 || w.rates.hang > 0 || w.rates.actionFails > 0 || w.now < w.healed+12_000 {
		bound = 40_000
	}
	if w.now-s.strayed[g] > bound {
		w.fail("fence: applications of group %d run on %v without its storage", g, s.id)
	}
}

// checkStart is S2: an application starts only where the switch connects the storage, or did a moment ago. The
// moments after a pause do not count: nobody can have told the start that it is too late.
func (w *world) checkStart(s *server, g int) {
	if w.now < s.resumed+1_000 {
		return
	}
	for _, u := range s.p.Groups[g].Units {
		x := &w.units[u]
		if x.key.Owner != s.id && w.now-x.changed > fenceBound && !w.mute[index(s.id)][u] && w.rates == (faultRates{}) {
			w.fail("S2: %v starts applications of group %d without unit %d", s.id, g, u)
		}
	}
}

// move asks this server for a planned move of a group.
func (s *server) move(g int) {
	s.moveID++
	id := uint64(s.id)<<32 | uint64(s.gen)<<16 | s.moveID
	s.w.log("%v: operator moves group %d", s.id, g)
	s.w.stats.moves++
	gp := &s.p.Groups[g]
	half := gp.StopTimeout + s.p.DetachTimeout + s.p.ClaimTimeout + gp.AttachTimeout + gp.StartTimeout + s.p.MoveTimeout
	s.moves[id] = s.w.now + 3*half + s.p.MoveTimeout
	s.input(s.gen, func() {
		before := s.dropped
		s.step(failover.Event{Kind: failover.OpMove, Group: g, Move: id})
		if s.dropped != before {
			delete(s.moves, id) // could not be recorded: the operator is told so
		}
	})
}
