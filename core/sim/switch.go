package sim

import (
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
)

// unit is one storage unit with its switch.
type unit struct {
	group   int
	newer   bool // its switch obeys any claim with a newer epoch, whatever key the claim names as old
	key     failover.Key
	changed time.Duration   // when the owner changed
	last    failover.Server // newest owner that was a server
	moved   int             // how often it went from one server to the other
	mount   int             // the newest mount
	durable uint64          // writes that are on it
	acked   uint64          // writes of which an application was told that they are
	off     bool            // it has no power
}

// port is what lies between one server and one unit's switch.
type port struct {
	mute, slow, late, lossy time.Duration // until when
	loss                    float64
	midClaim                time.Duration // until when the next claim lands and the switch then goes mute
}

// badUntil is until when this way to the switch does not answer everything at once.
func (p *port) badUntil() time.Duration { return max(p.mute, p.slow, p.late, p.lossy, p.midClaim) }

// command is one command on its way to a switch and back.
type command struct {
	h        *host
	gen      int32
	unit     int
	a        failover.Action
	swap     failover.KeySwap
	isSwap   bool
	deadline time.Duration
	known    bool // the answer says what became of it
	hit      bool // the swap was carried out
	key      failover.Key
	then     func(*command) // nil: of an Inspect
}

// send sends a command. The agent hears of it exactly once: at the latest at its deadline.
func (h *host) send(c *command) {
	w := h.w
	c.h, c.gen = h, h.gen
	c.deadline = h.moment(c.a.Deadline)
	if c.isSwap {
		h.ledger.Ask(c.unit, c.a.Op, c.swap.Old, c.swap.New)
	}
	p := &h.ports[c.unit]
	d := h.latency(p)
	if w.now < p.mute || w.lost(p) {
		w.q.push(happening{at: max(w.now, c.deadline), what: answer, server: uint8(h.i), gen: h.gen, cmd: c})
		return
	}
	w.q.push(happening{at: w.now + d, what: land, server: uint8(h.i), cmd: c})
}

func (w *world) lost(p *port) bool {
	return w.now < p.lossy && w.switchChance.Float64() < p.loss
}

// latency of a command to a switch, or of its answer.
func (h *host) latency(p *port) time.Duration {
	w := h.w
	d := time.Millisecond + time.Duration(w.switchChance.Int64N(int64(8*time.Millisecond)))
	if w.now < p.slow {
		d += time.Duration(w.switchChance.Int64N(int64(600 * time.Millisecond)))
	}
	if w.now < p.late {
		d += time.Duration(w.switchChance.Int64N(int64(5 * time.Second)))
	}
	return d
}

// land lets a command reach its switch.
func (w *world) land(c *command) {
	u := &w.units[c.unit]
	p := &c.h.ports[c.unit]
	if c.isSwap {
		c.hit = u.key == c.swap.Old || u.newer && c.swap.New.N > u.key.N
		if c.hit {
			w.put(c.unit, c.swap.New, c.h)
		}
	}
	c.key = u.key
	if c.isSwap && w.now < p.midClaim {
		p.midClaim, p.mute = 0, p.midClaim
		w.note("the switch of unit %d goes mute in the middle of a claim", c.unit)
	}
	back := w.now + c.h.latency(p)
	if w.now < p.mute || w.lost(p) || back > c.deadline {
		back = max(w.now, c.deadline)
	} else {
		c.known = true
	}
	w.q.push(happening{at: back, what: answer, server: uint8(c.h.i), gen: c.gen, cmd: c})
}

