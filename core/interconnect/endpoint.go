package interconnect

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"
)

// EndpointOptions is what an Endpoint is made of.
type EndpointOptions struct {
	Pair string // name of the pair: another pair's frames are refused even under the same key
	Self uint8  // this server: 1 or 2
	Key  []byte // shared by both servers, at least MinKey bytes; used as soon as the partner knows it
	// OtherKey is accepted, too, and used until then; nil: none.
	OtherKey []byte
	// MaxVersion is the newest version that is spoken; 0: the newest that this program knows.
	MaxVersion uint8

	Interval time.Duration // between beats
	Timeout  time.Duration // for how long a link counts as heard; more than Interval
	Links    []LinkInfo    // 1 to 64, in the same order on both servers

	Boot        uint32 // hash of the boot id
	Incarnation uint16 // number of the agent's start

	Rand io.Reader // nil: crypto/rand
}

// LinkInfo is what an Endpoint must know of a link.
type LinkInfo struct {
	Name     string
	Kind     string // "serial" or "udp"
	MaxFrame int    // the largest frame that it takes, in bytes
}

// Endpoint is one server's end of all links, without the links: frames and moments go in, frames and events come
// out. It has no clock, no goroutine, no lock and does no I/O, so whoever calls it decides about time; what it is told
// must never go back in time, and never be the zero time, which stands for "never". An Interconnect is an Endpoint
// with real links and a real clock around it.
type Endpoint struct {
	o        EndpointOptions
	shake    *handshake
	links    []*endLink
	pieces   reassembly
	beat     Beat
	said     uint16 // number of beat: it grows with every change
	bye      farewell
	refusals map[refusalKey]time.Time // when an event told of this reason last

	events []Event   // of the last Receive
	due    [2][]byte // frames of the last Due
	made   []byte    // the beat among them
}

