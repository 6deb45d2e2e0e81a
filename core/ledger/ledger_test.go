package ledger_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// TestRandomHistoriesAreProven: whatever two servers do at a switch that compares and swaps, with answers lost, agents
// killed and power lost, no audit of it finds an overlap; and where the agents' ledgers are whole, it is a proof.
func TestRandomHistoriesAreProven(t *testing.T) {
	const seeds = 200
	proven, warned := 0, 0
	for seed := range uint64(seeds) {
		r := ledger.Audit(run(seed, 200).ledgers())
		if len(r.Findings) > 0 {
			t.Fatalf("seed %d\n%s", seed, r)
		}
		if r.Verdict == ledger.Proven {
			proven++
		} else {
			t.Logf("seed %d: %s", seed, r.Missing[0])
		}
		if len(r.Warnings) > 0 {
			warned++
		}
	}
	if proven != seeds || warned == 0 {
		t.Errorf("%d of %d histories are proven; %d have warnings", proven, seeds, warned)
	}
}

// TestBrokenSwitchIsFound: a switch that grants what it should refuse is told by its ledgers alone.
func TestBrokenSwitchIsFound(t *testing.T) {
	for seed := range uint64(100) {
		w := run(seed, 40)
		w.broken = true
		key := w.read(0, 0)
		w.read(1, 0)
		w.swap(0, 0, key, key.Won(failover.First, key.Tag+1), false)
		w.swap(1, 0, key, key.Won(failover.Second, key.Tag+1), false)
		r := ledger.Audit(w.ledgers())
		mustVerdict(t, ledger.Overlap, r)
		if !strings.Contains(strings.Join(r.Findings, "\n"), "unit storage1: epoch") {
			t.Fatalf("seed %d: %q", seed, r.Findings)
		}
	}
}

// takeover is a short history: rocky has storage2, is cut off, and apollo takes it.
func takeover() *world {
	w := newWorld(1)
	key := w.read(0, 1)
	w.read(1, 1)
	w.swap(0, 1, key, key.Claimed(failover.First), false)
	w.mount(0, 1)
	for range 3 {
		key = w.keys[1]
		w.swap(0, 1, key, key.Claimed(failover.First), false)
	}
	key = w.read(1, 1)
	w.swap(1, 1, key, key.Won(failover.Second, 1), false)
	w.mount(1, 1)
	return w
}

func TestStaleMountIsAWarning(t *testing.T) {
	w := takeover()
	a, b := w.ledgers()
	r := ledger.Audit(a, b)
	mustVerdict(t, ledger.Proven, r)
	wantWarning(t, r, "stale mount on rocky, writes refused by the switch", "its ledger ends before its end")

	w.read(0, 1)
	w.at = w.at.Add(1500 * time.Millisecond)
	w.unmount(0, 1, ledger.Cleared)
	a, b = w.ledgers()
	r = ledger.Audit(a, b)
	mustVerdict(t, ledger.Proven, r)
	wantWarning(t, r, "epoch 5 had gone to apollo", "for 1.501s by its own clock, until it was cleared")
	if u := r.Units[0]; len(u.Holds) != 3 || u.Holds[1] != (ledger.Hold{Owner: "rocky", From: 1, To: 4}) ||
		u.Holds[2] != (ledger.Hold{Owner: "apollo", From: 5, To: 5}) {
		t.Errorf("holds are %+v", u.Holds)
	}

	w = takeover()
	w.boot[0]++
	w.start(0)
	w.read(0, 1)
	r = ledger.Audit(w.ledgers())
	mustVerdict(t, ledger.Proven, r)
	wantWarning(t, r, "until its operating system was started anew at the latest")
}

// TestSwitchThatActsByItself: after a power cycle a switch comes back connected to its default port, under a newer
// epoch that nobody has asked for.
func TestSwitchThatActsByItself(t *testing.T) {
	w := takeover()
	w.keys[1] = failover.Key{Owner: failover.First, N: w.keys[1].N + 1}
	w.read(0, 1)
	w.unmount(0, 1, ledger.Cleared)
	w.mount(0, 1)
	w.read(1, 1)
	w.unmount(1, 1, ledger.Cleared)
	r := ledger.Audit(w.ledgers())
	mustVerdict(t, ledger.Proven, r)
	wantWarning(t, r, "epoch 6 went to rocky, and no server has on record that it asked for it")
}

