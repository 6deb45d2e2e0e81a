// Package cobs turns frames into bytes that hold no zero, and a stream of bytes back into frames (Consistent
// Overhead Byte Stuffing, Cheshire and Baker 1999), so that a reader finds the next frame again after any garbage.
//
// It must never fail on any input: what is no frame is counted and skipped.
package cobs

import "errors"

// ErrMalformed says that bytes between two delimiters are no encoded frame.
var ErrMalformed = errors.New("cobs: not an encoded frame")

// AppendFrame appends the encoded form of frame between two zero delimiters. The leading one ends whatever garbage
// the line has carried before.
func AppendFrame(dst, frame []byte) []byte {
	dst = append(dst, 0)
	dst = appendEncoded(dst, frame)
	return append(dst, 0)
}

// WireLen is the number of bytes that AppendFrame appends for a frame of n bytes, at most.
func WireLen(n int) int { return n + n/254 + 1 + 2 }

func appendEncoded(dst, src []byte) []byte {
	code := len(dst)
	dst = append(dst, 1)
	for i, b := range src {
		if b != 0 {
			dst = append(dst, b)
			dst[code]++
		}
		if b == 0 || dst[code] == 0xff && i+1 < len(src) {
			code = len(dst)
			dst = append(dst, 1)
		}
	}
	return dst
}

// Decode appends the decoded form of src, which holds no delimiters, to dst.
func Decode(dst, src []byte) ([]byte, error) {
	for len(src) > 0 {
		n := int(src[0])
		if n == 0 || n > len(src) {
			return dst, ErrMalformed
		}
		for _, b := range src[1:n] {
			if b == 0 {
				return dst, ErrMalformed
			}
			dst = append(dst, b)
		}
		src = src[n:]
		if n < 0xff && len(src) > 0 {
			dst = append(dst, 0)
		}
	}
	return dst, nil
}

// Splitter cuts a stream of bytes into frames of at most max bytes. Its memory is bounded by max.
type Splitter struct {
	max     int
	run     []byte // bytes since the last delimiter
	tooLong bool
	// Garbage counts the runs of bytes between delimiters that were no frame.
	Garbage uint64
}

// NewSplitter returns a Splitter for frames of 1 to max bytes.
func NewSplitter(max int) *Splitter {
	return &Splitter{max: max, run: make([]byte, 0, WireLen(max))}
}

// Reset forgets a frame that has begun: the line was opened anew.
func (s *Splitter) Reset() { s.run, s.tooLong = s.run[:0], false }

// Feed takes the next bytes of the stream and calls frame for each whole frame in them, with memory of its own.
func (s *Splitter) Feed(p []byte, frame func([]byte)) {
	for _, b := range p {
		if b != 0 {
			if len(s.run) >= WireLen(s.max)-2 {
				s.tooLong = true
				continue
			}
			s.run = append(s.run, b)
			continue
		}
		s.end(frame)
	}
}

func (s *Splitter) end(frame func([]byte)) {
	defer s.Reset()
	if len(s.run) == 0 {
		return // two delimiters side by side
	}
	if s.tooLong {
		s.Garbage++
		return
	}
	f, err := Decode(make([]byte, 0, len(s.run)), s.run)
	if err != nil || len(f) == 0 || len(f) > s.max {
		s.Garbage++
		return
	}
	frame(f)
}
