package rsw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/internal/cobs"
)

// The protocol's constants, as in docs/protocols/rsw.md.
const (
	protocolVersion = 1
	maxPacket       = 240 // bytes before COBS, check included: one COBS overhead byte, one short frame on a slow line
	maxName         = 63
	maxText         = 120
	headerLen       = 10
	crcLen          = 4
	keyLen          = 10
	stateLen        = keyLen + 2
)

type command uint8

const (
	cmdInspect command = 1
	cmdSwap    command = 2
	cmdList    command = 3
	answerBit  command = 0x80
)

func (c command) String() string {
	switch c &^ answerBit {
	case cmdInspect:
		return "INSPECT"
	case cmdSwap:
		return "SWAP"
	case cmdList:
		return "LIST"
	}
	return fmt.Sprintf("command %d", uint8(c))
}

type status uint8

const (
	statusOK       status = 0
	statusConflict status = 1
	statusNoUnit   status = 2
	statusBad      status = 3
	statusFailed   status = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errMalformed = errors.New("malformed")

// WireKey is a unit's key as the protocol carries it: owners are ports, not servers.
type WireKey struct {
	Owner storage.Position // port to which the unit is connected
	N     uint32           // epoch
	Tag   uint32           // number of the last arbitration round won on this unit
	By    storage.Position // port of the server that won it
}

func (k WireKey) String() string {
	return fmt.Sprintf("{port %d epoch %d round %d by port %d}", k.Owner, k.N, k.Tag, k.By)
}

// WireState is what a switch says of one unit.
type WireState struct {
	Key      WireKey
	Position storage.Position
	LED      storage.LED
}

// request is one question. Unit is empty for LIST, First is LIST's only.
type request struct {
	cmd       command
	id        uint64
	unit      string
	old, next WireKey
	first     uint8
}

// answer is one answer. Which fields hold something depends on status and command.
type answer struct {
	cmd    command // without answerBit
	id     uint64
	status status
	state  WireState
	units  []string
	total  int
	text   string
}

// appendFrame appends the packet with its check, encoded, between two delimiters. The leading one ends whatever noise
// came before.
func appendFrame(dst, packet []byte) []byte {
	packet = binary.BigEndian.AppendUint32(packet, crc32.Checksum(packet, castagnoli))
	dst = append(dst, cobs.Delimiter)
	dst = cobs.Append(dst, packet)
	return append(dst, cobs.Delimiter)
}

// checked returns a packet without its check, or false when the check is wrong.
func checked(packet []byte) ([]byte, bool) {
	if len(packet) < headerLen+crcLen {
		return nil, false
	}
	body, sum := packet[:len(packet)-crcLen], packet[len(packet)-crcLen:]
	return body, crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(sum)
}

func appendHeader(dst []byte, cmd command, id uint64) []byte {
	dst = append(dst, protocolVersion, byte(cmd))
	return binary.BigEndian.AppendUint64(dst, id)
}

func appendKey(dst []byte, k WireKey) []byte {
	dst = append(dst, byte(k.Owner))
	dst = binary.BigEndian.AppendUint32(dst, k.N)
	dst = binary.BigEndian.AppendUint32(dst, k.Tag)
	return append(dst, byte(k.By))
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, byte(len(name)))
	return append(dst, name...)
}

func (r request) encode() []byte {
	p := appendHeader(make([]byte, 0, maxPacket), r.cmd, r.id)
	switch r.cmd {
	case cmdInspect:
		p = appendName(p, r.unit)
	case cmdSwap:
		p = appendKey(appendKey(appendName(p, r.unit), r.old), r.next)
	case cmdList:
		p = append(p, r.first)
	}
	return appendFrame(nil, p)
}

// decodeRequest reads a checked packet. On errMalformed the id and command are right all the same, so that BAD can be
// answered.
func decodeRequest(p []byte) (request, error) {
	r := request{cmd: command(p[1]), id: binary.BigEndian.Uint64(p[2:headerLen])}
	if p[0] != protocolVersion {
		return r, fmt.Errorf("%w: version %d, this switch speaks %d", errMalformed, p[0], protocolVersion)
	}
	d := decoder{p: p[headerLen:]}
	switch r.cmd {
	case cmdInspect:
		r.unit = d.name()
	case cmdSwap:
		r.unit, r.old, r.next = d.name(), d.key(), d.key()
	case cmdList:
		r.first = d.byte()
	default:
		return r, fmt.Errorf("%w: %v is not known", errMalformed, r.cmd)
	}
	return r, d.end()
}

