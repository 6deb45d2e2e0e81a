package interconnect

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPairConverges starts, restarts and cuts two servers over links that lose, repeat, garble and reorder, and
// wants one session each time.
func TestPairConverges(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faulty := func(w *wire) *wire {
					w.loss, w.twice, w.garbled, w.jitter = 0.4, 0.2, 0.1, 150*time.Millisecond
					return w
				}
				wires := []*wire{faulty(newWire("cable", "serial", seed)), faulty(newWire("lan", "udp", seed+1000))}
				if seed%3 == 0 {
					wires = wires[:1]
				}
				rng := wires[0].rng
				nodes := [3]*node{}
				inc := [3]uint16{0, 1, 1}
				for _, s := range []uint8{1, 2} {
					nodes[s] = start(t, s, 1, nil, wires...)
				}
				for round := range 12 {
					within(t, time.Minute, fmt.Sprintf("round %d: session and beats", round), func() bool {
						return joined(nodes[1], nodes[2]) && nodes[1].count(heard(inc[2])) > 3 && nodes[2].count(heard(inc[1])) > 3
					})
					var pause time.Duration
					var s uint8
					wires[0].set(func(*wire) { s, pause = uint8(1+rng.IntN(2)), time.Duration(rng.IntN(4000))*time.Millisecond })
					switch round % 3 {
					case 0, 1: // restart one, or both
						nodes[s].stop()
						time.Sleep(pause / 2)
						if round%3 == 1 {
							nodes[3-s].stop()
							inc[3-s]++
							nodes[3-s] = start(t, 3-s, inc[3-s], nil, wires...)
						}
						inc[s]++
						nodes[s] = start(t, s, inc[s], nil, wires...)
					case 2: // cut one direction
						for _, w := range wires {
							w.set(func(w *wire) { w.cut[s] = true })
						}
						time.Sleep(pause)
						for _, w := range wires {
							w.set(func(w *wire) { w.cut = [3]bool{} })
						}
						nodes[1].forget()
						nodes[2].forget()
					}
				}
				nodes[1].stop()
				nodes[2].stop()
			})
		})
	}
}

// TestRestartTakesARoundTrip uses an interval so long that only prompt answers can be in time.
func TestRestartTakesARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := func(o *Options) { o.Interval, o.Timeout = 30*time.Second, 100*time.Second }
		w := newWire("cable", "serial", 1)
		w.delay = 10 * time.Millisecond
		a := start(t, 1, 1, long, w)
		b := start(t, 2, 1, long, w)
		within(t, 60*time.Millisecond, "first session", func() bool { return joined(a, b) })
		b.stop()
		b = start(t, 2, 2, long, w)
		within(t, 21*time.Millisecond, "the restarted one has a session after one round trip", func() bool {
			return b.session() != nil
		})
		within(t, 21*time.Millisecond, "both hear each other", func() bool {
			return joined(a, b) && a.count(heard(2)) > 0 && b.count(heard(1)) > 0
		})
		if n := b.count(kind(SessionOpen)); n != 1 {
			t.Errorf("the restarted one told of %d sessions, want one", n)
		}
		b.stop()
		a.stop()
	})
}

func TestBeatsCarryWhatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := func(o *Options) { o.Interval, o.Timeout = 10*time.Second, 100*time.Second }
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, long, w), start(t, 2, 1, long, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		beat := Beat{
			HearsYou: true, Promised: 4, Common: 3, Losses: 2, HeldUnit: 1, Held: 77, Config: 5, Restarting: 8 * time.Second,
		}
		a.SetBeat(beat)
		beat.Boot, beat.Incarnation = 0xb0070001, 1
		same := func(want Beat) func() bool {
			return func() bool { return b.count(func(e Event) bool { return e.Kind == BeatHeard && e.Beat == want }) > 0 }
		}
		within(t, 5*time.Millisecond, "a change at once", same(beat))
		beat.Held++
		a.SetBeat(beat)
		within(t, 5*time.Millisecond, "a change of the same unit at once", same(beat))
		before := w.ends[1].sent.Load()
		beat.HeldUnit, beat.Held = 2, 78
		a.SetBeat(beat)
		time.Sleep(5 * time.Second)
		if sent := w.ends[1].sent.Load(); sent != before {
			t.Errorf("another unit in turn caused %d frames before the interval had passed", sent-before)
		}
		within(t, 6*time.Second, "the other unit at the interval", same(beat))
		if trip := a.Links()[0].RoundTrip; trip < 2*time.Millisecond-holdUnit || trip > 3*time.Millisecond {
			t.Errorf("round trip %v, want twice a millisecond", trip)
		}
		a.stop()
		b.stop()
	})
}

