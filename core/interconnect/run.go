package interconnect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options is what an Interconnect is made of.
type Options struct {
	Pair string // name of the pair: another pair's frames are refused even under the same key
	Self uint8  // this server: 1 or 2
	Key  []byte // shared by both servers, at least MinKey bytes

	Interval time.Duration // between beats
	Timeout  time.Duration // for how long a link counts as heard; more than Interval
	Links    []Link        // 1 to 64, in the same order on both servers

	Boot        uint32 // hash of the boot id
	Incarnation uint16 // number of the agent's start

	Rand io.Reader    // nil: crypto/rand
	Log  hclog.Logger // nil: no log
}

// MinKey is the shortest key that New takes, in bytes.
const MinKey = 32

// maxHelloInterval is the longest time between handshake frames while there is no session, whatever the beats'
// interval.
const maxHelloInterval = time.Second

// answersPerInterval is how many handshake frames a link sends at most in answer to what it receives.
const answersPerInterval = 4

// Interconnect is one server's end of all links. Make it with New, and run it once with Run.
type Interconnect struct {
	o      Options
	events *eventQueue
	logs   chan func(hclog.Logger)
	links  []*linkState

	sending  sync.Mutex // one message is cut up at a time; taken before mu
	mu       sync.Mutex // held for microseconds: nothing below it waits for anything
	shake    *handshake
	pieces   reassembly
	beat     Beat
	goodbye  bool
	refusals map[string]time.Time // when an event told of this reason last
}

// linkState is what an Interconnect keeps of one link. All but its first fields are under Interconnect.mu.
type linkState struct {
	index int
	link  Link
	kick  chan struct{} // a beat is due at once

	open      bool
	reason    string
	lastBeat  time.Time
	lastHeard time.Time // newest frame that proves the partner fresh
	lastAck   time.Time // the partner has acknowledged a new beat: both directions work
	trip      time.Duration
	answers   int // handshake frames sent in answer since answersAt
	answersAt time.Time
	garbled   uint64
	tag       uint64
	replay    uint64
	reflected uint64
}

// New checks the options.
func New(o Options) (*Interconnect, error) {
	switch {
	case o.Pair == "":
		return nil, errors.New("interconnect: the pair has no name")
	case o.Self != 1 && o.Self != 2:
		return nil, fmt.Errorf("interconnect: this server is %d of the pair: 1 or 2 would be right", o.Self)
	case len(o.Key) < MinKey:
		return nil, fmt.Errorf("interconnect: the key has %d bytes: at least %d would be right", len(o.Key), MinKey)
	case o.Interval <= 0 || o.Timeout <= o.Interval:
		return nil, fmt.Errorf("interconnect: time-out %v does not exceed the interval %v", o.Timeout, o.Interval)
	case len(o.Links) == 0 || len(o.Links) > maxLinks:
		return nil, fmt.Errorf("interconnect: %d links: 1 to %d would be right", len(o.Links), maxLinks)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	shake, err := newHandshake(&o)
	if err != nil {
		return nil, fmt.Errorf("interconnect: %w", err)
	}
	i := &Interconnect{
		o: o, events: newEventQueue(), logs: make(chan func(hclog.Logger), 64), shake: shake,
		refusals: map[string]time.Time{},
	}
	for n, l := range o.Links {
		if l.MaxFrame() < maxSerialFrame {
			return nil, fmt.Errorf("interconnect: link %s takes %d bytes, a beat has %d", l.Name(), l.MaxFrame(), maxSerialFrame)
		}
		i.links = append(i.links, &linkState{index: n, link: l, kick: make(chan struct{}, 1), reason: "not opened yet"})
	}
	return i, nil
}

// Run opens the links and sends beats until ctx ends and everything that it started has ended. It is called once.
func (i *Interconnect) Run(ctx context.Context) error {
	// A log whose reader hangs must not keep the beats back, nor the end of Run.
	logged := make(chan struct{})
	go func() { defer close(logged); i.runLog(ctx) }()
	var wg sync.WaitGroup
	wg.Go(func() { i.events.run(ctx) })
	wg.Go(func() { keepRealtime(ctx) })
	errs := make([]error, len(i.links))
	for n, l := range i.links {
		wg.Go(func() { i.runBeats(ctx, l) })
		wg.Go(func() {
			in := func(frame []byte) { i.receive(l, frame, time.Now()) }
			state := func(up bool, reason string) { i.linkChanged(l, up, reason, time.Now()) }
			if err := l.link.Run(ctx, in, state); err != nil && ctx.Err() == nil {
				errs[n] = fmt.Errorf("link %s: %w", l.link.Name(), err)
				i.linkChanged(l, false, err.Error(), time.Now())
			}
		})
	}
	wg.Wait()
	select {
	case <-logged:
	case <-time.After(time.Second):
	}
	return errors.Join(errs...)
}

// Events returns what the interconnect saw. A consumer that is slow loses old beats, never delays new ones. The
// channel is not closed when Run ends.
func (i *Interconnect) Events() <-chan Event { return i.events.out }

// SetBeat sets what the next beats say. Boot and Incarnation are those of the Options. Only another unit in HeldUnit
// waits for the next interval; any other change is sent at once.
func (i *Interconnect) SetBeat(b Beat) {
	b.Boot, b.Incarnation = i.o.Boot, i.o.Incarnation
	i.mu.Lock()
	old := i.beat
	if old.HeldUnit != b.HeldUnit {
		old.HeldUnit, old.Held = b.HeldUnit, b.Held
	}
	i.beat = b
	i.mu.Unlock()
	if old != b {
		i.kickAll()
	}
}

func (i *Interconnect) kickAll() {
	for _, l := range i.links {
		l.kickBeat()
	}
}

func (l *linkState) kickBeat() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// runBeats sends the beats of one link, and handshake frames while they are due.
func (i *Interconnect) runBeats(ctx context.Context, l *linkState) {
	due := time.Now().Add(i.o.Interval)
	timer := time.NewTimer(i.o.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
			due = time.Now()
		case <-timer.C:
		}
		i.send(l)
		if due = due.Add(i.pause()); !due.After(time.Now()) { // this server was late: beats are not caught up
			due = time.Now().Add(i.pause())
		}
		timer.Reset(time.Until(due))
	}
}

