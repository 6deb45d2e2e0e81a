package interconnect

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// window is the set of sequence numbers heard lately: the newest, and which of the 63 before it. Older ones count as
// heard.
type window struct {
	newest uint32
	seen   uint64 // bit n: newest-n
}

const windowLen = 64

// take notes seq and says whether it is new.
func (w *window) take(seq uint32) bool {
	if seq == 0 {
		return false
	}
	if seq > w.newest {
		w.seen = w.seen<<min(seq-w.newest, windowLen) | 1
		w.newest = seq
		return true
	}
	age := w.newest - seq
	if age >= windowLen || w.seen&(1<<age) != 0 {
		return false
	}
	w.seen |= 1 << age
	return true
}

// session is what both servers derive from the key and one nonce of each. All links share it.
type session struct {
	mine, peer      nonce
	version         uint8 // the newest that both speak
	keys            []sessionKey
	heardKey        uint32 // fingerprint of the key of the partner's newest frame
	said            uint16 // number of words
	words           Beat   // the newest that a beat of version 2 has said, on whichever link
	spoke           bool   // there are words
	peerBoot        uint32
	peerIncarnation uint16
	confirmed       bool      // a frame of the session was heard: the partner has it, too, and lives
	last            time.Time // newest frame heard
	links           []linkSession
	nextMessage     uint32
}

// sentLen is for how many beats the time of sending is kept.
const sentLen = 256

// linkSession is what a session keeps of one link. Beats and fragments are numbered apart, because beats overtake.
type linkSession struct {
	beatSeq, fragmentSeq uint32
	beats, fragments     window
	heard                uint32    // newest beat of the partner
	heardAt              time.Time // when
	acked                uint32    // newest own beat that the partner has acknowledged
	sent                 [sentLen]time.Time
}

// nextBeat numbers a beat. Numbers whose low 24 bits are zero are left out, for a zero acknowledges nothing.
func (l *linkSession) nextBeat(now time.Time) uint32 {
	l.beatSeq++
	if l.beatSeq&maxUint24 == 0 {
		l.beatSeq++
	}
	l.sent[l.beatSeq%sentLen] = now
	return l.beatSeq
}

// ack returns the number to acknowledge and how long ago it was heard.
func (l *linkSession) ack(now time.Time) (uint32, time.Duration) {
	if l.heard == 0 {
		return 0, 0
	}
	return l.heard & maxUint24, now.Sub(l.heardAt)
}

// onAck takes the partner's acknowledgement. It returns the round trip without the time for which the partner held
// it back; ok is false when it says nothing new.
func (l *linkSession) onAck(ack uint32, hold time.Duration, now time.Time) (trip time.Duration, ok bool) {
	if ack == 0 {
		return 0, false
	}
	back := (l.beatSeq - ack) & maxUint24 // so many beats ago
	seq := l.beatSeq - back
	if back >= l.beatSeq || seq <= l.acked {
		return 0, false
	}
	l.acked = seq
	if back >= sentLen {
		return 0, true
	}
	return max(0, now.Sub(l.sent[seq%sentLen])-hold), true
}

// handshake opens sessions. It does no I/O; its owner locks it. The rules are in docs/protocols/interconnect.md.
type handshake struct {
	self        uint8
	pair        string
	keys        []*pairKey // accepted; the first is used once the partner knows it
	newest      uint8      // version that is spoken
	asks        []int      // by link: how many handshakes were begun, under each key in turn
	links       int
	boot        uint32
	incarnation uint16
	rand        io.Reader
	fresh       time.Duration // a session heard within this time is not given up for an answer to somebody else
	nonceLife   time.Duration // an answer that comes later is refused

	nonce     nonce // ours, not used yet; zero: none
	nonceBorn time.Time
	live      *session
	rival     rival
}

// rival is another machine that has proved the key under the partner's name while the partner itself was heard.
type rival struct {
	nonce nonce     // its own, of the newest proof
	boot  uint32    // 0: none
	since time.Time // of the first proof
}

func newHandshake(o *EndpointOptions) (*handshake, error) {
	keys, err := newPairKeys(o.Key, o.OtherKey, o.Pair)
	if err != nil {
		return nil, err
	}
	return &handshake{
		self: o.Self, pair: o.Pair, keys: keys, newest: o.MaxVersion, links: len(o.Links), asks: make([]int, len(o.Links)),
		boot: o.Boot, incarnation: o.Incarnation, rand: o.Rand,
		fresh: 3 * o.Interval, nonceLife: max(2*o.Timeout, 2*time.Second),
	}, nil
}

// heard says whether the live session's partner was heard a moment ago.
func (h *handshake) heard(now time.Time) bool {
	return h.live != nil && h.live.confirmed && now.Sub(h.live.last) < h.fresh
}