// A server whose loop hangs must not look alive: what its beats say is nobody's word any more.
func TestBeatsEndWhenNobodySetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := func(o *Options) { o.Interval, o.Timeout, o.Stale = 100*time.Millisecond, time.Second, 5*time.Second }
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, short, w), start(t, 2, 1, short, w)
		beats := func() int { return b.count(func(e Event) bool { return e.Kind == BeatHeard }) }
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		for range 100 {
			a.SetBeat(Beat{Promised: 7})
			b.SetBeat(Beat{Promised: 7})
			time.Sleep(100 * time.Millisecond)
		}
		last := time.Now()
		time.Sleep(4 * time.Second)
		if beats() == 0 || beats() < 130 {
			t.Errorf("%d beats within 14 s", beats())
		}
		time.Sleep(time.Until(last.Add(5*time.Second + 200*time.Millisecond)))
		n := beats()
		time.Sleep(time.Minute)
		if beats() != n {
			t.Errorf("%d beats of a server that hangs", beats()-n)
		}
		a.SetBeat(Beat{Promised: 7})
		within(t, time.Second, "beats again", func() bool { return beats() > n })
		a.stop()
		b.stop()
	})
}

func TestGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		w.loss = 0.3
		a := start(t, 1, 1, nil, w)
		if err := a.Goodbye(t.Context()); !errors.Is(err, ErrNoSession) {
			t.Errorf("goodbye to nobody: %v", err)
		}
		a.stop()
		a = start(t, 1, 2, nil, w)
		b := start(t, 2, 1, nil, w)
		within(t, 10*time.Second, "session", func() bool { return joined(a, b) })
		if err := a.Goodbye(t.Context()); err != nil {
			t.Errorf("goodbye: %v", err)
		}
		if b.count(func(e Event) bool { return e.Kind == BeatHeard && e.Beat.Leaving }) == 0 {
			t.Error("acknowledged, but not heard")
		}
		b.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Goodbye(ctx); err == nil {
			t.Error("goodbye to a dead partner was acknowledged")
		}
		a.stop()
	})
}

func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cable, lan := newWire("cable", "serial", 1), newWire("lan", "udp", 2)
		lan.twice = 0.5
		a := start(t, 1, 1, nil, cable, lan)
		if err := a.Send(Message{Kind: 1}); !errors.Is(err, ErrNoSession) {
			t.Errorf("without a partner: %v", err)
		}
		b := start(t, 2, 1, nil, cable, lan)
		within(t, time.Second, "session and an acknowledgement on each link", func() bool {
			l := a.Links()
			return joined(a, b) && l[0].RoundTrip > 0 && l[1].RoundTrip > 0
		})
		for _, m := range []Message{{}, {Kind: 1, Body: make([]byte, MaxMessage+1)}} {
			if err := a.Send(m); err == nil {
				t.Errorf("message of kind %d with %d bytes was taken", m.Kind, len(m.Body))
			}
		}
		arrives := func(link string, m Message) {
			t.Helper()
			b.forget()
			if err := a.Send(m); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			got := b.count(func(e Event) bool {
				return e.Kind == MessageIn && e.Link == link && e.Message.Kind == m.Kind && bytes.Equal(e.Message.Body, m.Body)
			})
			if all := b.count(kind(MessageIn)); got != 1 || all != 1 {
				t.Errorf("%d bytes over %s: %d arrived whole, %d at all, want 1", len(m.Body), link, got, all)
			}
		}
		arrives("lan", Message{Kind: 1})
		arrives("lan", Message{Kind: 2, Body: body(100), NetworkOnly: true})
		arrives("lan", Message{Kind: 3, Body: body(MaxMessage)})
		lan.set(func(w *wire) { w.cut[2] = true }) // a still hears b on it, but nothing of a arrives
		time.Sleep(2 * testTimeout)
		arrives("cable", Message{Kind: 4, Body: body(1000)})
		lan.set(func(w *wire) { w.cut[1] = true })
		time.Sleep(2 * testTimeout)
		arrives("cable", Message{Kind: 5, Body: body(MaxMessage)})
		if err := a.Send(Message{Kind: 6, NetworkOnly: true}); !errors.Is(err, ErrNoLink) {
			t.Errorf("network only, with the network cut: %v", err)
		}
		a.stop()
		b.stop()
	})
}

