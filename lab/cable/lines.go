//go:build linux

package cable

import (
	"sync"

	"github.com/orscore/ors/core/interconnect/serial"
)

// Wiring says how a cable joins the modem lines of its two ends.
type Wiring int

// The wirings.
const (
	Full   Wiring = iota // DTR of one end is DSR and DCD of the other, RTS is CTS
	Three                // no line is joined
	Looped               // in each plug, the end's own lines are joined
	Held                 // each end's lines are tied to power
)

// Lines stands for the modem lines of a cable. A pseudo-terminal has none, so these are not carried by the kernel: a
// port that is wrapped reports and drives them, for a program that runs in the same process.
type Lines struct {
	wiring Wiring
	mu     sync.Mutex
	up     [2]bool
}

// NewLines returns the lines of a cable, all down.
func NewLines(w Wiring) *Lines { return &Lines{wiring: w} }

// Wrap gives a port of the cable its lines.
func (l *Lines) Wrap(e End, p serial.Port) serial.Port { return &linedPort{p, l, e} }

type linedPort struct {
	serial.Port
	lines *Lines
	end   End
}

func (p *linedPort) Raise(up bool) error {
	p.lines.mu.Lock()
	defer p.lines.mu.Unlock()
	p.lines.up[p.end] = up
	return nil
}

func (p *linedPort) Lines() serial.Lines {
	p.lines.mu.Lock()
	defer p.lines.mu.Unlock()
	on := map[Wiring]bool{Full: p.lines.up[1-p.end], Three: false, Looped: p.lines.up[p.end], Held: true}[p.lines.wiring]
	return serial.Lines{Exist: true, CTS: on, DSR: on, DCD: on}
}
