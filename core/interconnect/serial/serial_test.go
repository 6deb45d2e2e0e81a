//go:build linux

package serial

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"

	"github.com/orscore/ors/core/interconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	deadline = 20 * time.Second // for what must happen
	baud     = 921600
)

// cable is a null-modem cable: two ptys, reached by links in a folder as real ports are below by-id, and bytes
// carried between their far sides.
type cable struct {
	t       *testing.T
	folder  string
	mu      sync.Mutex
	masters [2]*os.File
	slaves  [2]*os.File // kept open, so that the far side of a pty without a reader is no hang-up
	wg      sync.WaitGroup
	cut     atomic.Bool
	stalled atomic.Bool
	spoil   atomic.Bool // garble every byte
}

func newCable(t *testing.T) *cable {
	c := &cable{t: t, folder: t.TempDir()}
	c.plug()
	t.Cleanup(c.unplug)
	return c
}

// device is the path of a server's port.
func (c *cable) device(end int) string {
	return filepath.Join(c.folder, []string{"rocky", "apollo"}[end])
}

// plug makes new ptys and carries bytes between them.
func (c *cable) plug() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range 2 {
		master, slave, err := pty.Open()
		if err != nil {
			c.t.Fatal(err)
		}
		c.masters[n], c.slaves[n] = master, slave
		if err := os.Symlink(slave.Name(), c.device(n)); err != nil {
			c.t.Fatal(err)
		}
	}
	for n := range 2 {
		from, to := c.masters[n], c.masters[1-n]
		c.wg.Go(func() { c.carry(from, to) })
	}
}

// unplug hangs both ports up, as a USB adapter that is pulled does.
func (c *cable) unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range 2 {
		_ = os.Remove(c.device(n))
		_ = c.masters[n].Close()
		_ = c.slaves[n].Close()
	}
	c.wg.Wait()
}

