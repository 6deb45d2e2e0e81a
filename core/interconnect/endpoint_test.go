package interconnect

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// endpoints are two ends whose links carry at once what is sent; time stands still until somebody moves it.
type endpoints struct {
	t    testing.TB
	now  time.Time
	ends [3]*Endpoint // by server
	told [3][]Event

	heard func(to uint8, link int, frame []byte) // nil, or called for every frame that is carried
}

// seeded is a source of random numbers for sessions that is the same in every run.
func seeded(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
}

func newEnd(t testing.TB, self uint8, incarnation uint16, change func(*EndpointOptions)) *Endpoint {
	t.Helper()
	o := EndpointOptions{
		Pair: "cpqlab", Self: self, Key: testKey, Interval: testInterval, Timeout: testTimeout,
		Links: []LinkInfo{{"cable", "serial", maxSerialFrame}, {"lan", "udp", 1200}},
		Boot:  0xb0070000 | uint32(self), Incarnation: incarnation, Rand: seeded(uint64(self)<<8 | uint64(incarnation)),
	}
	if change != nil {
		change(&o)
	}
	e, err := NewEndpoint(o)
	if err != nil {
		t.Fatal(err)
	}
	for n := range o.Links {
		if _, changed := e.LinkChanged(n, true, "", time.Unix(1, 0)); !changed {
			t.Fatal("a link that opens is no change")
		}
	}
	return e
}

// newEndpoints makes both ends; the changes are those of server 1 and of server 2, or of both.
func newEndpoints(t testing.TB, changes ...func(*EndpointOptions)) *endpoints {
	p := &endpoints{t: t, now: time.Unix(1000, 0)}
	for _, s := range []uint8{1, 2} {
		var change func(*EndpointOptions)
		if len(changes) > 0 {
			change = changes[min(int(s), len(changes))-1]
		}
		p.ends[s] = newEnd(t, s, 1, change)
	}
	return p
}

// give has a server receive a frame, and carries what it says to that.
func (p *endpoints) give(to uint8, link int, frame []byte) {
	if p.ends[to] == nil {
		return
	}
	if p.heard != nil {
		p.heard(to, link, frame)
	}
	r := p.ends[to].Receive(link, frame, p.now)
	p.told[to] = append(p.told[to], r.Events...)
	answer := bytes.Clone(r.Answer)
	if answer != nil {
		p.give(3-to, link, answer)
	}
	if r.Opened {
		p.beat(to)
	}
}

// beat sends what is due at a server.
func (p *endpoints) beat(from uint8) {
	for link := range 2 {
		var frames [][]byte
		for _, f := range p.ends[from].Due(link, p.now) {
			frames = append(frames, bytes.Clone(f))
		}
		for _, f := range frames {
			p.give(3-from, link, f)
		}
	}
}

// pass lets intervals pass with beats of both.
func (p *endpoints) pass(intervals int) {
	for range intervals {
		p.now = p.now.Add(testInterval)
		for _, s := range []uint8{1, 2} {
			if p.ends[s] != nil {
				p.beat(s)
			}
		}
	}
}

func (p *endpoints) count(at uint8, fits func(Event) bool) int {
	n := 0
	for _, e := range p.told[at] {
		if fits(e) {
			n++
		}
	}
	return n
}

