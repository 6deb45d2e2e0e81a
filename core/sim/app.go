package sim

import (
	"fmt"
	"time"

	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
)

// hostGroup is what one server has of one group: mounts and applications, which outlive the agent.
type hostGroup struct {
	mounted bool
	mount   int  // number of the mount
	dead    bool // its unit has lost its power since
	running bool
	started int // how often applications were started here
	watched bool
	upBy    uint64 // by which operation
	probing int
	ill     bool // the applications run, and fail their checks
	work    worker
	// faults, until when
	mountFails, unmountFails, startsSlowly, startFails, hangs, ignoresStop, killFails time.Duration
	writeGen                                                                          int32

	heardTill time.Duration // the network hears the applications until then, where they run
	heardFrom time.Duration // when the agent said that
	heardLong bool          // and whether for longer than the partner's silence allows
}

// worker carries out one action of a group at a time; a newer one cancels it and runs when it has returned.
type worker struct {
	busy, cancelled bool
	token           int
	now             failover.Action
	next            *failover.Action
}

// connected: the switches connect all units of the group to this server.
func (h *host) connected(g int) bool {
	for u := range h.w.units {
		if x := &h.w.units[u]; x.group == g && (x.key.Owner != h.id || x.off) {
			return false
		}
	}
	return true
}

func (h *host) upTo(d time.Duration) time.Duration {
	return time.Duration(h.w.appChance.Int64N(int64(max(d, 1))))
}

// ask answers questions that change nothing.
func (h *host) ask(a failover.Action) {
	gen := h.gen
	h.w.after(2*time.Millisecond+h.upTo(30*time.Millisecond), func() {
		if h.gen != gen {
			return
		}
		g := &h.groups[a.Group]
		e := failover.Event{Group: a.Group, Op: a.Op, Kind: failover.ReadyYes}
		switch {
		case a.Kind == failover.Witness && g.mounted && !g.dead && h.connected(a.Group):
			e.Kind = failover.DiskAnswered
		case a.Kind == failover.Witness:
			e.Kind = failover.DiskSilent
		case h.w.now < g.startFails:
			e.Kind, e.Text = failover.ReadyNo, "a file of the application is missing"
		}
		h.answer(e)
	})
}

// give hands a group's worker its next action.
func (h *host) give(a failover.Action) {
	k := &h.groups[a.Group].work
	if !k.busy {
		h.begin(a)
		return
	}
	k.next = &a
	if k.cancelled {
		return
	}
	k.cancelled = true
	token := k.token
	h.w.after(time.Millisecond+h.upTo(30*time.Millisecond), func() { h.workEnds(a.Group, token) })
}

func (h *host) workEnds(g, token int) {
	k := &h.groups[g].work
	if k.token != token || !k.busy {
		return
	}
	k.busy, k.cancelled = false, false
	k.token++
	if k.next != nil {
		a := *k.next
		k.next = nil
		h.begin(a)
	}
}

func (h *host) begin(a failover.Action) {
	g := &h.groups[a.Group]
	k := &g.work
	k.busy, k.now = true, a
	k.token++
	token := k.token
	if a.Kind == failover.StartApps || a.Kind == failover.StopApps || a.Kind == failover.KillAll {
		g.watched = false
	}
	if a.Kind == failover.Attach {
		h.ledger.Group(ledger.Attach, h.groupName(a.Group), a.Op)
	}
	until := max(0, h.moment(a.Deadline)-h.w.now)
	d := h.takes(a)
	late := d >= until
	h.w.after(min(d, until), func() { h.workDone(a, token, late) })
}

// takes is how long an action takes, its deadline aside.
func (h *host) takes(a failover.Action) time.Duration {
	g, p, now := &h.groups[a.Group], &h.w.s.Pair, h.w.now
	const long = time.Hour
	switch {
	case h.w.slow:
		return h.granted(a)
	case h.w.fixed:
		return 0
	}
	d := time.Millisecond + time.Duration(a.Delay)*time.Millisecond
	switch a.Kind {
	case failover.Attach:
		return d + h.upTo(p.Mount.of())
	case failover.StartApps:
		switch {
		case g.running && !g.ill:
			return d + h.upTo(20*time.Millisecond)
		case now < g.hangs:
			return long
		case now < g.startsSlowly:
			return d + 10*p.Start.of() + h.upTo(20*time.Second)
		}
		return d + h.upTo(p.Start.of())
	case failover.StopApps:
		if g.running && (now < g.ignoresStop || now < g.hangs) {
			return long
		}
		return d + h.upTo(p.Start.of())
	case failover.KillAll:
		if now < g.killFails {
			return long
		}
	}
	return d + h.upTo(50*time.Millisecond)
}

