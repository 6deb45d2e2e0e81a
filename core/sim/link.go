package sim

import (
	"time"

	"github.com/orscore/ors/core/interconnect"
)

// link is one link of the interconnect: what happens to frames on their way.
type link struct {
	index int
	kind  string
	rate  time.Duration    // that a byte takes on the line
	cut   [2]time.Duration // until when, by sender
	// faults, until when and how often
	lost, doubled, reordered, delayed, garbled, replayed, reflected rated
	old                                                             [2][]*packet // frames kept to be sent again
	busy                                                            [2]time.Duration
}

type rated struct {
	until time.Duration
	rate  float64
}

func newLink(i int, kind string) *link {
	l := &link{index: i, kind: kind}
	if kind == "serial" {
		l.rate = 87 * time.Microsecond // 115200 baud
	}
	return l
}

// maxFrame of a link, as the real ones have it.
func (l *link) maxFrame() int {
	if l.kind == "serial" {
		return 61
	}
	return 1400
}

// packet is a frame on its way.
type packet struct {
	link int
	to   int
	data []byte
	kept bool // somebody still needs data
}

func (w *world) packet(link, to int, data []byte) *packet {
	var p *packet
	if n := len(w.free); n > 0 {
		p, w.free = w.free[n-1], w.free[:n-1]
	} else {
		p = &packet{}
	}
	p.link, p.to, p.kept = link, to, false
	p.data = append(p.data[:0], data...)
	return p
}

func (w *world) recycle(p *packet) {
	if !p.kept {
		w.free = append(w.free, p)
	}
}

func (w *world) happens(r *rated) bool {
	return w.now < r.until && w.lineChance.Float64() < r.rate
}

// transmit puts a frame on a link.
func (w *world) transmit(from *host, l *link, data []byte) {
	if w.now < l.cut[from.i] || w.happens(&l.lost) {
		return
	}
	d := 50*time.Microsecond + time.Duration(w.lineChance.Int64N(int64(400*time.Microsecond)))
	if l.rate > 0 { // a line carries one byte after the other
		start := max(w.now, l.busy[from.i])
		l.busy[from.i] = start + l.rate*time.Duration(len(data)+3)
		d += l.busy[from.i] - w.now
	}
	if w.happens(&l.reordered) {
		d += time.Duration(w.lineChance.Int64N(int64(w.s.Pair.Interval.of()) * 2))
	}
	if w.happens(&l.delayed) {
		d += time.Duration(w.lineChance.Int64N(int64(w.s.Pair.Timeout.of()) * 2))
	}
	p := w.packet(l.index, 1-from.i, data)
	if w.happens(&l.garbled) {
		p.data[w.lineChance.IntN(len(p.data))] ^= 1 << w.lineChance.IntN(8)
	}
	w.carry(p, d)
	if w.now < l.replayed.until {
		w.replay(from, l, p)
	}
	if w.happens(&l.doubled) {
		w.carry(w.packet(l.index, p.to, p.data), d+time.Duration(w.lineChance.Int64N(int64(100*time.Millisecond))))
	}
	if w.happens(&l.reflected) {
		w.carry(w.packet(l.index, from.i, p.data), 2*d)
	}
}

// replay keeps some frames and sends some of those kept again.
func (w *world) replay(from *host, l *link, p *packet) {
	const keep = 64
	kept := &l.old[from.i]
	if len(*kept) < keep {
		q := w.packet(p.link, p.to, p.data)
		q.kept = true
		*kept = append(*kept, q)
	} else if w.lineChance.IntN(4) == 0 {
		old := (*kept)[w.lineChance.IntN(keep)]
		old.data = append(old.data[:0], p.data...)
	}
	if w.happens(&l.replayed) {
		old := (*kept)[w.lineChance.IntN(len(*kept))]
		w.carry(w.packet(old.link, old.to, old.data), time.Millisecond)
	}
}

func (w *world) carry(p *packet, d time.Duration) {
	w.q.push(happening{at: w.now + d, what: frame, server: uint8(p.to), packet: p})
}

// cutAll cuts all links in the direction from a server, or in both for 0.
func (w *world) cutAll(from int, until time.Duration) {
	for _, l := range w.links {
		for d := range l.cut {
			if from == 0 || from == d+1 {
				l.cut[d] = until
			}
		}
	}
}

// lines is what a server sees of the modem lines: those of a whole cable to a port that is open.
func (l *link) lines(w *world, h *host) interconnect.Lines {
	switch {
	case !w.s.Pair.Lines || l.kind != "serial":
		return interconnect.LinesNone
	case w.other(h).up && w.now >= max(l.cut[0], l.cut[1]):
		return interconnect.LinesUp
	}
	return interconnect.LinesDropped
}

// heal mends the link.
func (l *link) heal() {
	l.cut = [2]time.Duration{}
	for _, r := range []*rated{&l.lost, &l.doubled, &l.reordered, &l.delayed, &l.garbled, &l.replayed, &l.reflected} {
		*r = rated{}
	}
}