// TestSlowConsumer has nobody read the events: beats still leave in time, and what matters is kept.
func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a := start(t, 1, 1, nil, w)
		o := Options{
			Pair: "cpqlab", Self: 2, Key: testKey, Interval: testInterval, Timeout: testTimeout, Links: []Link{w.end(2)},
		}
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(3 * maxEvents * testInterval)
		synctest.Wait()
		if n := a.count(kind(BeatHeard)); n < 3*maxEvents-10 {
			t.Errorf("%d beats heard of a server whose events nobody reads", n)
		}
		opened := false
		for range maxEvents {
			e := <-b.Events()
			opened = opened || e.Kind == SessionOpen
		}
		if !opened {
			t.Error("the opening of the session was dropped for beats")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		a.stop()
	})
}

// refusedPair runs a pair, has f attack it, and wants it undisturbed: the same session, no event of attack but
// refusals.
func refusedPair(t *testing.T, f func(t *testing.T, a, b *node, wires []*wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		wires := []*wire{newWire("cable", "serial", 1), newWire("lan", "udp", 2)}
		a, b := start(t, 1, 1, nil, wires...), start(t, 2, 1, nil, wires...)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		if err := a.Send(Message{Kind: 1, Body: body(100)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Second + testInterval/2) // nothing is on its way now
		sa, sb := a.session(), b.session()
		a.forget()
		b.forget()
		f(t, a, b, wires)
		synctest.Wait()
		if na, nb := a.session(), b.session(); na.mine != sa.mine || nb.mine != sb.mine || !joined(a, b) {
			t.Error("the session was disturbed")
		}
		for _, n := range []*node{a, b} {
			if n.count(kind(SessionOpen)) != 0 || n.count(kind(MessageIn)) != 0 {
				t.Errorf("server %d opened a session or took a message", n.self)
			}
		}
		a.forget()
		b.forget()
		time.Sleep(5 * testInterval)
		synctest.Wait()
		if a.count(heard(1)) < 4 || b.count(heard(1)) < 4 {
			t.Error("beats did not go on")
		}
		a.stop()
		b.stop()
	})
}

// beats counts the beats that a server has told of.
func (n *node) beats() int { return n.count(kind(BeatHeard)) }

func TestReplayIsRefused(t *testing.T) {
	refusedPair(t, func(t *testing.T, a, b *node, wires []*wire) {
		for _, w := range wires {
			recorded := w.frames()
			before := a.beats() + b.beats()
			for range 2 {
				for _, r := range recorded {
					w.inject(r.to, r.frame)
					synctest.Wait()
				}
			}
			if got := a.beats() + b.beats(); got != before {
				t.Errorf("%d replayed beats were taken on %s", got-before, w.name)
			}
		}
		for _, n := range []*node{a, b} {
			for _, l := range n.Links() {
				if l.RefusedReplay == 0 {
					t.Errorf("server %d counted no replay on %s", n.self, l.Name)
				}
			}
			if c := n.count(kind(Refused)); c == 0 || c > 8 {
				t.Errorf("%d refusals told of, want one a second and reason", c)
			}
		}
	})
}

