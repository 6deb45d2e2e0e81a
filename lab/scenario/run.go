//go:build linux

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/proc"
	"github.com/orscore/ors/lab/workload"
)

// Runner plays a scenario on a pair. It belongs to one goroutine.
type Runner struct {
	Scenario *Scenario
	Brief    bool // measure what the clients saw, and leave the journals alone
	pair     *pair.Pair
	say      func(format string, a ...any)
	detail   func(text string) // output of commands

	clients    map[string]*client
	remembered map[string][]proc.Stat // by host

	phase     phaseState
	fault     time.Time // moment from which the phase's times count; zero: not yet
	powerCut  time.Time
	stepBegan time.Time
	expecting bool
}

type phaseState struct {
	name  string
	began time.Time
	moves map[string]uint64
	steps []TimedStep
}

// client is a workload that was started.
type client struct {
	def  Workload
	proc *host.Process
	log  *workload.Reader
}

// Result is how a phase went; an object of the JSON that a run writes.
type Result struct {
	Name  string    `json:"-"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
	Began time.Time `json:"began"`
	Measured
	Acknowledged int            `json:"acknowledged"` // rows since the scenario began
	Lost         *int           `json:"lost"`         // and what else is wrong with them; null: could not be read back
	Wrong        string         `json:"wrong,omitempty"`
	Failed       map[string]int `json:"failed_requests"`
	Steps        []TimedStep    `json:"steps"`
}

// TimedStep is something that happened, in time from the phase's fault on.
type TimedStep struct {
	Name string  `json:"name"`
	AtMS float64 `json:"at_ms"`
	Text string  `json:"text,omitempty"`
	at   time.Time
}

// NewRunner returns a runner of sc on p. say tells people what happens, detail gets the output of commands.
func NewRunner(sc *Scenario, p *pair.Pair, say func(string, ...any), detail func(string)) *Runner {
	return &Runner{
		Scenario: sc, pair: p, say: say, detail: detail, clients: map[string]*client{}, remembered: map[string][]proc.Stat{},
	}
}

// Run plays all phases, and stops at the first step that fails. Results of all phases that were begun are returned in
// any case.
func (r *Runner) Run(ctx context.Context) ([]Result, error) {
	var all []Result
	for _, ph := range r.Scenario.Phases {
		res, err := r.RunPhase(ctx, ph)
		all = append(all, res)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// RunPhase plays one phase.
func (r *Runner) RunPhase(ctx context.Context, ph Phase) (Result, error) {
	moves, err := r.moves()
	if err != nil {
		return Result{Name: ph.Name, Error: err.Error()}, err
	}
	r.phase = phaseState{name: ph.Name, began: time.Now(), moves: moves}
	r.fault, r.powerCut = time.Time{}, time.Time{}
	r.say("phase %s", ph.Name)
	for _, st := range ph.Steps {
		if err = r.Do(ctx, st); err != nil {
			break
		}
	}
	res := r.result(ctx, ph.Name)
	if err == nil && res.Lost != nil && *res.Lost != 0 {
		err = fmt.Errorf("phase %s: %s", ph.Name, res.Wrong)
	}
	if err != nil {
		res.OK, res.Error = false, err.Error()
	}
	r.report(res)
	return res, err
}

// Do plays one step.
func (r *Runner) Do(ctx context.Context, st Step) error {
	began := time.Now()
	first := st.verb.fault && r.fault.IsZero()
	if first {
		r.fault = began
	}
	r.stepBegan, r.expecting = began, st.verb.form == "expect"
	err := st.verb.do(ctx, r, st.args)
	if first && !r.powerCut.IsZero() {
		r.fault = r.powerCut
	}
	r.phase.steps = append(r.phase.steps, TimedStep{Name: "lab", Text: st.Text, at: began})
	mark := "ok"
	if err != nil {
		mark = "FAILED"
	}
	r.say("  %-6s %7.2f s  %s", mark, time.Since(began).Seconds(), st.Text)
	if err != nil {
		return fmt.Errorf("%s:%d: %s: %w", filepath.Base(r.Scenario.Path), st.Line, st.Text, err)
	}
	return nil
}

// result measures the phase.
func (r *Runner) result(ctx context.Context, name string) Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second) // also after Ctrl-C: bounded
	defer cancel()
	res := Result{Name: name, OK: true, Began: r.phase.began, Failed: map[string]int{}}
	m, err := r.measure(ctx)
	if err != nil {
		m = &Measured{Unknown: err.Error()}
	}
	res.Measured, res.Steps = *m, m.steps
	now := time.Now()
	for wname, c := range r.clients {
		if c.log.Refresh() != nil {
			continue
		}
		res.Failed[wname] = workload.Count(c.log.Entries, workload.Failed, r.phase.began, now) +
			workload.Count(c.log.Entries, workload.Broken, r.phase.began, now)
	}
	res.Acknowledged, res.Lost, res.Wrong = r.lost(ctx)
	return res
}

// lost reads the rows of all clients back, and adds up what is wrong with them; nil: not all could be read.
func (r *Runner) lost(ctx context.Context) (acknowledged int, lost *int, wrong string) {
	for _, w := range r.Scenario.Workloads {
		if r.clients[w.Name] == nil || !w.writesRows() {
			continue
		}
		short, cancel := context.WithTimeout(ctx, 15*time.Second)
		v, err := r.check(short, w.Name)
		cancel()
		if err != nil {
			return acknowledged, nil, w.Name + ": " + err.Error()
		}
		if lost == nil {
			lost = new(int)
		}
		*lost += v.Wrong()
		acknowledged += v.Acknowledged
		if v.Wrong() > 0 {
			wrong = fmt.Sprintf("%s: %v", w.Name, v)
		}
	}
	return acknowledged, lost, wrong
}

func (r *Runner) report(res Result) {
	lost := "not read"
	if res.Lost != nil {
		lost = fmt.Sprint(*res.Lost)
	}
	r.say("  => outage %s ms: %s; acknowledged %d, lost %s", showMS(res.Outage), res.line(), res.Acknowledged, lost)
}

// startWorkload starts a client in the client's host.
func (r *Runner) startWorkload(name string) error {
	w, ok := r.Scenario.workload(name)
	if !ok {
		return fmt.Errorf("%q is no workload", name)
	}
	if c := r.clients[name]; c != nil && c.proc.Running() {
		return fmt.Errorf("workload %s runs", name)
	}
	spec, err := r.pair.Spec(pair.ClientHost)
	if err != nil {
		return err
	}
	logs := r.pair.LogDir(pair.ClientHost)
	errors, err := os.OpenFile(filepath.Join(logs, name+".err"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer errors.Close()
	p, err := spec.Start(host.Cmd{
		Args: clientArgs(w, w.Kind), Stderr: errors,
	})
	if err != nil {
		return err
	}
	c := r.clients[name]
	if c == nil {
		c = &client{def: w, log: workload.NewReader(filepath.Join(logs, name+".log"))}
		r.clients[name] = c
	}
	c.proc = p
	return nil
}

func clientArgs(w Workload, verb ...string) []string {
	args := append([]string{"/opt/ors/bin/orslab", "client"}, verb...)
	if w.Patient {
		args = append(args, "--patient")
	}
	return append(args, "--to", w.To, "--log", "/var/log/"+w.Name+".log")
}

func (r *Runner) stopWorkload(ctx context.Context, name string) error {
	c := r.clients[name]
	if c == nil {
		return fmt.Errorf("workload %s was not started", name)
	}
	if err := c.proc.Signal(unix.SIGTERM, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	code, err := c.proc.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("workload %s ended with exit code %d", name, code)
	}
	return err
}

// refreshed returns a client with its log up to now. A client that has died measures nothing, and that is an error.
func (r *Runner) refreshed(name string) (*client, error) {
	c := r.clients[name]
	if c == nil {
		return nil, fmt.Errorf("workload %s was not started", name)
	}
	if !c.proc.Running() {
		return nil, fmt.Errorf("workload %s does not run any more", name)
	}
	return c, c.log.Refresh()
}

func (c *client) lastFailure() error {
	for i := len(c.log.Entries) - 1; i >= 0; i-- {
		if e := c.log.Entries[i]; e.Kind != workload.Served {
			return fmt.Errorf("%s: last failure: %s", c.def.Name, e.Text)
		}
	}
	return fmt.Errorf("%s: no answer", c.def.Name)
}

// check reads all rows back, in the client's host.
func (r *Runner) check(ctx context.Context, name string) (workload.Verdict, error) {
	var v workload.Verdict
	w, ok := r.Scenario.workload(name)
	if !ok || !w.writesRows() {
		return v, fmt.Errorf("workload %s writes no rows", name)
	}
	out, code, err := r.pair.Run(ctx, pair.ClientHost, clientArgs(w, "check", w.Kind)...)
	if err != nil {
		return v, err
	}
	if code != 0 {
		return v, fmt.Errorf("reading the rows back: %s", strings.TrimSpace(out))
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return v, errors.Join(err, errors.New(out))
	}
	return v, nil
}
