package sim

import (
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// memory is a server's ledger of ownership, on a disk that never fails.
type memory struct {
	h       *host
	records []store.Record
}

// Note takes a record as core/store does.
func (m *memory) Note(r store.Record) {
	r.Pos, r.At = uint64(len(m.records)+1), m.h.time()
	m.records = append(m.records, r)
}

// openLedger begins the part of a server's ledger that one run of its agent writes; nil when none is kept.
func (w *world) openLedger(h *host, incarnation int) *ledger.Recorder {
	if w.ledgers == nil {
		return nil
	}
	m := &w.ledgers[h.i]
	m.h = h
	o := ledger.Options{Log: m, Self: h.id, Boot: h.bootID, Incarnation: incarnation,
		Servers: [2]string{h.cfg.Servers[0].Name, h.cfg.Servers[1].Name}}
	for _, u := range h.cfg.Units() {
		o.Units = append(o.Units, ledger.Unit{Name: u.Storage.Name, Group: h.groupName(u.Group)})
	}
	return ledger.New(o)
}

func (h *host) groupName(g int) string { return h.cfg.Groups[g].Name }

// wroteDown writes a command's outcome into the ledger, as core/node does.
func (h *host) wroteDown(c *command) {
	switch l := h.ledger; {
	case !c.isSwap && c.known:
		l.Saw(c.unit, c.key)
	case !c.isSwap:
	case !c.known:
		l.Unanswered(c.unit, c.a.Op, c.swap.Old, c.swap.New, "no answer")
	case c.hit:
		l.Swapped(c.unit, c.a.Op, c.swap.Old, c.key)
	default:
		l.Refused(c.unit, c.a.Op, c.swap.Old, c.key)
	}
}
