package sim

import (
	"testing"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// settledWorld is a pair of which all is well, without any fault: group 0 runs on server 1, group 1 on server 2.
func settledWorld(t *testing.T) *world {
	t.Helper()
	s := Script{Seed: 1, Calm: 10_000, Pair: Pair{
		Units: []int{0, 1}, Primary: []int{1, 2}, Interval: 500, Timeout: 2000, Survivor: 1, Delay: 200,
		Links: []string{"serial", "udp"}, Restarts: 2, Probe: 1000, Mount: 50, Start: 50, Status: 1000, Flap: 2,
	}}
	var cfgs [2]*config.Config
	for i := range cfgs {
		var err error
		if cfgs[i], err = pairConfig(&s.Pair, failover.Server(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(&s, cfgs, nil)
	w.start()
	w.run(5*time.Second, nil)
	if len(w.bad) > 0 || w.owner(0) != failover.First || w.owner(1) != failover.Second {
		t.Fatalf("the pair is not well: %v%v", w.bad, w)
	}
	return w
}

// foreign is an action by which a server takes a unit of its partner's.
func foreign(w *world, h *host, u int) failover.Action {
	old := w.units[u].key
	return failover.Action{
		Kind: failover.Swap, Unit: u, Group: w.units[u].group, Deadline: h.loop.State().Now + 1000,
		Swaps: []failover.KeySwap{{Unit: u, Old: old, New: old.Won(h.id, 1)}},
	}
}

// broken are worlds in each of which one promise is broken, by a hand that no node knows of.
var broken = []struct {
	rule, what string
	do         func(w *world, a, b *host) // a owns group 0, b group 1
}{
	{"S1", "a server writes through a mount from before the other's", func(w *world, a, b *host) {
		b.groups[0] = hostGroup{mounted: true, mount: a.groups[0].mount - 1, running: true}
		w.units[0].key.Owner = b.id
		b.writeNow(0)
	}},
	{"S1", "a unit is mounted while it is mounted and connected on the other server", func(_ *world, _, b *host) {
		b.mount(0)
	}},
	{"S1", "a server gives a unit to somebody else", func(w *world, a, b *host) {
		w.put(0, w.units[0].key.Claimed(b.id), a)
	}},
	{"S2", "applications start where the storage is not", func(_ *world, _, b *host) {
		b.groups[0].mounted = true
		b.start(failover.Action{Kind: failover.StartApps, Group: 0})
	}},
	{"S2", "applications start before the mount", func(w *world, a, _ *host) {
		a.groups[0].mounted = false
		w.check.starts(a, 0)
	}},
	{"A1", "applications start while those of an agent that has ended are heard", func(w *world, a, b *host) {
		a.hear(0, time.Minute)
		a.die()
		w.run(100*time.Millisecond, nil)
		b.groups[0].running = true
		b.hear(0, time.Second)
	}},
	{"S3", "a unit is released under a mount", func(w *world, a, _ *host) { w.put(0, w.units[0].key.Released(), a) }},
	{"S4", "an owner's applications are killed without a reason", func(w *world, a, _ *host) {
		w.run(10*time.Minute, nil)
		a.carryOut(failover.Action{Kind: failover.KillAll, Group: 0})
	}},
	{"S4", "an owner's applications are stopped without a reason", func(w *world, a, _ *host) {
		w.run(10*time.Minute, nil)
		a.carryOut(failover.Action{Kind: failover.StopApps, Group: 0})
	}},
	{"S5", "a server that has left in order is taken over", func(w *world, a, b *host) {
		b.parkedAt = w.now
		w.check.gone(b, true)
		b.powerOff()
		w.check.heardAt[a.i] = w.now - time.Hour
		a.Do(foreign(w, a, 1))
	}},
	{"S6", "a server that is heard is taken over", func(w *world, a, _ *host) { a.Do(foreign(w, a, 1)) }},
	{"L1", "a group never runs again", func(w *world, a, b *host) {
		a.groups[0].startFails, b.groups[0].startFails = time.Hour, time.Hour
		a.fail(0, false)
		w.settle("at last")
	}},
	{"L1", "a survivor serves nothing", func(w *world, a, b *host) {
		b.powerOff()
		a.groups[1].startFails = time.Hour
		w.lone(a)
	}},
	{"L2", "a unit is taken without a word", func(w *world, _, b *host) {
		w.units[0].key = w.units[0].key.Released()
		w.units[0].changed = w.now
		w.run(0, nil)
		b.recordAt = w.now - time.Second
		w.put(0, w.units[0].key.Claimed(b.id), b)
	}},
	{"L2", "a group stops running in the calm", func(w *world, a, b *host) {
		w.after(5*time.Second, func() {
			a.groups[0].startFails, b.groups[0].startFails = time.Hour, time.Hour
			a.fail(0, false)
		})
		w.calmDown()
	}},
	{"L3", "a phase waits without a deadline", func(w *world, a, _ *host) {
		a.loop.State().Groups[0].Phase, a.loop.State().Groups[0].Deadline = failover.Stopping, failover.Never
		w.run(time.Second, nil)
	}},
	{"L3", "a phase outlives its deadline", func(w *world, a, _ *host) {
		a.loop.State().Groups[0].Phase, a.loop.State().Groups[0].Deadline = failover.Stopping, 1
		w.check.waits(a, 0)
	}},
	{"L3", "an agent wants to be woken all the time", func(w *world, a, _ *host) {
		for range 2000 {
			w.check.spins(a)
		}
	}},
	{"D1", "what was acknowledged is gone after a takeover", func(w *world, a, b *host) {
		w.units[0].durable--
		a.powerOff()
		w.run(20*time.Second, nil)
		_ = b
	}},
	{"D2", "an agent's restart ends applications", func(w *world, a, _ *host) {
		w.after(200*time.Millisecond, func() { a.fail(0, false) })
		w.restarted(a)
	}},
	{"fence", "applications run on without their storage", func(w *world, _, b *host) {
		b.groups[0].running = true
		w.run(time.Minute, nil)
	}},
	{"mode", "switchover is disabled and a server takes over all the same", func(w *world, a, b *host) {
		off := true
		w.mode(a, &off, nil)
		b.powerOff()
		w.check.heardAt[a.i] = w.now - time.Hour
		a.Do(foreign(w, a, 1))
	}},
	{"takeover-time", "a takeover takes too long", func(w *world, a, b *host) {
		b.groups[0].startFails = w.now + 20*time.Second
		w.death(a)
	}},
	{"ping-pong", "something moves when all is well", func(w *world, a, b *host) {
		w.check.keepStill()
		b.recordAt = w.now
		w.put(0, w.units[0].key.Released(), nil)
		w.put(0, w.units[0].key.Claimed(b.id), b)
		_ = a
	}},
	{"ping-pong", "a group goes to and fro", func(w *world, a, b *host) {
		w.run(20*time.Minute, nil)
		for range 3 {
			w.check.flaps(&w.units[0], w.units[0].key.Claimed(b.id))
			w.check.flaps(&w.units[0], w.units[0].key.Claimed(a.id))
		}
	}},
	{"status", "a server believes what is not so", func(w *world, _, b *host) {
		w.units[0].key.Owner = b.id
		w.check.truth()
	}},
}

// TestCheckersSeeBrokenWorlds: a checker that cannot fail is none.
func TestCheckersSeeBrokenWorlds(t *testing.T) {
	for _, c := range broken {
		t.Run(c.rule+" "+c.what, func(t *testing.T) {
			w := settledWorld(t)
			c.do(w, w.hosts[0], w.hosts[1])
			for _, v := range w.bad {
				if v.Rule == c.rule {
					return
				}
			}
			t.Fatalf("nobody noticed: %v%v", w.bad, w)
		})
	}
}

// TestWellWorldIsWell: the same world without the hand breaks nothing, in whatever is done to it in order.
func TestWellWorldIsWell(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(w *world, a, b *host)
	}{
		{"calm", func(w *world, _, _ *host) { w.calmDown() }},
		{"a death", func(w *world, a, _ *host) { w.death(a) }},
		{"a restart of the agent", func(w *world, a, _ *host) { w.restarted(a) }},
		{"a move", func(w *world, a, _ *host) {
			w.move(a, 0)
			w.run(20*time.Second, nil)
			w.settle("after a move")
			if w.owner(0) != failover.Second {
				w.violate("model", "the group has not moved")
			}
		}},
		{"an orderly shutdown", func(w *world, a, b *host) {
			w.shutdown(a, time.Minute)
			if !w.run(time.Minute, func() bool { return !a.on }) {
				w.violate("model", "it has not left")
			}
			w.run(50*time.Second, nil)
			if w.owner(0) != a.id || w.runsOn(1) != b.id {
				w.violate("S5", "something moved")
			}
			w.settle("after a shutdown")
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := settledWorld(t)
			c.do(w, w.hosts[0], w.hosts[1])
			if len(w.bad) > 0 {
				t.Fatalf("%v%v", w.bad, w)
			}
		})
	}
}