// endLink is what an Endpoint keeps of one link.
type endLink struct {
	index     int
	info      LinkInfo
	open      bool
	reason    string // why it is not open
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

// farewell is the goodbye that is being said.
type farewell struct {
	said    bool
	session *session // the live one when it began
	first   []uint32 // by link: newest beat before it
}

// NewEndpoint checks the options. All links are closed.
func NewEndpoint(o EndpointOptions) (*Endpoint, error) {
	switch {
	case o.Pair == "":
		return nil, errors.New("interconnect: the pair has no name")
	case o.Self != 1 && o.Self != 2:
		return nil, fmt.Errorf("interconnect: this server is %d of the pair: 1 or 2 would be right", o.Self)
	case o.MaxVersion != 0 && (o.MaxVersion < oldest || o.MaxVersion > version):
		return nil, fmt.Errorf("interconnect: version %d: %d to %d would be right", o.MaxVersion, oldest, version)
	case o.Interval <= 0 || o.Timeout <= o.Interval:
		return nil, fmt.Errorf("interconnect: time-out %v does not exceed the interval %v", o.Timeout, o.Interval)
	case len(o.Links) == 0 || len(o.Links) > maxLinks:
		return nil, fmt.Errorf("interconnect: %d links: 1 to %d would be right", len(o.Links), maxLinks)
	}
	for _, l := range o.Links {
		if l.MaxFrame < maxSerialFrame {
			return nil, fmt.Errorf("interconnect: link %s takes %d bytes, a beat has %d", l.Name, l.MaxFrame, maxSerialFrame)
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MaxVersion == 0 {
		o.MaxVersion = version
	}
	shake, err := newHandshake(&o)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{o: o, shake: shake, refusals: map[refusalKey]time.Time{}}
	for n, l := range o.Links {
		e.links = append(e.links, &endLink{index: n, info: l, reason: "not opened yet"})
	}
	return e, nil
}

// LinkChanged notes that a link was opened or closed. It returns the event that tells of it, and false when nothing
// has changed. A link that was opened is due at once.
func (e *Endpoint) LinkChanged(link int, up bool, reason string, now time.Time) (Event, bool) {
	l := e.links[link]
	if up {
		reason = ""
	}
	if l.open == up && l.reason == reason {
		return Event{}, false
	}
	l.open, l.reason = up, reason
	if up {
		return Event{Kind: LinkUp, At: now, Link: l.info.Name}, true
	}
	return Event{Kind: LinkDown, At: now, Link: l.info.Name, Text: reason}, true
}

// SetBeat sets what the next beats say. Boot and Incarnation are those of the options. It says whether they are due
// at once on all links: only another unit in HeldUnit, and an absence that has become shorter, wait for the next
// interval.
func (e *Endpoint) SetBeat(b Beat) (atOnce bool) {
	b.Boot, b.Incarnation = e.o.Boot, e.o.Incarnation
	old := e.beat
	if old != b {
		e.said++
	}
	if old.HeldUnit != b.HeldUnit {
		old.HeldUnit, old.Held = b.HeldUnit, b.Held
	}
	if 0 < b.Restarting && b.Restarting < old.Restarting {
		old.Restarting = b.Restarting
	}
	e.beat = b
	return old != b
}

// Pause is the time between two calls of Due for a link when nothing else makes one due.
func (e *Endpoint) Pause() time.Duration {
	if s := e.shake.live; s != nil && s.confirmed {
		return e.o.Interval
	}
	return min(e.o.Interval, maxHelloInterval)
}

// Due returns the frames to send on a link now: a handshake frame until the session is confirmed, and a beat where
// there is a session. A closed link has none. The frames are valid until the next call of Due.
func (e *Endpoint) Due(link int, now time.Time) [][]byte {
	frames := e.due[:0]
	if !e.links[link].open {
		return frames
	}
	if f := e.shake.due(link, now); f != nil {
		frames = append(frames, f)
	}
	if e.shake.live != nil {
		e.made = e.appendNextBeat(e.made[:0], link, now)
		frames = append(frames, e.made)
	}
	return frames
}

// appendNextBeat appends the link's next beat. There is a session.
func (e *Endpoint) appendNextBeat(dst []byte, link int, now time.Time) []byte {
	s := e.shake.live
	ls := &s.links[link]
	key := s.use()
	f := beatFrame{
		header:  header{s.version, typeBeat, e.o.Self, uint8(link)},
		session: key.id, seq: ls.nextBeat(now), prefers: s.keys[0].print, said: e.said, Beat: e.beat,
	}
	f.ack, f.hold = ls.ack(now)
	f.Boot, f.Incarnation = e.o.Boot, e.o.Incarnation
	f.Leaving = f.Leaving || e.bye.said
	return appendBeat(dst, &f, key.mac)
}

// Leave has every beat from now on say goodbye. The beats are due at once; without a session there is nobody to say
// it to, and the answer is ErrNoSession.
func (e *Endpoint) Leave() error {
	e.said++
	e.bye = farewell{said: true, session: e.shake.live}
	if e.shake.live == nil {
		return ErrNoSession
	}
	for n := range e.shake.live.links {
		e.bye.first = append(e.bye.first, e.shake.live.links[n].beatSeq)
	}
	return nil
}

// LeaveHeard says whether the partner has acknowledged a beat that said goodbye.
func (e *Endpoint) LeaveHeard() bool {
	live := e.shake.live
	if !e.bye.said || live == nil {
		return false
	}
	for n := range live.links {
		if a := live.links[n].acked; e.bye.session != live && a > 0 || // every beat of a newer session says goodbye
			e.bye.session == live && a > e.bye.first[n] {
			return true
		}
	}
	return false
}

// Outgoing is a message on its way into frames.
type Outgoing struct {
	e       *Endpoint
	session *session
	link    int
	pieces  []fragment
}

// Begin numbers a message for a link of the live session. Its frames are made one by one, because beats may be due
// between them.
func (e *Endpoint) Begin(m Message, link int) (*Outgoing, error) {
	if err := m.valid(); err != nil {
		return nil, err
	}
	s := e.shake.live
	if s == nil {
		return nil, ErrNoSession
	}
	s.nextMessage++
	size := e.links[link].info.MaxFrame - fragmentLen - trailerLen
	return &Outgoing{e: e, session: s, link: link, pieces: fragments(m, s.nextMessage, size)}, nil
}

// Next returns the message's next frame, nil after the last. It fails when the session is not the live one any more.
// The frame belongs to the caller.
func (o *Outgoing) Next() ([]byte, error) {
	if o.e.shake.live != o.session {
		return nil, ErrNoSession
	}
	if len(o.pieces) == 0 {
		return nil, nil
	}
	f := o.pieces[0]
	o.pieces = o.pieces[1:]
	ls := &o.session.links[o.link]
	ls.fragmentSeq++
	f.header = header{o.session.version, typeFragment, o.e.o.Self, uint8(o.link)}
	key := o.session.use()
	f.session, f.seq = key.id, ls.fragmentSeq
	return appendFragment(make([]byte, 0, fragmentLen+len(f.data)+trailerLen), &f, key.mac), nil
}

// Fragments returns all frames of a message for a link. They belong to the caller.
func (e *Endpoint) Fragments(m Message, link int) ([][]byte, error) {
	o, err := e.Begin(m, link)
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	for {
		f, err := o.Next()
		if f == nil || err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

// BestLink is the link for a message: of the open ones on which the partner was heard within the time-out the one on
// which both directions are known to work, then network before serial, then the shortest round trip.
func (e *Endpoint) BestLink(networkOnly bool, now time.Time) (int, error) {
	if e.shake.live == nil {
		return 0, ErrNoSession
	}
	var best *endLink
	score := func(l *endLink) (n int) {
		if now.Sub(l.lastAck) < e.o.Timeout {
			n += 2
		}
		if l.info.Kind != "serial" {
			n++
		}
		return n
	}
	for _, l := range e.links {
		if !l.open || now.Sub(l.lastHeard) >= e.o.Timeout || networkOnly && l.info.Kind == "serial" {
			continue
		}
		if best == nil || score(l) > score(best) || score(l) == score(best) && l.trip < best.trip {
			best = l
		}
	}
	if best == nil {
		return 0, ErrNoLink
	}
	return best.index, nil
}

// Status is what the Endpoint knows of a link; device, counters and lines are the link's own.
func (e *Endpoint) Status(link int) LinkStatus {
	l := e.links[link]
	return LinkStatus{
		Name: l.info.Name, Kind: l.info.Kind, Open: l.open, Reason: l.reason, LastBeat: l.lastBeat, RoundTrip: l.trip,
		Garbled: l.garbled, RefusedTag: l.tag, RefusedReplay: l.replay, RefusedReflected: l.reflected,
	}
}
