package interconnect

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// refusal says why a frame was not taken, and which counter has it.
type refusal struct {
	count func(*linkState) *uint64
	why   string // one of few texts: events are limited by it
}

func countGarbled(l *linkState) *uint64   { return &l.garbled }
func countTag(l *linkState) *uint64       { return &l.tag }
func countReplay(l *linkState) *uint64    { return &l.replay }
func countReflected(l *linkState) *uint64 { return &l.reflected }

var (
	refuseKey       = &refusal{countTag, "wrong key or wrong pair: the key files of both servers must be the same"}
	refuseSession   = &refusal{countTag, "of a session that is not open: from before a restart, or under a wrong key"}
	refuseTag       = &refusal{countTag, "authentication tag wrong: garbled, or forged"}
	refuseSender    = &refusal{countTag, "sender is neither of the two servers"}
	refuseReflected = &refusal{countReflected, "our own frame came back: a loop, or both run as the same server"}
	refuseReplay    = &refusal{countReplay, "sent before: a recorded frame was sent again"}
	refuseLink      = &refusal{countReplay, "sent on another link: two links are swapped, or in different order"}
	refuseHello     = &refusal{countReplay, errStaleHello.Error()}
)

// result is what taking a frame leads to.
type result struct {
	events []Event
	answer []byte // to the link on which the frame came
	opened bool   // a session was opened: every link confirms it at once
}

// receive takes one frame of a link.
func (i *Interconnect) receive(l *linkState, frame []byte, now time.Time) {
	var r result
	i.mu.Lock()
	if no := i.frame(l, frame, now, &r); no != nil {
		i.refuse(l, no, now, &r)
	}
	for _, e := range r.events {
		i.events.put(e) // under the lock: no beat may overtake the opening of its session
	}
	i.mu.Unlock()
	if r.answer != nil {
		l.link.Send(r.answer, true)
	}
	if r.opened {
		i.kickAll()
	}
}

func (i *Interconnect) frame(l *linkState, frame []byte, now time.Time, r *result) *refusal {
	h, err := parseHeader(frame)
	switch {
	case err != nil:
		return &refusal{countGarbled, err.Error()}
	case h.sender == i.o.Self:
		return refuseReflected
	case h.sender != 3-i.o.Self:
		return refuseSender
	case h.kind == typeHello:
		return i.hello(l, h, frame, now, r)
	}
	s := i.shake.live
	id, seq := sessionOf(frame)
	if s == nil || id != s.id {
		i.answerUnknown(l, now, r)
		return refuseSession
	}
	if !authentic(frame, s.mac) {
		i.answerUnknown(l, now, r)
		return refuseTag
	}
	if int(h.link) != l.index {
		return refuseLink
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
	s.confirmed, s.last = true, now
	l.lastHeard = now
	if h.kind == typeFragment {
		return i.fragment(l, h, frame, now, r)
	}
	i.takeBeat(l, h, frame, now, r)
	return nil
}

// answerUnknown begins a handshake, because the partner uses a session that we do not have.
func (i *Interconnect) answerUnknown(l *linkState, now time.Time, r *result) {
	if !i.shake.heard(now) && l.mayAnswer(now, i.o.Interval) {
		if s := i.shake.live; s != nil && !s.confirmed {
			r.answer = i.shake.appendHello(l.index, s.mine, s.peer)
		} else {
			r.answer = i.shake.ask(l.index, now)
		}
	}
}

// mayAnswer limits the handshake frames that received ones cause.
func (l *linkState) mayAnswer(now time.Time, interval time.Duration) bool {
	if now.Sub(l.answersAt) >= min(interval, maxHelloInterval) {
		l.answers, l.answersAt = 0, now
	}
	l.answers++
	return l.answers <= answersPerInterval
}

func (i *Interconnect) hello(l *linkState, h header, frame []byte, now time.Time, r *result) *refusal {
	if !authentic(frame, i.shake.hello) {
		return refuseKey
	}
	if int(h.link) != l.index {
		return refuseLink
	}
	f := parseHello(h, frame)
	opened, answer, err := i.shake.onHello(&f, l.index, now)
	switch {
	case errors.Is(err, errStaleHello):
		return refuseHello
	case err != nil:
		return &refusal{countTag, err.Error()}
	case opened:
		i.opened(l, now, r)
	case answer != nil && l.mayAnswer(now, i.o.Interval):
		r.answer = answer
	}
	return nil
}

func (i *Interconnect) opened(l *linkState, now time.Time, r *result) {
	s := i.shake.live
	i.pieces = reassembly{}
	for _, o := range i.links {
		o.lastAck = time.Time{}
	}
	l.lastHeard = now
	r.opened = true
	r.events = append(r.events, Event{
		Kind: SessionOpen, At: now, Link: l.link.Name(), PeerBoot: s.peerBoot, PeerIncarnation: s.peerIncarnation,
	})
	i.log(func(log hclog.Logger) {
		log.Info("session opened", "link", l.link.Name(), "boot", fmt.Sprintf("%08x", s.peerBoot),
			"incarnation", s.peerIncarnation)
	})
}

func (i *Interconnect) takeBeat(l *linkState, h header, frame []byte, now time.Time, r *result) {
	b := parseBeat(h, frame)
	ls := &i.shake.live.links[l.index]
	ls.heard, ls.heardAt = b.seq, now
	if trip, ok := ls.onAck(b.ack, b.hold, now); ok {
		l.lastAck = now
		if trip > 0 {
			l.trip = trip
		}
	}
	l.lastBeat = now
	r.events = append(r.events, Event{
		Kind: BeatHeard, At: now, Link: l.link.Name(), Beat: b.Beat, PeerBoot: b.Boot, PeerIncarnation: b.Incarnation,
	})
}

func (i *Interconnect) fragment(l *linkState, h header, frame []byte, now time.Time, r *result) *refusal {
	f := parseFragment(h, frame)
	m, whole, err := i.pieces.add(&f)
	if err != nil {
		return &refusal{countGarbled, errFormat.Error()}
	}
	if whole {
		r.events = append(r.events, Event{Kind: MessageIn, At: now, Link: l.link.Name(), Message: m})
	}
	return nil
}

// refuse counts a frame that was not taken, and tells of it at most once a second and reason.
func (i *Interconnect) refuse(l *linkState, no *refusal, now time.Time, r *result) {
	*no.count(l)++
	key := l.link.Name() + "\x00" + no.why
	if last, ok := i.refusals[key]; ok && now.Sub(last) < time.Second {
		return
	}
	i.refusals[key] = now
	r.events = append(r.events, Event{Kind: Refused, At: now, Link: l.link.Name(), Text: no.why})
}