func TestEndpointsWithoutAClock(t *testing.T) {
	p := newEndpoints(t)
	p.pass(10)
	for _, s := range []uint8{1, 2} {
		if n := p.count(s, kind(SessionOpen)); n != 1 {
			t.Errorf("server %d opened %d sessions, want one", s, n)
		}
		if n := p.count(s, kind(BeatHeard)); n < 18 {
			t.Errorf("server %d heard %d beats in ten intervals on two links", s, n)
		}
	}
	for _, l := range []int{0, 1} {
		m := Message{Kind: 7, Body: body(1000)}
		frames, err := p.ends[1].Fragments(m, l)
		if err != nil {
			t.Fatal(err)
		}
		p.told[2] = nil
		for _, f := range frames {
			p.give(2, l, f)
		}
		if len(p.told[2]) != 1 || !bytes.Equal(p.told[2][0].Message.Body, m.Body) {
			t.Errorf("link %d: %+v", l, p.told[2])
		}
	}
	if n, err := p.ends[1].BestLink(false, p.now); err != nil || n != 1 {
		t.Errorf("best link %d, %v: the network", n, err)
	}
	if e, changed := p.ends[1].LinkChanged(1, false, "pulled", p.now); !changed || e.Kind != LinkDown || e.Text != "pulled" {
		t.Errorf("%v, %+v", changed, e)
	}
	if n, err := p.ends[1].BestLink(false, p.now); err != nil || n != 0 {
		t.Errorf("best link %d, %v: the network is closed", n, err)
	}
	if due := p.ends[1].Due(1, p.now); len(due) != 0 {
		t.Errorf("%d frames are due on a closed link", len(due))
	}
	if err := p.ends[1].Leave(); err != nil || p.ends[1].LeaveHeard() {
		t.Errorf("leave: %v, heard %v", err, p.ends[1].LeaveHeard())
	}
	p.pass(2)
	if !p.ends[1].LeaveHeard() {
		t.Error("the goodbye was not acknowledged")
	}
}

// TestEndpointRepeats wants the same frames and events from the same inputs, for a simulator that replays a seed.
func TestEndpointRepeats(t *testing.T) {
	var frames [2][]byte
	for run := range frames {
		p := newEndpoints(t)
		p.pass(5)
		for _, f := range p.ends[1].Due(1, p.now) {
			frames[run] = append(frames[run], f...)
		}
	}
	if len(frames[0]) == 0 || !bytes.Equal(frames[0], frames[1]) {
		t.Errorf("% x\n% x", frames[0], frames[1])
	}
}

// TestBeatsAllocateNothing lets a simulator, or an agent for years, send beats without work for the collector.
func TestBeatsAllocateNothing(t *testing.T) {
	p := newEndpoints(t)
	p.pass(5)
	n := testing.AllocsPerRun(1000, func() {
		p.now = p.now.Add(testInterval)
		for _, f := range p.ends[1].Due(0, p.now) {
			if r := p.ends[2].Receive(0, f, p.now); len(r.Events) != 1 {
				t.Fatalf("%+v", r)
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for a beat sent and heard, want none", n)
	}
}

func BenchmarkBeatSentAndHeard(b *testing.B) {
	p := newEndpoints(b)
	p.pass(5)
	b.ReportAllocs()
	for b.Loop() {
		p.now = p.now.Add(testInterval)
		for _, f := range p.ends[1].Due(0, p.now) {
			if r := p.ends[2].Receive(0, f, p.now); len(r.Events) != 1 {
				b.Fatal("not heard")
			}
		}
	}
}

// TestBeatAtOnce: what is new is said at once; a unit's turn, and an absence that has become shorter, wait for the next beat.
func TestBeatAtOnce(t *testing.T) {
	e := newEnd(t, 1, 1, nil)
	for _, step := range []struct {
		name   string
		beat   Beat
		atOnce bool
	}{
		{"first words", Beat{Promised: 1}, true},
		{"the same", Beat{Promised: 1}, false},
		{"another unit", Beat{Promised: 1, HeldUnit: 1, Held: 4}, false},
		{"news of a unit", Beat{Promised: 1, HeldUnit: 1, Held: 5}, true},
		{"a restart", Beat{Promised: 1, Restarting: 9 * time.Second}, true},
		{"it comes nearer", Beat{Promised: 1, Restarting: 8 * time.Second}, false},
		{"it takes longer", Beat{Promised: 1, Restarting: 10 * time.Second}, true},
		{"news while it comes nearer", Beat{Promised: 2, Restarting: 9 * time.Second}, true},
		{"it is over", Beat{Promised: 2}, true},
	} {
		if got := e.SetBeat(step.beat); got != step.atOnce {
			t.Errorf("%s: at once %v, want %v", step.name, got, step.atOnce)
		}
	}
}
