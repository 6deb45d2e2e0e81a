package ledger

import (
	"sync"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// renewEvery bounds how long renewals are held back to be written as one entry.
const renewEvery = time.Minute

// Recorder writes one server's ledger. Its methods may be called from several goroutines and never wait for the disk.
// A nil Recorder writes nothing.
type Recorder struct {
	o Options

	mu    sync.Mutex
	units []unitState
}

// unitState is what the ledger knows of a unit.
type unitState struct {
	known bool
	key   failover.Key  // newest that the switch has shown
	own   failover.Key  // newest of these that was this server's; the zero key: none
	lower *failover.Key // one with a lower epoch, seen once: an answer that was overtaken, or a switch that ran backwards
	renew *Entry        // renewals that are not written yet
	since time.Time     // of the first of them
}

// New begins a ledger's part for one run of the agent.
func New(o Options) *Recorder {
	r := &Recorder{o: o, units: make([]unitState, len(o.Units))}
	r.write(Entry{Kind: Started})
	return r
}

// write hands an entry to the log. The caller holds mu, or is the only one.
func (r *Recorder) write(e Entry) {
	e.Server, e.Boot, e.Incarnation = r.o.name(r.o.Self), r.o.Boot, r.o.Incarnation
	if e.At.IsZero() {
		e.At = time.Now()
	}
	r.o.Log.Note(e.encode())
}

func (r *Recorder) entry(kind Kind, unit int, op uint64) Entry {
	return Entry{Record: store.Record{Group: r.o.Units[unit].Group, Op: op}, Kind: kind, Unit: r.o.Units[unit].Name}
}

// flush writes the renewals of a unit that were held back.
func (r *Recorder) flush(unit int) {
	if u := &r.units[unit]; u.renew != nil {
		r.write(*u.renew)
		u.renew = nil
	}
}

// renewal: the owner's key is swapped for a newer one, and nothing else changes.
func renewal(old, next failover.Key) bool {
	return old.Owner == next.Owner && old.Tag == next.Tag && old.By == next.By && old.Owner != failover.Nobody
}

// Ask notes that a swap is about to be asked for. Renewals are not noted: they change no owner.
func (r *Recorder) Ask(unit int, op uint64, old, next failover.Key) {
	if r == nil || renewal(old, next) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush(unit)
	kind := Asked
	if next.Owner == failover.Nobody {
		kind = ReleaseAsked
	}
	e := r.entry(kind, unit, op)
	e.Before, e.After = r.o.key(old), r.o.key(next)
	r.write(e)
}

// Swapped notes that a swap was carried out and what was read back.
func (r *Recorder) Swapped(unit int, op uint64, old, back failover.Key) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u := &r.units[unit]
	r.learn(u, newer(u, back))
	if renewal(old, back) {
		r.renewed(unit, op, old, back)
		return
	}
	r.flush(unit)
	kind := Granted
	if back.Owner == failover.Nobody {
		kind = Released
	}
	e := r.entry(kind, unit, op)
	e.Before, e.After = r.o.key(old), r.o.key(back)
	r.write(e)
}

// learn takes the newest key of a unit.
func (r *Recorder) learn(u *unitState, k failover.Key) {
	u.known, u.key, u.lower = true, k, nil
	if k.Owner == r.o.Self {
		u.own = k
	}
}

func newer(u *unitState, k failover.Key) failover.Key {
	if u.known && u.key.N > k.N {
		return u.key
	}
	return k
}

// renewed collects renewals that follow one another.
func (r *Recorder) renewed(unit int, op uint64, old, back failover.Key) {
	u := &r.units[unit]
	now := time.Now()
	if u.renew != nil && (u.renew.After.Epoch != old.N || now.Sub(u.since) >= renewEvery) {
		r.flush(unit)
	}
	if u.renew == nil {
		e := r.entry(Renewed, unit, op)
		e.Before = r.o.key(old)
		u.renew, u.since = &e, now
	}
	u.renew.After, u.renew.At, u.renew.Op = r.o.key(back), now, op
	u.renew.Count++
}

// Refused notes that a swap met another key than the expected one.
func (r *Recorder) Refused(unit int, op uint64, old, found failover.Key) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.flush(unit)
	e := r.entry(Refused, unit, op)
	e.Before, e.After = r.o.key(old), r.o.key(found)
	r.write(e)
	r.mu.Unlock()
	r.Saw(unit, found)
}

// Unanswered notes that nobody knows whether a swap was carried out.
func (r *Recorder) Unanswered(unit int, op uint64, old, next failover.Key, why string) {
	if r == nil || renewal(old, next) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush(unit)
	e := r.entry(Unanswered, unit, op)
	e.Before, e.Text = r.o.key(old), why
	r.write(e)
}

// Saw takes every key that the switch shows, and notes what is new: the first of a run, and a change of owner.
func (r *Recorder) Saw(unit int, k failover.Key) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u := &r.units[unit]
	kind := Seen
	switch {
	case !u.known:
	case k == u.key:
		u.lower = nil
		return
	case k.N < u.key.N && (u.lower == nil || *u.lower != k):
		u.lower = &k // an answer that a newer one has overtaken; a second one like it would be the switch's word
		return
	case u.key.Owner == r.o.Self && k.Owner != r.o.Self:
		kind = Revoked
	case k.N > u.key.N && k.Owner == u.key.Owner && k.Owner == r.o.Self.Other():
		u.key = k // the partner renews: its ledger has that
		return
	}
	r.flush(unit)
	e := r.entry(kind, unit, 0)
	if u.known {
		e.Before = r.o.key(u.key)
	}
	e.After = r.o.key(k)
	r.learn(u, k)
	r.write(e)
}

// Group notes for all units of a group that it is about to be attached, is detached, or is cleared.
func (r *Recorder) Group(kind Kind, group string, op uint64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.o.Units {
		if r.o.Units[i].Group != group {
			continue
		}
		r.flush(i)
		e := r.entry(kind, i, op)
		switch u := &r.units[i]; {
		case u.own.Owner == r.o.Self: // the grant that is acted on, also when it has been lost in this very moment
			e.After = r.o.key(u.own)
		case u.known:
			e.After = r.o.key(u.key)
		}
		r.write(e)
	}
}

// Close writes what was held back. The log must still be open.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.units {
		r.flush(i)
	}
}
