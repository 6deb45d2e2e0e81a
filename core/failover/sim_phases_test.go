package failover_test

import (
	"github.com/orscore/ors/core/failover"
)

// A controlled phase starts from a settled pair, does one thing to it, and knows what must come of it.
var phases = []struct {
	name string
	run  func(*world)
}{
	{"full cut", (*world).fullCut},
	{"cuts again and again", (*world).shortCuts},
	{"winner dies in a cut", (*world).winnerDies},
	{"death and return", (*world).death},
	{"planned move", (*world).plannedMove},
	{"planned move under faults", (*world).moveUnderFaults},
	{"shutdown and return", (*world).shutdownReturn},
	{"restart announced", (*world).announced},
	{"partner dies during an announced restart", (*world).diesMeanwhile},
	{"both restart as announced", (*world).bothAway},
	{"cable fault", (*world).cableFault},
	{"one-way cut", (*world).oneWay},
	{"isolated", (*world).isolated},
	{"agent killed", (*world).agentKilled},
	{"short pause", (*world).shortPause},
	{"switched off", (*world).switchedOff},
	{"automatic failback", (*world).failback},
	{"survivor restarted", (*world).survivorRestarts},
	{"sick application", (*world).sick},
}

// wins returns the server that serves everything after a cut.
func (w *world) wins() failover.Server {
	for _, s := range []failover.Server{failover.First, failover.Second} {
		if w.allOn(s) {
			return s
		}
	}
	return failover.Nobody
}

// resettle: after any controlled phase the pair must be well again, soon.
func (w *world) resettle(what string) {
	if w.bad == "" && !w.tend(30_000) {
		w.fail("%s: not settled: %v", what, w)
	}
	w.run(2*interval, nil) // a word that was on its way has been overtaken by a beat
}

func (w *world) fullCut() {
	w.countMoves()
	w.setCut(true)
	w.run(5_000, nil)
	if !w.run(15_000, func() bool { return w.wins() != failover.Nobody }) {
		w.fail("L1: a full cut has no single survivor: %v", w)
		return
	}
	winner := w.wins()
	w.still(20_000, "cut")
	for u := range w.units {
		if w.units[u].moved > 1 {
			w.fail("unit %d moved %d times in one cut", u, w.units[u].moved)
		}
	}
	w.stats.cuts++
	w.setCut(false)
	w.resettle("after a cut")
	if w.wins() != winner {
		w.fail("a link's return moved something away from %v: %v", winner, w)
	}
}

func (w *world) shortCuts() {
	for range 3 {
		w.setCut(true)
		if w.chance(0.4) {
			w.s[w.r.IntN(2)].pause(100 + w.upTo(8_000))
		}
		w.run(w.upTo(8_000), nil)
		w.setCut(false)
		w.run(w.upTo(2_500), nil)
	}
	w.setCut(true)
	if !w.run(30_000, func() bool { return w.wins() != failover.Nobody }) {
		w.fail("L1: the last of several cuts has no single survivor: %v", w)
	}
	w.setCut(false)
	w.resettle("after several cuts")
}

func (w *world) winnerDies() {
	w.setCut(true)
	w.run(2_000+w.upTo(6_000), nil)
	k := w.units[0].key.Owner
	if k == failover.Nobody {
		w.setCut(false)
		w.resettle("after a cut")
		return
	}
	w.of(k).powerOff()
	if !w.run(40_000, func() bool { return w.allOn(k.Other()) }) {
		w.fail("L1: the winner of a cut died, and nobody took over: %v", w)
	}
	w.stats.winnerDeaths++
	w.setCut(false)
	w.run(w.upTo(3_000), nil)
	w.of(k).boot()
	w.resettle("after a winner's death")
}

