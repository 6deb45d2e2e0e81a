package sim

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/core/store"
)

// epoch is when virtual time begins.
var epoch = time.Unix(1_000_000_000, 0).UTC()

var nobodyListens = hclog.NewNullLogger()

// host is one server: its agent while it runs, and what outlives the agent. It is the world of the agent's loop.
type host struct {
	w              *world
	i              int
	id             failover.Server
	cfg            *config.Config
	on             bool // has power
	up             bool // the agent runs
	gen            int32
	boots          int
	bootID         string
	onAt           time.Duration // the operating system was started
	wall, wallThen time.Duration // by how much the wall clock is wrong, and was when the agent was started
	disk           *disk
	ports          []port // by unit
	groups         []hostGroup
	// of the agent
	loop      *loop.Loop
	ledger    *ledger.Recorder // nil: none is written
	end       *interconnect.Endpoint
	slots     *store.Slots
	wakeAt    time.Duration // the pending happening that wakes the loop; negative: none
	beatAt    []time.Duration
	kick      bool
	begun     bool // the loop is, and …
	inside    bool // … is at work
	killIn    int  // the agent is killed before so many actions more; negative: it is not
	lastRead  []time.Duration
	moves     map[uint64]time.Duration // planned moves that have not ended: when they must have
	tell      func(store.Record)
	recordAt  time.Duration // newest record that tells of a decision
	startedAt time.Duration
	resumedAt time.Duration
	parkedAt  time.Duration // the goodbye was begun; 0: not
	known     bool          // the partner has the announced restart on record
	leaveFor  time.Duration // after an orderly shutdown it comes back after so long
	network   failover.Answer
	// of a pause
	stoppedUntil time.Duration
	frozen       bool // applications, too
	backlog      []func()
	starvedUntil time.Duration
}

func newHost(w *world, cfg *config.Config) *host {
	h := &host{w: w, i: int(cfg.Self) - 1, id: cfg.Self, cfg: cfg, killIn: -1, wakeAt: -1,
		ports:  make([]port, len(w.units)),
		beatAt: make([]time.Duration, len(w.links)), lastRead: make([]time.Duration, len(w.units)),
		groups: make([]hostGroup, len(w.s.Pair.Primary)), moves: map[uint64]time.Duration{}}
	h.disk = newDisk(func() time.Duration { return w.now }, w.faultChance)
	return h
}

// works: the agent runs and is not paused.
func (h *host) works() bool { return h.on && h.up && !h.stopped() }

func (h *host) stopped() bool { return h.w.now < h.stoppedUntil }

// time is virtual time as this server's clock shows it. The two have no relation.
func (h *host) time() time.Time {
	return epoch.Add(h.w.now + h.wallThen + time.Duration(h.i)*1234567*time.Microsecond)
}

// moment turns a moment of the decision's clock into virtual time.
func (h *host) moment(t failover.Tick) time.Duration {
	return h.loop.When(t).Sub(h.time()) + h.w.now
}

