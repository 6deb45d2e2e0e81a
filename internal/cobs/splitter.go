package cobs

// AppendFrame appends the encoded form of frame between two delimiters. The leading one ends whatever garbage the
// line has carried before.
func AppendFrame(dst, frame []byte) []byte {
	return append(Append(append(dst, Delimiter), frame), Delimiter)
}

// WireLen is the number of bytes that AppendFrame appends for a frame of n bytes, at most.
func WireLen(n int) int { return MaxEncoded(n) + 2 }

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
		if b != Delimiter {
			if len(s.run) >= MaxEncoded(s.max) {
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
