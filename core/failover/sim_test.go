package failover_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
)

// layouts are the assignments of units to groups that are tried: in the fixed order of arbitration, the group of
// each unit.
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
		gp.FlapWindow = 3_600_000
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
		must("cut: one server serves both", 20_000, func() bool { return w.wins() != failover.Nobody })
		must("it stays so", 20_000, nil)
		if !w.allOn(failover.First) && !w.allOn(failover.Second) {
			t.Fatalf("layout %v: the cut has no single survivor: %v", layout, w)
		}
		w.setCut(false)
		must("links are back", 20_000, w.settled)
	}
}

var (
	simSeed  = flag.Uint64("seed", 0, "run only this seed of the pair simulation")
	simFrom  = flag.Uint64("from", 1, "first seed of the pair simulation")
	simSeeds = flag.Uint64("seeds", 0, "number of seeds of the pair simulation; 0: as many as fit into -simtime")
	simTime  = flag.Duration("simtime", 15*time.Second, "time for the pair simulation when -seeds is 0")
)

// life runs one seed; it returns what was violated, or nothing.
func life(seed uint64, trace func(string, ...any), stats *counts) string {
	pick := rand.New(rand.NewPCG(seed, 3))
	layout := layouts[pick.IntN(len(layouts))]
	startup := []failover.Tick{0, 8_000}[pick.IntN(2)]
	w := newWorld(seed, layout, startup)
	flap := pick.IntN(4)
	for _, s := range w.s {
		for g := range s.p.Groups {
			s.p.Groups[g].FlapLimit = flap
		}
	}
	w.trace, w.stats = trace, stats
	w.log("seed %d layout %v startup time-out %d", seed, layout, startup)
	first := w.r.IntN(2)
	w.s[first].boot()
	w.run(w.upTo(5_000), nil)
	w.s[1-first].boot()
	if !w.tend(20_000) {
		w.fail("not settled after the first start: %v", w)
	}
	for range 3 {
		w.randomFaults(20_000 + w.upTo(60_000))
		w.heal()
		if w.bad == "" && !w.tend(150_000) {
			w.fail("L1: not settled after faults: %v", w)
		}
		w.still(10_000, "L2")
		for range 2 {
			ph := phases[w.r.IntN(len(phases))]
			w.log("--- %s", ph.name)
			for _, s := range w.s {
				if s.paused {
					s.resume()
				}
			}
			if w.bad == "" {
				ph.run(w)
			}
			if w.bad != "" {
				return fmt.Sprintf("%s (phase %s)", w.bad, ph.name)
			}
		}
	}
	return w.bad
}

// TestPair runs seeds. A failing one is run again with -seed N -v, which tells its story.
func TestPair(t *testing.T) {
	stats := &counts{}
	if *simSeed != 0 {
		if bad := life(*simSeed, t.Logf, stats); bad != "" {
			t.Fatal(bad)
		}
		return
	}
	failed := 0
	begin := time.Now()
	for n := uint64(0); *simSeeds == 0 && time.Since(begin) < *simTime || n < *simSeeds; n++ {
		seed := *simFrom + n
		stats.seeds++
		if bad := life(seed, nil, stats); bad != "" {
			t.Errorf("go test ./core/failover -run TestPair -seed %d -v\n%s", seed, bad)
			if failed++; failed == 5 {
				break
			}
		}
	}
	t.Logf("%+v", *stats)
}