func (w *world) death() {
	s := w.s[w.r.IntN(2)]
	w.run(w.upTo(3_000), nil)
	s.powerOff()
	bound := s.p.Timeout + s.p.ArbitrationDelay + 3_000
	if !w.run(bound, func() bool { return w.allOn(s.id.Other()) }) {
		w.fail("L1: %v died and the survivor does not serve all: %v", s.id, w)
		return
	}
	w.stats.deaths++
	w.run(w.upTo(10_000), nil)
	s.boot()
	w.resettle("after a return")
	w.still(8_000, "return")
	if !w.allOn(s.id.Other()) {
		w.fail("a return moved something: %v", w)
	}
}

func (w *world) plannedMove() {
	g := w.r.IntN(w.groups)
	from := w.runsOn(g)
	moved := w.stats.moved
	w.of(from).move(g)
	if !w.run(15_000, func() bool { return w.runsOn(g) == from.Other() && w.settled() && w.stats.moved > moved }) {
		w.fail("a planned move of group %d has not ended well: %v", g, w)
	}
	w.still(5_000, "after a move")
}

// moveUnderFaults: whatever happens on the way, it ends there or here, and is told so.
func (w *world) moveUnderFaults() {
	g := w.r.IntN(w.groups)
	from := w.of(w.runsOn(g))
	to := w.of(from.id.Other())
	from.move(g)
	w.run(w.upTo(1_200), nil)
	switch w.r.IntN(7) {
	case 0:
		to.appBad[g] = true
	case 1:
		from.powerOff()
	case 2:
		to.powerOff()
	case 3:
		w.setCut(true)
	case 4:
		from.killCore()
	case 5:
		to.killCore()
	case 6:
		w.rates.loss = 0.5
	}
	w.run(1_000+w.upTo(20_000), nil)
	w.heal()
	if !w.tend(150_000) || !w.run(200_000, func() bool { return len(from.moves) == 0 }) {
		w.fail("L1: a planned move of group %d under faults: not settled: %v", g, w)
		return
	}
	w.still(10_000, "after a move under faults")
}

func (w *world) shutdownReturn() {
	s := w.s[w.r.IntN(2)]
	s.shutDown()
	if !w.run(10_000, func() bool { return !s.on }) {
		w.fail("an orderly shutdown has not ended: %v", w)
		return
	}
	before := append([]unitSwitch(nil), w.units...)
	w.run(15_000, nil)
	for u := range w.units {
		if w.units[u].key.Owner != before[u].key.Owner {
			w.fail("an orderly shutdown of %v was taken for a failure: unit %d moved", s.id, u)
		}
	}
	s.boot()
	w.resettle("after a shutdown")
}

func (w *world) announced() {
	s := w.s[w.r.IntN(2)]
	s.announce(6_000)
	w.run(2*interval+50, nil)
	before := append([]unitSwitch(nil), w.units...)
	s.killCore()
	w.run(2_500+w.upTo(2_500), nil)
	for u := range w.units {
		if w.units[u].key.Owner != before[u].key.Owner {
			w.fail("an announced restart of %v was taken for a failure: unit %d moved", s.id, u)
		}
	}
	s.boot()
	if w.chance(0.5) { // the new agent does not get to its end, and one more comes in the announced time
		w.run(w.upTo(600), nil)
		s.killCore()
		w.run(w.upTo(600), nil)
		s.boot()
	}
	w.stats.restarts++
	w.resettle("after an announced restart")
	for u := range w.units {
		if w.bad == "" && w.units[u].key.Owner != before[u].key.Owner {
			w.fail("an announced restart of %v was taken for a failure: unit %d moved", s.id, u)
		}
	}
}

// bothAway: both agents are restarted as announced, one a little after the other, and one that is back may be killed and
// started once more; nothing moves.
func (w *world) bothAway() {
	before := append([]unitSwitch(nil), w.units...)
	first := w.r.IntN(2)
	for i := range w.s {
		s := w.s[(first+i)%2]
		s.announce(8_000)
		w.run(2*interval+50, nil)
		s.killCore()
		w.run(w.upTo(1_000), nil)
		if i == 0 && w.chance(0.5) {
			s.boot()
			w.run(interval+w.upTo(500), nil)
		}
	}
	for _, s := range w.s {
		if !s.core {
			s.boot()
		}
		if w.chance(0.3) {
			w.run(w.upTo(500), nil)
			s.killCore()
			s.boot()
		}
		w.run(w.upTo(1_500), nil)
	}
	w.resettle("after both were restarted")
	for u := range w.units {
		if w.bad == "" && w.units[u].key.Owner != before[u].key.Owner {
			w.fail("announced restarts of both were taken for a failure: unit %d moved", u)
		}
	}
}

