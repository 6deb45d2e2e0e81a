package interconnect

import (
	"errors"
	"fmt"
)

// What Send may answer.
var (
	ErrNoSession = errors.New("no session with the partner: it has not proved the key yet, or was never heard")
	ErrNoLink    = errors.New("no link on which the partner was heard within the time-out")
	ErrBusy      = errors.New("too much waits on the link already")
)

// maxPartial is how many messages may be incomplete at a time: with MaxMessage the bound of the memory for them.
const maxPartial = 8

// deliveredLen is for how many messages before the newest it is known whether they have arrived.
const deliveredLen = 1024

func (m *Message) valid() error {
	if m.Kind == 0 || len(m.Body) > MaxMessage {
		return fmt.Errorf("message of kind %d with %d bytes: a kind of 1 to 255 and at most %d bytes would be right",
			m.Kind, len(m.Body), MaxMessage)
	}
	return nil
}

// fragments cuts a message into pieces of at most size bytes, at least one. The caller fills in what belongs to the
// session.
func fragments(m Message, id uint32, size int) []fragment {
	var fs []fragment
	for off := 0; off == 0 || off < len(m.Body); off += size {
		fs = append(fs, fragment{
			kind: m.Kind, id: id, offset: uint16(off), total: uint16(len(m.Body)),
			data: m.Body[off:min(off+size, len(m.Body))],
		})
	}
	return fs
}

// reassembly puts the fragments of one session together again. Each message comes out once.
type reassembly struct {
	partial   []*partial // oldest first
	newest    uint32     // newest message that was delivered
	delivered [deliveredLen]bool
}

type partial struct {
	id      uint32
	kind    uint8
	body    []byte
	have    []bool // by byte: fragments may come in any order and of any size
	missing int
}

// add takes an authentic fragment, and returns the message that it completes.
func (r *reassembly) add(f *fragment) (Message, bool, error) {
	if f.kind == 0 || int(f.total) > MaxMessage || int(f.offset)+len(f.data) > int(f.total) ||
		len(f.data) == 0 && f.total > 0 {
		return Message{}, false, fmt.Errorf("%w: fragment of %d bytes at %d of %d", errFormat, len(f.data), f.offset, f.total)
	}
	if r.done(f.id) {
		return Message{}, false, nil
	}
	p := r.find(f)
	if p.kind != f.kind || len(p.body) != int(f.total) {
		return Message{}, false, fmt.Errorf("%w: fragments of message %d differ in kind or length", errFormat, f.id)
	}
	for i, b := range f.data {
		at := int(f.offset) + i
		if !p.have[at] {
			p.have[at], p.body[at] = true, b
			p.missing--
		}
	}
	if p.missing > 0 {
		return Message{}, false, nil
	}
	r.drop(p)
	r.deliver(f.id)
	return Message{Kind: p.kind, Body: p.body}, true, nil
}

func (r *reassembly) find(f *fragment) *partial {
	for _, p := range r.partial {
		if p.id == f.id {
			return p
		}
	}
	if len(r.partial) >= maxPartial {
		r.drop(r.partial[0])
	}
	n := int(f.total)
	p := &partial{id: f.id, kind: f.kind, body: make([]byte, n), have: make([]bool, n), missing: n}
	r.partial = append(r.partial, p)
	return p
}

func (r *reassembly) drop(p *partial) {
	for i := range r.partial {
		if r.partial[i] == p {
			r.partial = append(r.partial[:i:i], r.partial[i+1:]...)
			return
		}
	}
}

// done says whether a message was delivered, or is so old that it may have been.
func (r *reassembly) done(id uint32) bool {
	if id == 0 {
		return true
	}
	if id > r.newest {
		return false
	}
	return r.newest-id >= deliveredLen || r.delivered[id%deliveredLen]
}

func (r *reassembly) deliver(id uint32) {
	if id > r.newest {
		for n := min(id-r.newest, deliveredLen); n > 0; n-- {
			r.delivered[(id-n+1)%deliveredLen] = false
		}
		r.newest = id
	}
	r.delivered[id%deliveredLen] = true
}
