package interconnect

import (
	"errors"
	"slices"
	"time"
)

// refusal says why a frame was not taken, and which counter has it.
type refusal struct {
	count func(*endLink) *uint64
	why   string // one of few texts: events are limited by it
	code  string // "": CodeRefused
}

// refusalKey is what one event a second may tell of.
type refusalKey struct {
	link int
	why  string
}

func countGarbled(l *endLink) *uint64   { return &l.garbled }
func countTag(l *endLink) *uint64       { return &l.tag }
func countReplay(l *endLink) *uint64    { return &l.replay }
func countReflected(l *endLink) *uint64 { return &l.reflected }

// refuse makes a refusal without a code of its own.
func refuse(count func(*endLink) *uint64, why string) *refusal {
	return &refusal{count: count, why: why}
}

var (
	refuseKey       = refuse(countTag, "wrong key or wrong pair: the key files of both servers must be the same")
	refuseSession   = refuse(countTag, "of a session that is not open: from before a restart, or under a wrong key")
	refuseTag       = refuse(countTag, "authentication tag wrong: garbled, or forged")
	refuseSender    = refuse(countTag, "sender is neither of the two servers")
	refuseReflected = refuse(countReflected, "our own frame came back: a loop, or both run as the same server")
	refuseReplay    = refuse(countReplay, "sent before: a recorded frame was sent again")
	refuseLink      = refuse(countReplay, "sent on another link: two links are swapped, or in different order")
	refuseHello     = refuse(countReplay, errStaleHello.Error())
	refuseSecond    = &refusal{countTag, errSecond.Error(), CodeSecondMachine}
	refuseFormer    = refuse(countReplay, errFormer.Error())
	refuseIdentity  = refuse(countTag, "beat of another agent or machine than the one that opened the session")
	refuseNoise     = refuse(countGarbled, errGarbled.Error())
	refuseVersion   = refuse(countGarbled, errVersion.Error())
	refuseFormat    = refuse(countGarbled, errFormat.Error())
)

// Result is what taking a frame leads to. Its slices are valid until the next call of Receive.
type Result struct {
	Events []Event
	Answer []byte // to be sent on the link on which the frame came, nil when there is none
	Opened bool   // a session was opened: every link is due at once, to confirm it
}

// Receive takes one frame that came in on a link. It keeps nothing of the frame.
func (e *Endpoint) Receive(link int, frame []byte, now time.Time) Result {
	r := Result{Events: e.events[:0]}
	l := e.links[link]
	if no := e.frame(l, frame, now, &r); no != nil {
		e.refuse(l, no, now, &r)
	}
	e.events = r.Events
	return r
}

func (e *Endpoint) frame(l *endLink, frame []byte, now time.Time, r *Result) *refusal {
	h, err := parseHeader(frame)
	switch {
	case errors.Is(err, errGarbled):
		return refuseNoise
	case errors.Is(err, errVersion):
		return refuseVersion
	case err != nil:
		return refuseFormat
	case h.sender == e.o.Self:
		return refuseReflected
	case h.sender != 3-e.o.Self:
		return refuseSender
	case h.kind == typeHello:
		return e.hello(l, h, frame, now, r)
	}
	s := e.shake.live
	id, seq := sessionOf(frame)
	key, no := s.keyOf(id, frame)
	if no != nil {
		e.answerUnknown(l, now, r)
		return no
	}
	if int(h.link) != l.index {
		return refuseLink
	}
	if h.version != s.version {
		return refuseVersion
	}
	ls := &s.links[l.index]
	w := &ls.beats
	if h.kind == typeFragment {
		w = &ls.fragments
	}
	if !w.take(seq) {
		return refuseReplay
	}
	if h.kind == typeBeat && seq != w.newest {
		return nil // overtaken: it says nothing any more, and must not make a dead partner look alive
	}
	if h.kind == typeFragment {
		e.confirm(l, key, now, r)
		return e.fragment(l, h, frame, now, r)
	}
	return e.takeBeat(l, key, h, frame, now, r)
}

// keyOf finds the key under which a frame of the session was made. The number is a hint: two keys may have the same.
func (s *session) keyOf(id uint16, frame []byte) (*sessionKey, *refusal) {
	no := refuseSession
	if s == nil {
		return nil, no
	}
	for i := range s.keys {
		if k := &s.keys[i]; k.id == id {
			if authentic(frame, k.mac) {
				return k, nil
			}
			no = refuseTag
		}
	}
	return nil, no
}

// answerUnknown begins a handshake, because the partner uses a session that we do not have.
func (e *Endpoint) answerUnknown(l *endLink, now time.Time, r *Result) {
	if !e.shake.heard(now) && l.mayAnswer(now, e.o.Interval) {
		if s := e.shake.live; s != nil && !s.confirmed {
			r.Answer = e.shake.makeHello(s.use().pairKey, l.index, s.mine, s.peer)
		} else {
			r.Answer = e.shake.ask(l.index, now)
		}
	}
}

