package failover_test

import (
	"github.com/orscore/ors/core/failover"
)

// randomFaults lets anything go wrong for a while.
func (w *world) randomFaults(d tick) {
	pick := func(rates ...float64) float64 { return rates[w.r.IntN(len(rates))] }
	w.rates = faultRates{
		loss: pick(0, 0.05, 0.3, 0.6), dup: pick(0, 0.1), swLoss: pick(0, 0, 0.02, 0.2), hang: pick(0, 0.02, 0.2),
		actionFails: pick(0, 0.02, 0.1),
	}
	w.log("--- faults %+v", w.rates)
	for end := w.now + d; w.now < end && w.bad == ""; {
		w.fault()
		w.run(50+w.upTo(1_500), nil)
	}
}

// fault lets one thing go wrong, or right again.
func (w *world) fault() {
	r := w.r
	s := w.s[r.IntN(2)]
	g := r.IntN(w.groups)
	switch x := r.IntN(100); {
	case x < 12:
		w.cut[r.IntN(nLinks)][r.IntN(2)] = r.IntN(2) == 0
	case x < 17:
		w.setCut(true)
	case x < 19: // one way
		w.setCut(false)
		d := r.IntN(2)
		w.cut[0][d], w.cut[1][d] = true, true
	case x < 27:
		w.setCut(false)
	case x < 31:
		w.mute[r.IntN(2)][r.IntN(len(w.units))] = true
	case x < 38:
		w.mute[r.IntN(2)][r.IntN(len(w.units))] = false
	case x < 41:
		if s.on {
			s.powerOff()
		}
	case x < 50:
		if !s.on || !s.core {
			s.boot()
		}
	case x < 55:
		if s.works() {
			s.crashIn = r.IntN(6)
		}
	case x < 61:
		s.pause(20 + w.upTo(1_500))
	case x < 65:
		s.pause(1_000 + w.upTo(12_000))
	case x < 69:
		s.apps[g] = false
	case x < 72:
		s.appBad[g] = !s.appBad[g]
	case x < 80:
		if s.works() {
			s.move(g)
		}
	case x < 83:
		s.clear(g)
	case x < 85:
		s.shutDown()
	case x < 88:
		s.network = []failover.Answer{failover.NoAnswer, failover.Yes, failover.No}[r.IntN(3)]
	case x < 90:
		s.diskBad = !s.diskBad
	case x < 93:
		s.setMode(r.IntN(2) == 0, w.upTo(2)*w.upTo(30_000))
	case x < 94:
		s.wall = w.upTo(7_200_000) - 3_600_000
	case x < 95:
		for _, s := range w.s {
			s.powerOff()
		}
	case x < 97:
		s.announce(1_000 + w.upTo(10_000))
	case x < 98:
		s.stay()
	}
}

// announce tells the partner that this agent is back within d.
func (s *server) announce(d tick) {
	s.input(s.gen, func() { s.step(failover.Event{Kind: failover.OpRestart, Left: d}) })
}

// stay calls an announced restart off.
func (s *server) stay() {
	s.input(s.gen, func() { s.step(failover.Event{Kind: failover.OpStay}) })
}

// clear is an operator's word that a group may try again.
func (s *server) clear(g int) {
	s.input(s.gen, func() { s.step(failover.Event{Kind: failover.OpClear, Group: g}) })
}

// shutDown stops this server in order; when everything is parked it says goodbye for a while and goes.
func (s *server) shutDown() {
	if !s.works() {
		return
	}
	s.w.log("%v: orderly shutdown", s.id)
	s.w.stats.shutdowns++
	s.input(s.gen, func() { s.step(failover.Event{Kind: failover.OpShutdown}) })
	s.awaitParked(s.gen)
}

func (s *server) awaitParked(gen int) {
	s.w.after(100, func() {
		if gen != s.gen || !s.core {
			return
		}
		for g := range s.st.Groups {
			if s.st.Groups[g].Phase != failover.Parked {
				s.awaitParked(gen)
				return
			}
		}
		s.w.after(2*interval, func() {
			if gen == s.gen && s.core {
				s.powerOff()
			}
		})
	})
}

// heal ends all faults; whoever is off or without an agent is started.
func (w *world) heal() {
	w.log("--- heal")
	w.rates, w.healed = faultRates{}, w.now
	w.setCut(false)
	for i, s := range w.s {
		clear(w.mute[i])
		s.crashIn, s.diskBad, s.network = -1, false, failover.NoAnswer
		clear(s.appBad)
		if s.paused {
			s.resume()
		}
		if s.st.Ending {
			s.stay()
		}
		if s.st.Leaving && s.core {
			s.killCore()
		}
		if !s.core {
			s.boot()
		}
	}
}

// tend is the operator who clears groups until all is well.
func (w *world) tend(d tick) bool {
	for end := w.now + d; w.now < end && w.bad == ""; {
		for _, s := range w.s {
			if s.works() && s.st.Off() {
				s.setMode(false, 0)
			}
			for g := range s.st.Groups {
				if gr := &s.st.Groups[g]; s.works() && (gr.Phase == failover.Faulted || s.st.Now < gr.BlockedUntil || stays(s, g)) {
					s.clear(g)
				}
			}
		}
		if w.run(2_000, w.settled) {
			return true
		}
	}
	return false
}

// stays: a group has moved by itself too often.
func stays(s *server, g int) bool {
	_, yes := s.st.Flapping(&s.p, g)
	return yes
}

// setMode is an operator's switch of the pair's mode; maintenance for d, 0: none.
func (s *server) setMode(disabled bool, maintenance tick) {
	m := failover.Mode{Disabled: disabled}
	if maintenance > 0 {
		m.Until = int64(s.w.now + s.wall + maintenance)
	}
	s.input(s.gen, func() { s.step(failover.Event{Kind: failover.OpMode, Mode: m, Left: maintenance}) })
}

// still: nothing changes hands for d.
func (w *world) still(d tick, why string) {
	owners := make([]failover.Server, len(w.units))
	for u := range w.units {
		owners[u] = w.units[u].key.Owner
	}
	w.run(d, nil)
	for u := range w.units {
		if w.units[u].key.Owner != owners[u] {
			w.fail("%s: unit %d moved from %v to %v without a cause", why, u, owners[u], w.units[u].key.Owner)
		}
	}
	for g := range w.groups {
		if w.bad == "" && w.runsOn(g) == failover.Nobody {
			w.fail("%s: group %d does not run", why, g)
		}
	}
}

// countMoves starts to count how often each unit goes to another server.
func (w *world) countMoves() {
	for u := range w.units {
		w.units[u].moved = 0
	}
}
