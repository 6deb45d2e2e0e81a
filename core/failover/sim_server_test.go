package failover_test

import (
	"github.com/orscore/ors/core/failover"
)

// server is one server of the simulated pair: its hardware, its agent's loop around Step, and what runs on it. The
// loop follows core/node: hard state is on disk before any action or beat, evidence before the beat, a pause is
// told before what came in it.
type server struct {
	w  *world
	id failover.Server
	p  failover.Params

	on, core, paused bool
	gen              int // of the agent
	bootAt, resumed  tick
	onAt             tick // the operating system was started
	disk             failover.Hard
	diskBad          bool
	dropped          int // decisions that could not be recorded
	crashIn          int // ≥ 0: the agent is killed after so many actions
	st               failover.State
	beat             failover.Beat
	seq              uint64
	heldTurn         int
	heard            [nLinks]heardLink
	peerGen          int
	peerBoot         uint32
	network          failover.Answer
	wake, retryAt    tick
	timer            int // only the newest timer counts
	backlog          []func()
	work             []worker

	mounted []bool
	tenure  [][]int
	apps    []bool
	appBad  []bool
	strayed []tick // since when applications run here without the storage while the agent could see it; Never: no

	wall   tick // of its clock, ahead of the world's
	wanted int  // automatic moves asked for
	moveID uint64
	moves  map[uint64]tick // planned moves that have not ended, and when they must have
}

type heardLink struct {
	ever, heard bool
	base        tick
	seq         uint64
	gen         int
}

// worker carries out one action of a group at a time; a newer one cancels it.
type worker struct {
	busy      bool
	cancelled bool
	token     int
	next      *failover.Action
}

func newServer(w *world, p failover.Params) *server {
	s := &server{w: w, id: p.Self, p: p, crashIn: -1, moves: map[uint64]tick{}}
	for _, g := range p.Groups {
		s.mounted = append(s.mounted, false)
		s.apps = append(s.apps, false)
		s.appBad = append(s.appBad, false)
		s.strayed = append(s.strayed, failover.Never)
		s.tenure = append(s.tenure, make([]int, len(g.Units)))
		s.work = append(s.work, worker{})
	}
	s.st = failover.New(&s.p, s.disk, 0)
	return s
}

func (s *server) works() bool { return s.on && s.core && !s.paused }

// clock of the agent: counts from its own start, so the two servers' clocks have no relation.
func (s *server) clock() tick { return s.w.now - s.bootAt + 1 }

// boot starts the agent, and the machine if it is off.
func (s *server) boot() {
	s.w.log("%v: agent starts", s.id)
	if !s.on {
		s.p.Boot++
		s.onAt = s.w.now
	}
	s.on, s.core, s.paused, s.diskBad = true, true, false, false
	s.p.Uptime = s.w.now - s.onAt - 1 // the agent's clock begins with 1
	s.crashIn = -1
	s.gen++
	s.peerBoot = 0
	s.bootAt, s.resumed = s.w.now, s.w.now-failover.Never/2
	s.st = failover.New(&s.p, s.disk, s.clock())
	s.heard = [nLinks]heardLink{}
	s.peerGen, s.backlog = 0, nil
	for g := range s.work {
		s.work[g] = worker{token: s.work[g].token + 1}
		s.strayed[g] = failover.Never
	}
	s.moves = map[uint64]tick{}
	s.publish()
	s.wake = s.w.now
	if s.disk.Mode.Until != 0 {
		s.step(failover.Event{Kind: failover.ModeLeft, Left: tick(s.disk.Mode.Until) - s.w.now - s.wall})
	}
	s.arm()
	s.beats(s.gen)
	s.probe(s.gen)
}

// killCore ends the agent; applications and mounts stay. A start that is under way may yet succeed.
func (s *server) killCore() {
	s.w.log("%v: agent killed", s.id)
	s.core = false
	s.backlog = nil
	s.paused = false
}

// powerOff ends everything but the disk.
func (s *server) powerOff() {
	s.w.log("%v: power lost", s.id)
	s.on, s.core, s.paused, s.backlog = false, false, false, nil
	for g := range s.apps {
		s.apps[g], s.mounted[g] = false, false
	}
}

func (s *server) pause(d tick) {
	if !s.works() {
		return
	}
	s.w.log("%v: paused for %d", s.id, d)
	s.paused = true
	gen := s.gen
	s.w.after(d, func() {
		if s.gen == gen && s.paused {
			s.resume()
		}
	})
}

func (s *server) resume() {
	s.w.log("%v: resumes", s.id)
	s.paused, s.resumed = false, s.w.now
	todo := s.backlog
	s.backlog = nil
	s.checkLate()
	for _, f := range todo {
		if s.core {
			f()
		}
	}
	if s.core {
		s.onTime()
	}
}

// input runs f in the agent gen, now or when its pause ends.
func (s *server) input(gen int, f func()) {
	switch {
	case !s.on || !s.core || s.gen != gen:
	case s.paused:
		s.backlog = append(s.backlog, func() { s.input(gen, f) })
	default:
		s.checkLate()
		f()
		s.arm()
	}
}

// later is input after d.
func (s *server) later(d tick, f func()) {
	gen := s.gen
	s.w.after(d, func() { s.input(gen, f) })
}

// until is the time from now to a moment of the agent's clock.
func (s *server) until(t tick) tick { return max(0, t-s.clock()) }

