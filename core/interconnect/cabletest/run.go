package cabletest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/orscore/ors/core/interconnect/serial"
	"github.com/orscore/ors/internal/cobs"
)

// Options of a test.
type Options struct {
	Baud    int
	Wait    time.Duration // for a sign of the far end
	Measure time.Duration // how long the line is measured once there is one
}

// Direction is what was measured of one direction.
type Direction struct {
	Heard        uint64  `json:"heard"` // probes that arrived whole
	Bad          uint64  `json:"bad"`   // runs of bytes that were no probe
	BitErrorRate float64 `json:"bit_error_rate"`
}

// Report is what one end has found.
type Report struct {
	Verdict    Verdict    `json:"verdict"`
	Text       string     `json:"text"`
	Next       string     `json:"next,omitempty"`
	Sent       uint64     `json:"sent"`               // probes
	Here       Direction  `json:"here"`               // towards this end
	There      *Direction `json:"there,omitempty"`    // towards the far end, as that has told
	Own        uint64     `json:"own"`                // probes of this end that came back
	Handshake  Handshake  `json:"modem_lines"`        // what was seen of them
	Seen       string     `json:"lines_on,omitempty"` // lines that were on at some time
	MeasuredMS int64      `json:"measured_ms"`
}

// A probe is, between zeros and stuffed with COBS: a magic byte, the sender's number, the probe's number, the number of
// the end that the sender hears, how many probes of that arrived whole, how many runs of bytes were none, flags, and
// CRC-32C.
const (
	probeMagic = 0xc1
	probeLen   = 26
	probeWire  = probeLen + 3
)

const (
	flagDone   = 1 << iota // the sender has measured enough
	flagRaised             // its DTR and RTS are up
	flagLines              // its port has modem lines
	flagNoise              // it hears something that is no probe
)

const (
	// pace is the share of the line that probes take, as one in so many.
	pace = 4
	look = 20 * time.Millisecond
	// settled is how long lines must have been as they are before they are compared.
	settled = 400 * time.Millisecond
	// fewProbes is how many must be there to judge bit errors; the measurement goes on for three times as long for them.
	fewProbes = 40
	// parting is how long this end goes on to send when both have measured enough.
	parting = 500 * time.Millisecond
	// gone is how long a far end that had measured enough, or is near it, may be silent.
	gone = 2 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type tester struct {
	port serial.Port
	o    Options
	id   uint32

	mu        sync.Mutex
	f         facts // since measured
	sent      uint64
	done      bool
	raised    bool
	raisedAt  time.Time
	measured  time.Time // when the measurement began; zero: no sign yet
	far       probe     // newest
	farID     uint32    // 0: none
	farAt     time.Time
	farChange time.Time // when far's flagRaised changed
	lines     lineCounts
}

type probe struct {
	id, number, hears, heard, bad uint32
	flags                         uint8
}

// lineCounts compares the lines that arrive with those that both ends drive.
type lineCounts struct {
	now                  serial.Lines // as they were last
	since                time.Time    // when they came to be so
	seen                 serial.Lines
	compared, differ     int // differ: while the two ends drove theirs differently
	on, likeFar, likeOwn int // likeFar and likeOwn: among differ
	farUp                int
}

// Run tests the cable at port. The far end must run it, too. It drives DTR and RTS, and leaves them up.
func Run(ctx context.Context, port serial.Port, o Options) (*Report, error) {
	var b [4]byte
	for binary.BigEndian.Uint32(b[:]) == 0 {
		if _, err := rand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("random numbers: %w", err)
		}
	}
	t := &tester{port: port, o: o, id: binary.BigEndian.Uint32(b[:]), raised: true, raisedAt: time.Now()}
	lined := port.Raise(true) == nil && port.Lines().Exist
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { t.read(ctx, cancel) })
	wg.Go(func() { t.write(ctx, cancel, lined) })
	began := time.Now()
	err := t.watch(ctx, lined)
	cancel(nil)
	wg.Wait()
	if lined {
		_ = port.Raise(true)
	}
	if err != nil {
		return nil, err
	}
	return t.report(began, lined), nil
}

