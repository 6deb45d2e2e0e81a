package sim

import (
	"slices"
	"time"

	"github.com/orscore/ors/core/failover"
)

// checker looks at the world, never at what a node believes, and says when a promise was broken. What it must know of a
// node is what the node has done.
type checker struct {
	w        *world
	heardAt  [2]time.Duration    // newest beat of the partner that a server has accepted
	left     [2]bool             // the server has said goodbye, was heard, and is not back
	toldGen  [2]int32            // to which start of the partner
	leaving  [2]bool             // an orderly shutdown was asked for
	phases   [2][]failover.Phase // as of the last look
	activeAt [2][]time.Duration  // when the group was last active there
	since    [2][]time.Duration  // of those phases
	strayed  [2][]time.Duration  // since when applications run where the storage is gone; negative: they do not
	failed   [2][]time.Duration  // newest failure of the group's drives or applications there
	off      [2]bool             // switchover was disabled on this server, and is not enabled again
	modeSeq  [2]uint32
	wokenAt  [2]time.Duration
	woken    [2]int             // how often at that moment
	byItself []time.Duration    // by group: when a switch has moved a unit of it last
	askedAt  []time.Duration    // by group: newest planned move or shutdown
	disturb  [2][]time.Duration // by unit: until when a server's way to the switch was no good
	journeys []journey          // by group
	still    []failover.Server  // owners of units that must not change any more; nil: they may
}

const never = time.Duration(-1)

func (c *checker) init(w *world) {
	c.w = w
	n := len(w.s.Pair.Primary)
	for i := range c.phases {
		c.phases[i] = make([]failover.Phase, n)
		c.activeAt[i] = make([]time.Duration, n)
		c.since[i] = make([]time.Duration, n)
		c.strayed[i] = make([]time.Duration, n)
		c.failed[i] = make([]time.Duration, n)
		c.disturb[i] = make([]time.Duration, len(w.units))
		for g := range n {
			c.strayed[i][g], c.failed[i][g] = never, -time.Hour
		}
		for u := range w.units {
			c.disturb[i][u] = -time.Hour
		}
		c.heardAt[i] = -time.Hour
	}
	c.askedAt, c.byItself, c.journeys = make([]time.Duration, n), make([]time.Duration, n), make([]journey, n)
	for g := range c.askedAt {
		c.askedAt[g] = -time.Hour
	}
	w.after(0, c.watch)
}

// readsWithin is how old what an agent knows of a unit may be while it works and its switch answers at once: a quiet
// read's interval, an answer that was lost, and the next one.
func (c *checker) readsWithin(h *host) time.Duration {
	p := h.loop.Params()
	return time.Duration(p.InspectQuiet+2*p.AskAgain)*time.Millisecond + time.Second
}

// sees reports whether a server's way to a unit's switch has been good for long enough to know what it shows.
func (c *checker) sees(h *host, u int) bool {
	w := c.w
	settle := c.readsWithin(h)
	last := max(c.disturb[h.i][u], h.ports[u].badUntil(), h.stoppedUntil, h.resumedAt, h.startedAt)
	return w.now > last+settle
}

// swap is called before a unit's key changes. by is nil when the switch does it by itself.
func (c *checker) swap(u int, key failover.Key, by *host) {
	w := c.w
	x := &w.units[u]
	if by == nil {
		c.askedAt[x.group], c.byItself[x.group] = w.now, w.now
		return
	}
	g := &by.groups[x.group]
	if key.Owner == failover.Nobody && (g.mounted || g.running) {
		w.violate("S3", "%v releases unit %d while mounted %v, running %v", by.id, u, g.mounted, g.running)
	}
	if key.Owner != failover.Nobody && key.Owner != by.id {
		w.violate("S1", "%v gives unit %d to somebody else: %v", by.id, u, key)
	}
	if key.Owner == x.key.Owner || key.Owner == failover.Nobody {
		return
	}
	if by.recordAt < x.changed {
		w.violate("L2", "%v takes unit %d, and has not said why", by.id, u)
	}
	c.flaps(x, key)
	if c.still != nil && key.Owner != c.still[u] {
		w.violate("ping-pong", "unit %d moves from %v to %v without a cause", u, c.still[u], key.Owner)
	}
}

// journey is where a group was whole last, and when it went from one server to the other by itself.
type journey struct {
	owner failover.Server
	tag   uint32 // newest of its units' rounds there
	moves []time.Duration
	// agents started since the first of them: what an agent was not there to see, or had nothing to compare with, it does
	// not count
	starts int
}