// mayAnswer limits the handshake frames that received ones cause.
func (l *endLink) mayAnswer(now time.Time, interval time.Duration) bool {
	if now.Sub(l.answersAt) >= min(interval, maxHelloInterval) {
		l.answers, l.answersAt = 0, now
	}
	l.answers++
	return l.answers <= answersPerInterval
}

func (e *Endpoint) hello(l *endLink, h header, frame []byte, now time.Time, r *Result) *refusal {
	i := slices.IndexFunc(e.shake.keys, func(k *pairKey) bool { return authentic(frame, k.hello) })
	if i < 0 {
		return refuseKey
	}
	if int(h.link) != l.index {
		return refuseLink
	}
	f := parseHello(h, frame)
	opened, answer, err := e.shake.onHello(&f, e.shake.keys[i], l.index, now)
	switch {
	case errors.Is(err, errStaleHello):
		return refuseHello
	case errors.Is(err, errSecond):
		return refuseSecond
	case errors.Is(err, errFormer):
		return refuseFormer
	case err != nil:
		return refuse(countTag, err.Error())
	case opened:
		e.opened(r)
	case answer != nil && l.mayAnswer(now, e.o.Interval):
		r.Answer = answer
	}
	return nil
}

func (e *Endpoint) opened(r *Result) {
	e.pieces = reassembly{}
	for _, o := range e.links {
		o.lastAck = time.Time{}
	}
	r.Opened = true
}

// confirm notes that the partner spoke in the live session. The first such frame is what tells of the session: a
// handshake frame that was held back on its way may be from an agent that has ended since.
func (e *Endpoint) confirm(l *endLink, key *sessionKey, now time.Time, r *Result) {
	s := e.shake.live
	l.lastHeard, s.last, s.heardKey = now, now, key.print
	if !s.confirmed {
		s.confirmed = true
		r.Events = append(r.Events, Event{
			Kind: SessionOpen, At: now, Link: l.info.Name, PeerBoot: s.peerBoot, PeerIncarnation: s.peerIncarnation,
		})
	}
	if !key.known && s.knows(func(k *sessionKey) bool { return k == key }) {
		r.Events = append(r.Events, e.keyChanged(now))
	}
}

func (e *Endpoint) takeBeat(l *endLink, key *sessionKey, h header, frame []byte, now time.Time, r *Result) *refusal {
	b := parseBeat(h, frame)
	s := e.shake.live
	if h.version == 1 && (b.Boot != s.peerBoot || b.Incarnation != s.peerIncarnation) {
		return refuseIdentity
	}
	e.confirm(l, key, now, r)
	if h.version > 1 {
		b.Boot, b.Incarnation = s.peerBoot, s.peerIncarnation
		if s.spoke && int16(b.said-s.said) < 0 {
			b.Beat = s.words // from a slower link: it shows that the link works, and has nothing to take back
		} else {
			s.spoke, s.said, s.words = true, b.said, b.Beat
		}
		if s.use().print != b.prefers && s.knows(func(k *sessionKey) bool { return k.print == b.prefers }) {
			r.Events = append(r.Events, e.keyChanged(now))
		}
	}
	ls := &s.links[l.index]
	ls.heard, ls.heardAt = b.seq, now
	if trip, ok := ls.onAck(b.ack, b.hold, now); ok {
		l.lastAck = now
		if trip > 0 {
			l.trip = trip
		}
	}
	l.lastBeat = now
	r.Events = append(r.Events, Event{
		Kind: BeatHeard, At: now, Link: l.info.Name, Beat: b.Beat, PeerBoot: b.Boot, PeerIncarnation: b.Incarnation,
	})
	return nil
}

func (e *Endpoint) fragment(l *endLink, h header, frame []byte, now time.Time, r *Result) *refusal {
	f := parseFragment(h, frame)
	m, whole, err := e.pieces.add(&f)
	if err != nil {
		return refuseFormat
	}
	if whole {
		r.Events = append(r.Events, Event{Kind: MessageIn, At: now, Link: l.info.Name, Message: m})
	}
	return nil
}

// refuse counts a frame that was not taken, and tells of it at most once a second and reason.
func (e *Endpoint) refuse(l *endLink, no *refusal, now time.Time, r *Result) {
	*no.count(l)++
	key := refusalKey{l.index, no.why}
	if last, ok := e.refusals[key]; ok && now.Sub(last) < time.Second {
		return
	}
	e.refusals[key] = now
	code := no.code
	if code == "" {
		code = CodeRefused
	}
	r.Events = append(r.Events, Event{Kind: Refused, At: now, Link: l.info.Name, Code: code, Text: no.why})
}