// workDone ends an action in its time, or at its deadline.
func (h *host) workDone(a failover.Action, token int, late bool) {
	k := &h.groups[a.Group].work
	if k.token != token || k.cancelled || !h.up {
		return
	}
	if h.stopped() {
		h.later(func() { h.workDone(a, token, late) })
		return
	}
	e := failover.Event{Kind: failover.Passed, Group: a.Group, Op: a.Op}
	if late {
		e.Kind, e.Text = lateKind[a.Kind], "no answer in time"
	} else {
		e.Kind, e.Text = h.carryOut(a)
	}
	h.failure(e)
	h.show(a.Group)
	h.enter(func() {
		h.workEnds(a.Group, token)
		if e.Kind != failover.Passed {
			h.loop.Answer(e)
		}
	})
}

// failure notes that something of a group has failed here.
func (h *host) failure(e failover.Event) {
	switch e.Kind {
	case failover.AttachFailed, failover.StartFailed, failover.StopFailed, failover.DetachFailed, failover.AppsFailed:
		h.w.check.failure(h, e.Group)
	}
}

// lateKind is what a worker says of an action that it gives up. Of a kill it says nothing: it is not sure.
var lateKind = map[failover.ActionKind]failover.EventKind{
	failover.Attach: failover.AttachFailed, failover.StartApps: failover.StartFailed,
	failover.StopApps: failover.StopFailed,
	failover.Detach:   failover.DetachFailed, failover.KillAll: failover.Passed,
}

// carryOut does what an action does to the server, and returns what answers it.
func (h *host) carryOut(a failover.Action) (failover.EventKind, string) {
	g, now, w := &h.groups[a.Group], h.w.now, h.w
	switch a.Kind {
	case failover.Attach:
		if g.dead || !g.mounted && (!h.connected(a.Group) || now < g.mountFails) {
			return failover.AttachFailed, "input/output error"
		}
		if !g.mounted {
			h.mount(a.Group)
		}
		return failover.Attached, ""
	case failover.StartApps:
		return h.start(a)
	case failover.StopApps:
		w.check.stops(h, a)
		g.running = false
		return failover.AppsStopped, ""
	case failover.Detach:
		if g.running || g.mounted && now < g.unmountFails {
			return failover.DetachFailed, "target is busy"
		}
		g.mounted, g.dead = false, false
		h.ledger.Group(ledger.Detached, h.groupName(a.Group), a.Op)
		return failover.Detached, ""
	case failover.KillAll:
		w.check.stops(h, a)
		g.running, g.mounted, g.dead = false, false, false
		h.ledger.Group(ledger.Cleared, h.groupName(a.Group), a.Op)
		return failover.Cleared, ""
	}
	w.violate("model", "unknown action %v", a.Kind)
	return failover.Passed, ""
}

// start recovers the applications of a group or starts them.
func (h *host) start(a failover.Action) (failover.EventKind, string) {
	g, now := &h.groups[a.Group], h.w.now
	if g.running && !g.ill {
		h.watch(a)
		return failover.AppsUp, ""
	}
	if !g.mounted || g.dead || now < g.startFails {
		return failover.StartFailed, "the program ended with code 1"
	}
	h.w.check.starts(h, a.Group)
	g.running, g.ill = true, false
	g.started++
	h.w.note("%v: applications of group %d run", h.id, a.Group)
	h.watch(a)
	g.writeGen++
	h.w.q.push(happening{at: now, what: write, server: uint8(h.i), link: uint8(a.Group), gen: g.writeGen})
	return failover.AppsUp, ""
}

// mount mounts the units of a group. What was acknowledged before must be on them.
func (h *host) mount(g int) {
	w := h.w
	w.mounts++
	h.groups[g].mounted, h.groups[g].mount = true, w.mounts
	for u := range w.units {
		if x := &w.units[u]; x.group == g {
			w.check.mounts(h, u)
			x.mount = w.mounts
		}
	}
	w.note("%v: group %d mounted", h.id, g)
}

// writes lets the applications of a group write, again and again.
func (h *host) writes(g int, gen int32) {
	s := &h.groups[g]
	if !s.running || s.writeGen != gen {
		return
	}
	h.writeNow(g)
	h.w.q.push(happening{at: h.w.now + 3*time.Second, what: write, server: uint8(h.i), link: uint8(g), gen: gen})
}

