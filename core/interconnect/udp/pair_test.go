package udp

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/interconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a test waits for what must happen.
const deadline = 20 * time.Second

// freePort returns a loopback address that nobody uses.
func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().String()
}

// run starts an interconnect over links and ends it with the test, or when the returned function is called.
func run(
	t *testing.T, self uint8, incarnation uint16, links ...interconnect.Link,
) (*interconnect.Interconnect, func()) {
	t.Helper()
	ic, err := interconnect.New(interconnect.Options{
		Pair: "cpqlab", Self: self, Key: bytes.Repeat([]byte{7}, 32), Links: links,
		Interval: 20 * time.Millisecond, Timeout: 200 * time.Millisecond, Boot: uint32(self), Incarnation: incarnation,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ic.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return ic, stop
}

// await returns the first event that fits.
func await(
	t *testing.T, ic *interconnect.Interconnect, what string, fits func(interconnect.Event) bool,
) interconnect.Event {
	t.Helper()
	end := time.After(deadline)
	for {
		select {
		case e := <-ic.Events():
			if fits(e) {
				return e
			}
		case <-end:
			t.Fatalf("no %s within %v; links %+v", what, deadline, ic.Links())
		}
	}
}

func beatHeard(e interconnect.Event) bool { return e.Kind == interconnect.BeatHeard }

func TestPairOverLoopback(t *testing.T) {
	a, b := freePort(t), freePort(t)
	la, lb := New("lan", a, b, nil), New("lan", b, a, nil)
	ia, _ := run(t, 1, 1, la)
	ib, stopB := run(t, 2, 1, lb)
	ia.SetBeat(interconnect.Beat{Promised: 7, HeldUnit: 3, Held: 9})
	await(t, ib, "beat with what was set", func(e interconnect.Event) bool {
		return beatHeard(e) && e.Beat.Promised == 7 && e.Beat.Held == 9 && e.Beat.Boot == 1
	})
	await(t, ia, "beat", beatHeard)

	body := bytes.Repeat([]byte("0123456789abcdef"), interconnect.MaxMessage/16)
	if err := ia.Send(interconnect.Message{Kind: 5, Body: body, NetworkOnly: true}); err != nil {
		t.Fatal(err)
	}
	m := await(t, ib, "message", func(e interconnect.Event) bool { return e.Kind == interconnect.MessageIn })
	if m.Message.Kind != 5 || !bytes.Equal(m.Message.Body, body) {
		t.Errorf("message of kind %d with %d bytes differs", m.Message.Kind, len(m.Message.Body))
	}

	stopB()
	ib, _ = run(t, 2, 2, New("lan", b, a, nil))
	e := await(t, ia, "session with the restarted partner", func(e interconnect.Event) bool {
		return e.Kind == interconnect.SessionOpen && e.PeerIncarnation == 2
	})
	if e.PeerBoot != 2 {
		t.Errorf("boot id %d, want 2", e.PeerBoot)
	}
	await(t, ib, "beat after the restart", beatHeard)
	await(t, ia, "beat after the restart", func(e interconnect.Event) bool {
		return beatHeard(e) && e.Beat.Incarnation == 2
	})
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := ib.Goodbye(ctx); err != nil {
		t.Error(err)
	}
	await(t, ia, "goodbye", func(e interconnect.Event) bool { return beatHeard(e) && e.Beat.Leaving })
}

func TestStrangersAreNotHeard(t *testing.T) {
	local := freePort(t)
	l := New("lan", local, "127.0.0.9:7711", nil)
	ctx, cancel := context.WithCancel(context.Background())
	up := make(chan bool, 8)
	done := make(chan error, 1)
	go func() {
		done <- l.Run(ctx, func([]byte) { t.Error("a stranger was heard") }, func(ok bool, _ string) { up <- ok })
	}()
	if !<-up {
		t.Fatal("link did not open")
	}
	c, err := net.Dial("udp", local) // from 127.0.0.1
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	end := time.Now().Add(deadline)
	for l.Counters().Garbage == 0 && time.Now().Before(end) {
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if l.Counters().Garbage == 0 {
		t.Error("the stranger's datagram was not counted")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitsForItsAddress(t *testing.T) {
	local := freePort(t)
	taken, err := net.ListenPacket("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	l := New("lan", local, "127.0.0.1:9", nil)
	ctx, cancel := context.WithCancel(context.Background())
	states := make(chan string, 64)
	done := make(chan error, 1)
	go func() {
		done <- l.Run(ctx, func([]byte) {}, func(ok bool, reason string) {
			if ok {
				reason = "up"
			}
			states <- reason
		})
	}()
	if s := <-states; s == "up" {
		t.Error("opened an address that another socket has")
	}
	_ = taken.Close()
	for s := range states {
		if s == "up" {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
