package sim

import (
	"testing"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// TestLedgersProveOwnership: whatever happens to a pair, what its two agents write down proves that ownership never
// overlapped.
func TestLedgersProveOwnership(t *testing.T) {
	const seeds = 25
	grants, warnings, inferred := 0, 0, 0
	for seed := *simFrom; seed < *simFrom+seeds; seed++ {
		s := Draw(seed)
		s.Calm = min(s.Calm, 60_000)
		var cfgs [2]*config.Config
		for i := range cfgs {
			var err error
			if cfgs[i], err = pairConfig(&s.Pair, failover.Server(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		w := newWorld(&s, cfgs, nil)
		w.ledgers = &[2]memory{}
		w.live()
		var l [2]*ledger.Ledger
		for i := range l {
			w.hosts[i].ledger.Close()
			l[i] = ledger.FromContents(cfgs[i].ServerName(cfgs[i].Self), store.Contents{Records: w.ledgers[i].records})
		}
		r := ledger.Audit(l[0], l[1])
		if r.Verdict != ledger.Proven {
			t.Errorf("seed %d:\n%s", seed, r)
		}
		warnings += len(r.Warnings)
		for _, u := range r.Units {
			grants += u.Grants
			for _, h := range u.Holds {
				if h.Inferred {
					inferred++
				}
			}
		}
	}
	t.Logf("%d grants in %d seeds, %d warnings, %d spans with inferred epochs", grants, seeds, warnings, inferred)
	if grants == 0 || warnings == 0 {
		t.Error("nothing happened, or nothing worth a warning")
	}
}