func TestReflectionAndOtherLinkAreRefused(t *testing.T) {
	refusedPair(t, func(t *testing.T, a, b *node, wires []*wire) {
		cable, lan := wires[0].frames(), wires[1].frames()
		before := a.beats() + b.beats()
		for _, r := range cable {
			wires[0].inject(3-r.to, r.frame)
			wires[1].inject(r.to, r.frame)
			synctest.Wait()
		}
		// Frames that their receiver has not seen on any link yet, but that were sent on the other one.
		for _, w := range wires {
			w.set(func(w *wire) { w.cut = [3]bool{true, true, true} })
		}
		time.Sleep(5 * testInterval)
		synctest.Wait()
		for _, r := range wires[1].frames()[len(lan):] {
			wires[0].inject(r.to, r.frame)
			synctest.Wait()
		}
		for _, w := range wires {
			w.set(func(w *wire) { w.cut = [3]bool{} })
		}
		if got := a.beats() + b.beats(); got > before {
			t.Errorf("%d beats of the wrong direction or link were taken", got-before)
		}
		for _, n := range []*node{a, b} {
			l := n.Links()
			if l[0].RefusedReflected == 0 || l[0].RefusedReplay == 0 || l[1].RefusedReplay == 0 {
				t.Errorf("server %d: reflected %d, of another link %d and %d", n.self,
					l[0].RefusedReflected, l[0].RefusedReplay, l[1].RefusedReplay)
			}
		}
	})
}

// TestEveryFlippedBitIsRefused flips each bit of a handshake frame, a beat and a fragment that the receiver has not
// seen, with the checksum as it was and with the checksum made right.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	refusedPair(t, func(t *testing.T, a, b *node, wires []*wire) {
		w := wires[0]
		w.set(func(w *wire) { w.cut[2] = true })
		wires[1].set(func(w *wire) { w.cut[2] = true })
		from := len(w.frames())
		a.Interconnect.mu.Lock()
		s := a.endpoint.shake.live
		fr := fragment{
			header: header{s.version, typeFragment, 1, 0}, kind: 1, session: s.use().id, seq: s.links[0].fragmentSeq + 1, id: 99, total: 3,
			data: []byte("abc"),
		}
		shake := a.endpoint.shake
		frames := [][]byte{
			appendFragment(nil, &fr, s.use().mac), shake.makeHello(shake.keys[0], 0, nonce{1}, b.endpoint.shake.live.mine),
		}
		a.Interconnect.mu.Unlock()
		time.Sleep(testInterval)
		synctest.Wait()
		for _, r := range w.frames()[from:] {
			if r.to == 2 && frameType(r.frame[0]&15) == typeBeat {
				frames = append(frames, r.frame)
				break
			}
		}
		if len(frames) != 3 {
			t.Fatalf("%d kinds of frames, want 3", len(frames))
		}
		before := b.beats()
		for _, f := range frames {
			for bit := range len(f) * 8 {
				g := bytes.Clone(f)
				g[bit/8] ^= 1 << (bit % 8)
				w.inject(2, g)
				end := len(g) - crcLen
				if bit/8 < end {
					g = bytes.Clone(g)
					binary.BigEndian.PutUint32(g[end:], crc32.Checksum(g[:end], castagnoli))
					w.inject(2, g)
				}
				synctest.Wait()
			}
		}
		if got := b.beats(); got != before {
			t.Errorf("%d beats with a flipped bit were taken", got-before)
		}
		if l := b.Links()[0]; l.Garbled < 3*40*8 || l.RefusedTag == 0 {
			t.Errorf("garbled %d, wrong tag %d", l.Garbled, l.RefusedTag)
		}
		w.set(func(w *wire) { w.cut[2] = false })
		wires[1].set(func(w *wire) { w.cut[2] = false })
	})
}