// boot starts the server where it is off, and its agent.
func (h *host) boot() {
	w := h.w
	if !h.on {
		h.on, h.onAt = true, w.now
		h.boots++
		h.bootID = fmt.Sprintf("boot-%d-%d", h.id, h.boots)
	}
	h.gen++
	h.wallThen = h.wall
	incarnation, hard, err := h.openState()
	if err != nil { // the agent does not start; an operator replaces the damaged state, or the disk
		w.note("%v: the agent cannot start: %v", h.id, err)
		gen := h.gen
		w.after(5*time.Second, func() {
			if h.gen == gen && h.on && !h.up {
				h.boot()
			}
		})
		return
	}
	w.note("%v: agent starts, start %d", h.id, incarnation)
	infos := make([]interconnect.LinkInfo, len(w.links))
	for i, l := range w.links {
		infos[i] = interconnect.LinkInfo{Name: linkName(i), Kind: l.kind, MaxFrame: l.maxFrame()}
	}
	h.end, err = interconnect.NewEndpoint(interconnect.EndpointOptions{
		Pair: h.cfg.Pair.Name, Self: uint8(h.id), Key: h.cfg.Interconnect.Key, Interval: h.cfg.Interconnect.Interval,
		Timeout: h.cfg.Interconnect.Timeout, Links: infos, Boot: loop.BootHash(h.bootID), Incarnation: uint16(incarnation),
		Rand: chanceReader{w.lineChance}, MaxVersion: h.speaks(),
	})
	if err != nil {
		w.violate("model", "an endpoint cannot be made: %v", err)
		return
	}
	h.up, h.begun, h.killIn, h.kick, h.wakeAt = true, false, -1, false, -1
	h.stoppedUntil, h.starvedUntil, h.backlog = 0, 0, nil
	h.startedAt, h.parkedAt, h.resumedAt, h.known = w.now, 0, -time.Hour, false
	clear(h.moves)
	for g := range h.groups {
		h.groups[g].work = worker{token: h.groups[g].work.token + 1}
		h.groups[g].watched = false
	}
	h.loop = loop.New(loop.Options{Config: h.cfg, Hard: hard, World: h, Log: nobodyListens, Version: "sim",
		StatusEvery: h.w.s.Pair.Status.of(),
		BootID:      h.bootID, Uptime: func() time.Duration { return h.w.now - h.onAt },
		Incarnation: incarnation, Decided: w.decided})
	h.ledger = w.openLedger(h, incarnation)
	h.enter(func() {
		h.loop.Begin()
		h.loop.Network(h.network)
		for i := range w.links {
			if e, ok := h.end.LinkChanged(i, true, "", h.time()); ok {
				h.loop.Interconnect(e)
			}
		}
	})
	h.kickAll()
	w.check.booted(h)
}

// speaks is the newest version of the interconnect that this server knows; 0: that of this program.
func (h *host) speaks() uint8 {
	if h.w.s.Pair.Old == int(h.id) {
		return 1
	}
	return 0
}

// openState opens the state files as core/store does, and counts the start.
func (h *host) openState() (incarnation int, hard failover.Hard, err error) {
	warn := func(text string) { h.w.note("%v: %s", h.id, text) }
	if h.slots, err = store.OpenSlots(h.disk, "state", "hard", warn); err != nil {
		return 0, hard, err
	}
	if _, err = h.slots.Load(&hard); err != nil {
		return 0, hard, err
	}
	starts, err := store.OpenSlots(h.disk, "state", "incarnation", warn)
	if err != nil {
		return 0, hard, err
	}
	if _, err = starts.Load(&incarnation); err != nil {
		return 0, hard, err
	}
	incarnation++
	return incarnation, hard, starts.Save(incarnation)
}

// enter runs f in the agent and then does what the loop wants of time and links.
func (h *host) enter(f func()) {
	if h.inside {
		f()
		return
	}
	h.inside = true
	if h.begun {
		h.loop.Do(func() {}) // whatever comes, the loop looks first whether it is late
	}
	f()
	h.begun = true
	h.inside = false
	if !h.up {
		return
	}
	h.renew()
	if h.kick {
		h.kickAll()
	}
	h.w.check.stepped(h)
	h.arm()
}

// renew lets what is here be heard for another while, as core/node does after each turn of the loop.
func (h *host) renew() {
	short := h.w.now + loop.LeaseLength(&h.cfg.Interconnect)
	done := true
	for g := range h.groups {
		if h.loop.MayServe(g) {
			h.hear(g, h.loop.LeaseFor())
		}
		done = done && !(h.loop.HoldsGroup(g) && h.groups[g].heardTill > short)
	}
	if done && h.loop.Waited() {
		h.inside = true
		h.loop.Returned()
		h.inside = false
	}
}

// hear lets the applications of a group be heard for another while.
func (h *host) hear(g int, d time.Duration) {
	s := &h.groups[g]
	silent := h.w.now >= s.heardTill
	s.heardFrom, s.heardTill = h.w.now, h.w.now+d
	s.heardLong = d > loop.LeaseLength(&h.cfg.Interconnect)
	if silent && s.running {
		h.w.check.heardThere(h, g)
	}
}

