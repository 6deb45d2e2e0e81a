package failover_test

import (
	"math/rand/v2"
	"testing"

	"github.com/orscore/ors/core/failover"
)

// layouts are the assignments of units to groups that are tried: in the fixed order of arbitration, the group of each unit.
var layouts = [][]int{{0, 1}, {1, 0}, {0, 0, 1}, {0, 1, 0}}

func pairParams(self failover.Server, layout []int, startup failover.Tick) failover.Params {
	p := failover.Defaults(2_000)
	p.Self, p.StartupTimeout = self, startup
	p.Groups = []failover.GroupParams{{Primary: failover.First}, {Primary: failover.Second}}
	for u, g := range layout {
		p.Units = append(p.Units, failover.UnitParams{Group: g})
		p.Groups[g].Units = append(p.Groups[g].Units, u)
	}
	for g := range p.Groups {
		gp := &p.Groups[g]
		gp.AttachTimeout, gp.StartTimeout, gp.StopTimeout = 30_000, 60_000, 60_000
		gp.RestartLimit, gp.RestartReset = 2, 600_000
	}
	return p
}

func newWorld(seed uint64, layout []int, startup failover.Tick) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 17)), groups: 2, stats: &counts{}}
	for range layout {
		w.units = append(w.units, unitSwitch{})
	}
	for i := range w.s {
		w.mute[i] = make([]bool, len(layout))
		w.s[i] = newServer(w, pairParams(failover.Server(i+1), layout, startup))
	}
	w.watch()
	return w
}

// TestSmoke tells the pair's whole life once, for every layout.
func TestSmoke(t *testing.T) {
	for _, layout := range layouts {
		w := newWorld(1, layout, 0)
		if testing.Verbose() {
			w.trace = t.Logf
		}
		must := func(what string, d tick, until func() bool) {
			t.Helper()
			if !w.run(d, until) {
				t.Fatalf("layout %v: %s: %s%v", layout, what, w.bad, w)
			}
			w.log("--- %s", what)
		}
		home := func() bool { return w.runsOn(0) == failover.First && w.runsOn(1) == failover.Second && w.settled() }
		a, b := w.s[0], w.s[1]
		a.boot()
		b.boot()
		must("both groups run on their primaries", 15_000, home)
		a.powerOff()
		must("A is dead: B serves both", 10_000, func() bool { return w.allOn(failover.Second) })
		a.boot()
		must("A is back", 10_000, w.settled)
		must("nothing starts on A", 10_000, nil)
		if !w.allOn(failover.Second) {
			t.Fatalf("layout %v: something moved: %v", layout, w)
		}
		b.move(0)
		must("planned move home", 20_000, home)
		w.setCut(true)
		must("cut: one server serves both", 20_000, func() bool { return w.allOn(failover.First) || w.allOn(failover.Second) })
		must("it stays so", 20_000, nil)
		if !w.allOn(failover.First) && !w.allOn(failover.Second) {
			t.Fatalf("layout %v: the cut has no single survivor: %v", layout, w)
		}
		w.setCut(false)
		must("links are back", 20_000, w.settled)
	}
}