// TestOldSessionIsRefused replays everything from before a restart, handshake and beats, to both servers, and then
// to a server whose partner is dead.
func TestOldSessionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, lan := newWire("cable", "serial", 1), newWire("lan", "udp", 2)
		a, b := start(t, 1, 1, nil, w, lan), start(t, 2, 1, nil, w, lan)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		time.Sleep(3*time.Second + testInterval/2)
		old := w.frames()
		b.stop()
		b = start(t, 2, 2, nil, w, lan)
		within(t, time.Second, "session after the restart", func() bool { return joined(a, b) })
		time.Sleep(time.Second + testInterval/2)
		live := a.session().mine
		a.forget()
		b.forget()
		began := time.Now()
		for range 3 {
			for _, r := range old {
				w.inject(r.to, r.frame)
				synctest.Wait()
				time.Sleep(time.Millisecond)
			}
		}
		if a.session().mine != live || !joined(a, b) {
			t.Error("an old session was opened, or the live one disturbed")
		}
		regular := int(time.Since(began)/testInterval) + 1
		for _, n := range []*node{a, b} {
			if n.count(kind(SessionOpen)) != 0 || n.count(kind(BeatHeard)) > 2*regular {
				t.Errorf("server %d took old frames", n.self)
			}
		}
		if n := a.count(heard(1)); n != 0 {
			t.Errorf("%d beats of the partner's earlier incarnation were heard", n)
		}
		b.stop()
		time.Sleep(2 * testTimeout)
		a.forget()
		for _, r := range w.frames() {
			w.inject(r.to, r.frame)
			synctest.Wait()
		}
		if a.count(kind(BeatHeard))+a.count(kind(SessionOpen)) != 0 {
			t.Errorf("a dead partner was heard: %+v", a.events)
		}
		a.stop()
	})
}

func TestOtherPairIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"other key":       func(o *Options) { o.Key = bytes.Repeat([]byte{9}, MinKey) },
		"other name":      func(o *Options) { o.Pair = "another" },
		"longer key":      func(o *Options) { o.Key = append(bytes.Clone(testKey), 0x33) },
		"is the same one": func(o *Options) { o.Self = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire("cable", "serial", 1)
				a := start(t, 1, 1, nil, w)
				b := start(t, 2, 1, change, w)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for _, n := range []*node{a, b} {
					l := n.Links()[0]
					if n.session() != nil || n.count(kind(BeatHeard)) != 0 || l.RefusedTag+l.RefusedReflected == 0 {
						t.Errorf("server %d: session %v, refused %d", n.self, n.session(), l.RefusedTag)
					}
					if c := n.count(kind(Refused)); c < 5 || c > 11 {
						t.Errorf("server %d: %d refusals told of in ten seconds", n.self, c)
					}
				}
				a.stop()
				b.stop()
			})
		})
	}
}

// TestSwappedLinks gives the servers their links in different order, as swapped cables do.
func TestSwappedLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := newWire("x", "udp", 1), newWire("y", "udp", 2)
		a, b := start(t, 1, 1, nil, x, y), start(t, 2, 1, nil, y, x)
		time.Sleep(10 * testInterval)
		synctest.Wait()
		told := a.count(func(e Event) bool { return e.Kind == Refused && strings.Contains(e.Text, "swapped") })
		if a.session() != nil || b.session() != nil || told == 0 {
			t.Errorf("sessions %v and %v, told of %d times", a.session(), b.session(), told)
		}
		a.stop()
		b.stop()
	})
}

// TestUnknownBeatBeginsHandshake lets a restarted server's first words be lost: the partner's next beat must make it
// speak again, long before its next turn.
func TestUnknownBeatBeginsHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := func(o *Options) { o.Interval, o.Timeout = 30*time.Second, 100*time.Second }
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, long, w), start(t, 2, 1, long, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		b.stop()
		w.set(func(w *wire) { w.cut[1] = true })
		b = start(t, 2, 2, long, w)
		time.Sleep(10 * time.Millisecond)
		w.set(func(w *wire) { w.cut[1] = false })
		a.SetBeat(Beat{Promised: 1})
		within(t, 10*time.Millisecond, "session after a beat that could not be verified", func() bool { return joined(a, b) })
		a.stop()
		b.stop()
	})
}