// diesMeanwhile: a server dies while the partner's agent is away as announced; the new one takes over, and so does one
// more after it that comes in time.
func (w *world) diesMeanwhile() {
	dead := w.s[w.r.IntN(2)]
	s := w.of(dead.id.Other())
	s.announce(10_000)
	w.run(2*interval+50, nil)
	s.killCore()
	w.run(w.upTo(500), nil)
	dead.powerOff()
	w.run(w.upTo(2_000), nil)
	s.boot()
	if w.chance(0.3) {
		w.run(w.upTo(s.p.Timeout), nil)
		s.killCore()
		w.run(w.upTo(1_000), nil)
		s.boot()
	}
	deaf := s.st.Hard.BackBy - s.p.Uptime - s.clock()
	bound := max(deaf, s.p.Timeout) + s.p.ArbitrationDelay + 3_000
	if !w.run(bound, func() bool { return w.allOn(s.id) }) {
		w.fail("L1: %v died while the agent of %v was away, and it does not serve all: %v", dead.id, s.id, w)
		return
	}
	w.stats.deaths++
	dead.boot()
	w.resettle("after a death during a restart")
}

func (w *world) cableFault() {
	l := w.r.IntN(nLinks)
	w.cut[l] = [2]bool{true, true}
	w.still(10_000, "cable fault")
	for _, s := range w.s {
		if w.bad == "" && s.st.Partner.Verdict != failover.VerdictCableFault {
			w.fail("a cable fault is told as %v by %v", s.st.Partner.Verdict, s.id)
		}
	}
	w.setCut(false)
	w.resettle("after a cable fault")
}

func (w *world) oneWay() {
	d := w.r.IntN(2)
	w.cut[0][d], w.cut[1][d] = true, true
	w.run(15_000, nil) // who hears nothing may win; who hears its partner may not
	for u := range w.units {
		if k := w.units[u].key; k.By == w.s[d].id && w.s[d].st.Partner.Lost {
			w.fail("%v hears its partner and believes it lost", w.s[d].id)
		}
	}
	for g := range w.groups {
		if w.runsOn(g) == failover.Nobody {
			w.fail("group %d does not run in a one-way cut: %v", g, w)
		}
	}
	w.setCut(false)
	w.resettle("after a one-way cut")
}

func (w *world) isolated() {
	s := w.s[w.r.IntN(2)]
	s.network = failover.No
	w.run(1_000, nil)
	w.setCut(true)
	other := s.id.Other()
	w.run(4_000, nil)
	if !w.run(10_000, func() bool { return w.allOn(other) }) {
		w.fail("the server that is not cut off does not serve all: %v", w)
	}
	s.network = failover.Yes
	w.still(10_000, "isolated")
	w.setCut(false)
	s.network = failover.NoAnswer
	w.resettle("after isolation")
}

func (w *world) agentKilled() {
	s := w.s[w.r.IntN(2)]
	s.killCore()
	w.run(w.upTo(12_000), nil)
	s.boot()
	w.resettle("after an agent was killed")
}

func (w *world) shortPause() {
	s := w.s[w.r.IntN(2)]
	s.pause(50 + w.upTo(1_200))
	w.run(2_000, nil)
	w.still(6_000, "short pause")
	w.resettle("after a pause")
}

