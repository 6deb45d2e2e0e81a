package ledger_test

import (
	"sync"
	"testing"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
)

// kinds are the entries that a server has written about units.
func (w *world) kinds(t *testing.T, s int) (out []ledger.Kind) {
	t.Helper()
	for _, r := range w.logs[s].records {
		e, err := ledger.Decode(r)
		if err != nil {
			t.Fatal(err)
		}
		if e.Unit != "" {
			out = append(out, e.Kind)
		}
	}
	return out
}

func wantKinds(t *testing.T, got []ledger.Kind, want ...ledger.Kind) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("entries are %v, wanted %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("entries are %v, wanted %v", got, want)
		}
	}
}

// TestOnlyNewsAreWrittenDown: reads that show nothing new, the partner's renewals and answers that newer ones have
// overtaken leave nothing behind; this server's own renewals one entry.
func TestOnlyNewsAreWrittenDown(t *testing.T) {
	w := newWorld(1)
	rec := w.rec[0]
	key := failover.Key{Owner: failover.Second, N: 3}
	for range 5 {
		rec.Saw(0, key)
		key = key.Claimed(failover.Second) // the partner renews
		rec.Saw(0, key)
	}
	rec.Saw(0, failover.Key{Owner: failover.First, N: 2}) // overtaken by those above
	rec.Saw(0, key)
	wantKinds(t, w.kinds(t, 0), ledger.Seen)

	own := key.Won(failover.First, 1)
	rec.Ask(0, 1, key, own)
	rec.Swapped(0, 1, key, own)
	for range 100 {
		next := own.Claimed(failover.First)
		rec.Ask(0, 2, own, next)
		rec.Swapped(0, 2, own, next)
		rec.Saw(0, next)
		own = next
	}
	wantKinds(t, w.kinds(t, 0), ledger.Seen, ledger.Asked, ledger.Granted)
	rec.Close()
	wantKinds(t, w.kinds(t, 0), ledger.Seen, ledger.Asked, ledger.Granted, ledger.Renewed)
	last := w.logs[0].records[len(w.logs[0].records)-1]
	if e, err := ledger.Decode(last); err != nil || e.Count != 100 || e.Before.Epoch != 9 || e.After.Epoch != 109 {
		t.Errorf("the renewals are %+v, %v", e, err)
	}
	rec.Saw(0, own.Won(failover.Second, 2))
	wantKinds(t, w.kinds(t, 0)[4:], ledger.Revoked)
}

// TestRecorderServesManyGoroutines runs under the race detector.
func TestRecorderServesManyGoroutines(t *testing.T) {
	w := newWorld(1)
	var wg sync.WaitGroup
	for u := range units {
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for n := range uint32(50) {
					k := failover.Key{Owner: failover.First, N: n}
					w.rec[0].Ask(u, 1, k, k.Released())
					w.rec[0].Swapped(u, 1, k, k.Claimed(failover.First))
					w.rec[0].Saw(u, k)
					w.rec[0].Group(ledger.Attach, units[u].Group, 1)
				}
			}()
		}
	}
	wg.Wait()
	w.rec[0].Close()
	for i, r := range w.logs[0].records {
		if _, err := ledger.Decode(r); err != nil || r.Pos != uint64(i+1) {
			t.Fatalf("record %d: %+v, %v", i, r, err)
		}
	}
	var none *ledger.Recorder
	none.Saw(0, failover.Key{})
	none.Group(ledger.Attach, "rocky", 1)
	none.Close()
}