// ownNonce returns the nonce that the partner has to echo, a new one when there is none or it is too old.
func (h *handshake) ownNonce(now time.Time) (nonce, error) {
	if h.nonce == (nonce{}) || now.Sub(h.nonceBorn) >= h.nonceLife {
		if _, err := io.ReadFull(h.rand, h.nonce[:]); err != nil {
			h.nonce = nonce{}
			return nonce{}, fmt.Errorf("random numbers for a session: %w", err)
		}
		h.nonceBorn = now
	}
	return h.nonce, nil
}

// makeHello makes a handshake frame for one link.
func (h *handshake) makeHello(key *pairKey, link int, own, echo nonce) []byte {
	return appendHello(nil, &hello{
		header: header{oldest, typeHello, h.self, uint8(link)},
		newest: h.newest, nonce: own, echo: echo, boot: h.boot, incarnation: h.incarnation,
	}, key.hello)
}

// due returns the handshake frame that is due on a link at each interval, nil when none is. A confirmed session is
// kept for as long as its numbers last: a partner that has lost it asks for a new one.
func (h *handshake) due(link int, now time.Time) []byte {
	s := h.live
	switch {
	case s != nil && !s.confirmed:
		return h.makeHello(s.use().pairKey, link, s.mine, s.peer)
	case s == nil, s.links[link].beatSeq > 1<<31, s.links[link].fragmentSeq > 1<<31:
		return h.ask(link, now)
	}
	return nil
}

// ask returns a handshake frame that begins a session. The partner may know one of the keys only, so they take turns.
func (h *handshake) ask(link int, now time.Time) []byte {
	own, err := h.ownNonce(now)
	if err != nil {
		return nil
	}
	key := h.keys[h.asks[link]%len(h.keys)]
	h.asks[link]++
	return h.makeHello(key, link, own, nonce{})
}

var (
	errStaleHello = errors.New("handshake frame that answers nothing of ours: an old one was sent again")
	errSecond     = errors.New("a second machine uses the partner's name and key while the partner is heard")
	errFormer     = errors.New("from an agent of the partner that was started before the one that is heard")
)

// usurps says why a handshake frame that proves the key and is no older than our nonce opens nothing all the same: the
// partner is heard, and the frame is another machine's, or its former agent's. A partner that was started anew falls
// silent, so its own frames are taken some intervals later; nothing is refused until then.
func (h *handshake) usurps(f *hello, now time.Time) (wait bool, err error) {
	s := h.live
	switch {
	case !h.heard(now):
		h.rival = rival{}
		return false, nil
	case f.boot == s.peerBoot && earlier(f.incarnation, s.peerIncarnation):
		return true, errFormer
	case f.boot == s.peerBoot:
		return false, nil
	}
	if h.rival.boot != f.boot {
		h.rival = rival{boot: f.boot, since: now}
	}
	h.rival.nonce = f.nonce
	if s.last.After(h.rival.since) { // both are alive at the same time
		return true, errSecond
	}
	return true, nil
}

// earlier says whether incarnation a was before b. They count from 1 to 65535 and then from 1 again.
func earlier(a, b uint16) bool {
	ahead := (int(b) - int(a) + 65535) % 65535
	return ahead > 0 && ahead < 65535/2
}

// onHello takes a handshake frame of the partner that is authentic under a key. It returns whether a session was
// opened, or the answer to send, or why the frame is refused, or nothing of these when it only repeats what is known.
func (h *handshake) onHello(f *hello, key *pairKey, link int, now time.Time) (opened bool, answer []byte, err error) {
	s := h.live
	if s != nil && f.nonce == s.peer && f.echo == s.mine {
		return false, nil, nil
	}
	proven := h.nonce != (nonce{}) && f.echo == h.nonce && now.Sub(h.nonceBorn) < h.nonceLife
	if proven || h.rival.boot != 0 && f.nonce == h.rival.nonce {
		if wait, err := h.usurps(f, now); wait {
			return false, nil, err
		}
	}
	if proven {
		if err := h.open(f, key, now); err != nil {
			return false, nil, err
		}
		return true, nil, nil
	}
	if f.echo != (nonce{}) && h.heard(now) {
		return false, nil, errStaleHello
	}
	own, err := h.ownNonce(now)
	if err != nil {
		return false, nil, err
	}
	return false, h.makeHello(key, link, own, f.nonce), nil
}

// open makes the session of our nonce and the partner's the live one, and uses our nonce up.
func (h *handshake) open(f *hello, key *pairKey, now time.Time) error {
	v := min(f.newest, h.newest)
	if v < oldest {
		return errVersion
	}
	s := &session{
		mine: h.nonce, peer: f.nonce, version: v, peerBoot: f.boot, peerIncarnation: f.incarnation, last: now,
		heardKey: key.print,
	}
	var err error
	if s.keys, err = h.sessionKeys(s); err != nil {
		return err
	}
	s.knows(func(k *sessionKey) bool { return k.pairKey == key })
	s.links = make([]linkSession, h.links)
	h.live, h.nonce, h.rival = s, nonce{}, rival{}
	return nil
}