func (c *cable) carry(from, to *os.File) {
	buf := make([]byte, 256)
	for {
		if c.stalled.Load() {
			if from.SetReadDeadline(time.Now()) != nil {
				return
			}
		}
		n, err := from.Read(buf)
		if os.IsTimeout(err) {
			time.Sleep(time.Millisecond) // stalled: nothing is taken off the line
			if !c.stalled.Load() {
				_ = from.SetReadDeadline(time.Time{})
			}
			continue
		}
		if err != nil {
			return
		}
		if c.cut.Load() {
			continue
		}
		if c.spoil.Load() {
			for i := range buf[:n] {
				buf[i] ^= 0x10
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// inject puts bytes on the line to a server's port.
func (c *cable) inject(end int, p []byte) {
	c.t.Helper()
	if _, err := c.masters[end].Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// run starts an interconnect over a link; the returned function ends it, as the end of the test does.
func run(t *testing.T, self uint8, incarnation uint16, link interconnect.Link) (*interconnect.Interconnect, func()) {
	t.Helper()
	ic, err := interconnect.New(interconnect.Options{
		Pair: "cpqlab", Self: self, Key: bytes.Repeat([]byte{7}, 32), Links: []interconnect.Link{link},
		Interval: 20 * time.Millisecond, Timeout: 400 * time.Millisecond, Boot: uint32(self), Incarnation: incarnation,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ic.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return ic, stop
}

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

func awaitKind(t *testing.T, ic *interconnect.Interconnect, what string, k interconnect.EventKind) interconnect.Event {
	t.Helper()
	return await(t, ic, what, func(e interconnect.Event) bool { return e.Kind == k })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func TestPairOverPtys(t *testing.T) {
	c := newCable(t)
	la, lb := New("cable", c.device(0), baud, nil), New("cable", c.device(1), baud, nil)
	a, _ := run(t, 1, 1, la)
	b, stopB := run(t, 2, 1, lb)
	a.SetBeat(interconnect.Beat{Promised: 7, HeldUnit: 3, Held: 9})
	await(t, b, "beat with what was set", func(e interconnect.Event) bool {
		return e.Kind == interconnect.BeatHeard && e.Beat.Promised == 7 && e.Beat.Held == 9 && e.Beat.Boot == 1
	})
	awaitKind(t, a, "beat", interconnect.BeatHeard)
	if lines := a.Links()[0].ModemLines; lines != "none" {
		t.Errorf("modem lines of a pty: %q, want none", lines)
	}

	text := bytes.Repeat([]byte("0123456789abcdef"), 256)
	if err := a.Send(interconnect.Message{Kind: 5, Body: text}); err != nil {
		t.Fatal(err)
	}
	if m := awaitKind(t, b, "message", interconnect.MessageIn).Message; m.Kind != 5 || !bytes.Equal(m.Body, text) {
		t.Errorf("message of kind %d with %d bytes differs", m.Kind, len(m.Body))
	}

	for _, garbage := range []string{
		"\x00", "\x05\x01half a frame", "login: ", "\x00\x00\xff\x00", strings.Repeat("x", 3000),
	} {
		c.inject(0, []byte(garbage))
		await(t, a, "beat after garbage", heardAfter(time.Now()))
	}
	if g := la.Counters().Garbage; g == 0 {
		t.Error("garbage was not counted")
	}
	c.spoil.Store(true)
	until(t, "noise is counted", func() bool { s := a.Links()[0]; return s.Garbled+s.Counters.Garbage > 10 })
	c.spoil.Store(false)
	await(t, a, "beat after noise", heardAfter(time.Now()))

	stopB()
	b, _ = run(t, 2, 2, New("cable", c.device(1), baud, nil))
	await(t, a, "session with the restarted partner", func(e interconnect.Event) bool {
		return e.Kind == interconnect.SessionOpen && e.PeerIncarnation == 2
	})
	awaitKind(t, b, "beat after the restart", interconnect.BeatHeard)
}

func heardAfter(at time.Time) func(interconnect.Event) bool {
	return func(e interconnect.Event) bool { return e.Kind == interconnect.BeatHeard && e.At.After(at) }
}

// TestCableFault cuts the line, hangs the ports up, and plugs others in at the same paths.
func TestCableFault(t *testing.T) {
	c := newCable(t)
	la := New("cable", c.device(0), baud, nil)
	a, _ := run(t, 1, 1, la)
	b, _ := run(t, 2, 1, New("cable", c.device(1), baud, nil))
	awaitKind(t, a, "beat", interconnect.BeatHeard)
	awaitKind(t, b, "beat", interconnect.BeatHeard)

	c.cut.Store(true)
	until(t, "silence", func() bool { return time.Since(a.Links()[0].LastBeat) > 400*time.Millisecond })
	if s := a.Links()[0]; !s.Open {
		t.Errorf("the port is not open after a cut: %s", s.Reason)
	}
	c.cut.Store(false)
	await(t, a, "beat after the cut", heardAfter(time.Now()))

	c.unplug()
	if e := awaitKind(t, a, "link down", interconnect.LinkDown); !strings.Contains(e.Text, c.device(0)) {
		t.Errorf("reason %q does not name the device", e.Text)
	}
	c.plug()
	await(t, a, "beat after the ports came back", heardAfter(time.Now()))
	await(t, b, "beat after the ports came back", heardAfter(time.Now()))
	if n := la.Counters().Reopened; n == 0 {
		t.Error("reopening was not counted")
	}
}

// TestPathLeadsElsewhere has an adapter come back under its path as another device, while the old one does not hang up.
func TestPathLeadsElsewhere(t *testing.T) {
	old, next := newCable(t), newCable(t)
	la := New("cable", old.device(0), baud, nil)
	a, _ := run(t, 1, 1, la)
	b, stopB := run(t, 2, 1, New("cable", old.device(1), baud, nil))
	awaitKind(t, a, "beat", interconnect.BeatHeard)
	awaitKind(t, b, "beat", interconnect.BeatHeard)
	stopB()
	b, _ = run(t, 2, 2, New("cable", next.device(1), baud, nil))
	if err := os.Remove(old.device(0)); err != nil {
		t.Fatal(err)
	}
	to, err := os.Readlink(next.device(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, old.device(0)); err != nil {
		t.Fatal(err)
	}
	if e := awaitKind(t, a, "link down", interconnect.LinkDown); !strings.Contains(e.Text, "another device") {
		t.Errorf("reason %q", e.Text)
	}
	awaitKind(t, a, "link up", interconnect.LinkUp)
	await(t, a, "beat over the other device", func(e interconnect.Event) bool {
		return e.Kind == interconnect.BeatHeard && e.Beat.Incarnation == 2
	})
	awaitKind(t, b, "beat over the other device", interconnect.BeatHeard)
}

// linedPort is a pty with modem lines, which ptys have not.
type linedPort struct {
	Port
	lines  *atomic.Pointer[Lines]
	counts *atomic.Uint32
}

func (p *linedPort) Lines() Lines { return *p.lines.Load() }

func (p *linedPort) errorCounts() (errorCounts, bool) {
	n := p.counts.Load()
	return errorCounts{frame: n, overrun: 2 * n, parity: 3 * n}, true
}

// TestModemLines drops and raises the lines of a port: none, up and dropped are told apart, also over a reopening.
func TestModemLines(t *testing.T) {
	c := newCable(t)
	var lines atomic.Pointer[Lines]
	var counts atomic.Uint32
	counts.Store(1<<32 - 2)
	lines.Store(&Lines{Exist: true})
	la := New("cable", c.device(0), baud, nil)
	la.open = func(device string, baud int) (Port, error) {
		p, err := openPort(device, baud)
		return &linedPort{p, &lines, &counts}, err
	}
	a, _ := run(t, 1, 1, la)
	tells := func(want interconnect.Lines) {
		t.Helper()
		e := awaitKind(t, a, "change of the lines to "+want.String(), interconnect.LinesChanged)
		if e.Lines != want || e.Link != "cable" {
			t.Fatalf("%+v, want lines %v", e, want)
		}
		if got := a.Links()[0].Lines; got != want {
			t.Errorf("status says %v, want %v", got, want)
		}
	}
	tells(interconnect.LinesNone) // off, and never up: a cable of three wires looks the same
	lines.Store(&Lines{Exist: true, DCD: true})
	tells(interconnect.LinesUp)
	counts.Add(5) // beyond the end of the driver's counter
	lines.Store(&Lines{Exist: true, RI: true})
	tells(interconnect.LinesDropped)
	if s := a.Links()[0]; s.ModemLines != "RI" {
		t.Errorf("lines %q", s.ModemLines)
	}
	until(t, "the driver's counters", func() bool {
		s := a.Links()[0].Counters
		return s.FrameErrors == 5 && s.Overruns == 10 && s.ParityErrors == 15
	})
	c.unplug()
	tells(interconnect.LinesUnknown)
	c.plug()
	tells(interconnect.LinesDropped) // they were up before
	lines.Store(&Lines{Exist: true, CTS: true, DSR: true})
	tells(interconnect.LinesUp)
	lines.Store(&Lines{})
	tells(interconnect.LinesNone)
}

// TestPtyHasNoLines is the legal port without modem lines and counters.
func TestPtyHasNoLines(t *testing.T) {
	c := newCable(t)
	a, _ := run(t, 1, 1, New("cable", c.device(0), baud, nil))
	if e := awaitKind(t, a, "word about the lines", interconnect.LinesChanged); e.Lines != interconnect.LinesNone {
		t.Errorf("%+v", e)
	}
	s := a.Links()[0]
	if s.ModemLines != "none" || s.Counters.FrameErrors+s.Counters.Overruns+s.Counters.ParityErrors != 0 {
		t.Errorf("%+v", s)
	}
	p, err := Open(c.device(1), baud)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Raise(true); err == nil {
		t.Error("a pty has raised a line")
	}
}

// TestStalledLine has nobody take bytes off the line: the write is bounded, and the port is opened anew until the
// line moves.
func TestStalledLine(t *testing.T) {
	c := newCable(t)
	la := New("cable", c.device(0), 4000000, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	states := make(chan string, 1000)
	done := make(chan error, 1)
	go func() {
		done <- la.Run(ctx, func([]byte) {}, func(up bool, reason string) { states <- reason })
	}()
	if r := <-states; r != "" {
		t.Fatal(r)
	}
	c.stalled.Store(true)
	var reason string
	frame := bytes.Repeat([]byte{1}, maxFrame)
	until(t, "the line counts as down", func() bool {
		for la.Send(frame, false) && len(states) == 0 {
			continue
		}
		if len(states) == 0 {
			return false
		}
		reason = <-states
		return true
	})
	if !strings.Contains(reason, "took nothing") {
		t.Errorf("reason %q", reason)
	}
	c.stalled.Store(false)
	sent := la.Counters().FramesOut
	until(t, "frames leave again", func() bool { la.Send(frame, true); return la.Counters().FramesOut > sent+3 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOneProgramAPort wants the second user of a port refused, with a reason, until the first one ends.
func TestOneProgramAPort(t *testing.T) {
	c := newCable(t)
	type user struct {
		states chan string
		stop   func()
	}
	use := func() user {
		ctx, cancel := context.WithCancel(context.Background())
		u := user{states: make(chan string, 1000)}
		done := make(chan error, 1)
		l := New("cable", c.device(0), baud, nil)
		go func() { done <- l.Run(ctx, func([]byte) {}, func(_ bool, reason string) { u.states <- reason }) }()
		u.stop = sync.OnceFunc(func() { cancel(); <-done })
		t.Cleanup(u.stop)
		return u
	}
	first := use()
	if r := <-first.states; r != "" {
		t.Fatal(r)
	}
	second := use()
	if r := <-second.states; !strings.Contains(r, "busy") && !strings.Contains(r, "in use") {
		t.Errorf("second user: %q", r)
	}
	first.stop()
	end := time.After(deadline)
	for {
		select {
		case r := <-second.states:
			if r == "" {
				return
			}
		case <-end:
			t.Fatal("the port was not opened after its first user had ended")
		}
	}
}

// TestBeatsOvertake queues many frames and then a beat: at most the frame in flight and the one just taken go before
// it.
func TestBeatsOvertake(t *testing.T) {
	c := newCable(t)
	la, lb := New("cable", c.device(0), 115200, nil), New("cable", c.device(1), 115200, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	up := make(chan bool, 100)
	got := make(chan []byte, 1000)
	wg.Go(func() { _ = la.Run(ctx, func([]byte) {}, func(ok bool, _ string) { up <- ok }) })
	wg.Go(func() { _ = lb.Run(ctx, func(f []byte) { got <- f }, func(ok bool, _ string) { up <- ok }) })
	if !<-up || !<-up {
		t.Fatal("the ports did not open")
	}
	for range 100 {
		la.Send(bytes.Repeat([]byte{'m'}, maxFrame), false)
	}
	until(t, "some frames are out", func() bool { return la.Counters().FramesOut >= 3 })
	la.Send(bytes.Repeat([]byte{'b'}, maxFrame), true)
	out := la.Counters().FramesOut
	var before uint64
	for f := range got {
		if f[0] == 'b' {
			break
		}
		before++
	}
	if before > out+2 {
		t.Errorf("%d frames before the beat, %d had left when it was queued", before, out)
	}
}

func TestRunRefusesNoSpeed(t *testing.T) {
	l := New("cable", "/dev/null", 0, nil)
	if err := l.Run(t.Context(), func([]byte) {}, func(bool, string) {}); err == nil {
		t.Error("0 baud was taken")
	}
}

// TestNoPort wants a reason for a path that is no serial port.
func TestNoPort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{
		file: "no serial port", "/dev/null": "no serial port", filepath.Join(t.TempDir(), "none"): "no such file",
	} {
		ctx, cancel := context.WithCancel(context.Background())
		reasons := make(chan string, 100)
		done := make(chan error, 1)
		go func() {
			l := New("cable", device, baud, nil)
			done <- l.Run(ctx, func([]byte) {}, func(_ bool, r string) { reasons <- r })
		}()
		if r := <-reasons; !strings.Contains(r, want) {
			t.Errorf("%s: reason %q does not say %q", device, r, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