// pause is the time between two regular beats or handshake frames.
func (i *Interconnect) pause() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s := i.shake.live; s != nil && s.confirmed {
		return i.o.Interval
	}
	return min(i.o.Interval, maxHelloInterval)
}

// send sends what is due on a link: a handshake frame until the session is confirmed, and a beat where there is a
// session.
func (i *Interconnect) send(l *linkState) {
	now := time.Now()
	i.mu.Lock()
	if !l.open {
		i.mu.Unlock()
		return
	}
	hello := i.shake.due(l.index, now)
	var beat []byte
	if i.shake.live != nil {
		beat = i.nextBeat(l, now)
	}
	i.mu.Unlock()
	for _, f := range [][]byte{hello, beat} {
		if f != nil {
			l.link.Send(f, true)
		}
	}
}

// nextBeat makes the link's next beat. There is a session.
func (i *Interconnect) nextBeat(l *linkState, now time.Time) []byte {
	s := i.shake.live
	ls := &s.links[l.index]
	f := beatFrame{
		header:  header{s.version, typeBeat, i.o.Self, uint8(l.index)},
		session: s.id, seq: ls.nextBeat(now), Beat: i.beat,
	}
	f.ack, f.hold = ls.ack(now)
	f.Boot, f.Incarnation = i.o.Boot, i.o.Incarnation
	f.Leaving = f.Leaving || i.goodbye
	return appendBeat(make([]byte, 0, maxSerialFrame), &f, s.mac)
}

func (i *Interconnect) linkChanged(l *linkState, up bool, reason string, now time.Time) {
	if up {
		reason = ""
	}
	i.mu.Lock()
	if l.open == up && l.reason == reason {
		i.mu.Unlock()
		return
	}
	l.open, l.reason = up, reason
	e := Event{Kind: LinkUp, At: now, Link: l.link.Name()}
	if !up {
		e.Kind, e.Text = LinkDown, reason
	}
	i.events.put(e)
	i.mu.Unlock()
	i.log(func(log hclog.Logger) {
		if up {
			log.Info("link is open", "link", e.Link)
		} else {
			log.Warn("link is not open", "link", e.Link, "reason", reason)
		}
	})
	if up {
		l.kickBeat()
	}
}

// Links says how each link is, in the order of the Options.
func (i *Interconnect) Links() []LinkStatus {
	out := make([]LinkStatus, len(i.links))
	i.mu.Lock()
	for n, l := range i.links {
		out[n] = LinkStatus{
			Name: l.link.Name(), Kind: l.link.Kind(), Open: l.open, Reason: l.reason, LastBeat: l.lastBeat, RoundTrip: l.trip,
			Garbled: l.garbled, RefusedTag: l.tag, RefusedReplay: l.replay, RefusedReflected: l.reflected,
		}
	}
	i.mu.Unlock()
	for n, l := range i.links {
		out[n].Counters = l.link.Counters()
		if d, ok := l.link.(interface{ Device() string }); ok {
			out[n].Device = d.Device()
		}
		if m, ok := l.link.(interface{ ModemLines() string }); ok {
			out[n].ModemLines = m.ModemLines()
		}
	}
	return out
}