func wantWarning(t *testing.T, r *ledger.Report, words ...string) {
	t.Helper()
	all := strings.Join(r.Warnings, "\n")
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("no warning says %q:\n%s", w, r)
		}
	}
}

func TestBrokenHistoriesAreFound(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(t *testing.T, w *world)
		want string
	}{
		{"two owners under one epoch", func(t *testing.T, w *world) {
			w.edit(t, 1, ledger.Granted, func(e *ledger.Entry) { e.Before.Epoch, e.After.Epoch = 3, 4 })
		}, "epoch 4 was rocky's"},
		{"a foreign epoch within renewals", func(t *testing.T, w *world) {
			w.edit(t, 1, ledger.Granted, func(e *ledger.Entry) { e.Before.Epoch, e.After.Epoch = 2, 3 })
		}, "renewed its key from epoch 1 to 4"},
		{"a grant that runs back", func(_ *testing.T, w *world) {
			w.broken = true
			key := w.keys[1]
			w.swap(1, 1, key, key.Claimed(failover.Second), false)
			w.swap(1, 1, key, key.Claimed(failover.Second), false)
			w.rec[1].Group(ledger.Cleared, "rocky", 0) // ends the run of renewals
		}, "apollo was given epoch 6"},
		{"a swap over several epochs", func(t *testing.T, w *world) {
			w.edit(t, 1, ledger.Granted, func(e *ledger.Entry) { e.After.Epoch = 9 })
			w.edit(t, 1, ledger.Attach, func(e *ledger.Entry) { e.After.Epoch = 9 })
		}, "a swap led from epoch 4 to 9"},
		{"a mount under a foreign key", func(t *testing.T, w *world) {
			w.edit(t, 1, ledger.Attach, func(e *ledger.Entry) { e.After.Owner, e.After.Epoch = "rocky", 4 })
		}, "apollo mounted it (position 6) under epoch 4, which was rocky's"},
		{"a mount under an epoch that was the other's", func(t *testing.T, w *world) {
			w.edit(t, 1, ledger.Attach, func(e *ledger.Entry) { e.After.Epoch = 4 })
		}, "under epoch 4, which was rocky's"},
		{"a release while mounted", func(_ *testing.T, w *world) {
			key := w.keys[1]
			w.swap(1, 1, key, key.Released(), false)
		}, "asked for its release (position 7) while it was mounted"},
		{"a mount kept, and the unit taken again", func(_ *testing.T, w *world) {
			key := w.read(0, 1)
			w.swap(0, 1, key, key.Won(failover.First, 2), false)
		}, "before what it had mounted under epoch 1 was cleared"},
		{"mounted again without clearing", func(_ *testing.T, w *world) {
			w.read(0, 1)
			w.mount(0, 1)
		}, "and cleared nothing"},
		{"a switch that runs back", func(_ *testing.T, w *world) {
			w.keys[1] = failover.Key{Owner: failover.First, N: 2}
			w.read(1, 1)
			w.read(1, 1)
		}, "the switch went back from epoch 5 to 2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := takeover()
			a, b := w.ledgers()
			mustVerdict(t, ledger.Proven, ledger.Audit(a, b))
			c.do(t, w)
			a, b = w.ledgers()
			r := ledger.Audit(a, b)
			mustVerdict(t, ledger.Overlap, r)
			if !strings.Contains(strings.Join(r.Findings, "\n"), c.want) {
				t.Errorf("no finding says %q:\n%s", c.want, r)
			}
		})
	}
}

