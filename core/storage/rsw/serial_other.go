//go:build !linux

package rsw

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.bug.st/serial"
)

// openSerial opens a serial port raw, at 8N1. The operating system opens it for one program at a time.
func openSerial(path string, baud int) (stream, error) {
	p, err := serial.Open(path, &serial.Mode{BaudRate: baud})
	if err != nil {
		return nil, fmt.Errorf("serial port %s: %w", path, err)
	}
	return &port{p: p}, nil
}

// port gives a serial port a write deadline.
type port struct {
	p        serial.Port
	deadline atomic.Pointer[time.Time]
}

func (s *port) Read(b []byte) (int, error) {
	n, err := s.p.Read(b)
	if n < 0 {
		n = 0
	}
	return n, err
}

func (s *port) SetWriteDeadline(t time.Time) error {
	s.deadline.Store(&t)
	return nil
}

// Write abandons a write that does not end in time; the port is unusable then, and its user closes it, which ends that
// write on Windows.
func (s *port) Write(b []byte) (int, error) {
	t := s.deadline.Load()
	if t == nil || t.IsZero() {
		return s.p.Write(b)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	own := append([]byte(nil), b...)
	go func() {
		n, err := s.p.Write(own)
		done <- result{n, err}
	}()
	timer := time.NewTimer(time.Until(*t))
	defer timer.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-timer.C:
		return 0, errors.Join(os.ErrDeadlineExceeded, errors.New("the serial line takes no bytes"))
	}
}

func (s *port) Close() error { return s.p.Close() }
