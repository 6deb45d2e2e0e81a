//go:build linux

// Package upgrades upgrades the agents and plugins of a pair at work, to and fro between two builds, and counts what
// its clients, its storage and its processes have noticed of that: nothing, it wants.
//
// It must never count an upgrade that was not proven by the version that answers afterwards.
package upgrades

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/scenario"
)

// Build is one of the two builds, as a server sees it.
type Build struct {
	Folder string // with its orscore and plugins
	Agent  string // version of its orscore
	Plugin string // version of its plugins
}

// Options say what is upgraded, and how often.
type Options struct {
	Builds [2]Build      // the first one is what runs at the beginning, but for its version perhaps
	Count  int           // of upgrades of agents, and of plugins
	Kinds  []string      // of plugins
	Within time.Duration // that an upgrade of an agent announces
	// Needed are the phases with a takeover in the midst of an upgrade, and what it may take: time-out and announced time
	Needed []Needed
	Say    func(format string, a ...any)
	Detail func(text string)
}

// Needed is a phase with a takeover that is needed.
type Needed struct {
	Phase string
	Bound time.Duration
}

// Takeover is what one took.
type Takeover struct {
	Phase  string   `json:"phase"`
	Outage *float64 `json:"outage_ms"` // of the group whose server died; null: not known
	Bound  float64  `json:"bound_ms"`
}

// Result is what has happened. A run that failed has what happened until then.
type Result struct {
	Core     int `json:"core_upgrades"`
	Plugins  int `json:"plugin_upgrades"`
	Requests int `json:"requests"` // that clients made meanwhile
	Failed   int `json:"failed"`
	Moves    int `json:"moves"` // of storage units
	Changed  int `json:"pids_changed"`
	Lost     int `json:"lost"` // acknowledged rows that are not there, or wrong

	AgentAway [2]float64 `json:"agent_away_ms"` // median and longest: without an agent that answers
	Takeovers []Takeover `json:"takeovers"`     // that were needed in the midst of upgrades
}

// Run plays the scenario: its first phase sets the pair up, the upgrades come next, then the other phases.
func Run(ctx context.Context, sc *scenario.Scenario, p *pair.Pair, o Options) (res Result, err error) {
	for _, n := range o.Needed {
		res.Takeovers = append(res.Takeovers, Takeover{Phase: n.Phase, Bound: float64(n.Bound.Milliseconds())})
	}
	c := &campaign{o: o, runner: scenario.NewRunner(sc, p, o.Say, o.Detail), res: &res}
	for _, s := range sc.Setup.Servers {
		c.servers = append(c.servers, s.Name)
	}
	if _, err := c.runner.RunPhase(ctx, sc.Phases[0]); err != nil {
		return res, err
	}
	if err := c.upgrade(ctx, sc); err != nil {
		return res, err
	}
	for _, ph := range sc.Phases[1:] {
		measured, err := c.runner.RunPhase(ctx, ph)
		if err != nil {
			return res, err
		}
		for i := range res.Takeovers {
			if res.Takeovers[i].Phase == ph.Name {
				res.Takeovers[i].Outage = measured.Outage
			}
		}
		if measured.Lost != nil {
			res.Lost += *measured.Lost
		}
	}
	return res, res.noticed()
}

// campaign is one run.
type campaign struct {
	o       Options
	runner  *scenario.Runner
	servers []string
	res     *Result
	away    []float64
}

func (c *campaign) upgrade(ctx context.Context, sc *scenario.Scenario) error {
	began := time.Now()
	before, err := c.runner.Moves()
	if err != nil {
		return err
	}
	for i := range c.o.Count {
		if err := c.round(ctx, sc, i); err != nil {
			return err
		}
	}
	after, err := c.runner.Moves()
	if err != nil {
		return err
	}
	c.res.Moves = after - before
	c.res.AgentAway = summary(c.away)
	c.res.Requests, c.res.Failed, err = c.runner.Requests(began)
	return err
}

// round upgrades the agent of one server and a plugin of the other one.
func (c *campaign) round(ctx context.Context, sc *scenario.Scenario, i int) error {
	n := len(c.servers)
	server, other := c.servers[i%n], c.servers[(i+1)%n]
	next := c.o.Builds[(i/n+1)%2]
	out, err := c.runner.Output(ctx, server, "orscore", "upgrade", "--to", next.Folder+"/orscore", "--json", "--within",
		c.o.Within.String(), "--reason", fmt.Sprintf("upgrade %d", i+1))
	if err != nil {
		return fmt.Errorf("upgrade %d of the agent of %s: %w", i+1, server, err)
	}
	away, err := proven(out, next.Agent)
	if err != nil {
		return fmt.Errorf("upgrade %d of the agent of %s: %w", i+1, server, err)
	}
	c.away = append(c.away, away)
	c.res.Core++
	kinds := len(c.o.Kinds)
	kind := c.o.Kinds[(i/n)%kinds]
	next = c.o.Builds[(i/n/kinds+1)%2]
	file := "/opt/ors/bin/ors-plugin-" + kind
	text := fmt.Sprintf("cp %s/ors-plugin-%s %s.new && mv %s.new %s && orscore plugin upgrade %s",
		next.Folder, kind, file, file, file, kind)
	if out, err = c.runner.Output(ctx, other, "sh", "-c", text); err != nil {
		return fmt.Errorf("upgrade %d of plugin %s on %s: %w", i+1, kind, other, err)
	}
	if want := kind + " " + next.Plugin + " is at work"; !strings.Contains(out, want) {
		return fmt.Errorf("upgrade %d of plugin %s on %s: %q, want %q", i+1, kind, other, out, want)
	}
	c.res.Plugins++
	for _, s := range c.servers {
		if err := c.do(ctx, sc, "expect same processes on "+s); err != nil {
			c.res.Changed++
			return err
		}
	}
	c.o.Say("upgrade %d: agent of %s is %s after %.0f ms, plugin %s of %s is %s", i+1, server,
		c.o.Builds[(i/n+1)%2].Agent, away, kind, other, next.Plugin)
	return nil
}

func (c *campaign) do(ctx context.Context, sc *scenario.Scenario, text string) error {
	st, err := sc.ParseStep(strings.Fields(text))
	if err != nil {
		return err
	}
	return c.runner.Do(ctx, st)
}
