package interconnect

import (
	"bytes"
	"context"
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
	Key  []byte // shared by both servers, at least MinKey bytes; used as soon as the partner knows it
	// OtherKey is accepted, too, and used until then; nil: none.
	OtherKey []byte
	// MaxVersion is the newest version that is spoken; 0: the newest that this program knows.
	MaxVersion uint8

	Interval time.Duration // between beats
	Timeout  time.Duration // for how long a link counts as heard; more than Interval
	Links    []Link        // 1 to 64, in the same order on both servers

	// Stale is for how long a beat may be repeated that SetBeat does not set again: whoever sets it hangs by then, and
	// what beats say of this server is no longer true. 0: for ever.
	Stale time.Duration

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

// Interconnect is one server's end of all links: an Endpoint with its links and the clock. Make it with New, and run
// it once with Run.
type Interconnect struct {
	o      Options
	events *eventQueue
	logs   chan func(hclog.Logger)
	links  []*linkState

	sending  sync.Mutex // one message is cut up at a time; taken before mu
	mu       sync.Mutex // over endpoint, held for microseconds: nothing below it waits for anything
	endpoint *Endpoint
	setAt    time.Time // when SetBeat was called last; zero: never
	stale    bool      // beats are held back, and that was logged
}

// linkState is what an Interconnect keeps of one link.
type linkState struct {
	index int
	link  Link
	kick  chan struct{} // a beat is due at once
	lines Lines         // under Interconnect.mu
}

// New checks the options.
func New(o Options) (*Interconnect, error) {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	i := &Interconnect{o: o, events: newEventQueue(), logs: make(chan func(hclog.Logger), 64)}
	eo := EndpointOptions{
		Pair: o.Pair, Self: o.Self, Key: o.Key, OtherKey: o.OtherKey, MaxVersion: o.MaxVersion,
		Interval: o.Interval, Timeout: o.Timeout,
		Boot: o.Boot, Incarnation: o.Incarnation, Rand: o.Rand,
	}
	for n, l := range o.Links {
		eo.Links = append(eo.Links, LinkInfo{Name: l.Name(), Kind: l.Kind(), MaxFrame: l.MaxFrame()})
		i.links = append(i.links, &linkState{index: n, link: l, kick: make(chan struct{}, 1)})
	}
	var err error
	if i.endpoint, err = NewEndpoint(eo); err != nil {
		return nil, err
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
		if w, ok := l.link.(LineWatcher); ok {
			w.WatchLines(func(lines Lines) { i.linesChanged(l, lines, time.Now()) })
		}
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
	i.mu.Lock()
	i.setAt = time.Now()
	atOnce := i.endpoint.SetBeat(b)
	i.mu.Unlock()
	if atOnce {
		i.kickAll()
	}
}

// SetKeys has other keys accepted from now on, and the first of them used as soon as the partner has shown that it
// knows it; other may be nil. The session goes on. ErrKeyInUse: nothing was changed, because the partner still needs a
// key that would be gone.
func (i *Interconnect) SetKeys(key, other []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	events, err := i.endpoint.SetKeys(key, other, time.Now())
	for _, e := range events {
		i.tell(e)
	}
	return err
}

// tell queues an event, and logs what is rare. The lock is held: no beat may overtake the opening of its session.
func (i *Interconnect) tell(e Event) {
	i.events.put(e)
	switch e.Kind {
	case SessionOpen:
		i.log(func(log hclog.Logger) {
			log.Info("session opened", "link", e.Link, "boot", fmt.Sprintf("%08x", e.PeerBoot),
				"incarnation", e.PeerIncarnation)
		})
	case KeyChanged:
		i.log(func(log hclog.Logger) { log.Info(e.Text) })
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

func (i *Interconnect) pause() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.endpoint.Pause()
}

// send sends what is due on a link.
func (i *Interconnect) send(l *linkState) {
	i.mu.Lock()
	if i.hangs(time.Now()) {
		i.mu.Unlock()
		return
	}
	due := i.endpoint.Due(l.index, time.Now())
	frames := make([][]byte, len(due))
	for n, f := range due {
		frames[n] = bytes.Clone(f)
	}
	i.mu.Unlock()
	for _, f := range frames {
		l.link.Send(f, true)
	}
}

// hangs says, with mu held, whether what the beats would say was not confirmed for too long, and logs a change.
func (i *Interconnect) hangs(now time.Time) bool {
	if i.o.Stale == 0 || i.setAt.IsZero() {
		return false
	}
	age := now.Sub(i.setAt)
	was := i.stale
	i.stale = age > i.o.Stale
	switch {
	case i.stale && !was:
		i.log(func(log hclog.Logger) {
			log.Error("ORS-3010: the agent's loop hangs: no beats are sent until it runs again", "for", age)
		})
	case was && !i.stale:
		i.log(func(log hclog.Logger) { log.Warn("the agent's loop runs again: beats are sent") })
	}
	return i.stale
}

// receive takes one frame of a link.
func (i *Interconnect) receive(l *linkState, frame []byte, now time.Time) {
	i.mu.Lock()
	r := i.endpoint.Receive(l.index, frame, now)
	for _, e := range r.Events {
		i.tell(e)
	}
	answer := bytes.Clone(r.Answer)
	i.mu.Unlock()
	if answer != nil {
		l.link.Send(answer, true)
	}
	if r.Opened {
		i.kickAll()
	}
}

func (i *Interconnect) linkChanged(l *linkState, up bool, reason string, now time.Time) {
	i.mu.Lock()
	e, changed := i.endpoint.LinkChanged(l.index, up, reason, now)
	if !changed {
		i.mu.Unlock()
		return
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

func (i *Interconnect) linesChanged(l *linkState, lines Lines, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l.lines = lines
	text := "The modem lines: " + lines.String() + "."
	i.tell(Event{Kind: LinesChanged, At: now, Link: l.link.Name(), Lines: lines, Text: text})
}

// Links says how each link is, in the order of the Options.
func (i *Interconnect) Links() []LinkStatus {
	out := make([]LinkStatus, len(i.links))
	i.mu.Lock()
	for n := range out {
		out[n] = i.endpoint.Status(n)
		out[n].Lines = i.links[n].lines
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
	err := i.endpoint.Leave()
	i.mu.Unlock()
	if err != nil {
		return fmt.Errorf("goodbye: %w", err)
	}
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
		i.mu.Lock()
		heard := i.endpoint.LeaveHeard()
		i.mu.Unlock()
		if n+1 >= atLeast && heard {
			return nil
		}
	}
	return errors.New("goodbye: not acknowledged by the partner within three intervals")
}

// Send sends a message to the partner over one link: the best network link on which both directions work, else a
// serial one unless the message is NetworkOnly. It arrives once or not at all.
func (i *Interconnect) Send(m Message) error {
	if err := m.valid(); err != nil {
		return err
	}
	i.sending.Lock() // fragments leave in the order of their numbers
	defer i.sending.Unlock()
	out, l, err := i.begin(m)
	for err == nil {
		var frame []byte
		i.mu.Lock() // for one frame at a time, since beats need it
		frame, err = out.Next()
		i.mu.Unlock()
		if frame == nil {
			break
		}
		if !l.link.Send(frame, false) {
			return fmt.Errorf("link %s: %w", l.link.Name(), ErrBusy)
		}
	}
	return err
}

func (i *Interconnect) begin(m Message) (*Outgoing, *linkState, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n, err := i.endpoint.BestLink(m.NetworkOnly, time.Now())
	if err != nil {
		return nil, nil, err
	}
	out, err := i.endpoint.Begin(m, n)
	return out, i.links[n], err
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
