package interconnect

import (
	"crypto/rand"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	var w window
	for n, s := range []struct {
		seq  uint32
		want bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {66, true}, {3, false}, {4, true}, {4, false},
		{2, false},
		{1000, true}, {937, true}, {936, false}, {937, false}, {1<<32 - 1, true}, {1<<32 - 1, false}, {1000, false},
	} {
		if got := w.take(s.seq); got != s.want {
			t.Errorf("step %d, number %d: new %v, want %v", n, s.seq, got, s.want)
		}
	}
}

// TestNonceIsUsedOnce opens a session, and then offers another one that echoes the nonce which the first has used
// up.
func TestNonceIsUsedOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	h, err := newHandshake(&EndpointOptions{
		Pair: "p", Self: 1, Key: testKey, Interval: time.Second, Timeout: 5 * time.Second, MaxVersion: version, Links: make([]LinkInfo, 1),
		Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	own, err := h.ownNonce(now)
	if err != nil {
		t.Fatal(err)
	}
	first := hello{header: header{1, typeHello, 2, 0}, newest: 1, nonce: nonce{1}, echo: own}
	if opened, _, err := h.onHello(&first, h.keys[0], 0, now); err != nil || !opened {
		t.Fatalf("opened %v, %v", opened, err)
	}
	second := first
	second.nonce = nonce{2}
	if opened, _, _ := h.onHello(&second, h.keys[0], 0, now); opened || h.live.peer != first.nonce {
		t.Error("a nonce opened two sessions")
	}
	if again, err := h.ownNonce(now); err != nil || again == own {
		t.Errorf("the next nonce is the one that was used, or %v", err)
	}
	empty := first
	empty.echo = nonce{}
	h.nonce = nonce{}
	if opened, _, _ := h.onHello(&empty, h.keys[0], 0, now); opened {
		t.Error("an empty echo opened a session")
	}
	tooNew := hello{header: header{1, typeHello, 2, 0}, newest: 0, nonce: nonce{3}}
	if tooNew.echo, err = h.ownNonce(now); err != nil {
		t.Fatal(err)
	}
	if opened, _, err := h.onHello(&tooNew, h.keys[0], 0, now); opened || err == nil {
		t.Error("a partner that speaks no version known here was taken")
	}
}

func TestAck(t *testing.T) {
	now := time.Unix(1000, 0)
	l := linkSession{beatSeq: maxUint24 - 1}
	a := l.nextBeat(now)
	b := l.nextBeat(now.Add(time.Second))
	if a != maxUint24 || b != maxUint24+2 {
		t.Errorf("numbers %#x and %#x: the one whose low 24 bits are zero is left out", a, b)
	}
	for n, s := range []struct {
		ack  uint32
		hold time.Duration
		at   time.Duration
		trip time.Duration
		ok   bool
	}{
		{0, 0, 0, 0, false},
		{a & maxUint24, time.Second, 3 * time.Second, 2 * time.Second, true},
		{a & maxUint24, 2 * time.Second, 4 * time.Second, 0, false}, // says nothing new
		{b & maxUint24, time.Second, 3 * time.Second, time.Second, true},
		{5, 0, 0, 0, false}, // never sent
	} {
		trip, ok := l.onAck(s.ack, s.hold, now.Add(s.at))
		if trip != s.trip || ok != s.ok {
			t.Errorf("step %d: %v, %v, want %v, %v", n, trip, ok, s.trip, s.ok)
		}
	}
}

func TestEventQueueKeepsWhatMatters(t *testing.T) {
	q := newEventQueue()
	q.put(Event{Kind: SessionOpen})
	q.put(Event{Kind: Refused})
	for n := range maxEvents {
		q.put(Event{Kind: BeatHeard, Beat: Beat{Held: uint32(n)}})
	}
	q.put(Event{Kind: MessageIn})
	var kinds [Refused + 1]int
	first := true
	for e, ok := q.take(); ok; e, ok = q.take() {
		kinds[e.Kind]++
		if e.Kind == BeatHeard && first {
			if first = false; e.Beat.Held != 3 {
				t.Errorf("beat %d is the oldest that was kept, want the three before it dropped", e.Beat.Held)
			}
		}
	}
	if kinds[SessionOpen] != 1 || kinds[Refused] != 1 || kinds[MessageIn] != 1 || kinds[BeatHeard] != maxEvents-3 {
		t.Errorf("kept, by kind: %v", kinds)
	}
	for range maxEvents + 5 {
		q.put(Event{Kind: MessageIn})
	}
	if len(q.events) != maxEvents {
		t.Errorf("%d events wait, at most %d", len(q.events), maxEvents)
	}
}
