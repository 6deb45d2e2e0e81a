//go:build linux

// Package matrix plays many faults, each on a pair in its normal state, and wants the same of all: that the pair comes
// back to its normal state by itself once the faults have ended, with every group on one server and no row lost.
//
// It must never call a case green whose rows it could not read back, and never play a case on a pair that is not
// proven to be normal.
package matrix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/scenario"
)

// Case is one phase of a scenario file; every phase but the first one is a case.
type Case struct {
	Scenario *scenario.Scenario
	Phase    scenario.Phase
}

// Result is how a case went.
type Result struct {
	Name    string   `json:"name"`
	Class   string   `json:"class"` // first word of the name
	Outcome string   `json:"outcome"`
	Outage  *float64 `json:"outage_ms"` // null: not known
	Lost    *int     `json:"lost"`      // rows that are lost or otherwise wrong; null: they could not be read back
	Moves   int      `json:"moves"`     // changes of units' owners, until all was normal again
	Seconds float64  `json:"seconds"`
	Error   string   `json:"error,omitempty"`
}

// Outcomes.
const (
	Green = "green"
	Red   = "red"
)

const (
	caseLimit  = 3 * time.Minute // for one case, all its waits together
	setupLimit = 2 * time.Minute
	mostBroken = 3  // labs in a row that could not even be set up
	mostCases  = 30 // on one pair: its rows and logs are read again and again
)

// mostMoves is how often one unit may change its owner in one case: there, back, and there again.
const mostMoves = 3

// after is played after the steps of every case, and measured with them: the faults end, and the pair finds back to a
// state without any.
const after = `heal
wait converged within 90s
SERVED
hold 500ms
expect converged
MOVES
expect ownership proven
expect decisions replayed`

// home is played after that: planned moves work again, and the next case finds what the first one has found.
const home = `go home
wait converged within 60s
SERVED`

// Cases lists the cases of files.
func Cases(files []*scenario.Scenario) []Case {
	var all []Case
	for _, f := range files {
		for _, ph := range f.Phases[1:] {
			all = append(all, Case{Scenario: f, Phase: ph})
		}
	}
	return all
}

// Only keeps the cases whose name one of the patterns matches; a pattern is a name, or has * and ? in it.
func Only(all []Case, patterns []string) ([]Case, error) {
	if len(patterns) == 0 {
		return all, nil
	}
	var kept []Case
	used := map[string]bool{}
	for _, c := range all {
		for _, p := range patterns {
			ok, err := path.Match(p, c.Phase.Name)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", p, err)
			}
			if ok {
				used[p] = true
				kept = append(kept, c)
				break
			}
		}
	}
	for _, p := range patterns {
		if !used[p] {
			return nil, fmt.Errorf("no case is called %q; --list shows all", p)
		}
	}
	return kept, nil
}

// Sample keeps n cases, of each class as many as of any other, and those spread evenly over their class.
func Sample(all []Case, n int) []Case {
	if n <= 0 || n >= len(all) {
		return all
	}
	var order []string
	byClass := map[string][]Case{}
	for _, c := range all {
		k := class(c.Phase.Name)
		if byClass[k] == nil {
			order = append(order, k)
		}
		byClass[k] = append(byClass[k], c)
	}
	quota := map[string]int{}
	for left := n; left > 0; {
		for _, k := range order {
			if left > 0 && quota[k] < len(byClass[k]) {
				quota[k]++
				left--
			}
		}
	}
	var kept []Case
	for _, k := range order {
		for i := range quota[k] {
			kept = append(kept, byClass[k][i*len(byClass[k])/quota[k]])
		}
	}
	return kept
}

// Run plays cases, one after the other.
type Run struct {
	Say    func(format string, a ...any)
	Detail func(text string)
	Logs   string // folder for the logs of red cases; empty: none

	lab *lab
}

// lab is a pair that is in its normal state.
type lab struct {
	sc     *scenario.Scenario
	pair   *pair.Pair
	runner *scenario.Runner
	cases  int // played so far
}

// All plays the cases and returns a result for each of them. The error says that it had to be given up.
func (r *Run) All(ctx context.Context, cases []Case) (results []Result, err error) {
	defer func() { err = errors.Join(err, r.end()) }()
	broken := 0
	for i, c := range cases {
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		begin := time.Now()
		res := Result{Name: c.Phase.Name, Class: class(c.Phase.Name), Outcome: Green}
		if err := r.setup(ctx, c.Scenario); err != nil {
			broken++
			res.Outcome, res.Error = Red, "the lab could not be set up: "+err.Error()
			if broken >= mostBroken {
				return append(results, res), fmt.Errorf("%d labs in a row could not be set up", broken)
			}
		} else {
			broken = 0
			r.play(ctx, c, &res)
		}
		res.Seconds = time.Since(begin).Round(time.Millisecond).Seconds()
		if res.Outcome == Red {
			if err := r.end(); err != nil {
				r.Say("taking the lab apart: %v", err)
			}
		}
		results = append(results, res)
		r.Say("%d/%d %s %s: outage %s ms, lost %s, moves %d, %.1f s %s", i+1, len(cases), strings.ToUpper(res.Outcome),
			res.Name, number(res.Outage), number(res.Lost), res.Moves, res.Seconds, res.Error)
	}
	return results, nil
}

