package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"
	"sync"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// Outcome is what came of one script.
type Outcome struct {
	Script    Script
	Simulated time.Duration
	Faults    map[string]int
	Bad       []Violation
}

// errOver: nobody waits for the outcome any more.
var errOver = errors.New("the time is over")

// Play runs one script. log may be nil; it hears everything that happens.
func Play(s Script, log func(format string, args ...any)) (Outcome, error) {
	return play(s, log, nil)
}

func play(s Script, log func(format string, args ...any), over func() bool) (Outcome, error) {
	var cfgs [2]*config.Config
	for i := range cfgs {
		var err error
		if cfgs[i], err = pairConfig(&s.Pair, failover.Server(i+1)); err != nil {
			return Outcome{}, err
		}
	}
	w := newWorld(&s, cfgs, log)
	w.over = over
	w.live()
	if w.broken {
		return Outcome{}, errOver
	}
	o := Outcome{Script: s, Simulated: w.now, Faults: map[string]int{}, Bad: w.bad}
	for i, n := range w.faults {
		if n > 0 {
			o.Faults[classes[i].name] = n
		}
	}
	return o, nil
}

// Options say how much is run.
type Options struct {
	From    uint64        // first seed
	Seeds   uint64        // how many; 0: as many as fit into For
	For     time.Duration // 0: no limit
	Workers int           // 0: one a processor
	Shrink  bool          // cut the schedules of violations down
	// Progress hears of each violation when it is found; it is called by one goroutine at a time.
	Progress func(Report)
}

// Report is one violation with how to see it again.
type Report struct {
	Seed      uint64    `json:"seed"`
	Violation Violation `json:"violation"`
	Replay    string    `json:"replay"`
	Script    *Script   `json:"script,omitempty"` // cut down, if that was asked for
}

// Result is what a run has shown.
type Result struct {
	Schedules        uint64         `json:"schedules"`
	SimulatedSeconds float64        `json:"simulated_seconds"`
	WallSeconds      float64        `json:"wall_seconds"`
	Violations       []Report       `json:"violations"`
	Faults           map[string]int `json:"faults"`
}

// Run runs seeds one after the other on all processors, until ctx ends, all have been run, or the time is over.
func Run(ctx context.Context, o Options) (Result, error) {
	from := time.Now()
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	r := Result{Violations: []Report{}, Faults: map[string]int{}}
	for _, c := range classes {
		r.Faults[c.name] = 0
	}
	var mu sync.Mutex
	var failed error
	next := o.From
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || failed != nil || o.Seeds > 0 && next >= o.From+o.Seeds {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				out, err := play(Draw(seed), nil, func() bool { return ctx.Err() != nil })
				if errors.Is(err, errOver) {
					return
				}
				var report *Report
				if err == nil && len(out.Bad) > 0 {
					report = o.report(seed, &out)
				}
				mu.Lock()
				if err != nil && failed == nil {
					failed = fmt.Errorf("seed %d: %w", seed, err)
				}
				r.add(&out, report)
				if report != nil && o.Progress != nil {
					o.Progress(*report)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.WallSeconds = time.Since(from).Seconds()
	return r, failed
}

func (o *Options) report(seed uint64, out *Outcome) *Report {
	r := &Report{Seed: seed, Violation: out.Bad[0], Replay: fmt.Sprintf("orscore simulate --seed %d -v", seed)}
	if o.Shrink {
		s := Shrink(out.Script, out.Bad[0].Rule)
		r.Script = &s
	}
	return r
}

func (r *Result) add(o *Outcome, bad *Report) {
	r.Schedules++
	r.SimulatedSeconds += o.Simulated.Seconds()
	for name, n := range o.Faults {
		r.Faults[name] += n
	}
	if bad != nil {
		r.Violations = append(r.Violations, *bad)
	}
}

// Shrink drops faults of a script for as long as it still breaks the rule, and ends the life after that.
func Shrink(s Script, rule string) Script {
	breaks := func(t Script) bool {
		o, err := Play(t, nil)
		return err == nil && len(o.Bad) > 0 && o.Bad[0].Rule == rule
	}
	for size := len(s.Faults); size > 0; {
		cut := false
		for i := 0; i+size <= len(s.Faults); {
			t := s
			t.Faults = append(append([]Fault{}, s.Faults[:i]...), s.Faults[i+size:]...)
			if breaks(t) {
				s, cut = t, true
			} else {
				i += size
			}
		}
		if !cut || size > len(s.Faults) {
			size /= 2
		}
	}
	for _, f := range []func(*Script){
		func(t *Script) { t.Death = 0 }, func(t *Script) { t.Restart = 0 }, func(t *Script) { t.Lone = 0 },
		func(t *Script) { t.Calm = 10_000 },
		func(t *Script) { t.Pair.Old = 0 }, func(t *Script) { t.Pair.Newer = nil }, func(t *Script) { t.Pair.Moves = false },
	} {
		t := s
		f(&t)
		if breaks(t) {
			s = t
		}
	}
	return s
}

// Write writes the result for people.
func (r *Result) Write(out io.Writer) error {
	speed := 0.0
	if r.WallSeconds > 0 {
		speed = r.SimulatedSeconds / r.WallSeconds
	}
	_, err := fmt.Fprintf(out, "%d schedules, %v of pair time in %.1f s (%.0f times as fast), %d violations\n",
		r.Schedules, time.Duration(r.SimulatedSeconds)*time.Second, r.WallSeconds, speed, len(r.Violations))
	if err != nil {
		return err
	}
	var names []string
	for name := range r.Faults {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if _, err = fmt.Fprintf(out, "  %-24s %8d\n", name, r.Faults[name]); err != nil {
			return err
		}
	}
	return nil
}