// writeNow is one write to each unit of a group, flushed and acknowledged where the switch connects it.
func (h *host) writeNow(g int) {
	s := &h.groups[g]
	if !s.running || !s.mounted || s.dead || h.frozen && h.stopped() {
		return
	}
	for u := range h.w.units {
		x := &h.w.units[u]
		if x.group != g || x.key.Owner != h.id {
			continue // refused by the unit itself
		}
		h.w.check.accepted(h, u, s.mount)
		x.durable++
		x.acked++
	}
}

// fail lets the applications of a group fail: they are gone, or run on and fail their checks.
func (h *host) fail(g int, ill bool) {
	s := &h.groups[g]
	if !s.running {
		return
	}
	h.w.note("%v: applications of group %d fail", h.id, g)
	s.running, s.ill = ill, ill
	h.w.check.failure(h, g)
	h.noticeSoon(g)
}

// noticeSoon lets probes notice what has failed, by three failures in a row, and tell it again while it goes on.
func (h *host) noticeSoon(g int) {
	gen := h.gen
	s := &h.groups[g]
	s.probing++
	probing := s.probing
	h.w.after(3*h.w.s.Pair.Probe.of(), func() {
		if h.gen != gen || !s.watched || s.probing != probing || s.running && !s.ill {
			return
		}
		h.w.check.failure(h, g)
		h.show(g)
		h.noticeSoon(g)
		h.answer(failover.Event{Kind: failover.AppsFailed, Group: g, Op: s.upBy, Text: "it failed its checks"})
	})
}

func (h *host) watch(a failover.Action) {
	g := a.Group
	s := &h.groups[g]
	s.watched, s.upBy = true, a.Op
	if !s.running || s.ill {
		h.noticeSoon(g)
	}
}

// unmountByHand is an operator who ends what holds a dead mount.
func (h *host) unmountByHand(g int) {
	s := &h.groups[g]
	s.running, s.ill, s.mounted, s.dead = false, false, false, false
}

// agentGone: what workers had under way is done, or not.
func (h *host) agentGone() {
	for g := range h.groups {
		s := &h.groups[g]
		s.watched = false
		k := &s.work
		if !k.busy || h.w.appChance.IntN(2) == 0 {
			continue
		}
		switch k.now.Kind {
		case failover.Attach:
			if !s.mounted && h.connected(g) && h.w.now >= s.mountFails {
				h.mount(g)
			}
		case failover.Detach:
			if !s.running && h.w.now >= s.unmountFails {
				s.mounted, s.dead = false, false
			}
		case failover.KillAll, failover.StopApps:
			if h.w.now >= s.ignoresStop && h.w.now >= s.killFails {
				s.running = false
			}
		}
	}
}

// pluginDies lets the plugin of a group's applications end; they go on. A call under way fails, whatever it has done.
func (h *host) pluginDies(g int) {
	k := &h.groups[g].work
	if !h.up || h.stopped() || !k.busy || k.cancelled {
		return
	}
	a := k.now
	if a.Kind != failover.StartApps && a.Kind != failover.StopApps {
		return
	}
	if a.Kind == failover.StartApps && h.groups[g].mounted && h.w.appChance.IntN(2) == 0 {
		h.start(a)
	}
	token := k.token
	h.w.check.failure(h, g)
	h.enter(func() {
		h.workEnds(g, token)
		h.loop.Answer(failover.Event{Kind: lateKind[a.Kind], Group: g, Op: a.Op, Text: "the plugin ended"})
	})
}

// show tells people how a group is here.
func (h *host) show(g int) {
	s, v := &h.groups[g], h.loop.View()
	cfg := &h.cfg.Groups[g]
	var mounted []drive.Mounted
	if s.mounted {
		for i := range cfg.Storage {
			for j := range cfg.Storage[i].Drives {
				l := cfg.Storage[i].Drives[j].Letter
				mounted = append(mounted, drive.Mounted{Letter: l, Path: "/ors/" + l[:1]})
			}
		}
	}
	v.Drives(g, mounted)
	state, health := "stopped", ""
	switch {
	case s.running && s.ill:
		state, health = "running", "failed"
	case s.running:
		state, health = "running", "ok"
	}
	for i := range cfg.Applications {
		v.Application(g, cfg.Applications[i].Name, state, health, "")
	}
}

func groupName(g int) string { return fmt.Sprintf("group%d", g) }

func linkName(l int) string { return fmt.Sprintf("link%d", l) }
