package sim

import (
	"flag"
	"testing"
	"time"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run only this seed, and tell its story with -v")
	simTime = flag.Duration("simtime", 5*time.Second, "how long seeds are run")
	from    = flag.Uint64("from", 1, "first seed")
)

// TestSeeds runs as many seeds as fit.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		out, err := Play(Draw(*oneSeed), t.Logf)
		if err != nil || len(out.Bad) > 0 {
			t.Fatal(err, out.Bad)
		}
		return
	}
	r, err := Run(t.Context(), Options{From: *from, For: *simTime})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("%v: %s", v.Violation, v.Replay)
	}
	t.Logf("%d schedules, %.0f simulated seconds in %.1f: %.0f a second", r.Schedules, r.SimulatedSeconds, r.WallSeconds,
		r.SimulatedSeconds/r.WallSeconds)
}