// flaps counts how often a group goes from one server to the other by itself: not because a round was won, and not
// because an operator wants it. x is called before its key changes; a group has moved when its last unit has.
func (c *checker) flaps(x *unit, key failover.Key) {
	w, tag := c.w, key.Tag
	for u := range w.units {
		if o := &w.units[u]; o != x && o.group == x.group {
			if o.key.Owner != key.Owner {
				return
			}
			tag = max(tag, o.key.Tag)
		}
	}
	j := &c.journeys[x.group]
	if limit := w.s.Pair.Flap; limit > 0 && j.owner == key.Owner.Other() && j.tag == tag &&
		w.now-c.askedAt[x.group] > 10*time.Minute {
		j.moves = slices.DeleteFunc(j.moves, func(at time.Duration) bool { return w.now-at >= time.Hour })
		if len(j.moves) == 0 {
			j.starts = 0
		}
		j.moves = append(j.moves, w.now)
		// the last move that is allowed may fail there and come back
		if len(j.moves) > limit+1+j.starts {
			w.violate("ping-pong", "group %d goes to %v by itself, for the %d. time within an hour", x.group, key.Owner,
				len(j.moves))
		}
	}
	j.owner, j.tag = key.Owner, tag
}

// cleared: an operator has looked at a group, and its moves are counted anew.
func (c *checker) cleared(g int) { c.journeys[g].moves = nil }

// switched: an operator has switched the mode of the pair on a server, which has it on record.
func (c *checker) switched(h *host, disabled *bool, maintenance *time.Duration) {
	for i := range c.off { // until the other one has heard of it, both may be right
		if disabled != nil && !*disabled || maintenance != nil {
			c.off[i] = false
		}
	}
	if disabled != nil && *disabled {
		c.off[h.i], c.modeSeq[h.i] = true, h.loop.State().Hard.Mode.Seq
	}
}

// claims looks at what an agent asks a switch for.
func (c *checker) claims(h *host, a failover.Action) {
	w := c.w
	for _, s := range a.Swaps {
		if s.Old.Owner != h.id.Other() || s.New.Owner != h.id {
			continue
		}
		// While the partner is heard only a round that was won before may be finished.
		first := w.units[0].key
		finishes := s.New.By == h.id && s.New.Tag > 0 && s.New.Tag == first.Tag && first.By == h.id && s.Unit > 0
		if silence := w.now - c.heardAt[h.i]; silence < w.s.Pair.Timeout.of()-time.Millisecond && !finishes {
			w.violate("S6", "%v claims unit %d of a partner whose beat it heard %v ago", h.id, s.Unit, silence)
		}
		// of two changes of the mode that did not know of each other the one with the higher number holds
		mode := h.loop.State().Hard.Mode
		if c.off[h.i] = c.off[h.i] && mode.By == h.id && mode.Seq == c.modeSeq[h.i]; c.off[h.i] && !finishes {
			w.violate("mode", "%v claims unit %d of its partner, though switchover is disabled there", h.id, s.Unit)
		}
		if c.left[1-h.i] && c.toldGen[1-h.i] == h.gen {
			w.violate("S5", "%v claims unit %d of a partner that has left in order", h.id, s.Unit)
		}
	}
}

// heard: a server has accepted a beat.
func (c *checker) heard(h *host) { c.heardAt[h.i] = c.w.now }

// spins: an agent that wants to be woken again and again while no time passes would take a whole processor (L3).
func (c *checker) spins(h *host) bool {
	if c.wokenAt[h.i] != c.w.now {
		c.wokenAt[h.i], c.woken[h.i] = c.w.now, 0
	}
	if c.woken[h.i]++; c.woken[h.i] < 1000 {
		return false
	}
	c.w.violate("L3", "the agent of %v wants to be woken all the time: next at %v", h.id, h.loop.Next().Sub(h.time()))
	return true
}

// booted: an agent was started.
func (c *checker) booted(h *host) {
	for g := range c.journeys {
		c.journeys[g].starts++
	}
	c.left[h.i], c.leaving[h.i] = false, false
	for g := range h.groups {
		c.phases[h.i][g], c.since[h.i][g], c.strayed[h.i][g] = failover.Unknown, c.w.now, never
	}
}

func (c *checker) poweredOff(h *host) {
	for g := range c.strayed[h.i] {
		c.strayed[h.i][g] = never
	}
}

func (c *checker) asked(g int)    { c.askedAt[g] = c.w.now }
func (c *checker) leaves(h *host) { c.leaving[h.i] = true }

// gone: a server has ended in order; told: its partner has acknowledged the goodbye. An agent that was started since it
// was said may not be the one that has.
func (c *checker) gone(h *host, told bool) {
	o := c.w.other(h)
	c.left[h.i], c.toldGen[h.i] = told && o.startedAt < h.parkedAt, o.gen
}

