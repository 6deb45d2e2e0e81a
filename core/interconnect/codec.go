package interconnect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"time"
)

// The frames are described byte by byte in docs/protocols/interconnect.md.

// version is the newest version of the protocol that this program speaks, oldest the oldest: the release before has it
// as its newest.
const (
	version = 2
	oldest  = 1
)

// Versions returns the oldest and the newest version of the protocol that this program speaks.
func Versions() (from, to int) { return oldest, version }

type frameType uint8

const (
	typeHello    frameType = 1
	typeBeat     frameType = 2
	typeFragment frameType = 3
)

const (
	tagLen     = 16
	crcLen     = 4
	trailerLen = tagLen + crcLen
	nonceLen   = 16

	helloLen    = 41 // without the trailer
	beatLen     = 41
	fragmentLen = 17 // without data and trailer

	// maxSerialFrame is the largest frame that fits MaxBeatWire: two delimiters and one byte of stuffing go with it.
	maxSerialFrame = MaxBeatWire - 3

	// maxLinks is how many links a pair may have: the index has six bits.
	maxLinks = 64

	holdUnit  = 4 * time.Microsecond
	maxUint24 = 1<<24 - 1
)

const (
	flagHearsYou = 1 << iota
	flagLeaving
	flagMaintenance
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errGarbled = errors.New("checksum wrong: noise, or another speed or program at the far end")
	errVersion = errors.New("protocol version not known here: run versions of ORS side by side that differ by one at most")
	errFormat  = errors.New("malformed frame")
)

// header is what every frame begins with.
type header struct {
	version uint8
	kind    frameType
	sender  uint8 // 1 or 2
	link    uint8 // index of the link on which it was sent
}

type nonce [nonceLen]byte

// hello is a handshake frame.
type hello struct {
	header
	newest      uint8 // newest version that the sender speaks
	nonce       nonce // the sender's
	echo        nonce // the receiver's, as last heard; zero when none
	boot        uint32
	incarnation uint16
}

// beatFrame is a Beat with what the session adds.
type beatFrame struct {
	header
	session uint16
	seq     uint32
	ack     uint32        // low 24 bits of the newest sequence number heard on this link; 0 = none
	hold    time.Duration // between hearing that and sending this
	prefers uint32        // fingerprint of the key that the sender would use; from version 2 on
	said    uint16        // number of what the beat says, the same on all links; from version 2 on
	Beat                  // in version 2 without Boot and Incarnation, which are the session's
}

// fragment is a piece of a message.
type fragment struct {
	header
	kind    uint8
	session uint16
	seq     uint32
	id      uint32 // of the message
	offset  uint16 // of data in the message's body
	total   uint16 // length of the message's body
	data    []byte
}

func (h header) append(dst []byte) []byte {
	return append(dst, h.version<<4|uint8(h.kind), h.sender<<6|h.link)
}

func appendHello(dst []byte, h *hello, m *mac) []byte {
	start := len(dst)
	dst = h.header.append(dst)
	dst = append(dst, h.newest)
	dst = append(dst, h.nonce[:]...)
	dst = append(dst, h.echo[:]...)
	dst = binary.BigEndian.AppendUint32(dst, h.boot)
	dst = binary.BigEndian.AppendUint16(dst, h.incarnation)
	return seal(dst, start, m)
}

func appendBeat(dst []byte, b *beatFrame, m *mac) []byte {
	start := len(dst)
	dst = b.header.append(dst)
	var flags uint8
	for _, f := range []struct {
		on  bool
		bit uint8
	}{{b.HearsYou, flagHearsYou}, {b.Leaving, flagLeaving}, {b.Maintenance, flagMaintenance}} {
		if f.on {
			flags |= f.bit
		}
	}
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint16(dst, b.session)
	dst = binary.BigEndian.AppendUint32(dst, b.seq)
	dst = appendUint24(dst, b.ack)
	dst = appendUint24(dst, uint32(min(max(b.hold, 0)/holdUnit, maxUint24)))
	if b.version == 1 {
		dst = binary.BigEndian.AppendUint32(dst, b.Boot)
		dst = binary.BigEndian.AppendUint16(dst, b.Incarnation)
	} else {
		dst = binary.BigEndian.AppendUint32(dst, b.prefers)
		dst = binary.BigEndian.AppendUint16(dst, b.said)
	}
	dst = binary.BigEndian.AppendUint32(dst, b.Promised)
	dst = binary.BigEndian.AppendUint32(dst, b.Common)
	dst = binary.BigEndian.AppendUint32(dst, b.Config)
	dst = append(dst, b.HeldUnit)
	dst = binary.BigEndian.AppendUint32(dst, b.Held)
	seconds := (max(b.Restarting, 0) + time.Second - 1) / time.Second // announced too short would be a lost partner
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(seconds, 0xffff)))
	dst = append(dst, b.Losses)
	return seal(dst, start, m)
}

