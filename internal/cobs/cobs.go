// Package cobs frames packets on a byte stream with Consistent Overhead Byte Stuffing (Cheshire and Baker, SIGCOMM
// 1997): a packet is rewritten so that it holds no zero byte, and zero bytes delimit packets. A reader that starts
// anywhere, or after noise, is in step again at the next zero.
//
// It must never vouch for what a frame holds: a damaged frame may decode to other bytes, so frames carry a check of
// their own.
package cobs

import (
	"bufio"
	"errors"
	"io"
)

// Delimiter is the byte between two frames; no encoded frame holds it.
const Delimiter = 0x00

// ErrFrame says that bytes are not an encoded packet: empty, cut short, or with a zero inside.
var ErrFrame = errors.New("cobs: not an encoded packet")

// MaxEncoded returns the most bytes that n bytes take when encoded, delimiters not counted.
func MaxEncoded(n int) int { return n + n/254 + 1 }

// Append appends the encoded form of packet to dst and returns the extended slice. It adds no delimiter.
// packet and dst must not overlap.
func Append(dst, packet []byte) []byte {
	code := len(dst) // where the length of the run under way goes
	dst = append(dst, 0)
	run := byte(1)
	for i, b := range packet {
		if b != 0 {
			dst = append(dst, b)
			run++
		}
		if b == 0 || run == 0xFF {
			dst[code] = run
			if b != 0 && i == len(packet)-1 {
				return dst // a full run at the very end needs no empty one behind it
			}
			code = len(dst)
			dst = append(dst, 0)
			run = 1
		}
	}
	dst[code] = run
	return dst
}

// Decode appends the packet that frame encodes to dst and returns the extended slice. frame holds no delimiters. On
// ErrFrame the returned slice is dst.
func Decode(dst, frame []byte) ([]byte, error) {
	if len(frame) == 0 {
		return dst, ErrFrame
	}
	out := dst
	for i := 0; i < len(frame); {
		run := int(frame[i])
		if run == 0 || i+run > len(frame) {
			return dst, ErrFrame
		}
		for _, b := range frame[i+1 : i+run] {
			if b == 0 {
				return dst, ErrFrame
			}
			out = append(out, b)
		}
		i += run
		if run < 0xFF && i < len(frame) {
			out = append(out, 0)
		}
	}
	return out, nil
}

// Reader takes frames out of a byte stream.
type Reader struct {
	r       *bufio.Reader
	max     int
	frame   []byte
	packet  []byte
	garbage uint64
}

// NewReader returns a reader of packets of at most maxPacket bytes. Runs that are longer or not decodable are skipped.
func NewReader(r io.Reader, maxPacket int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 512), max: maxPacket}
}

// Next returns the next packet; its bytes are valid until the following call. Errors are those of the stream; bytes
// behind the last delimiter of a stream that ends are no frame.
func (r *Reader) Next() ([]byte, error) {
	r.frame = r.frame[:0]
	overlong := false
	for {
		b, err := r.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if b != Delimiter {
			if len(r.frame) == MaxEncoded(r.max) {
				overlong = true
				continue
			}
			r.frame = append(r.frame, b)
			continue
		}
		if len(r.frame) == 0 {
			continue
		}
		packet, err := Decode(r.packet[:0], r.frame)
		r.frame = r.frame[:0]
		if err != nil || overlong || len(packet) > r.max {
			overlong = false
			r.garbage++
			continue
		}
		r.packet = packet
		return packet, nil
	}
}

// Garbage counts the runs of bytes between delimiters that were no packet, since the start.
func (r *Reader) Garbage() uint64 { return r.garbage }