func (t *tester) write(ctx context.Context, cancel context.CancelCauseFunc, lined bool) {
	wire := make([]byte, 0, probeWire)
	every := pace * probeWire * 10 * time.Second / time.Duration(t.o.Baud)
	for {
		wire = cobs.AppendFrame(wire[:0], t.next(lined))
		if n, err := t.port.Write(wire); err != nil || n < len(wire) {
			cancel(fmt.Errorf("write: %w", errors.Join(err, errShort(n < len(wire)))))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

func errShort(short bool) error {
	if short {
		return errors.New("the line is stalled")
	}
	return nil
}

// next makes the next probe.
func (t *tester) next(lined bool) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	b := append(make([]byte, 0, probeLen), probeMagic)
	for _, v := range []uint32{t.id, uint32(t.sent), t.farID, uint32(t.f.heard), uint32(t.f.bad)} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	var flags uint8
	for _, f := range []struct {
		on  bool
		bit uint8
	}{{t.done, flagDone}, {t.raised, flagRaised}, {lined, flagLines}, {t.f.bad > fewErrors, flagNoise}} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parse(b []byte) (probe, bool) {
	if len(b) != probeLen || b[0] != probeMagic ||
		crc32.Checksum(b[:probeLen-4], castagnoli) != binary.BigEndian.Uint32(b[probeLen-4:]) {
		return probe{}, false
	}
	u := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	return probe{id: u(1), number: u(5), hears: u(9), heard: u(13), bad: u(17), flags: b[21]}, true
}

func (t *tester) read(ctx context.Context, cancel context.CancelCauseFunc) {
	frames := cobs.NewSplitter(probeLen)
	buf := make([]byte, 512)
	for ctx.Err() == nil {
		n, err := t.port.Read(buf)
		if err != nil {
			cancel(fmt.Errorf("read: %w", err))
			return
		}
		t.mu.Lock()
		t.f.bytes += uint64(max(n, 0))
		before := frames.Garbage
		frames.Feed(buf[:max(n, 0)], func(b []byte) {
			if p, ok := parse(b); ok {
				t.take(p, time.Now())
			} else {
				t.f.bad++
			}
		})
		t.f.bad += frames.Garbage - before
		t.mu.Unlock()
	}
}

// take notes a probe that arrived whole.
func (t *tester) take(p probe, now time.Time) {
	if p.id == t.id {
		t.f.own++
		return
	}
	if p.id != t.farID { // it was started anew, or for the first time
		t.f.heard, t.f.bad, t.f.hearsUs, t.farID, t.measured, t.far = 0, 0, false, p.id, time.Time{}, probe{}
		t.lines, t.done = lineCounts{}, false
	}
	if p.flags&flagRaised != t.far.flags&flagRaised || t.far == (probe{}) {
		t.farChange = now
	}
	t.far, t.farAt = p, now
	t.f.heard++
	t.f.farNoise = p.flags&flagNoise != 0
	if p.hears == t.id {
		if !t.f.hearsUs { // both directions work: it is measured from here on
			t.f.hearsUs, t.measured = true, now
			t.f.heard, t.f.bad = 1, 0
		}
		t.f.farHeard, t.f.farBad = uint64(p.heard), uint64(p.bad)
	}
}

// watch waits until enough was measured.
func (t *tester) watch(ctx context.Context, lined bool) error {
	began := time.Now()
	toggle := began.Add(time.Second / 2)
	var both time.Time // since when both ends have measured enough
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		now := time.Now()
		if lined {
			t.compare(now)
			if !now.Before(toggle) {
				if err := t.toggle(now); err != nil {
					return err
				}
				toggle = now.Add(t.half())
			}
		}
		switch end := t.enough(began, now, lined); {
		case !end:
			both = time.Time{}
		case both.IsZero():
			both = now
		}
		if !both.IsZero() && now.Sub(both) >= parting {
			return nil
		}
	}
}

// half is how long this end leaves its lines as they are. One end takes twice as long as the other, so that within four
// seconds all combinations of the two come about.
func (t *tester) half() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id < t.farID {
		return 2 * time.Second
	}
	return time.Second
}

// toggle raises this end's lines when they are down, and drops them when they are up.
func (t *tester) toggle(now time.Time) error {
	t.mu.Lock()
	up := !t.raised
	t.mu.Unlock()
	if err := t.port.Raise(up); err != nil {
		return fmt.Errorf("modem lines: %w", err)
	}
	t.mu.Lock()
	t.raised, t.raisedAt = up, now
	t.mu.Unlock()
	return nil
}

// compare looks at the lines once both ends have left theirs alone for a while.
func (t *tester) compare(now time.Time) {
	lines := t.port.Lines()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.lines
	c.seen.CTS, c.seen.DSR, c.seen.DCD = c.seen.CTS || lines.CTS, c.seen.DSR || lines.DSR, c.seen.DCD || lines.DCD
	if lines != c.now {
		c.now, c.since = lines, now
	}
	fresh := t.farID != 0 && now.Sub(t.farAt) < settled
	if !fresh || now.Sub(t.farChange) < settled || now.Sub(t.raisedAt) < settled ||
		now.Sub(c.since) < settled {
		return
	}
	up, far := lines.Up(), t.far.flags&flagRaised != 0
	c.compared++
	if up {
		c.on++
	}
	if far {
		c.farUp++
	}
	if far != t.raised {
		c.differ++
		if up == far {
			c.likeFar++
		} else {
			c.likeOwn++
		}
	}
}

// handshake says what was seen of the lines.
func (c *lineCounts) handshake() Handshake {
	const few = 3
	switch {
	case c.differ < few || c.farUp < few:
		return LinesUnknown
	case c.on == 0:
		return LinesThreeWire
	case c.on == c.compared:
		return LinesHeld
	case c.likeFar*10 >= c.differ*8:
		return LinesFull
	case c.likeOwn*10 >= c.differ*8:
		return LinesLooped
	}
	return LinesUnknown
}

// enough says whether this end needs nothing more, and the far end nothing more of this one.
func (t *tester) enough(began, now time.Time, lined bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &t.f
	if t.measured.IsZero() {
		if f.own == 0 && f.heard == 0 && f.bytes < fewBytes {
			return now.Sub(began) >= t.o.Wait
		}
		t.measured = now
	}
	age := now.Sub(t.measured)
	few := f.heard > 0 && f.heard+f.bad < fewProbes
	unseen := lined && t.far.flags&flagLines != 0 && t.lines.handshake() == LinesUnknown
	if age < t.o.Measure || few && age < 3*t.o.Measure || unseen && age < 6*t.o.Measure {
		return false
	}
	t.done = true
	if !f.hearsUs {
		return true
	}
	return t.far.flags&flagDone != 0 || now.Sub(t.farAt) > gone || age > 10*t.o.Measure
}

func (t *tester) report(began time.Time, lined bool) *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.f.lines = LinesNone
	if lined && (t.farID == 0 || t.far.flags&flagLines != 0) {
		t.f.lines = t.lines.handshake()
	}
	r := &Report{
		Verdict: t.f.verdict(), Sent: t.sent, Own: t.f.own, Handshake: t.f.lines,
		Here: Direction{t.f.heard, t.f.bad, errorRate(t.f.heard, t.f.bad)}, MeasuredMS: time.Since(began).Milliseconds(),
	}
	if !t.measured.IsZero() {
		r.MeasuredMS = time.Since(t.measured).Milliseconds()
	}
	if t.f.hearsUs {
		r.There = &Direction{t.f.farHeard, t.f.farBad, errorRate(t.f.farHeard, t.f.farBad)}
	}
	if lined {
		t.lines.seen.Exist = true
		r.Seen = t.lines.seen.String()
	}
	r.Text, r.Next = r.Verdict.text()
	return r
}
