// Package serial is an interconnect link over a serial port: frames stuffed with COBS between zero bytes, paced at
// the line's own speed, so that a beat never waits behind anything but the frame in flight.
//
// It must never wait for the line without a bound, never end because a port is gone for a while, never list or probe
// ports, and never share a port with another program.
//
// On Linux the port is opened by this package itself, without blocking, because the runtime's poller then gives
// deadlines to reads and writes and a Close that ends both; go.bug.st/serial only sets speed and mode. That
// library's own Write blocks for ever on a stalled line, and after its Close may write into whatever file got the
// same descriptor. Elsewhere the library's port is used, and abandoned rather than closed when a write is stuck in
// it.
package serial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/interconnect/internal/outbox"
	"github.com/orscore/ors/internal/cobs"
)

const (
	maxFrame = interconnect.MaxBeatWire - 3 // two delimiters and one byte of stuffing
	// queued is how many frames wait behind the beats: one of the largest messages and some small ones.
	queued = 1500
	// stalledMax is for how long a write may be stuck before the line counts as down.
	stalledMax = time.Second
	// readTimeout is how long a read waits for a byte.
	readTimeout  = 200 * time.Millisecond
	linesEvery   = 200 * time.Millisecond
	backoffFirst = 50 * time.Millisecond
	backoffMax   = time.Second
	// bitsPerByte is a start bit, eight of data and a stop bit.
	bitsPerByte = 10
)

// Port is an open serial port. Read answers 0 and no error after a while without a byte; Write ends within a second.
type Port interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	// Close ends a Read and a Write under way. It is called once, and takes no longer than a second.
	Close()
	// Lines reads the modem lines that the far end drives.
	Lines() Lines
	// Raise raises or drops the lines that this end drives: DTR and RTS.
	Raise(up bool) error

	errorCounts() (errorCounts, bool)
	moved(path string) bool
}

// Open opens a port alone for this process, at a speed in bits a second.
func Open(device string, baud int) (Port, error) { return openPort(device, baud) }

// Lines are the modem lines that the far end of a cable drives.
type Lines struct {
	Exist             bool // the port has lines
	CTS, DSR, DCD, RI bool
}

// Up says whether any line is on that a partner with power holds up.
func (l Lines) Up() bool { return l.CTS || l.DSR || l.DCD }

// String names the lines that are on, such as "CTS DSR DCD"; "none" when the port has none.
func (l Lines) String() string {
	if !l.Exist {
		return "none"
	}
	var on []string
	for _, line := range []struct {
		on   bool
		name string
	}{{l.CTS, "CTS"}, {l.DSR, "DSR"}, {l.DCD, "DCD"}, {l.RI, "RI"}} {
		if line.on {
			on = append(on, line.name)
		}
	}
	if on == nil {
		return "all off"
	}
	return strings.Join(on, " ")
}

// errorCounts are those of a driver. They wrap around.
type errorCounts struct{ frame, overrun, parity uint32 }

// Link is a serial link. It implements interconnect.Link.
type Link struct {
	name, device string
	baud         int
	log          hclog.Logger
	out          *outbox.Outbox
	open         func(device string, baud int) (Port, error)
	lines        atomic.Value // string
	watch        func(interconnect.Lines)
	wereUp       bool               // the lines were up since the start
	told         interconnect.Lines // what watch was told last
	errors       errorCounts        // what the driver said last
	errorsKnown  bool

	framesOut, framesIn, bytesOut, bytesIn, dropped, garbage, opened atomic.Uint64
	frameErrors, overruns, parityErrors                              atomic.Uint64
}

// New returns a link over the port device (on Linux best a path below /dev/serial/by-id) at a speed in bits a
// second. The log may be nil.
func New(name, device string, baud int, log hclog.Logger) *Link {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	l := &Link{name: name, device: device, baud: baud, log: log, out: outbox.New(queued), open: openPort}
	l.lines.Store("")
	return l
}

// Name is the link's name in the configuration.
func (l *Link) Name() string { return l.name }

// Kind is "serial".
func (l *Link) Kind() string { return "serial" }

// Device is the port's path.
func (l *Link) Device() string { return l.device }

// ModemLines names the modem lines that are on, such as "CTS DSR DCD"; "none" when the port has none, "" when it is
// not open.
func (l *Link) ModemLines() string { return l.lines.Load().(string) }

// MaxFrame is the largest frame, in bytes: with stuffing and delimiters it takes interconnect.MaxBeatWire.
func (l *Link) MaxFrame() int { return maxFrame }

// Send queues a frame and never blocks; false: it was dropped.
func (l *Link) Send(frame []byte, urgent bool) bool {
	taken, replaced := l.out.Put(frame, urgent)
	if !taken || replaced {
		l.dropped.Add(1)
	}
	return taken
}