func (s *server) checkLate() {
	if s.w.now-s.wake <= s.p.Timeout/2 {
		return
	}
	s.wake = s.w.now
	for i := range s.heard {
		h := &s.heard[i]
		h.heard = false
		h.base = s.w.now
	}
	s.step(failover.Event{Kind: failover.WasLate, Text: "late"})
}

func (s *server) evidence() failover.Evidence {
	e := failover.Evidence{Network: s.network}
	for _, h := range s.heard {
		e.Links = append(e.Links, failover.LinkEvidence{Silent: !h.heard || s.w.now-h.base >= s.p.Timeout, Ever: h.ever})
	}
	return e
}

func same(a, b failover.Evidence) bool {
	if a.Network != b.Network || len(a.Links) != len(b.Links) {
		return false
	}
	for i := range a.Links {
		if a.Links[i] != b.Links[i] {
			return false
		}
	}
	return true
}

func (s *server) arm() {
	if !s.core {
		return
	}
	wake := s.w.now + interval
	if s.diskBad {
		if s.retryAt <= s.w.now { // what comes in between does not put it off
			s.retryAt = s.w.now + 500
		}
		wake = s.retryAt
	} else {
		if t := failover.Next(&s.p, &s.st); t != failover.Never {
			wake = min(wake, s.w.now+s.until(t))
		}
		for _, h := range s.heard {
			if t := h.base + s.p.Timeout; h.heard && t > s.w.now {
				wake = min(wake, t)
			}
		}
	}
	s.wake = wake
	s.timer++
	timer, gen := s.timer, s.gen
	s.w.after(wake-s.w.now+s.w.upTo(2), func() {
		if timer == s.timer && gen == s.gen && s.works() {
			s.checkLate()
			s.onTime()
		}
	})
}

func (s *server) onTime() {
	if e := s.evidence(); !same(e, s.st.Partner.Evidence) {
		s.step(failover.Event{Kind: failover.Seen, Evidence: e})
	} else if failover.Next(&s.p, &s.st) <= s.clock() || s.clock()-s.st.Now >= 100 {
		s.step(failover.Event{Kind: failover.Passed})
	}
	s.arm()
}

// beats goes out at the interval with what was published last.
func (s *server) beats(gen int) {
	if gen != s.gen || !s.core {
		return
	}
	if s.works() {
		s.seq++
		for l := range nLinks {
			s.w.deliver(s, l, s.beat, s.seq)
		}
		if s.seq%5 == 0 {
			s.w.tellMode(s)
		}
		if s.st.Ending {
			s.w.tellAway(s)
		}
	}
	s.w.after(interval, func() { s.beats(gen) })
}

func (s *server) beatIn(link int, b failover.Beat, seq uint64, gen int, boot uint32, sent tick) {
	if sent < s.bootAt {
		return // of an older session
	}
	s.input(s.gen, func() {
		h := &s.heard[link]
		if gen < s.peerGen || gen == h.gen && seq <= h.seq {
			return
		}
		if s.peerGen != 0 && gen > s.peerGen {
			s.step(failover.Event{Kind: failover.PeerStarted, Text: "another start", Rebooted: boot != s.peerBoot})
		}
		s.peerGen, s.peerBoot = gen, boot
		*h = heardLink{ever: true, heard: true, base: s.w.now, seq: seq, gen: gen}
		if e := s.evidence(); !same(e, s.st.Partner.Evidence) {
			s.step(failover.Event{Kind: failover.Seen, Evidence: e})
		}
		if s.core {
			s.step(failover.Event{Kind: failover.Heard, Beat: b})
		}
	})
}

func (s *server) publish() {
	st := &s.st
	s.heldTurn++
	unit := s.heldTurn % len(st.Hard.Units)
	s.beat = failover.Beat{
		HearsUs: st.Partner.Evidence.Beats() != failover.BeatsNone && !st.Partner.Lost, Leaving: st.Leaving,
		Losses: st.Partner.Losses, Promised: st.Hard.Promised, Common: st.Hard.Common,
		HeldUnit: unit, Held: st.Hard.Units[unit].Held,
		Restarting: (max(0, st.BackAt-s.clock()) + 999) / 1000 * 1000,
	}
}

// step is the agent's one way to decide: hard state first, then the beat, then the actions.
func (s *server) step(e failover.Event) {
	if !s.core {
		return
	}
	s.w.stats.steps++
	e.At, e.Uptime = s.clock(), s.w.now-s.onAt
	next, actions := failover.Step(&s.p, s.st, e)
	if !next.Hard.Equal(s.disk) {
		if s.diskBad {
			s.dropped++
			return
		}
		s.disk = next.Clone().Hard
	} else if !next.Hard.Same(s.disk) && !s.diskBad {
		s.disk = next.Clone().Hard
	}
	s.st = next
	s.publish()
	if s.st.BackAt > 0 && s.st.Found() && e.Kind != failover.Returned {
		s.later(1+s.w.upTo(100), func() { s.step(failover.Event{Kind: failover.Returned}) })
	}
	for _, a := range actions {
		if s.crashIn >= 0 {
			if s.crashIn--; s.crashIn < 0 {
				s.killCore()
				return
			}
		}
		s.act(a, e)
	}
}

// probe notices applications that have died.
func (s *server) probe(gen int) {
	s.w.after(500, func() {
		if gen != s.gen || !s.core {
			return
		}
		for g := range s.apps {
			if s.works() && s.st.Groups[g].Phase == failover.Active && !s.apps[g] {
				s.input(gen, func() { s.step(failover.Event{Kind: failover.AppsFailed, Group: g, Text: "it died"}) })
			}
		}
		s.probe(gen)
	})
}