func TestWhatIsMissingIsNoProof(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(a, b *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger)
		want string
	}{
		{"the same server twice", func(a, _ *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger) { return a, a },
			"both ledgers are of rocky"},
		{"nothing in one", func(a, _ *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger) { return a, &ledger.Ledger{Path: "x"} },
			"x holds no entries"},
		{"damage", func(a, b *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger) {
			b.Missing = []string{"b.log: 12 bytes at 7 are damaged"}
			return a, b
		}, "12 bytes at 7"},
		{"a grant that nobody wrote down", func(a, b *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger) {
			b.Entries = b.Entries[:2]
			e := b.Entries[1]
			e.Before, e.After = nil, &ledger.Key{Owner: "apollo", Epoch: 9}
			e.Pos++
			b.Entries = append(b.Entries, e)
			return a, b
		}, "epochs 5 to 8 are in neither ledger"},
		{"another pair", func(a, b *ledger.Ledger) (*ledger.Ledger, *ledger.Ledger) {
			for i := range b.Entries {
				if b.Entries[i].Unit != "" {
					b.Entries[i].Unit = "x" + b.Entries[i].Unit
				}
			}
			return a, b
		}, "no storage unit is in both ledgers"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := ledger.Audit(c.do(takeover().ledgers()))
			mustVerdict(t, ledger.Incomplete, r)
			if !strings.Contains(strings.Join(r.Missing, "\n"), c.want) {
				t.Errorf("nothing missing says %q:\n%s", c.want, r)
			}
		})
	}
}

// TestLedgerOnDisk writes two ledgers through the store, and reads them whole, torn and damaged.
func TestLedgerOnDisk(t *testing.T) {
	w := takeover()
	var dirs [2]string
	for s := range dirs {
		w.rec[s].Close()
		dirs[s] = t.TempDir()
		st, err := store.Open(dirs[s])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.logs[s].records {
			r.Pos = 0
			st.Ledger().Note(r)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	audit := func(want ledger.Verdict) *ledger.Report {
		t.Helper()
		var l [2]*ledger.Ledger
		for s := range l {
			var err error
			if l[s], err = ledger.Read(dirs[s]); err != nil {
				t.Fatal(err)
			}
		}
		r := ledger.Audit(l[0], l[1])
		mustVerdict(t, want, r)
		return r
	}
	if r := audit(ledger.Proven); r.Ledgers[0].Server != "rocky" || r.Units[0].Grants != 2 || len(r.Units) != 1 {
		t.Errorf("%s", r)
	}
	file := filepath.Join(dirs[1], "ledger-00000000000000000001.log")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole[:len(whole)-7])
	wantWarning(t, audit(ledger.Proven), "was not written to its end")
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)/2] ^= 1
	write(damaged)
	if r := audit(ledger.Incomplete); !strings.Contains(strings.Join(r.Missing, "\n"), "there is nothing of position") {
		t.Errorf("%s", r)
	}
	write([]byte("not a ledger\n"))
	audit(ledger.Incomplete)
}

// FuzzAudit feeds two ledgers of any entries: an audit neither stops nor calls proven what it has not seen, and says
// the same whichever ledger comes first.
func FuzzAudit(f *testing.F) {
	w := run(3, 30)
	for _, r := range w.rec {
		r.Close()
	}
	bodies := func(s, n int) (out []byte) {
		for _, r := range w.logs[s].records[:min(n, len(w.logs[s].records))] {
			out = append(append(out, r.Body...), '\n')
		}
		return out
	}
	f.Add(bodies(0, 99), bodies(1, 99))
	f.Add(bodies(0, 9), bodies(1, 9))
	f.Add([]byte(`{"kind":"renewed","unit":"u","before":{"owner":"rocky","epoch":4294967295},"after":{"epoch":0}}`), []byte("{}"))
	f.Add([]byte(`{"kind":"granted","unit":"u"}`), []byte(`{"kind":"attach","unit":"u"}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		read := func(server string, raw []byte) *ledger.Ledger {
			var c store.Contents
			for i, line := range bytes.Split(raw, []byte("\n")) {
				c.Records = append(c.Records, store.Record{Pos: uint64(i + 1), Server: server, Body: line})
			}
			return ledger.FromContents(server, c)
		}
		r := ledger.Audit(read("rocky", a), read("apollo", b))
		if r.Verdict == ledger.Proven && (len(r.Units) == 0 || len(r.Findings)+len(r.Missing) > 0) {
			t.Fatalf("proven:\n%s", r)
		}
		back := ledger.Audit(read("apollo", b), read("rocky", a))
		if back.Verdict != r.Verdict || len(back.Units) != len(r.Units) {
			t.Fatalf("the other way round it is another verdict:\n%s\n%s", r, back)
		}
		if r.String() == "" {
			t.Fatal("nothing is said")
		}
	})
}
