package sim

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// Question is what an operator wants to know of a pair's configuration.
type Question struct {
	Configs [2]*config.Config // of the same file, as each server reads it
	Fail    failover.Server   // loses its power when all is well
	Mute    []string          // storage units whose switch does not answer the survivor
}

// Answer is what would happen.
type Answer struct {
	Fail     string        `json:"fail"`
	Survivor string        `json:"survivor"`
	Steps    []StepAnswer  `json:"steps"`
	Groups   []GroupAnswer `json:"groups"`
	Notes    []string      `json:"notes"`
}

// StepAnswer is one thing that the survivor would do. Times count from the power loss: at least with mounts and starts
// that take no time, at most with such that take all the time that the file grants them; -1: it would not happen.
type StepAnswer struct {
	LeastMS int64  `json:"least_ms"`
	MostMS  int64  `json:"most_ms"`
	Group   string `json:"group,omitempty"`
	Step    string `json:"step"`
	Text    string `json:"text"`
}

// GroupAnswer is what would become of one group.
type GroupAnswer struct {
	Name    string `json:"name"`
	From    string `json:"from"`
	To      string `json:"to"`
	Moves   bool   `json:"moves"`
	Runs    bool   `json:"runs"`
	LeastMS int64  `json:"least_ms"` // until its applications answer; 0 where it stays
	MostMS  int64  `json:"most_ms"`
	Why     string `json:"why,omitempty"` // it would not come up
}

// WhatIf plays the power loss of a server on the pair of a configuration: with the same decision and node as the real
// one, links and switches that work, and plugins that do what they are asked.
func WhatIf(q Question) (Answer, error) {
	cfg := q.Configs[0]
	o := q.Fail.Other()
	a := Answer{Fail: cfg.ServerName(q.Fail), Survivor: cfg.ServerName(o), Notes: []string{}}
	if len(cfg.Units()) == 0 {
		return a, errors.New("the configuration has no storage unit: there is nothing to take over")
	}
	quick, err := q.play(false)
	if err != nil {
		return a, err
	}
	slow, err := q.play(true)
	if err != nil {
		return a, err
	}
	a.Steps = merge(quick.steps, slow.steps)
	for g := range cfg.Groups {
		ga := GroupAnswer{Name: cfg.Groups[g].Name, From: cfg.ServerName(quick.was[g]), To: a.Survivor,
			Moves: quick.was[g] != o, Runs: quick.runs[g] >= 0 && slow.runs[g] >= 0,
			LeastMS: quick.runs[g], MostMS: slow.runs[g], Why: quick.why[g]}
		if ga.Why == "" && !ga.Runs {
			ga.Why = slow.why[g]
		}
		a.Groups = append(a.Groups, ga)
	}
	a.Notes = append(a.Notes, q.notes()...)
	return a, nil
}

// played is one run of a question.
type played struct {
	steps []StepAnswer
	was   []failover.Server
	runs  []int64 // by group: when it ran, in milliseconds after the loss; -1: never
	why   []string
}