// answered hands a command's outcome to the agent that sent it.
func (w *world) answered(c *command) {
	h := c.h
	if !h.up || h.gen != c.gen {
		return
	}
	if h.stopped() {
		h.later(func() { w.answered(c) })
		return
	}
	h.wroteDown(c)
	view := h.loop.View()
	if c.known {
		view.Unit(c.unit, w.stateOf(c))
	} else {
		view.UnitError(c.unit, storage.ErrUnknown)
	}
	if c.then != nil {
		c.then(c)
		return
	}
	e := failover.Event{Kind: failover.UnitRead, Unit: c.unit, Op: c.a.Op, Key: c.key}
	switch {
	case c.a.Kind == failover.Swap:
		e = failover.Event{Kind: failover.Swapped, Unit: c.unit, Op: c.a.Op}
	case !c.known:
		e = failover.Event{Kind: failover.UnitMute, Unit: c.unit, Op: c.a.Op, Text: storage.ErrUnknown.Error()}
	default:
		h.lastRead[c.unit] = w.now
	}
	h.answer(e)
}

func (w *world) stateOf(c *command) storage.State {
	st := storage.State{Key: c.key}
	switch c.key.Owner {
	case failover.Nobody:
		st.LED = storage.LEDOff
	case failover.Server(w.s.Pair.Primary[w.units[c.unit].group]):
		st.Position, st.LED = storage.Port1, storage.LEDGreen
	default:
		st.Position, st.LED = storage.Port3, storage.LEDAmber
	}
	return st
}

// inspect and swap carry out what the decision asks of one unit.
func (h *host) inspect(a failover.Action) { h.send(&command{a: a, unit: a.Unit}) }

func (h *host) swap(a failover.Action) {
	h.send(&command{a: a, unit: a.Unit, isSwap: true, swap: a.Swaps[0]})
}

// swapGroup changes the keys of a group's units one after the other until one does not change.
func (h *host) swapGroup(a failover.Action, n int) {
	done, refused := failover.Granted, failover.Denied
	if a.Kind == failover.Release {
		done, refused = failover.Released, failover.ReleaseFailed
	}
	if n == len(a.Swaps) {
		h.answer(failover.Event{Kind: done, Group: a.Group, Op: a.Op})
		return
	}
	h.send(&command{a: a, unit: a.Swaps[n].Unit, isSwap: true, swap: a.Swaps[n], then: func(c *command) {
		switch {
		case c.known && c.hit:
			h.swapGroup(a, n+1)
		case c.known:
			h.answer(failover.Event{Kind: refused, Group: a.Group, Op: a.Op, Text: "found " + c.key.String()})
		}
	}})
}

// put changes a unit's key and looks at what that means. by is nil when the switch did it by itself.
func (w *world) put(u int, key failover.Key, by *host) {
	x := &w.units[u]
	was := x.key
	for _, h := range w.hosts {
		h.writeNow(x.group) // what is written up to this moment
	}
	if w.log != nil {
		name := "itself"
		if by != nil {
			name = by.id.String()
		}
		w.note("unit %d: %v -> %v by %s", u, was, key, name)
	}
	w.check.swap(u, key, by)
	if key.Owner != failover.Nobody && key.Owner != x.last {
		if x.last != failover.Nobody {
			x.moved++
		}
		x.last = key.Owner
	}
	if key.Owner != was.Owner {
		x.changed = w.now
	}
	x.key = key
	for _, h := range w.hosts {
		h.writeNow(x.group) // and what is tried right after it
	}
}

// powerCycle takes the power from a unit and its switch for a while: what is mounted from it is dead from then on.
func (w *world) powerCycle(u int, until time.Duration) {
	x := &w.units[u]
	x.off = true
	for _, h := range w.hosts {
		h.ports[u].mute = max(h.ports[u].mute, until)
		if s := &h.groups[x.group]; s.mounted {
			s.dead = true
			h.fail(x.group, true)
		}
	}
	w.after(until-w.now, func() {
		if x.off {
			w.restart(u)
		}
	})
}

// restart lets a unit's switch come back from a power cycle: connected to port 1 under a newer epoch, as its protocol
// asks.
func (w *world) restart(u int) {
	w.units[u].off = false
	key := w.units[u].key
	key.Owner, key.N = failover.Server(w.s.Pair.Primary[w.units[u].group]), key.N+1
	w.put(u, key, nil)
}
