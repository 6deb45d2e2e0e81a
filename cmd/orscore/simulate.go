package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/sim"
)

// simulateWanted is what the flags of `orscore simulate` ask for.
type simulateWanted struct {
	seeds, seed, from uint64
	length            time.Duration
	verbose, json     bool
	shrink, script    string
	fail              string
	mute              []string
}

func (a *app) simulateCommand() *cobra.Command {
	var w simulateWanted
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Run pairs under faults, or tell what would happen if a server failed",
		Long: `Run two whole recovery agents against each other on virtual time, with links,
switches, disks and applications as models that fail, and look whether what ORS
promises holds. Each seed is another pair with other faults. A promise that was
broken is printed with the command that shows it again; the exit code is then 1.

With --fail, the pair is the one of the configuration file: what would move if
that server lost its power now, in which order, how long that would take with the
file's time-outs, and what would not come up. Nothing is asked of any agent, and
no key, device or plugin is needed. The exit code is 1 when something would not
come up.`,
		Example: `  orscore simulate --for 1m
  orscore simulate --seed 4711 -v
  orscore simulate --config config.hcl --fail rocky
  orscore simulate --fail rocky --mute storage1`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case w.length < 0:
				return usage("--for is %v, wanted 0 (no limit) or more", w.length)
			case w.fail != "":
				return a.whatIf(&w, c.OutOrStdout())
			case len(w.mute) > 0:
				return usage("--mute needs --fail")
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
	f.StringVar(&w.fail, "fail", "", "tell what would happen if this `server` of the configuration lost its power")
	f.StringSliceVar(&w.mute, "mute", nil, "with --fail: the switch of this storage `unit` does not answer the survivor")
	f.BoolVar(&w.json, "json", false, "print JSON: schedules, simulated_seconds, wall_seconds, violations[], faults{}")
	c.MarkFlagsMutuallyExclusive("fail", "seed", "seeds", "script")
	return c
}

func (w *simulateWanted) many(ctx context.Context, out io.Writer) error {
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // a seed needs little memory, and makes much garbage
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

// whatIf answers for the operator's own file.
func (a *app) whatIf(w *simulateWanted, out io.Writer) error {
	var q sim.Question
	name := w.fail // either server may ask; which one reads the file makes no difference but for the paths
	for i := range q.Configs {
		c, diags := config.Load(a.config, config.Options{Server: name, NoKey: true})
		if diags.HasErrors() {
			return &core.ConfigError{Config: c, Diagnostics: diags}
		}
		if i == 0 {
			q.Fail = c.Self
			name = c.ServerName(c.Self.Other())
		}
		q.Configs[c.Self-1] = c
	}
	q.Mute = w.mute
	answer, err := sim.WhatIf(q)
	if err != nil {
		return err
	}
	if w.json {
		err = printJSON(out, answer)
	} else {
		err = answer.Write(out)
	}
	for _, g := range answer.Groups {
		if err == nil && !g.Runs {
			return &exitError{code: exitFailed}
		}
	}
	return err
}