// ends lets the agent end in order for a restart that it has announced: its last word is for how long what it leaves
// may be heard.
func (h *host) ends() {
	if last := h.loop.LastLease(); h.works() && last > 0 {
		for g := range h.groups {
			if h.loop.MayServe(g) {
				h.hear(g, last)
			}
		}
	}
	h.die()
}

// arm has the loop woken when it wants to be.
func (h *host) arm() {
	next := h.loop.Next().Sub(h.time()) + h.w.now
	next = max(next, h.w.now)
	if h.wakeAt >= 0 && h.wakeAt <= next {
		return // that happening will look again
	}
	h.wakeAt = next
	h.w.q.push(happening{at: next, what: wake, server: uint8(h.i), gen: h.gen})
}

func (h *host) woken(e *happening) {
	if e.gen != h.gen || !h.up || e.at != h.wakeAt {
		return
	}
	h.wakeAt = -1
	if h.w.check.spins(h) {
		return
	}
	if h.stopped() {
		h.wakeAt = h.stoppedUntil
		h.w.q.push(happening{at: h.stoppedUntil, what: wake, server: uint8(h.i), gen: h.gen})
		return
	}
	h.enter(h.loop.OnTime)
}

// later runs f in the agent when its pause is over, unless it has ended by then.
func (h *host) later(f func()) {
	if len(h.backlog) < 2000 {
		h.backlog = append(h.backlog, f)
	}
}

// input runs f in the agent, now or when its pause ends.
func (h *host) input(f func()) {
	switch {
	case !h.up:
	case h.stopped():
		gen := h.gen
		h.later(func() {
			if h.gen == gen {
				h.input(f)
			}
		})
	default:
		h.enter(f)
	}
}

func (h *host) answer(e failover.Event) { h.input(func() { h.loop.Answer(e) }) }

// stop pauses the agent for d, or the whole server with its applications.
func (h *host) stop(d time.Duration, frozen bool) {
	if !h.up {
		return
	}
	h.frozen = frozen
	h.stoppedUntil = max(h.stoppedUntil, h.w.now+d)
	gen := h.gen
	h.w.after(h.stoppedUntil-h.w.now, func() {
		if h.gen == gen && h.up && !h.stopped() {
			h.resume()
		}
	})
}

func (h *host) resume() {
	h.w.note("%v: resumes", h.id)
	h.frozen, h.stoppedUntil, h.resumedAt = false, 0, h.w.now
	todo := h.backlog
	h.backlog = nil
	for _, f := range todo {
		if h.up {
			f()
		}
	}
	if h.up {
		h.kickAll()
		h.enter(func() {}) // the loop looks whether it is late before it says when it wants to be woken
	}
}

// die ends the agent; applications, mounts and the disk stay.
func (h *host) die() {
	h.w.note("%v: agent killed", h.id)
	h.up, h.backlog, h.stoppedUntil, h.frozen = false, nil, 0, false
	h.gen++
	h.agentGone()
}

// powerOff ends everything but what is on the disk.
func (h *host) powerOff() {
	h.w.note("%v: power lost", h.id)
	h.up, h.on, h.backlog, h.stoppedUntil, h.frozen = false, false, nil, 0, false
	h.gen++
	h.disk.powerLost()
	for g := range h.groups {
		s := &h.groups[g]
		s.running, s.mounted, s.dead, s.ill = false, false, false, false
	}
	h.w.check.poweredOff(h)
}

