package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
)

// Violation is a promise of DESIGN §2, or a number of the requirements, that did not hold.
type Violation struct {
	Rule string        `json:"rule"` // S1 … D2, takeover-time, ping-pong, status
	At   time.Duration `json:"at_ns"`
	Text string        `json:"text"`
}

func (v Violation) String() string { return fmt.Sprintf("%s at %v: %s", v.Rule, v.At, v.Text) }

// world is everything that happens in a run.
type world struct {
	s     *Script
	now   time.Duration
	q     queue
	hosts [2]*host
	units []unit
	links []*link
	log   func(format string, args ...any) // nil: nobody listens

	lineChance, switchChance, appChance, faultChance *rand.Rand

	faults      []int // by class, how often
	waiting     []*Fault
	bad         []Violation
	check       checker
	ledgers     *[2]memory // nil: none are kept
	decided     func(decision.Decision, failover.State)
	moveID      uint64
	free        []*packet
	mounts      int // numbers of mounts given out
	healed      time.Duration
	calm        bool        // faults have ended
	over        func() bool // asked now and then: nobody waits for the end any more
	count       int
	broken      bool // it ended because of that
	fixed, slow bool // actions take no time, or all that the configuration grants
}

func newWorld(s *Script, cfgs [2]*config.Config, log func(string, ...any)) *world {
	chance := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, n)) }
	w := &world{s: s, log: log, lineChance: chance(1), switchChance: chance(2), appChance: chance(3),
		faultChance: chance(4), faults: make([]int, len(classes)), healed: -1}
	for u, g := range s.Pair.Units {
		w.units = append(w.units, unit{group: g, newer: u < len(s.Pair.Newer) && s.Pair.Newer[u]})
	}
	for i, kind := range s.Pair.Links {
		w.links = append(w.links, newLink(i, kind))
	}
	for i := range w.hosts {
		w.hosts[i] = newHost(w, cfgs[i])
	}
	w.check.init(w)
	return w
}

// note tells the trace something.
func (w *world) note(format string, args ...any) {
	if w.log != nil {
		w.log("%12.3f "+format, append([]any{w.now.Seconds()}, args...)...)
	}
}

func (w *world) violate(rule, format string, args ...any) {
	v := Violation{Rule: rule, At: w.now, Text: fmt.Sprintf(format, args...)}
	w.note("VIOLATION %s: %s", v.Rule, v.Text)
	if len(w.bad) < 20 {
		w.bad = append(w.bad, v)
	}
}

// after lets f happen d from now.
func (w *world) after(d time.Duration, f func()) {
	w.q.push(happening{at: w.now + max(0, d), what: call, f: f})
}

// run lets the world go on for d, or until until holds, which is looked at after everything that happens; it reports
// whether that held. A violation ends it.
func (w *world) run(d time.Duration, until func() bool) bool {
	end := w.now + d
	for len(w.bad) == 0 {
		if until != nil && until() {
			return true
		}
		if len(w.q.h) == 0 || w.q.h[0].at > end {
			w.now = end
			return false
		}
		if w.count++; w.count&4095 == 0 && w.over != nil && w.over() {
			w.broken = true
			w.bad = append(w.bad, Violation{Rule: "ended"})
			return false
		}
		h := w.q.pop()
		w.now = h.at
		w.happen(&h)
	}
	return false
}

func (w *world) happen(h *happening) {
	switch h.what {
	case call:
		h.f()
	case wake:
		w.hosts[h.server].woken(h)
	case beat:
		w.hosts[h.server].beatDue(h)
	case frame:
		w.hosts[h.server].arrives(h.packet)
	case land:
		w.land(h.cmd)
	case answer:
		w.answered(h.cmd)
	case write:
		w.hosts[h.server].writes(int(h.link), h.gen)
	}
}

// owner of a group by its switches: Nobody also when it is split.
func (w *world) owner(g int) failover.Server {
	o, first := failover.Nobody, true
	for u := range w.units {
		if w.units[u].group != g {
			continue
		}
		if !first && w.units[u].key.Owner != o {
			return failover.Nobody
		}
		o, first = w.units[u].key.Owner, false
	}
	return o
}

func (w *world) of(s failover.Server) *host { return w.hosts[s-1] }

func (w *world) other(h *host) *host { return w.hosts[1-h.i] }

// runsOn is the server on which a group is active with its applications, Nobody when it is not exactly there.
func (w *world) runsOn(g int) failover.Server {
	o := w.owner(g)
	if o == failover.Nobody {
		return o
	}
	h := w.of(o)
	if h.works() && h.loop.State().Groups[g].Phase == failover.Active && h.groups[g].mounted && h.groups[g].running &&
		!h.groups[g].ill && !h.groups[g].dead {
		return o
	}
	return failover.Nobody
}

// settled: every group runs once, the other side is ready for it, both agree, and no move is under way.
func (w *world) settled() bool {
	for g := range w.s.Pair.Primary {
		o := w.runsOn(g)
		if o == failover.Nobody || w.s.Pair.Automatic && o != failover.Server(w.s.Pair.Primary[g]) {
			return false
		}
		p := w.of(o.Other())
		if !p.works() || p.groups[g].running || p.groups[g].mounted || p.loop.State().Groups[g].Phase != failover.Standby {
			return false
		}
	}
	round := w.units[0].key.Tag // as the switch shows it now: what a server has read of it may be older
	for _, h := range w.hosts {
		st := h.loop.State()
		if !st.Agreed() || st.Hard.Common <= round || len(h.moves) > 0 {
			return false
		}
	}
	return true
}

// String is the whole world on some lines, for traces.
func (w *world) String() string {
	var b strings.Builder
	for _, h := range w.hosts {
		fmt.Fprintf(&b, "\n  %v on=%v agent=%v paused=%v", h.id, h.on, h.up, h.stopped())
		if !h.up {
			continue
		}
		st := h.loop.State()
		fmt.Fprintf(&b, " moves=%d verdict=%v up=%v lost=%v P=%d C=%d agreed=%v", len(h.moves),
			st.Partner.Verdict, st.Partner.Up, st.Partner.Lost, st.Hard.Promised, st.Hard.Common, st.Agreed())
		for g := range h.groups {
			gr, s := &st.Groups[g], &h.groups[g]
			fmt.Fprintf(&b, "\n    group %d %v mounted=%v running=%v ill=%v dead=%v role=%d blocked=%v fails=%d", g, gr.Phase,
				s.mounted, s.running, s.ill, s.dead, gr.Move.Role, st.Now < gr.BlockedUntil, gr.Fails)
		}
	}
	for u := range w.units {
		fmt.Fprintf(&b, "\n  unit %d of group %d %v", u, w.units[u].group, w.units[u].key)
	}
	return b.String()
}
