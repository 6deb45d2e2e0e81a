package ledger_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// memory is a log without a disk.
type memory struct {
	records []store.Record
	at      *time.Time
}

func (m *memory) Note(r store.Record) {
	*m.at = m.at.Add(time.Millisecond)
	r.Pos, r.At = uint64(len(m.records)+1), *m.at
	m.records = append(m.records, r)
}

// world is two servers with ledgers at a switch that holds what it was given: compare-and-swap, unless it is broken.
type world struct {
	r      *rand.Rand
	at     time.Time
	keys   []failover.Key
	logs   [2]*memory
	rec    [2]*ledger.Recorder
	boot   [2]int
	runs   [2]int
	mounts [2][]bool
	broken bool // the switch obeys swaps whose old key is not the one it holds
	op     uint64
	known  [2][]failover.Key // as each server read it last
}

var units = []ledger.Unit{{Name: "storage1", Group: "apollo"}, {Name: "storage2", Group: "rocky"}}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 77)), at: time.Date(2026, 11, 23, 17, 37, 5, 0, time.UTC)}
	w.keys = make([]failover.Key, len(units))
	for s := range w.logs {
		w.logs[s] = &memory{at: &w.at}
		w.mounts[s] = make([]bool, len(units))
		w.known[s] = make([]failover.Key, len(units))
		w.start(s)
	}
	return w
}

func (w *world) start(s int) {
	w.runs[s]++
	w.rec[s] = ledger.New(ledger.Options{Log: w.logs[s], Self: failover.Server(s + 1), Servers: [2]string{"rocky", "apollo"},
		Units: units, Boot: fmt.Sprint("boot-", s, "-", w.boot[s]), Incarnation: w.runs[s]})
}

func (w *world) read(s, u int) failover.Key {
	w.rec[s].Saw(u, w.keys[u])
	w.known[s][u] = w.keys[u]
	return w.keys[u]
}

// swap asks the switch; quiet loses its answer.
func (w *world) swap(s, u int, old, next failover.Key, quiet bool) bool {
	w.op++
	rec := w.rec[s]
	rec.Ask(u, w.op, old, next)
	if w.keys[u] != old && !w.broken {
		if quiet {
			rec.Unanswered(u, w.op, old, next, "no answer")
		} else {
			rec.Refused(u, w.op, old, w.keys[u])
		}
		return false
	}
	w.keys[u] = next
	if quiet {
		rec.Unanswered(u, w.op, old, next, "no answer")
		return false
	}
	rec.Swapped(u, w.op, old, next)
	return true
}

func (w *world) mount(s, u int) {
	w.rec[s].Group(ledger.Attach, units[u].Group, 0)
	w.mounts[s][u] = true
}

func (w *world) unmount(s, u int, kind ledger.Kind) {
	w.rec[s].Group(kind, units[u].Group, 0)
	w.mounts[s][u] = false
}

// turn lets one server do one thing that the decision would do.
func (w *world) turn() {
	s, u := w.r.IntN(2), w.r.IntN(len(units))
	self, quiet := failover.Server(s+1), w.r.IntN(12) == 0
	switch w.r.IntN(30) {
	case 0: // the agent is killed and started again; renewals that were held back are lost
		w.start(s)
		return
	case 1: // the server loses its power
		w.boot[s]++
		for i := range w.mounts[s] {
			w.mounts[s][i] = false
		}
		w.start(s)
		return
	case 2: // an orderly restart
		w.rec[s].Close()
		w.start(s)
		return
	}
	key := w.read(s, u)
	switch {
	case key.Owner != self && w.mounts[s][u]:
		w.unmount(s, u, ledger.Cleared)
	case key.Owner == failover.Nobody:
		if w.swap(s, u, key, key.Claimed(self), quiet) {
			w.mount(s, u)
		}
	case key.Owner == self && !w.mounts[s][u] && w.r.IntN(4) == 0:
		w.swap(s, u, key, key.Released(), quiet)
	case key.Owner == self && !w.mounts[s][u]:
		w.mount(s, u)
	case key.Owner == self && w.r.IntN(6) == 0: // given away
		w.unmount(s, u, ledger.Detached)
		w.swap(s, u, key, key.Released(), quiet)
	case key.Owner == self:
		for range w.r.IntN(5) {
			key = w.keys[u]
			w.swap(s, u, key, key.Claimed(self), false)
		}
	case w.r.IntN(8) == 0: // the partner is lost: taken from it
		if w.swap(s, u, key, key.Won(self, key.Tag+1), quiet) {
			w.mount(s, u)
		}
	}
}

// ledgers reads what was written.
func (w *world) ledgers() (a, b *ledger.Ledger) {
	for _, r := range w.rec {
		r.Close()
	}
	return w.ledger(0), w.ledger(1)
}

func (w *world) ledger(s int) *ledger.Ledger {
	return ledger.FromContents(fmt.Sprint(s, ".log"), store.Contents{Records: w.logs[s].records})
}

// owners is the history of one unit as the switch made it: each epoch's owner.
func run(seed uint64, turns int) *world {
	w := newWorld(seed)
	for range turns {
		w.turn()
	}
	return w
}

func mustVerdict(t *testing.T, want ledger.Verdict, r *ledger.Report) {
	t.Helper()
	if r.Verdict != want {
		t.Fatalf("the audit says %s, wanted %s\n%s", r.Verdict, want, r)
	}
}

// edit changes the newest entry of a kind in a server's ledger, as a broken agent or switch would have written it.
func (w *world) edit(t *testing.T, s int, kind ledger.Kind, change func(*ledger.Entry)) {
	t.Helper()
	for i := len(w.logs[s].records) - 1; i >= 0; i-- {
		r := &w.logs[s].records[i]
		if r.Step != string(kind) {
			continue
		}
		e, err := ledger.Decode(*r)
		if err != nil {
			t.Fatal(err)
		}
		change(&e)
		if r.Body, err = json.Marshal(&e); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("server %d has no entry %q", s, kind)
}