func appendFragment(dst []byte, f *fragment, m *mac) []byte {
	start := len(dst)
	dst = f.header.append(dst)
	dst = append(dst, f.kind)
	dst = binary.BigEndian.AppendUint16(dst, f.session)
	dst = binary.BigEndian.AppendUint32(dst, f.seq)
	dst = binary.BigEndian.AppendUint32(dst, f.id)
	dst = binary.BigEndian.AppendUint16(dst, f.offset)
	dst = binary.BigEndian.AppendUint16(dst, f.total)
	dst = append(dst, f.data...)
	return seal(dst, start, m)
}

func appendUint24(dst []byte, v uint32) []byte {
	return append(dst, byte(v>>16), byte(v>>8), byte(v))
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

// mac makes tags under one key. It keeps its memory, so that a tag costs none.
type mac struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

func newMAC(key []byte) *mac { return &mac{hash: hmac.New(sha256.New, key)} }

func (m *mac) tag(body []byte) []byte {
	m.hash.Reset()
	m.hash.Write(body)
	return m.hash.Sum(m.sum[:0])[:tagLen]
}

// seal appends the tag over dst[start:] and the checksum over both.
func seal(dst []byte, start int, m *mac) []byte {
	dst = append(dst, m.tag(dst[start:])...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// authentic says whether the frame's tag was made with m's key.
func authentic(frame []byte, m *mac) bool {
	n := len(frame) - trailerLen
	return hmac.Equal(m.tag(frame[:n]), frame[n:n+tagLen])
}

// parseHeader checks the frame's checksum, version and shape. What it returns is not authenticated yet.
func parseHeader(frame []byte) (header, error) {
	if len(frame) < 2+trailerLen {
		return header{}, errGarbled
	}
	end := len(frame) - crcLen
	if crc32.Checksum(frame[:end], castagnoli) != binary.BigEndian.Uint32(frame[end:]) {
		return header{}, errGarbled
	}
	h := header{frame[0] >> 4, frameType(frame[0] & 15), frame[1] >> 6, frame[1] & 63}
	if h.version < oldest || h.version > version {
		return h, errVersion
	}
	n := len(frame) - trailerLen
	switch h.kind {
	case typeHello:
		if n != helloLen {
			return h, errFormat
		}
	case typeBeat:
		if n != beatLen {
			return h, errFormat
		}
	case typeFragment:
		if n < fragmentLen {
			return h, errFormat
		}
	default:
		return h, errFormat
	}
	return h, nil
}

// The parse functions below take a frame that parseHeader has accepted.

func parseHello(h header, frame []byte) hello {
	return hello{
		header:      h,
		newest:      frame[2],
		nonce:       nonce(frame[3:19]),
		echo:        nonce(frame[19:35]),
		boot:        binary.BigEndian.Uint32(frame[35:]),
		incarnation: binary.BigEndian.Uint16(frame[39:]),
	}
}

// sessionOf returns the session and the sequence number of a beat or fragment.
func sessionOf(frame []byte) (session uint16, seq uint32) {
	return binary.BigEndian.Uint16(frame[3:]), binary.BigEndian.Uint32(frame[5:])
}

func parseBeat(h header, frame []byte) beatFrame {
	session, seq := sessionOf(frame)
	flags := frame[2] // bits that are not known here are ignored
	b := beatFrame{
		header: h, session: session, seq: seq,
		ack:  uint24(frame[9:]),
		hold: time.Duration(uint24(frame[12:])) * holdUnit,
		Beat: Beat{
			HearsYou:    flags&flagHearsYou != 0,
			Leaving:     flags&flagLeaving != 0,
			Maintenance: flags&flagMaintenance != 0,
			Promised:    binary.BigEndian.Uint32(frame[21:]),
			Common:      binary.BigEndian.Uint32(frame[25:]),
			Config:      binary.BigEndian.Uint32(frame[29:]),
			HeldUnit:    frame[33],
			Held:        binary.BigEndian.Uint32(frame[34:]),
			Restarting:  time.Duration(binary.BigEndian.Uint16(frame[38:])) * time.Second,
			Losses:      frame[40],
		},
	}
	if h.version == 1 {
		b.Boot, b.Incarnation = binary.BigEndian.Uint32(frame[15:]), binary.BigEndian.Uint16(frame[19:])
	} else {
		b.prefers, b.said = binary.BigEndian.Uint32(frame[15:]), binary.BigEndian.Uint16(frame[19:])
	}
	return b
}

func parseFragment(h header, frame []byte) fragment {
	session, seq := sessionOf(frame)
	return fragment{
		header: h, kind: frame[2], session: session, seq: seq,
		id:     binary.BigEndian.Uint32(frame[9:]),
		offset: binary.BigEndian.Uint16(frame[13:]),
		total:  binary.BigEndian.Uint16(frame[15:]),
		data:   frame[fragmentLen : len(frame)-trailerLen],
	}
}

// BeatShare is the share of a serial line's capacity that beats take in one direction: 1 fills it. A byte takes ten
// bits.
func BeatShare(baud int, interval time.Duration) float64 {
	if baud <= 0 || interval <= 0 {
		return 1
	}
	return MaxBeatWire * 10 / float64(baud) / interval.Seconds()
}