func (a answer) encode() []byte {
	p := appendHeader(make([]byte, 0, maxPacket), a.cmd|answerBit, a.id)
	p = append(p, byte(a.status))
	switch {
	case a.status == statusOK && a.cmd == cmdList:
		p = append(p, byte(a.total))
		for _, u := range a.units {
			if len(p)+1+len(u)+crcLen > maxPacket {
				break // the rest is asked for with a higher first
			}
			p = appendName(p, u)
		}
	case a.status == statusOK || a.status == statusConflict:
		p = appendKey(p, a.state.Key)
		p = append(p, byte(a.state.Position), ledCode(a.state.LED))
	case a.status == statusBad || a.status == statusFailed:
		p = append(p, strings.ToValidUTF8(a.text[:min(len(a.text), maxText)], "")...)
	}
	return appendFrame(nil, p)
}

func decodeAnswer(p []byte) (answer, error) {
	a := answer{cmd: command(p[1]) &^ answerBit, id: binary.BigEndian.Uint64(p[2:headerLen])}
	if p[0] != protocolVersion || command(p[1])&answerBit == 0 {
		return a, fmt.Errorf("%w: not an answer of version %d", errMalformed, protocolVersion)
	}
	d := decoder{p: p[headerLen:]}
	a.status = status(d.byte())
	switch {
	case a.status == statusOK && a.cmd == cmdList:
		a.total = int(d.byte())
		for len(d.p) > 0 && !d.bad {
			a.units = append(a.units, d.name())
		}
	case a.status == statusOK || a.status == statusConflict:
		a.state = WireState{Key: d.key(), Position: d.port(), LED: d.led()}
	case a.status == statusBad || a.status == statusFailed:
		a.text = string(d.p)
		d.p = nil
		if !utf8.ValidString(a.text) || len(a.text) > maxText {
			d.bad = true
		}
	case a.status != statusNoUnit:
		d.bad = true
	}
	return a, d.end()
}

// decoder takes fields off the front of a packet and remembers whether one was wrong.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.p) {
		d.bad = true
		return make([]byte, n)
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) port() storage.Position {
	p := storage.Position(d.byte())
	if p != storage.Disconnected && p != storage.Port1 && p != storage.Port3 {
		d.bad = true
	}
	return p
}

func (d *decoder) led() storage.LED {
	switch d.byte() {
	case 0:
		return storage.LEDOff
	case 1:
		return storage.LEDGreen
	case 2:
		return storage.LEDAmber
	}
	d.bad = true
	return storage.LEDOff
}

func (d *decoder) key() WireKey {
	return WireKey{
		Owner: d.port(),
		N:     binary.BigEndian.Uint32(d.take(4)),
		Tag:   binary.BigEndian.Uint32(d.take(4)),
		By:    d.port(),
	}
}

func (d *decoder) name() string {
	n := string(d.take(int(d.byte())))
	if !d.bad && checkName(n) != nil {
		d.bad = true
	}
	return n
}

func (d *decoder) end() error {
	if d.bad || len(d.p) > 0 {
		return fmt.Errorf("%w: fields do not fit", errMalformed)
	}
	return nil
}

func ledCode(l storage.LED) byte {
	switch l {
	case storage.LEDGreen:
		return 1
	case storage.LEDAmber:
		return 2
	}
	return 0
}

// checkName says what is wrong with a unit's name.
func checkName(n string) error {
	if n == "" || len(n) > maxName || !utf8.ValidString(n) {
		return fmt.Errorf("unit name %q must be 1 to %d bytes of UTF-8", n, maxName)
	}
	for _, r := range n {
		if r < ' ' || r == 0x7F {
			return fmt.Errorf("unit name %q must not hold control characters", n)
		}
	}
	return nil
}