// accepted: a write through a mount reaches a unit.
func (c *checker) accepted(h *host, u, mount int) {
	if x := &c.w.units[u]; x.mount != mount {
		c.w.violate("S1", "%v writes to unit %d through mount %d, which is older than %d", h.id, u, mount, x.mount)
	}
}

// mounts: a unit is mounted.
func (c *checker) mounts(h *host, u int) {
	if x := &c.w.units[u]; x.durable < x.acked {
		c.w.violate("D1", "unit %d holds %d writes when %v mounts it, and %d were acknowledged", u, x.durable, h.id, x.acked)
	}
	o := c.w.other(h)
	if s := &o.groups[c.w.units[u].group]; s.mounted && o.connected(c.w.units[u].group) {
		c.w.violate("S1", "%v mounts unit %d, which is mounted and connected on %v", h.id, u, o.id)
	}
}

// starts: applications of a group are about to be started.
func (c *checker) starts(h *host, g int) {
	w := c.w
	c.heardThere(h, g)
	if !h.groups[g].mounted {
		w.violate("S2", "%v starts applications of group %d, which is not mounted", h.id, g)
	}
	for u := range w.units {
		x := &w.units[u]
		if x.group == g && x.key.Owner != h.id && c.sees(h, u) && w.now-x.changed > c.readsWithin(h) {
			w.violate("S2", "%v starts applications of group %d without unit %d, since %v", h.id, g, u, w.now-x.changed)
		}
	}
}

// heardThere: what is heard on one server from now on must not be heard on the other one, whose agent is not there to
// end it. Where an agent works, or has begun to end it, it sees that the storage is gone. Three cases are no agent's:
// the switch has moved the storage by itself; the beats with which it said last that it is here did not arrive, so that
// links failed as well; or it was taken for lost, came back, said that it is here, and stopped again before it could
// see that the round was being finished.
func (c *checker) heardThere(h *host, g int) {
	w, o := c.w, c.w.other(h)
	s := &o.groups[g]
	heard, back := c.heardAt[h.i], h.up && h.loop.State().Partner.Up
	if pt := &h.loop.State().Partner; h.up && pt.Losses > 1 { // what came after the loss was long on its way
		lostAt := h.moment(pt.LostAt)
		heard, back = min(heard, lostAt-w.s.Pair.Timeout.of()), back || s.heardFrom >= lostAt
	}
	arrived := heard >= s.heardFrom-w.s.Pair.Interval.of()
	if !s.running || o.frozen || c.byItself[g] >= s.heardFrom || w.now >= s.heardTill || w.now >= h.groups[g].heardTill ||
		!s.heardLong && (!arrived || back) {
		return
	}
	if !o.up || o.stopped() && o.loop.HoldsGroup(g) {
		w.violate("A1", "applications of group %d are heard on %v, and those on %v for another %v", g, h.id, o.id,
			s.heardTill-w.now)
	}
}

// stops: running applications are about to be stopped or killed.
func (c *checker) stops(h *host, a failover.Action) {
	w, g := c.w, a.Group
	s := &h.groups[g]
	if !s.running || s.ill || !h.connected(g) {
		return
	}
	p := h.loop.Params()
	gp := &p.Groups[g]
	long := time.Duration(2*(gp.StartTimeout+gp.StopTimeout+p.MoveTimeout+p.KillTimeout)) * time.Millisecond
	switch {
	case c.leaving[h.i], w.now-c.askedAt[g] < 2*long, w.now-c.failed[h.i][g] < long:
		return
	}
	home := failover.Server(w.s.Pair.Primary[g])
	if w.s.Pair.Automatic && home != h.id && a.Kind == failover.StopApps && c.phases[h.i][g] == failover.Stopping &&
		w.now-c.activeAt[h.i][g] >= failbackDelay {
		return // the configuration wants it home by itself
	}
	for u := range w.units {
		if x := &w.units[u]; x.group == g && (!c.sees(h, u) || w.now-x.changed < c.readsWithin(h)) {
			if a.Kind == failover.KillAll {
				return // it cannot know better: what it was shown last, or the silence, says so
			}
		}
	}
	w.violate("S4", "%v ends applications of group %d (%v), which the switch names as its own", h.id, g, a.Kind)
}

// failure: an action of a group has failed on a server, or its applications have.
func (c *checker) failure(h *host, g int) { c.failed[h.i][g] = c.w.now }

