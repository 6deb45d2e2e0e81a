package sim

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	simTime = flag.Duration("simtime", 3*time.Second, "how long seeds are run")
	simFrom = flag.Uint64("from", 1, "first seed")
)

// TestSeeds runs as many seeds as fit. `orscore simulate` runs more, and tells the story of one.
func TestSeeds(t *testing.T) {
	r, err := Run(t.Context(), Options{From: *simFrom, For: *simTime})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("%v: %s", v.Violation, v.Replay)
	}
	t.Logf("%d schedules, %.0f simulated seconds in %.1f", r.Schedules, r.SimulatedSeconds, r.WallSeconds)
}

// TestScripts plays what once broke a promise, and must not any more.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var s Script
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatal(err)
			}
			out, err := Play(s, nil)
			if err != nil || len(out.Bad) > 0 {
				t.Errorf("%s: %v%v; orscore simulate --script core/sim/%s -v", s.Name, err, out.Bad, f)
			}
		})
	}
}

// story is everything that happens in a seed.
func story(t *testing.T, seed uint64) (hash string, lines int) {
	t.Helper()
	h := fnv.New64a()
	s := Draw(seed)
	s.Calm = min(s.Calm, 60_000)
	_, err := Play(s, func(format string, args ...any) {
		lines++
		_, _ = fmt.Fprintf(h, format+"\n", args...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum64()), lines
}

// TestSeedDecidesEverything: the same seed tells the same story, another one another.
func TestSeedDecidesEverything(t *testing.T) {
	var last string
	for seed := uint64(1); seed <= 4; seed++ {
		first, lines := story(t, seed)
		if lines < 20 {
			t.Errorf("seed %d: only %d lines", seed, lines)
		}
		if again, _ := story(t, seed); again != first {
			t.Errorf("seed %d tells two stories", seed)
		}
		if first == last {
			t.Errorf("seeds %d and %d tell the same story", seed-1, seed)
		}
		last = first
	}
}

// TestEveryFaultComes: no class of faults is left out by what seeds draw.
func TestEveryFaultComes(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		for _, f := range Draw(seed).Faults {
			seen[f.Kind]++
			if f.When != "" {
				seen["when"]++
			}
		}
	}
	for _, c := range classes {
		if seen[c.name] == 0 {
			t.Errorf("%s never comes", c.name)
		}
	}
	if seen["when"] == 0 {
		t.Error("no fault waits for a phase")
	}
}

// TestRunEndsWithItsContext: whoever does not want to wait need not.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, Options{From: 1})
	if err != nil || r.Schedules != 0 {
		t.Fatal(r.Schedules, err)
	}
}

// TestShrinkKeepsTheCause: of many faults only those stay that matter.
func TestShrinkKeepsTheCause(t *testing.T) {
	w := settledWorld(t)
	s := *w.s
	s.Until = 60_000
	s.Pair.Interval, s.Pair.Timeout = 200, 60_000 // a loss is noticed too late for the budget of the rule that is broken
	s.Faults = nil
	for i := range 8 {
		s.Faults = append(s.Faults, Fault{At: MS(1000 + 100*i), Kind: "clock-step", Server: 1, For: 1000})
	}
	s.Faults = append(s.Faults, Fault{At: 3000, Kind: "no such fault"})
	cut := Shrink(s, "model")
	if len(cut.Faults) != 1 || cut.Faults[0].Kind != "no such fault" {
		t.Fatalf("left are %v", cut.Faults)
	}
}

// TestPauseIsToldOnce: however much was queued up while an agent was paused.
func TestPauseIsToldOnce(t *testing.T) {
	w := settledWorld(t)
	late := 0
	w.log = func(format string, args ...any) {
		if strings.Contains(fmt.Sprintf(format, args...), "did not run for") {
			late++
		}
	}
	w.hosts[0].stop(5*time.Second, false)
	w.run(10*time.Second, nil)
	if late != 1 {
		t.Fatalf("a pause was told %d times", late)
	}
}