func (q *Question) play(slow bool) (*played, error) {
	s := scriptFor(q.Configs[0])
	for _, c := range q.Configs {
		c.Interconnect.Key = simulatedKey()
	}
	w := newWorld(&s, q.Configs, nil)
	w.start()
	if len(w.bad) > 0 {
		return nil, fmt.Errorf("the pair does not get well to begin with: %s", w.bad[0].Text)
	}
	h := w.of(q.Fail.Other())
	w.slow, w.fixed = slow, true
	p := &played{}
	lost := w.now
	h.tell = func(r store.Record) {
		if text, ok := tellsOf(r); ok {
			at := (w.now - lost).Milliseconds()
			s := StepAnswer{LeastMS: at, MostMS: at, Group: r.Group, Step: r.Kind + " " + r.Step, Text: text}
			p.steps = append(p.steps, s)
		}
	}
	for g := range h.groups {
		p.was, p.runs, p.why = append(p.was, w.owner(g)), append(p.runs, -1), append(p.why, "")
	}
	for _, name := range q.Mute {
		i := slices.IndexFunc(h.cfg.Units(), func(u config.Unit) bool { return u.Storage.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the configuration has no storage unit %q", name)
		}
		h.ports[i].mute = time.Duration(1<<62 - 1)
	}
	w.of(q.Fail).powerOff()
	w.run(w.bound(), func() bool {
		all := true
		for g := range h.groups {
			if p.runs[g] < 0 && w.runsOn(g) == h.id {
				p.runs[g] = (w.now - lost).Milliseconds()
				if p.was[g] == h.id {
					p.runs[g] = 0
				}
			}
			all = all && p.runs[g] >= 0
		}
		return all
	})
	st := h.loop.Status()
	for g := range p.why {
		if p.runs[g] >= 0 {
			continue
		}
		p.why[g] = reason(h, g, st.Groups[g].Blocked, st.Groups[g].Why)
	}
	return p, nil
}

// reason is why a group does not run on the survivor.
func reason(h *host, g int, blocked, why string) string {
	for _, u := range h.loop.Params().Groups[g].Units {
		if h.loop.State().Units[u].Mute {
			return "The switch of " + h.cfg.Units()[u].Storage.Name + " does not answer: whose the storage is is not known."
		}
	}
	if first := &h.loop.State().Units[0]; first.Mute {
		return "The switch of " + h.cfg.Units()[0].Storage.Name + ", the first unit of the arbitration, does not answer: " +
			"nothing is claimed without it."
	}
	if blocked != "" {
		return blocked
	}
	return why
}

// tellsOf says whether a record is a step that an operator would want to see, and how to put it.
func tellsOf(r store.Record) (string, bool) {
	switch r.Kind {
	case "verdict":
		return r.Text + " " + r.Why, true
	case "arbitration", "group":
		return r.Text, true
	}
	return "", false
}

// merge joins the steps of the quick and the slow run: those that both have, at most once each, then what only one has.
func merge(quick, slow []StepAnswer) []StepAnswer {
	out := []StepAnswer{}
	find := func(list []StepAnswer, s *StepAnswer) int {
		return slices.IndexFunc(list, func(o StepAnswer) bool { return o.Group == s.Group && o.Step == s.Step })
	}
	for i := range quick {
		if find(out, &quick[i]) >= 0 {
			continue
		}
		s := quick[i]
		s.MostMS = -1
		if j := find(slow, &s); j >= 0 {
			s.MostMS = slow[j].MostMS
		}
		out = append(out, s)
	}
	for i := range slow {
		if find(out, &slow[i]) < 0 {
			s := slow[i]
			s.LeastMS = -1
			out = append(out, s)
		}
	}
	return out
}

// notes are what the configuration makes of this failure besides.
func (q *Question) notes() []string {
	c, survivor := q.Configs[0], q.Configs[0].ServerName(q.Fail.Other())
	var out []string
	letters := map[string]string{}
	for g := range c.Groups {
		for s := range c.Groups[g].Storage {
			for _, d := range c.Groups[g].Storage[s].Drives {
				if first, taken := letters[d.Letter]; taken {
					out = append(out, fmt.Sprintf("Groups %s and %s both want drive %s: the later one gets the next free letter.",
						first, c.Groups[g].Name, d.Letter))
				}
				letters[d.Letter] = c.Groups[g].Name
			}
		}
	}
	if c.Interconnect.StartupTimeout == 0 {
		out = append(out, fmt.Sprintf("There is no startup_timeout: were %s itself restarted while %s is away, it would "+
			"start only what the storage shows to be its own.", survivor, c.ServerName(q.Fail)))
	}
	if len(c.NetworkCheck.Targets) > 0 {
		out = append(out, survivor+" takes nothing over while none of the network check's targets answers it.")
	}
	if len(c.Interconnect.Serial)+len(c.Interconnect.UDP) == 1 {
		out = append(out, "There is only one link: a cut of it looks like a death, and the storage's switch decides who "+
			"goes on.")
	}
	return out
}

// scriptFor is a script without faults for the pair of a configuration.
func scriptFor(c *config.Config) Script {
	p := Pair{
		Interval: ms(c.Interconnect.Interval), Timeout: ms(c.Interconnect.Timeout),
		Startup:  ms(c.Interconnect.StartupTimeout),
		Survivor: int(c.Arbitration.Survivor), Delay: ms(c.Arbitration.Delay), Probe: 1000, Mount: 10,
		Start: 10, Status: 60_000,
	}
	for _, u := range c.Units() {
		p.Units = append(p.Units, u.Group)
	}
	for g := range c.Groups {
		p.Primary = append(p.Primary, int(c.Groups[g].Primary))
	}
	for range c.Interconnect.Serial {
		p.Links = append(p.Links, "serial")
	}
	for range c.Interconnect.UDP {
		p.Links = append(p.Links, "udp")
	}
	return Script{Seed: 1, Pair: p}
}

// granted is how long an action may take by the configuration: what its drives or applications are given.
func (h *host) granted(a failover.Action) time.Duration {
	g := &h.cfg.Groups[a.Group]
	var d time.Duration
	switch a.Kind {
	case failover.Attach:
		for s := range g.Storage {
			for _, dr := range g.Storage[s].Drives {
				d += dr.MountTimeout
			}
		}
	case failover.StartApps:
		for i := range g.Applications {
			d += g.Applications[i].StartTimeout
		}
	case failover.StopApps:
		for i := range g.Applications {
			d += g.Applications[i].StopTimeout
		}
	}
	return d
}

// Write writes the answer for people.
func (a *Answer) Write(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "If %s lost its power now, when all is well:\n\n", a.Fail)
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "GROUP\tFROM\tTO\tRUNS AGAIN AFTER")
	for _, g := range a.Groups {
		switch {
		case !g.Runs:
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\tdoes not come up: %s\n", g.Name, g.From, g.To, g.Why)
		case !g.Moves:
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\tnothing happens to it\n", g.Name, g.From, g.To)
		default:
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", g.Name, g.From, g.To, fromTo(g.LeastMS, g.MostMS))
		}
	}
	_ = t.Flush()
	fmt.Fprintf(&b, "\nWhat %s would do, and when:\n\n", a.Survivor)
	t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AFTER\tGROUP\tWHAT AND WHY")
	for _, s := range a.Steps {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", fromTo(s.LeastMS, s.MostMS), s.Group, s.Text)
	}
	_ = t.Flush()
	b.WriteString("\nThe first time is with mounts and starts that take no time, the second with such that take all " +
		"that the file grants.\n")
	for _, n := range a.Notes {
		b.WriteString("Note: " + n + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func fromTo(least, most int64) string {
	s := func(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }
	switch {
	case least < 0:
		return "at most " + s(most)
	case most < 0 || most-least < 50:
		return s(least)
	}
	return s(least) + " to " + s(most)
}