// stepped is called after each thing that an agent has taken in.
func (c *checker) stepped(h *host) {
	st := h.loop.State()
	for g := range st.Groups {
		if ph := st.Groups[g].Phase; ph != c.phases[h.i][g] {
			c.phases[h.i][g], c.since[h.i][g] = ph, c.w.now
			if ph == failover.Active {
				c.activeAt[h.i][g] = c.w.now
			}
			if len(c.w.waiting) > 0 {
				c.w.entered(h, g, ph.String())
			}
		}
	}
}

// watch looks at the whole world again and again.
func (c *checker) watch() {
	w := c.w
	for _, h := range w.hosts {
		for u := range h.ports {
			if w.now < h.ports[u].badUntil() {
				c.disturb[h.i][u] = w.now
			}
		}
		if !h.works() {
			continue
		}
		for g := range h.groups {
			c.fence(h, g)
			c.waits(h, g)
		}
	}
	pause := max(200*time.Millisecond, w.s.Pair.Timeout.of()/4)
	if w.calm && c.still != nil {
		pause = 10 * time.Second
	}
	w.after(pause, c.watch)
}

// fence: applications do not go on for long where the storage is gone.
func (c *checker) fence(h *host, g int) {
	w := c.w
	s := &h.groups[g]
	blind := false
	for u := range w.units {
		blind = blind || w.units[u].group == g && !c.sees(h, u)
	}
	if !s.running || h.connected(g) || blind || w.now < s.killFails {
		c.strayed[h.i][g] = never
		return
	}
	if c.strayed[h.i][g] == never {
		c.strayed[h.i][g] = w.now
	}
	p := h.loop.Params()
	bound := c.readsWithin(h) + time.Duration(2*p.KillTimeout)*time.Millisecond
	if w.now-c.strayed[h.i][g] > bound {
		w.violate("fence", "applications of group %d run on %v without their storage for %v", g, h.id,
			w.now-c.strayed[h.i][g])
	}
}

// waits: every phase that waits for an answer has a deadline, and does not outlive it (L3).
func (c *checker) waits(h *host, g int) {
	st := h.loop.State()
	gr := &st.Groups[g]
	switch gr.Phase {
	case failover.Active, failover.Standby, failover.Faulted, failover.Parked:
		return
	}
	if gr.Deadline == failover.Never {
		c.w.violate("L3", "group %d waits as %v on %v without a deadline", g, gr.Phase, h.id)
		return
	}
	good := h.disk.worst()
	if c.w.calm {
		good = max(good, c.w.healed) // it was mended then
	}
	if c.w.now < good+2*time.Second || c.w.now < h.starvedUntil || c.w.now < h.resumedAt+2*time.Second {
		return // what cannot be recorded is not done, and is tried again
	}
	if late := c.w.now - h.moment(gr.Deadline); late > 3*time.Second {
		c.w.violate("L3", "group %d is still %v on %v %v after its deadline", g, gr.Phase, h.id, late)
	}
}

// worst is until when the disk is no good.
func (d *disk) worst() time.Duration { return max(d.torn, d.fails, d.full) }

// truth compares what status says of a settled pair with the world.
func (c *checker) truth() {
	w := c.w
	for _, h := range w.hosts {
		st := h.loop.Status()
		if st.Verdict != failover.VerdictAlive.String() {
			w.violate("status", "%v says that its partner is %s", h.id, st.Verdict)
		}
		for g := range st.Groups {
			s := &st.Groups[g]
			owner := w.owner(g)
			phase := failover.Standby
			if owner == h.id {
				phase = failover.Active
			}
			if s.Owner != h.cfg.ServerName(owner) || s.Phase != phase.String() {
				w.violate("status", "%v says that group %d is %s's and %s here; it is %s's and %v", h.id, g, s.Owner, s.Phase,
					h.cfg.ServerName(owner), phase)
			}
			for _, u := range s.Units {
				if u.Owner != h.cfg.ServerName(owner) {
					w.violate("status", "%v says that unit %s is %s's; it is %s's", h.id, u.Name, u.Owner, h.cfg.ServerName(owner))
				}
			}
			for _, a := range s.Applications {
				if owner == h.id && (a.Server != h.cfg.ServerName(owner) || a.State != "running") {
					w.violate("status", "%v says that application %s of group %d is %s on %q; it runs on %s", h.id, a.Name, g, a.State,
						a.Server, h.cfg.ServerName(owner))
				}
			}
		}
	}
}

// keepStill: from now on nothing may move.
func (c *checker) keepStill() {
	c.still = make([]failover.Server, len(c.w.units))
	for u := range c.w.units {
		c.still[u] = c.w.units[u].key.Owner
	}
}