// Counters since the start. Garbage counts the runs of bytes between delimiters that were no frame.
func (l *Link) Counters() interconnect.LinkCounters {
	return interconnect.LinkCounters{
		FramesOut: l.framesOut.Load(), FramesIn: l.framesIn.Load(), BytesOut: l.bytesOut.Load(), BytesIn: l.bytesIn.Load(),
		Dropped: l.dropped.Load(), Garbage: l.garbage.Load(), Reopened: max(l.opened.Load(), 1) - 1,
		FrameErrors: l.frameErrors.Load(), Overruns: l.overruns.Load(), ParityErrors: l.parityErrors.Load(),
	}
}

// WatchLines has f called when the modem lines tell something else than before. It is called before Run.
func (l *Link) WatchLines(f func(interconnect.Lines)) { l.watch = f }

// look reads the modem lines and the driver's counters, and finds out whether the path leads to another device.
func (l *Link) look(p Port) error {
	lines := p.Lines()
	l.lines.Store(lines.String())
	l.wereUp = l.wereUp || lines.Up()
	switch {
	case lines.Up():
		l.tell(interconnect.LinesUp)
	case lines.Exist && l.wereUp:
		l.tell(interconnect.LinesDropped)
	default: // a cable without them looks like a partner that was always without power: neither proves anything
		l.tell(interconnect.LinesNone)
	}
	c, known := p.errorCounts()
	if known && l.errorsKnown {
		l.frameErrors.Add(uint64(c.frame - l.errors.frame))
		l.overruns.Add(uint64(c.overrun - l.errors.overrun))
		l.parityErrors.Add(uint64(c.parity - l.errors.parity))
	}
	l.errors, l.errorsKnown = c, known
	if p.moved(l.device) {
		return errors.New("the path leads to another device now")
	}
	return nil
}

func (l *Link) tell(lines interconnect.Lines) {
	if l.watch != nil && l.told != lines {
		l.watch(lines)
	}
	l.told = lines
}

// Run keeps the port open until ctx ends, and calls in for every frame and state for every change. It only fails at
// once, for a speed that no port can have.
func (l *Link) Run(ctx context.Context, in func([]byte), state func(up bool, reason string)) error {
	if l.baud <= 0 {
		return fmt.Errorf("speed of %d baud: a positive number such as 115200 would be right", l.baud)
	}
	backoff := backoffFirst
	for ctx.Err() == nil {
		p, err := l.open(l.device, l.baud)
		if err == nil {
			l.opened.Add(1)
			l.dropped.Add(uint64(l.out.Clear()))
			l.errorsKnown = false
			_ = l.look(p)
			state(true, "")
			l.log.Debug("port is open", "device", l.device, "baud", l.baud, "modem_lines", l.ModemLines())
			began := time.Now()
			err = l.serve(ctx, p, in)
			l.lines.Store("")
			l.tell(interconnect.LinesUnknown)
			if time.Since(began) > backoffMax {
				backoff = backoffFirst
			}
		}
		if ctx.Err() != nil {
			break
		}
		l.log.Debug("port is not open", "device", l.device, "error", err, "again_in", backoff)
		state(false, fmt.Sprintf("%s: %v", l.device, err))
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
	state(false, "closed")
	return nil
}

// serve reads and writes until ctx ends or the port fails, and closes it. Both goroutines have ended when it
// returns.
func (l *Link) serve(ctx context.Context, p Port, in func([]byte)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.read(ctx, p, in)) })
	wg.Go(func() { cancel(l.write(ctx, p)) })
	<-ctx.Done()
	p.Close()
	wg.Wait()
	return context.Cause(ctx)
}

func (l *Link) read(ctx context.Context, p Port, in func([]byte)) error {
	frames := cobs.NewSplitter(maxFrame)
	buf := make([]byte, 512)
	for ctx.Err() == nil {
		n, err := p.Read(buf)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n <= 0 {
			continue
		}
		l.bytesIn.Add(uint64(n))
		before := frames.Garbage
		frames.Feed(buf[:n], func(f []byte) {
			l.framesIn.Add(1)
			in(f)
		})
		l.garbage.Add(frames.Garbage - before)
	}
	return ctx.Err()
}

// write sends what is queued, no faster than the line: what the kernel buffered could not be overtaken by a beat any
// more.
func (l *Link) write(ctx context.Context, p Port) error {
	tick := time.NewTicker(linesEvery)
	defer tick.Stop()
	looked := time.Now()
	wire := make([]byte, 0, interconnect.MaxBeatWire)
	for {
		if now := time.Now(); now.Sub(looked) >= linesEvery {
			looked = now
			if err := l.look(p); err != nil {
				return err
			}
		}
		frame := l.out.Take()
		if frame == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.out.Wake():
			case <-tick.C:
			}
			continue
		}
		if len(frame) > maxFrame {
			l.dropped.Add(1)
			continue
		}
		wire = cobs.AppendFrame(wire[:0], frame)
		began := time.Now()
		n, err := p.Write(wire)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if n < len(wire) {
			return errors.New("write: the line is stalled")
		}
		l.framesOut.Add(1)
		l.bytesOut.Add(uint64(n))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(began.Add(l.lineTime(n)))):
		}
	}
}

// lineTime is how long n bytes take on the line.
func (l *Link) lineTime(n int) time.Duration {
	return time.Duration(n) * bitsPerByte * time.Second / time.Duration(l.baud)
}
