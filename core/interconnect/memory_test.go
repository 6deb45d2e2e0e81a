package interconnect

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a link between two servers in memory, with faults drawn from a seed. Time is that of the synctest bubble.
type wire struct {
	name, kind string
	maxFrame   int
	delay      time.Duration

	mu       sync.Mutex
	rng      *rand.Rand
	loss     float64       // of all frames
	twice    float64       // come twice
	garbled  float64       // one bit flipped
	jitter   time.Duration // added to delay, so that frames overtake each other
	cut      [3]bool       // by receiver
	recorded []record
	ends     [3]*end  // by server
	also     []*end   // hear what server 2 hears
	flying   []flight // by due
	arriving sync.Mutex
}

// flight is a frame on its way.
type flight struct {
	due   time.Time
	to    uint8
	frame []byte
}

// record is a frame as it was sent.
type record struct {
	to    uint8
	link  string
	frame []byte
}

// end is one server's end of a wire. It implements Link.
type end struct {
	w       *wire
	self    uint8
	in      chan []byte
	sent    atomic.Uint64
	dropped atomic.Uint64
}

func newWire(name, kind string, seed uint64) *wire {
	w := &wire{
		name: name, kind: kind, maxFrame: maxSerialFrame, delay: time.Millisecond,
		rng: rand.New(rand.NewPCG(seed, 1)),
	}
	if kind == "udp" {
		w.maxFrame = 1200
	}
	return w
}

// end plugs a server in, in place of its earlier end.
func (w *wire) end(self uint8) *end {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[self] = &end{w: w, self: self, in: make(chan []byte, 4096)}
	return w.ends[self]
}

func (e *end) Name() string  { return e.w.name }
func (e *end) Kind() string  { return e.w.kind }
func (e *end) MaxFrame() int { return e.w.maxFrame }
func (e *end) Counters() LinkCounters {
	return LinkCounters{FramesOut: e.sent.Load(), Dropped: e.dropped.Load()}
}

func (e *end) Run(ctx context.Context, in func([]byte), state func(bool, string)) error {
	state(true, "")
	for {
		select {
		case f := <-e.in:
			in(f)
		case <-ctx.Done():
			state(false, "closed")
			return nil
		}
	}
}

func (e *end) Send(frame []byte, _ bool) bool {
	e.sent.Add(1)
	w, to := e.w, 3-e.self
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recorded = append(w.recorded, record{to, w.name, bytes.Clone(frame)})
	copies := 1
	if w.rng.Float64() < w.twice {
		copies = 2
	}
	for range copies {
		if w.cut[to] || w.rng.Float64() < w.loss {
			e.dropped.Add(1)
			continue
		}
		f := bytes.Clone(frame)
		if w.rng.Float64() < w.garbled {
			f[w.rng.IntN(len(f))] ^= 1 << w.rng.IntN(8)
		}
		d := w.delay
		if w.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(w.jitter)))
		}
		w.later(to, f, d)
	}
	return true
}

// later delivers a frame after d; what is due at the same moment comes in the order of sending. The wire is locked.
func (w *wire) later(to uint8, frame []byte, d time.Duration) {
	due := time.Now().Add(d)
	i := slices.IndexFunc(w.flying, func(f flight) bool { return f.due.After(due) })
	if i < 0 {
		i = len(w.flying)
	}
	w.flying = slices.Insert(w.flying, i, flight{due, to, frame})
	time.AfterFunc(d, func() {
		w.arriving.Lock()
		defer w.arriving.Unlock()
		for {
			w.mu.Lock()
			if len(w.flying) == 0 || w.flying[0].due.After(time.Now()) {
				w.mu.Unlock()
				return
			}
			f := w.flying[0]
			w.flying = w.flying[1:]
			w.mu.Unlock()
			w.inject(f.to, f.frame)
		}
	})
}

// inject has a server receive a frame now.
func (w *wire) inject(to uint8, frame []byte) {
	w.mu.Lock()
	e, also := w.ends[to], w.also
	w.mu.Unlock()
	if e == nil {
		return
	}
	all := []*end{e}
	if to == 2 {
		all = append(all, also...)
	}
	for _, e := range all {
		select {
		case e.in <- bytes.Clone(frame):
		default:
		}
	}
}

func (w *wire) set(f func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// frames returns what was sent so far.
func (w *wire) frames() []record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.recorded)
}

// node is a running interconnect and what it has told.
type node struct {
	*Interconnect
	self uint8
	stop func()

	mu     sync.Mutex
	events []Event
}

const (
	testInterval = 100 * time.Millisecond
	testTimeout  = time.Second
)

var testKey = bytes.Repeat([]byte{0x33}, MinKey)

// start plugs a server into wires and runs it until the test ends or stop is called.
func start(t *testing.T, self uint8, incarnation uint16, change func(*Options), wires ...*wire) *node {
	t.Helper()
	o := Options{
		Pair: "cpqlab", Self: self, Key: testKey, Interval: testInterval, Timeout: testTimeout,
		Boot: 0xb0070000 | uint32(self), Incarnation: incarnation,
	}
	for _, w := range wires {
		o.Links = append(o.Links, w.end(self))
	}
	if change != nil {
		change(&o)
	}
	ic, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Interconnect: ic, self: self}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ic.Run(ctx); err != nil {
			t.Errorf("server %d: %v", self, err)
		}
	})
	wg.Go(func() {
		for {
			select {
			case e := <-ic.Events():
				n.mu.Lock()
				n.events = append(n.events, e)
				n.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	n.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(n.stop)
	return n
}

// count says how many events fit, since the start or the last forget.
func (n *node) count(fits func(Event) bool) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := 0
	for _, e := range n.events {
		if fits(e) {
			c++
		}
	}
	return c
}

func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = nil
}

func kind(k EventKind) func(Event) bool { return func(e Event) bool { return e.Kind == k } }

// heard fits beats of the partner in an incarnation.
func heard(incarnation uint16) func(Event) bool {
	return func(e Event) bool { return e.Kind == BeatHeard && e.Beat.Incarnation == incarnation }
}

// within lets virtual time pass until ok, and fails the test when it has not come true in time.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		synctest.Wait()
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// joined says whether both servers use the same, confirmed session.
func joined(a, b *node) bool {
	sa, sb := a.session(), b.session()
	return sa != nil && sb != nil && sa.confirmed && sb.confirmed && sa.mine == sb.peer && sa.peer == sb.mine
}

// session returns a copy of the live session's head, nil when there is none.
func (n *node) session() *session {
	n.Interconnect.mu.Lock()
	defer n.Interconnect.mu.Unlock()
	if n.endpoint.shake.live == nil {
		return nil
	}
	s := *n.endpoint.shake.live
	s.links, s.keys = slices.Clone(s.links), slices.Clone(s.keys)
	return &s
}
