//go:build !linux

package serial

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.bug.st/serial"
)

// otherPort wraps the library's port. One goroutine writes; a write that is stuck there is abandoned together with
// the port.
type otherPort struct {
	s       serial.Port
	jobs    chan []byte
	results chan error

	mu     sync.Mutex
	stuck  bool // a write has not returned: the port may not be closed under it
	closed bool
}

func openPort(device string, baud int) (Port, error) {
	mode := &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit}
	s, err := serial.Open(device, mode)
	if err != nil {
		return nil, fmt.Errorf("set %d baud, 8N1: %w", baud, err)
	}
	if err := s.SetReadTimeout(readTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("set the time-out of reads: %w", err), s.Close())
	}
	_ = s.ResetInputBuffer()
	p := &otherPort{s: s, jobs: make(chan []byte), results: make(chan error, 1)}
	go p.writer()
	return p, nil
}

// writer ends when jobs is closed, and closes the port if it was stuck when Close was called.
func (p *otherPort) writer() {
	for b := range p.jobs {
		n, err := p.s.Write(b)
		if err == nil && n < len(b) {
			err = errors.New("the line took only a part")
		}
		p.mu.Lock()
		p.stuck = false
		late := p.closed
		p.mu.Unlock()
		if late {
			_ = p.s.Close()
			return
		}
		p.results <- err
	}
}

func (p *otherPort) Read(b []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil { // the library's select panics for descriptors from 1024 on
			n, err = 0, fmt.Errorf("the serial library failed: %v", r)
		}
	}()
	n, err = p.s.Read(b)
	return max(n, 0), err
}

func (p *otherPort) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.stuck || p.closed {
		p.mu.Unlock()
		return 0, errors.New("the port is closed or stalled")
	}
	p.stuck = true
	p.mu.Unlock()
	p.jobs <- append([]byte(nil), b...)
	select {
	case err := <-p.results:
		if err != nil {
			return 0, err
		}
		return len(b), nil
	case <-time.After(stalledMax):
		return 0, fmt.Errorf("the line took nothing for %v", stalledMax)
	}
}

// Close leaves a port in which a write is stuck to its writer.
func (p *otherPort) Close() {
	p.mu.Lock()
	stuck := p.stuck
	p.closed = true
	p.mu.Unlock()
	if stuck {
		return
	}
	close(p.jobs)
	_ = p.s.Close()
}

// Lines reads the modem lines that the far end drives.
func (p *otherPort) Lines() Lines {
	b, err := p.s.GetModemStatusBits()
	if err != nil {
		return Lines{}
	}
	return Lines{Exist: true, CTS: b.CTS, DSR: b.DSR, DCD: b.DCD, RI: b.RI}
}

func (p *otherPort) Raise(up bool) error { return errors.Join(p.s.SetDTR(up), p.s.SetRTS(up)) }

func (p *otherPort) errorCounts() (errorCounts, bool) { return errorCounts{}, false }

func (p *otherPort) moved(string) bool { return false }