// TestDelayedHelloOpensNothing keeps a handshake frame back, and delivers it long after the handshake that it
// belongs to.
func TestDelayedHelloOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a := start(t, 1, 1, nil, w)
		b := start(t, 2, 1, nil, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		b.stop()
		w.set(func(w *wire) { w.cut[1] = true }) // a answers b, but what b says then is kept back
		a.Interconnect.mu.Lock()
		ask := a.endpoint.shake.ask(0, time.Now())
		a.Interconnect.mu.Unlock()
		from := len(w.frames())
		b = start(t, 2, 2, nil, w)
		w.inject(2, ask)
		time.Sleep(testInterval)
		b.stop()
		kept := slices.DeleteFunc(w.frames()[from:], func(r record) bool { return r.to != 1 })
		if len(kept) == 0 {
			t.Fatal("the restarted server said nothing")
		}
		w.set(func(w *wire) { w.cut[1] = false })
		time.Sleep(time.Minute)
		live := a.session()
		for _, r := range kept {
			w.inject(1, r.frame)
			synctest.Wait()
		}
		if a.session().mine != live.mine {
			t.Error("an answer that came a minute late opened a session")
		}
		a.stop()
	})
}

// TestOvertakenBeats keeps beats back and delivers them after newer ones: they are neither heard nor called replays.
func TestOvertakenBeats(t *testing.T) {
	refusedPair(t, func(t *testing.T, a, b *node, wires []*wire) {
		w := wires[0]
		w.set(func(w *wire) { w.cut[2] = true })
		from := len(w.frames())
		time.Sleep(5 * testInterval)
		kept := w.frames()[from:]
		w.set(func(w *wire) { w.cut[2] = false })
		time.Sleep(2 * testInterval)
		synctest.Wait()
		before := b.beats()
		for _, r := range kept {
			if r.to == 2 {
				w.inject(2, r.frame)
			}
		}
		synctest.Wait()
		if l := b.Links()[0]; b.beats() != before || l.RefusedReplay != 0 {
			t.Errorf("%d overtaken beats were heard, %d called replays", b.beats()-before, l.RefusedReplay)
		}
	})
}

func TestForgedAnswersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire("cable", "serial", 1)
		a, b := start(t, 1, 1, nil, w), start(t, 2, 1, nil, w)
		within(t, time.Second, "session", func() bool { return joined(a, b) })
		var ask []byte
		for _, r := range w.frames() {
			if r.to == 1 && frameType(r.frame[0]&15) == typeHello && parseHello(header{}, r.frame).echo == (nonce{}) {
				ask = r.frame
			}
		}
		before := w.ends[1].sent.Load()
		for range 1000 {
			w.inject(1, ask)
			synctest.Wait()
		}
		if sent := w.ends[1].sent.Load() - before; sent > answersPerInterval {
			t.Errorf("%d frames in answer to a flood within one interval, at most %d", sent, answersPerInterval)
		}
		a.stop()
		b.stop()
	})
}

func TestNewRefuses(t *testing.T) {
	w := newWire("cable", "serial", 1)
	good := Options{
		Pair: "p", Self: 1, Key: testKey, Interval: time.Second, Timeout: 2 * time.Second, Links: []Link{w.end(1)},
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"no name":     func(o *Options) { o.Pair = "" },
		"1 or 2":      func(o *Options) { o.Self = 0 },
		"at least 32": func(o *Options) { o.Key = o.Key[:31] },
		"not exceed":  func(o *Options) { o.Timeout = o.Interval },
		"0 links":     func(o *Options) { o.Links = nil },
		"65 links":    func(o *Options) { o.Links = slices.Repeat(o.Links, 65) },
		"a beat has":  func(o *Options) { s := newWire("x", "serial", 1); s.maxFrame = 40; o.Links = []Link{s.end(1)} },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
