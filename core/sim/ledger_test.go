package sim

import (
	"testing"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/decision"
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
		w := seedWorld(t, seed)
		w.ledgers = &[2]memory{}
		w.live()
		var l [2]*ledger.Ledger
		for i := range l {
			w.hosts[i].ledger.Close()
			l[i] = ledger.FromContents(w.hosts[i].id.String(), store.Contents{Records: w.ledgers[i].records})
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

func seedWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	s := Draw(seed)
	s.Calm = min(s.Calm, 60_000)
	var cfgs [2]*config.Config
	for i := range cfgs {
		var err error
		if cfgs[i], err = pairConfig(&s.Pair, failover.Server(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	return newWorld(&s, cfgs, nil)
}

// TestDecisionsAreMadeAgain: whatever happens to a pair, each decision of its two agents is on record as a whole.
func TestDecisionsAreMadeAgain(t *testing.T) {
	const seeds = 8
	count, unrecorded, bytes := 0, 0, 0
	for seed := *simFrom; seed < *simFrom+seeds; seed++ {
		w := seedWorld(t, seed)
		w.decided = func(d decision.Decision, after failover.State) {
			rec, err := d.Record(&after)
			if err != nil {
				t.Fatal(err)
			}
			back, err := decision.Decode(rec)
			if err != nil {
				t.Fatal(err)
			}
			again, err := back.Replay()
			if err != nil || !again.Identical {
				t.Fatalf("seed %d: %v, %v\n%s", seed, again.Differs, err, back.Explain(again))
			}
			count++
			bytes += len(rec.Body)
			if back.Unrecorded {
				unrecorded++
			}
		}
		w.live()
	}
	if count == 0 {
		t.Fatal("there was no decision")
	}
	t.Logf("%d decisions in %d seeds, %d bytes each; %d of them without a disk", count, seeds, bytes/count, unrecorded)
}