// Goodbye tells the partner that this server leaves in order: from now on every beat says so. It returns when the
// partner has acknowledged such a beat and at least three were sent, or with an error when it has not within three
// intervals or ctx ends.
func (i *Interconnect) Goodbye(ctx context.Context) error {
	i.mu.Lock()
	i.goodbye = true
	s := i.shake.live
	if s == nil {
		i.mu.Unlock()
		return fmt.Errorf("goodbye: %w", ErrNoSession)
	}
	first := make([]uint32, len(s.links)) // newest number before the goodbye
	for n := range s.links {
		first[n] = s.links[n].beatSeq
	}
	i.mu.Unlock()
	const tries, atLeast = 12, 3
	pause := time.NewTicker(min(max(i.o.Interval/4, 5*time.Millisecond), 500*time.Millisecond))
	defer pause.Stop()
	for n := range tries {
		i.kickAll()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("goodbye: not acknowledged: %w", ctx.Err())
		}
		if n+1 >= atLeast && i.acknowledged(s, first) {
			return nil
		}
	}
	return errors.New("goodbye: not acknowledged by the partner within three intervals")
}

func (i *Interconnect) acknowledged(s *session, first []uint32) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	live := i.shake.live
	for n := range live.links {
		if a := live.links[n].acked; a > first[n] || live != s && a > 0 { // every beat of a newer session says goodbye
			return true
		}
	}
	return false
}

// Send sends a message to the partner over one link: the best network link on which both directions work, else a
// serial one unless the message is NetworkOnly. It arrives once or not at all.
func (i *Interconnect) Send(m Message) error {
	if m.Kind == 0 || len(m.Body) > MaxMessage {
		return fmt.Errorf("message of kind %d with %d bytes: a kind of 1 to 255 and at most %d bytes would be right",
			m.Kind, len(m.Body), MaxMessage)
	}
	i.sending.Lock() // fragments leave in the order of their numbers
	defer i.sending.Unlock()
	i.mu.Lock()
	s, l := i.shake.live, i.bestLink(m.NetworkOnly, time.Now())
	switch {
	case s == nil:
		i.mu.Unlock()
		return ErrNoSession
	case l == nil:
		i.mu.Unlock()
		return ErrNoLink
	}
	s.nextMessage++
	id := s.nextMessage
	i.mu.Unlock()
	for _, f := range fragments(m, id, l.link.MaxFrame()-fragmentLen-trailerLen) {
		frame := i.seal(s, l, &f)
		if frame == nil {
			return ErrNoSession
		}
		if !l.link.Send(frame, false) {
			return fmt.Errorf("link %s: %w", l.link.Name(), ErrBusy)
		}
	}
	return nil
}

// seal numbers and encodes one fragment, with the lock held for no longer, since beats need it. It returns nil when
// s is not the live session any more.
func (i *Interconnect) seal(s *session, l *linkState, f *fragment) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.shake.live != s {
		return nil
	}
	ls := &s.links[l.index]
	ls.fragmentSeq++
	f.header = header{s.version, typeFragment, i.o.Self, uint8(l.index)}
	f.session, f.seq = s.id, ls.fragmentSeq
	return appendFragment(nil, f, s.mac)
}

// bestLink ranks the open links: both directions known to work, then network before serial, then the shortest round
// trip.
func (i *Interconnect) bestLink(networkOnly bool, now time.Time) *linkState {
	var best *linkState
	score := func(l *linkState) (n int) {
		if now.Sub(l.lastAck) < i.o.Timeout {
			n += 2
		}
		if l.link.Kind() != "serial" {
			n++
		}
		return n
	}
	for _, l := range i.links {
		if !l.open || now.Sub(l.lastHeard) >= i.o.Timeout || networkOnly && l.link.Kind() == "serial" {
			continue
		}
		if best == nil || score(l) > score(best) || score(l) == score(best) && l.trip < best.trip {
			best = l
		}
	}
	return best
}

// log has a line written without waiting for it; when too many wait, it is left out.
func (i *Interconnect) log(line func(hclog.Logger)) {
	select {
	case i.logs <- line:
	default:
	}
}

func (i *Interconnect) runLog(ctx context.Context) {
	for {
		select {
		case line := <-i.logs:
			line(i.o.Log)
		case <-ctx.Done():
			return
		}
	}
}
