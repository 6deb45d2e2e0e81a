package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/sim"
)

// simulateWanted is what the flags of `orscore simulate` ask for.
type simulateWanted struct {
	seeds, seed, from uint64
	length            time.Duration
	verbose, json     bool
	shrink, script    string
}

func simulateCommand() *cobra.Command {
	var w simulateWanted
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Run pairs under faults on virtual time",
		Long: `Run two whole recovery agents against each other on virtual time, with links,
switches, disks and applications as models that fail, and look whether what ORS
promises holds. Each seed is another pair with other faults. A promise that was
broken is printed with the command that shows it again; the exit code is then 1.`,
		Example: `  orscore simulate --for 1m
  orscore simulate --seed 4711 -v`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case w.length < 0:
				return usage("--for is %v, wanted 0 (no limit) or more", w.length)
			case w.script != "":
				return w.replay(c.OutOrStdout())
			case w.seed != 0:
				return w.one(c.OutOrStdout(), sim.Draw(w.seed))
			case w.seeds == 0 && w.length == 0:
				w.seeds = 1000
			}
			return w.many(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.Uint64Var(&w.seeds, "seeds", 0, "run `N` seeds (default 1000, or as many as fit into --for)")
	f.Uint64Var(&w.from, "from", 1, "begin with this `seed`")
	f.DurationVar(&w.length, "for", 0, "run for a `duration`, such as 1m")
	f.Uint64Var(&w.seed, "seed", 0, "run only this `seed`")
	f.BoolVarP(&w.verbose, "verbose", "v", false, "with --seed or --script: tell everything that happens")
	f.StringVar(&w.shrink, "shrink", "", "write what breaks a promise into this `folder`, with as few faults as possible")
	f.StringVar(&w.script, "script", "", "run a `file` that --shrink has written")
	f.BoolVar(&w.json, "json", false, "print JSON: schedules, simulated_seconds, wall_seconds, violations[], faults{}")
	c.MarkFlagsMutuallyExclusive("seed", "seeds", "script")
	return c
}

func (w *simulateWanted) many(ctx context.Context, out io.Writer) error {
	o := sim.Options{From: w.from, Seeds: w.seeds, For: w.length, Shrink: w.shrink != ""}
	var failed error
	o.Progress = func(r sim.Report) {
		if !w.json {
			_, _ = fmt.Fprintf(out, "seed %d: %v\n  %s\n", r.Seed, r.Violation, r.Replay)
		}
		if r.Script != nil && failed == nil {
			failed = w.keep(&r)
		}
	}
	r, err := sim.Run(ctx, o)
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	if w.json {
		err = printJSON(out, r)
	} else {
		err = r.Write(out)
	}
	if err == nil && len(r.Violations) > 0 {
		return &exitError{code: exitFailed}
	}
	return err
}

// keep writes a cut down script.
func (w *simulateWanted) keep(r *sim.Report) error {
	raw, err := json.MarshalIndent(r.Script, "", " ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s/%s-%d.json", w.shrink, strings.ToLower(r.Violation.Rule), r.Seed)
	return os.WriteFile(name, append(raw, '\n'), 0o600)
}

func (w *simulateWanted) replay(out io.Writer) error {
	raw, err := os.ReadFile(w.script)
	if err != nil {
		return usage("the script cannot be read: %w", err)
	}
	var s sim.Script
	if err := json.Unmarshal(raw, &s); err != nil {
		return usage("%s is no script: %w", w.script, err)
	}
	return w.one(out, s)
}

func (w *simulateWanted) one(out io.Writer, s sim.Script) error {
	var log func(string, ...any)
	if w.verbose && !w.json {
		log = func(format string, args ...any) { _, _ = fmt.Fprintln(out, screen.Clean(fmt.Sprintf(format, args...))) }
	}
	from := time.Now()
	o, err := sim.Play(s, log)
	if err != nil {
		return err
	}
	r := sim.Result{Schedules: 1, SimulatedSeconds: o.Simulated.Seconds(), WallSeconds: time.Since(from).Seconds(),
		Violations: []sim.Report{}, Faults: o.Faults}
	for _, v := range o.Bad {
		r.Violations = append(r.Violations, sim.Report{Seed: s.Seed, Violation: v})
	}
	if w.json {
		err = printJSON(out, r)
	} else {
		for _, v := range o.Bad {
			_, _ = fmt.Fprintln(out, v)
		}
		err = r.Write(out)
	}
	if err == nil && len(o.Bad) > 0 {
		return &exitError{code: exitFailed}
	}
	return err
}