// arrives takes a frame from a link.
func (h *host) arrives(p *packet) {
	if !h.up {
		h.w.recycle(p)
		return
	}
	if h.stopped() {
		gen := h.gen
		h.later(func() {
			if h.gen == gen {
				h.arrives(p)
			} else {
				h.w.recycle(p)
			}
		})
		return
	}
	r := h.end.Receive(p.link, p.data, h.time())
	h.w.recycle(p)
	if r.Answer != nil {
		h.w.transmit(h, h.w.links[p.link], r.Answer)
	}
	if r.Opened {
		h.kick = true
	}
	if len(r.Events) == 0 {
		if h.kick {
			h.kickAll()
		}
		return
	}
	h.enter(func() {
		for _, e := range r.Events {
			if e.Kind == interconnect.BeatHeard {
				h.w.check.heard(h)
			}
			if h.up {
				h.loop.Interconnect(e)
			}
		}
	})
}

// kickAll sends what is due on every link now.
func (h *host) kickAll() {
	h.kick = false
	for i := range h.w.links {
		h.transmitDue(i)
	}
}

func (h *host) beatDue(e *happening) {
	if e.gen != h.gen || !h.up || e.at != h.beatAt[e.link] {
		return
	}
	if h.stopped() {
		h.beatAt[e.link] = h.stoppedUntil
		h.w.q.push(happening{at: h.stoppedUntil, what: beat, server: uint8(h.i), link: e.link, gen: h.gen})
		return
	}
	h.transmitDue(int(e.link))
}

func (h *host) transmitDue(i int) {
	w := h.w
	for _, f := range h.end.Due(i, h.time()) {
		w.transmit(h, w.links[i], f)
	}
	h.beatAt[i] = w.now + h.end.Pause()
	w.q.push(happening{at: h.beatAt[i], what: beat, server: uint8(h.i), link: uint8(i), gen: h.gen})
}

// The methods of loop.World.

func (h *host) Now() time.Time { return h.time() }

func (h *host) SaveHard(hard failover.Hard) error { return h.slots.Save(hard) }

func (h *host) SetBeat(b interconnect.Beat) {
	if h.end.SetBeat(b) {
		h.kick = true
	}
}

func (h *host) Send(m interconnect.Message) error {
	i, err := h.end.BestLink(m.NetworkOnly, h.time())
	if err != nil {
		return err
	}
	frames, err := h.end.Fragments(m, i)
	if err != nil {
		return err
	}
	for _, f := range frames {
		h.w.transmit(h, h.w.links[i], f)
	}
	return nil
}

func (h *host) Record(r store.Record) {
	switch r.Kind {
	case "group", "step", "arbitration", "operator", "verdict":
		h.recordAt = h.w.now
	}
	if h.tell != nil {
		h.tell(r)
	}
	if h.w.log != nil {
		h.w.note("%v: %s %s %s: %s %s", h.id, r.Kind, r.Group, r.Step, r.Text, r.Why)
	}
}

func (h *host) Changed() {}

func (h *host) Links() []interconnect.LinkStatus {
	out := make([]interconnect.LinkStatus, len(h.w.links))
	for i := range out {
		out[i] = h.end.Status(i)
		out[i].Lines = h.w.links[i].lines(h.w, h)
	}
	return out
}

func (h *host) Plugins() []control.Plugin { return nil }

func (h *host) Driver(int) string { return "sim" }

// Do carries an action out, or begins to.
func (h *host) Do(a failover.Action) {
	if !h.up {
		return
	}
	if h.killIn >= 0 {
		if h.killIn--; h.killIn < 0 {
			h.die()
			return
		}
	}
	switch a.Kind {
	case failover.Inspect:
		h.inspect(a)
	case failover.Swap:
		h.w.check.claims(h, a)
		if s := a.Swaps[0]; s.Old.Owner != s.New.Owner {
			h.recordAt = h.w.now // core/node writes down what it asks for
		}
		h.swap(a)
	case failover.Claim, failover.ReKey, failover.Release:
		h.w.check.claims(h, a)
		if len(a.Swaps) == 0 {
			gen := h.gen
			h.w.after(0, func() {
				if h.gen == gen {
					h.swapGroup(a, 0)
				}
			})
			return
		}
		h.swapGroup(a, 0)
	case failover.Witness, failover.CheckReady:
		h.ask(a)
	default:
		h.give(a)
	}
}