// switchedOff: disabled, or in maintenance, a death moves nothing; when that ends, the survivor takes over at once.
func (w *world) switchedOff() {
	by := w.s[w.r.IntN(2)]
	maintenance := tick(0)
	if w.chance(0.5) {
		maintenance = 20_000
	}
	by.setMode(maintenance == 0, maintenance)
	if !w.run(5_000, func() bool { return w.s[0].st.Off() && w.s[1].st.Off() }) {
		w.fail("the mode has not reached both servers: %v", w)
		return
	}
	victim := w.s[w.r.IntN(2)]
	other := w.of(victim.id.Other())
	if w.chance(0.3) { // over a restart of the agent, whatever its wall clock says
		other.killCore()
		w.run(500, nil)
		other.boot()
	}
	before := append([]unitSwitch(nil), w.units...)
	w.run(500, nil)
	victim.powerOff()
	w.run(10_000, nil)
	for u := range w.units {
		if w.units[u].key.Owner != before[u].key.Owner {
			w.fail("switched off, unit %d moved all the same", u)
		}
	}
	if maintenance > 0 {
		w.run(10_000, nil)
	} else {
		other.setMode(false, 0)
	}
	if !w.run(8_000, func() bool { return w.allOn(other.id) }) {
		w.fail("L1: no takeover after switchover was enabled again: %v", w)
	}
	victim.boot()
	if maintenance > 0 {
		other.setMode(false, 0) // the mode's number is told to both
	}
	w.resettle("after having been switched off")
}

// failback: a group goes home by itself, after the delay and not before.
func (w *world) failback() {
	const delay = 4_000
	for _, s := range w.s {
		for g := range s.p.Groups {
			s.p.Groups[g].Failback, s.p.Groups[g].FailbackDelay = true, delay
			s.clear(g)
		}
	}
	home := func() bool {
		return w.runsOn(0) == failover.First && w.runsOn(1) == failover.Second && w.settled()
	}
	if w.run(60_000, home) {
		for _, s := range w.s {
			for g := range s.p.Groups {
				s.clear(g)
			}
		}
		s := w.s[w.r.IntN(2)]
		s.powerOff()
		if !w.run(8_000, func() bool { return w.allOn(s.id.Other()) }) {
			w.fail("L1: %v died and the survivor does not serve all: %v", s.id, w)
		}
		s.boot()
		w.run(delay-1_000, nil)
		if w.bad == "" && !w.allOn(s.id.Other()) {
			w.fail("a failback before its delay: %v", w)
		}
		if !w.run(30_000, home) {
			w.fail("no automatic failback: %v", w)
		}
	} else {
		w.fail("groups do not go home: %v", w)
	}
	for _, s := range w.s {
		for g := range s.p.Groups {
			s.p.Groups[g].Failback = false
			s.clear(g)
		}
	}
	w.resettle("after a failback")
}

// survivorRestarts: the survivor's agent ends at any moment of its takeover and is started again; it goes on, also
// without a startup time-out.
func (w *world) survivorRestarts() {
	dead := w.s[w.r.IntN(2)]
	s := w.of(dead.id.Other())
	dead.powerOff()
	if w.run(4_000, func() bool { return s.st.Partner.Lost }) {
		w.run(w.upTo(800), nil)
	}
	s.killCore()
	w.run(w.upTo(3_000), nil)
	s.boot()
	if !w.run(12_000, func() bool { return w.allOn(s.id) }) {
		w.fail("L1: the survivor's agent was restarted and does not go on: %v", w)
	}
	dead.boot()
	w.resettle("after a restart of the survivor's agent")
}

// sick: an application that cannot run where it is goes to the partner when that is ready, and stops moving at the
// limit.
func (w *world) sick() {
	g := w.r.IntN(w.groups)
	from := w.of(w.runsOn(g))
	for _, s := range w.s {
		s.clear(g)
	}
	from.appBad[g] = true
	from.apps[g] = false
	if !w.run(120_000, func() bool { return w.runsOn(g) == from.id.Other() && w.settled() }) {
		w.fail("a sick application of group %d was not moved to the ready partner: %v", g, w)
	}
	clear(from.appBad)
	w.resettle("after a sick application")
}
