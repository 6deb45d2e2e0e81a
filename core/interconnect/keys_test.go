package interconnect

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

var (
	newKey   = bytes.Repeat([]byte{0x44}, MinKey)
	otherKey = bytes.Repeat([]byte{0x55}, MinKey)
)

// noneMissed wants every beat of the live session that either server has sent to have been heard by the other. It is
// called half an interval after a beat, when none is on its way.
func noneMissed(t *testing.T, when string, nodes ...*node) {
	t.Helper()
	synctest.Wait()
	if !joined(nodes[0], nodes[1]) {
		t.Errorf("%s: no common session", when)
		return
	}
	for n, from := range nodes {
		to := nodes[1-n]
		for link, ls := range from.session().links {
			name := from.links[link].link.Name()
			got := to.count(func(e Event) bool { return e.Kind == BeatHeard && e.Link == name })
			if got != int(ls.beatSeq) {
				t.Errorf("%s: server %d has heard %d of %d beats on %s", when, to.self, got, ls.beatSeq, name)
			}
		}
	}
}

func used(n *node) string { return fmt.Sprintf("%08x", n.session().use().print) }

// TestKeyRotation goes through the whole rotation, one server after the other, and counts the beats: the session stays
// and none is missed, whichever server is changed first.
func TestKeyRotation(t *testing.T) {
	for _, first := range []uint8{1, 2} {
		t.Run(fmt.Sprintf("server %d first", first), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, lan := newWire("cable", "serial", 1), newWire("lan", "udp", 2)
				a, b := start(t, 1, 1, nil, w, lan), start(t, 2, 1, nil, w, lan)
				within(t, time.Second, "session", func() bool { return joined(a, b) })
				time.Sleep(2*time.Second + testInterval/2)
				live := a.session().mine
				noneMissed(t, "before", a, b)
				one, two := a, b
				if first == 2 {
					one, two = b, a
				}
				for _, step := range []struct {
					what       string
					server     *node
					key, other []byte
					uses       []byte // by both when it is done
				}{
					{"the new key is added to the first", one, newKey, testKey, testKey},
					{"and to the second: both know it", two, newKey, testKey, newKey},
					{"the old key is dropped from the first", one, newKey, nil, newKey},
					{"and from the second", two, newKey, nil, newKey},
				} {
					if err := step.server.SetKeys(step.key, step.other); err != nil {
						t.Fatalf("%s: %v", step.what, err)
					}
					time.Sleep(20 * testInterval)
					noneMissed(t, step.what, a, b)
					for _, n := range []*node{a, b} {
						if used(n) != Fingerprint(step.uses) {
							t.Errorf("%s: server %d uses the key %s, want %s", step.what, n.self, used(n), Fingerprint(step.uses))
						}
					}
				}
				for _, n := range []*node{a, b} {
					if c := n.count(kind(KeyChanged)); c != 1 {
						t.Errorf("server %d told of %d changes, want one", n.self, c)
					}
					if n.count(kind(Refused)) > 0 || n.count(kind(SessionOpen)) != 1 {
						t.Errorf("server %d refused a frame, or opened another session", n.self)
					}
				}
				if a.session().mine != live {
					t.Error("another session was opened")
				}
				b.stop()
				b = start(t, 2, 2, nil, w, lan) // has only the key that was dropped
				time.Sleep(3 * testTimeout)
				synctest.Wait()
				if a.count(heard(2)) > 0 || b.session() != nil {
					t.Error("the old key still opens a session")
				}
				a.stop()
				b.stop()
			})
		})
	}
}

// TestKeyRotationByRestarts rotates with agents that read the key file at their start only. Each step leaves one
// server changed and the other not: their session is open again after a round trip, and no beat of it is missed.
func TestKeyRotationByRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		keys := func(key, other []byte) func(*Options) {
			return func(o *Options) { o.Key, o.OtherKey = key, other }
		}
		nodes := [3]*node{nil, start(t, 1, 1, nil, w), start(t, 2, 1, nil, w)}
		incarnation := [3]uint16{0, 1, 1}
		for n, step := range []struct {
			server     uint8
			key, other []byte
		}{
			{1, newKey, testKey}, {2, newKey, testKey}, {1, newKey, nil}, {2, newKey, nil}, // the procedure
			{2, otherKey, newKey}, {1, newKey, otherKey}, // each prefers the other's second
			{2, otherKey, nil}, {1, otherKey, nil},
		} {
			time.Sleep(testTimeout)
			nodes[step.server].stop()
			nodes[1].forget()
			nodes[2].forget()
			incarnation[step.server]++
			nodes[step.server] = start(t, step.server, incarnation[step.server], keys(step.key, step.other), w)
			within(t, 2*testInterval, fmt.Sprintf("step %d: a session soon after the restart", n), func() bool {
				return joined(nodes[1], nodes[2])
			})
			time.Sleep(10*testInterval + testInterval/2)
			changed := nodes[step.server]
			if !joined(nodes[1], nodes[2]) || changed.beats() != int(nodes[3-step.server].session().links[0].beatSeq) {
				t.Errorf("step %d: a beat was missed", n)
			}
		}
		nodes[1].stop()
		nodes[2].stop()
	})
}

// TestKeyInUseIsKept tries the steps in an order that would cut the two servers off from each other.
func TestKeyInUseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, nil, w), start(t, 2, 1, nil, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		time.Sleep(testInterval / 2)
		refused := func(n *node, key, other []byte) {
			t.Helper()
			if err := n.SetKeys(key, other); !errors.Is(err, ErrKeyInUse) {
				t.Errorf("server %d: %v, want %v", n.self, err, ErrKeyInUse)
			}
			time.Sleep(10 * testInterval)
			noneMissed(t, "after a refused change", a, b)
		}
		refused(a, newKey, nil)      // the partner does not know it
		refused(a, newKey, otherKey) // neither of them
		if err := a.SetKeys(newKey, testKey); err != nil {
			t.Fatal(err)
		}
		refused(a, newKey, nil) // the partner still does not know it
		if err := a.SetKeys(newKey[:31], nil); err == nil || errors.Is(err, ErrKeyInUse) {
			t.Errorf("a short key: %v", err)
		}
		b.stop()
		time.Sleep(2 * testTimeout)
		if err := a.SetKeys(newKey, nil); err != nil { // nobody is cut off
			t.Error(err)
		}
		b = start(t, 2, 2, func(o *Options) { o.Key = newKey }, w)
		within(t, time.Second, "session under the new key", func() bool { return joined(a, b) })
		a.stop()
		b.stop()
	})
}

// TestKeyRotationWithTheReleaseBefore has a partner that does not say which keys it knows: the new one is used when it
// uses it.
func TestKeyRotationWithTheReleaseBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a := start(t, 1, 1, func(o *Options) { o.Key, o.OtherKey = newKey, testKey }, w)
		b := start(t, 2, 1, func(o *Options) { o.MaxVersion = 1 }, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		time.Sleep(2 * testTimeout)
		if used(a) != Fingerprint(testKey) || a.session().version != 1 {
			t.Errorf("the key %s is used in version %d", used(a), a.session().version)
		}
		b.stop()
		b = start(t, 2, 2, func(o *Options) { o.MaxVersion, o.Key = 1, newKey }, w)
		within(t, time.Second, "session under the new key", func() bool {
			return joined(a, b) && used(a) == Fingerprint(newKey) && b.count(heard(1)) > 0
		})
		a.stop()
		b.stop()
	})
}