func class(name string) string {
	c, _, _ := strings.Cut(name, "_")
	return c
}

// setup makes a pair for a scenario and plays its first phase, unless there is one.
func (r *Run) setup(ctx context.Context, sc *scenario.Scenario) error {
	if r.lab != nil && r.lab.sc == sc && r.lab.cases < mostCases {
		r.lab.cases++
		return nil
	}
	if err := r.end(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	p, err := pair.New(ctx, "", sc.Setup, r.Say)
	if err != nil {
		return err
	}
	l := &lab{sc: sc, pair: p, runner: scenario.NewRunner(sc, p, r.Say, r.Detail)}
	l.runner.Brief = true
	r.lab = l
	_, err = l.runner.RunPhase(ctx, sc.Phases[0])
	if err == nil {
		err = l.do(ctx, home)
	}
	if err != nil {
		err = errors.Join(err, r.collect("setup"), r.end())
	}
	return err
}

// end takes the pair apart.
func (r *Run) end() error {
	if r.lab == nil {
		return nil
	}
	p := r.lab.pair
	r.lab = nil
	return p.Close()
}

func (r *Run) collect(name string) error {
	if r.Logs == "" || r.lab == nil {
		return nil
	}
	dir := filepath.Join(r.Logs, strings.ReplaceAll(name, ":", "-"))
	return errors.Join(os.RemoveAll(dir), r.lab.pair.Collect(dir))
}

// play plays one case and what every case ends with.
func (r *Run) play(ctx context.Context, c Case, res *Result) {
	ctx, cancel := context.WithTimeout(ctx, caseLimit)
	defer cancel()
	steps, err := r.lab.steps(after)
	var measured scenario.Result
	if err == nil {
		ph := c.Phase
		ph.Steps = append(slices.Clone(ph.Steps), steps...)
		measured, err = r.lab.runner.RunPhase(ctx, ph)
		res.Outage, res.Lost = measured.Outage, measured.Lost
		moves, movesErr := r.lab.runner.Moves()
		res.Moves = moves
		err = errors.Join(err, movesErr)
	}
	if err == nil && res.Lost == nil {
		err = fmt.Errorf("the rows could not be read back: %s", measured.Wrong)
	}
	if err == nil {
		err = r.lab.do(ctx, home) // the next case reads the rows back, those of these moves, too
	}
	if err != nil {
		res.Outcome, res.Error = Red, oneLine(err)
		if err := r.collect(c.Phase.Name); err != nil {
			r.Say("logs: %v", err)
		}
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// do plays steps that belong to no phase.
func (l *lab) do(ctx context.Context, text string) error {
	steps, err := l.steps(text)
	if err != nil {
		return err
	}
	for _, st := range steps {
		if err := l.runner.Do(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// steps reads steps, one a line; SERVED and MOVES stand for a step for each workload and unit.
func (l *lab) steps(text string) ([]scenario.Step, error) {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		switch line {
		case "SERVED":
			for _, w := range l.sc.Workloads {
				lines = append(lines, "wait served "+w.Name+" within 30s")
			}
		case "MOVES":
			for _, u := range l.sc.Setup.Units {
				lines = append(lines, fmt.Sprintf("expect moves %s at most %d", u.Name, mostMoves))
			}
		default:
			lines = append(lines, line)
		}
	}
	var steps []scenario.Step
	for _, line := range lines {
		st, err := l.sc.ParseStep(strings.Fields(line))
		if err != nil {
			return nil, err
		}
		steps = append(steps, st)
	}
	return steps, nil
}

func number[T float64 | int](v *T) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(*v))
}

// Table shows results for people: every case, and the classes below.
func Table(results []Result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\toutcome\toutage ms\tlost\tmoves\tseconds")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.1f\n", r.Name, r.Outcome, number(r.Outage), number(r.Lost), r.Moves, r.Seconds)
	}
	fmt.Fprintln(w, "\nclass\tgreen\tred\tmedian outage ms\tlongest")
	for _, c := range classes(results) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", c.name, c.green, c.red, number(c.median()), number(c.longest()))
	}
	_ = w.Flush() // into memory
	return b.String()
}

type summary struct {
	name       string
	green, red int
	outages    []float64 // in order
}

// classes sums up in the order in which the classes come.
func classes(results []Result) []*summary {
	var all []*summary
	for _, r := range results {
		i := slices.IndexFunc(all, func(s *summary) bool { return s.name == r.Class })
		if i < 0 {
			i = len(all)
			all = append(all, &summary{name: r.Class})
		}
		if r.Outcome == Green {
			all[i].green++
		} else {
			all[i].red++
		}
		if r.Outage != nil {
			all[i].outages = append(all[i].outages, *r.Outage)
		}
	}
	for _, s := range all {
		sort.Float64s(s.outages)
	}
	return all
}

func (s *summary) median() *float64 {
	if len(s.outages) == 0 {
		return nil
	}
	return &s.outages[len(s.outages)/2]
}

func (s *summary) longest() *float64 {
	if len(s.outages) == 0 {
		return nil
	}
	return &s.outages[len(s.outages)-1]
}
