//go:build linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/lab/proc"
	"github.com/orscore/ors/lab/workload"
)

// conditions are all that can be waited for and expected.
var conditions []condition

func init() {
	conditions = []condition{
		{form: "group GROUP PHASE on SERVER", check: groupPhase},
		{form: "normal on SERVER", check: onStatus(isNormal)},
		{form: "not normal on SERVER", check: onStatus(isNotNormal)},
		{form: "sentence TEXT on SERVER", check: onStatus(isSentence)},
		{form: "verdict VERDICT on SERVER", check: onStatus(isVerdict)},
		{form: "agreed on SERVER", check: onStatus(isAgreed)},
		{form: "alarm CODE on SERVER", check: onStatus(hasAlarm)},
		{form: "no alarm CODE on SERVER", check: onStatus(hasNoAlarm)},
		{form: "drive LETTER of GROUP on SERVER", check: onStatus(hasDrive)},
		{form: "journal TEXT on SERVER", check: inJournal},
		{form: "agent running on SERVER", check: agentRuns(true)},
		{form: "agent ended on SERVER", check: agentRuns(false)},
		{form: "unit UNIT at port NUMBER", check: unitAt},
		{form: "no move", check: noMove},
		{form: "moves UNIT at most NUMBER", check: movesAtMost},
		{form: "fault POINT on SERVER", check: passed},
		{form: "converged", check: converged},
		{form: "served WORKLOAD", check: isServed},
		{form: "told WORKLOAD TEXT", check: wasTold},
		{form: "lost WORKLOAD NUMBER", check: lost, final: true},
		{form: "failures WORKLOAD NUMBER", check: failures},
		{form: "outage WORKLOAD below DURATION", check: outageBelow},
		{form: "overhead below DURATION", check: below("overhead_ms", func(m *Measured) *float64 { return m.Overhead })},
		{form: "agent time below DURATION", check: below("agent_ms", func(m *Measured) *float64 { return m.Agent })},
		{form: "process NAME on HOST", check: hasProcess(true)},
		{form: "no process NAME on HOST", check: hasProcess(false)},
		{form: "same processes on HOST", check: sameProcesses},
		{form: "ownership proven", check: ownershipProven},
		{form: "decisions replayed", check: decisionsReplayed},
	}
}

// status asks a server's agent.
func (r *Runner) status(ctx context.Context, server string) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	socket, err := r.pair.ControlSocket(server)
	if err != nil {
		return control.Status{}, err
	}
	c, err := control.Dial(ctx, socket) // as orscore status does, without a process for each question
	if err != nil {
		return control.Status{}, fmt.Errorf("status of %s: %w", server, err)
	}
	st, err := c.Status(ctx)
	return st, errors.Join(err, c.Close())
}

func onStatus(look func(st control.Status, a args) error) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, a args) error {
		st, err := r.status(ctx, a.word["SERVER"])
		if err != nil {
			return err
		}
		return look(st, a)
	}
}

func findGroup(st control.Status, name string) (control.Group, error) {
	for _, g := range st.Groups {
		if g.Name == name {
			return g, nil
		}
	}
	return control.Group{}, fmt.Errorf("%s knows no group %q", st.Self, name)
}

// groupPhase looks at the group on that server: an active group is also owned there and blocked by nothing.
func groupPhase(ctx context.Context, r *Runner, a args) error {
	st, err := r.status(ctx, a.word["SERVER"])
	if err != nil {
		return err
	}
	g, err := findGroup(st, a.word["GROUP"])
	if err != nil {
		return err
	}
	active := strings.EqualFold(a.word["PHASE"], "active")
	if !strings.EqualFold(g.Phase, a.word["PHASE"]) || active && (g.Owner != st.Self || g.Blocked != "") {
		return fmt.Errorf("group %s is %s on %s, owner %s, %s %s", g.Name, g.Phase, st.Self, g.Owner, g.Why, g.Blocked)
	}
	return nil
}

func alarms(st control.Status) string {
	var all []string
	for _, a := range st.Alarms {
		all = append(all, a.Code+" "+a.Text)
	}
	if len(all) == 0 {
		return "no alarms"
	}
	return "alarms: " + strings.Join(all, "; ")
}

func isNormal(st control.Status, _ args) error {
	if !st.Normal {
		return fmt.Errorf("%s is not normal: %s; %s", st.Self, st.Sentence, alarms(st))
	}
	return nil
}

func isNotNormal(st control.Status, _ args) error {
	if st.Normal {
		return fmt.Errorf("%s is normal: %s", st.Self, st.Sentence)
	}
	return nil
}

func isSentence(st control.Status, a args) error {
	if st.Sentence != a.word["TEXT"] {
		return fmt.Errorf("%s says %q", st.Self, st.Sentence)
	}
	return nil
}

func isVerdict(st control.Status, a args) error {
	if st.Verdict != a.word["VERDICT"] {
		return fmt.Errorf("%s believes its partner is %s: %s", st.Self, st.Verdict, st.VerdictWhy)
	}
	return nil
}

func isAgreed(st control.Status, _ args) error {
	if !st.Agreed {
		return fmt.Errorf("%s has not agreed with its partner on the next round", st.Self)
	}
	return nil
}

func hasAlarm(st control.Status, a args) error {
	for _, al := range st.Alarms {
		if strings.HasSuffix(al.Code, a.word["CODE"]) {
			return nil
		}
	}
	return fmt.Errorf("%s has %s", st.Self, alarms(st))
}

func hasNoAlarm(st control.Status, a args) error {
	if hasAlarm(st, a) == nil {
		return fmt.Errorf("%s has %s", st.Self, alarms(st))
	}
	return nil
}

func hasDrive(st control.Status, a args) error {
	g, err := findGroup(st, a.word["GROUP"])
	if err != nil {
		return err
	}
	for _, d := range g.Drives {
		if d.Letter == a.word["LETTER"] && d.Server == st.Self {
			return nil
		}
	}
	return fmt.Errorf("drives of group %s seen by %s: %+v", g.Name, st.Self, g.Drives)
}

func agentRuns(want bool) func(context.Context, *Runner, args) error {
	return func(_ context.Context, r *Runner, a args) error {
		if runs := r.pair.AgentRuns(a.word["SERVER"]); runs != want {
			return fmt.Errorf("the agent of %s runs: %v", a.word["SERVER"], runs)
		}
		return nil
	}
}

func unitAt(_ context.Context, r *Runner, a args) error {
	units, err := r.pair.Enclosure()
	if err != nil {
		return err
	}
	for _, u := range units {
		if u.Name == a.word["UNIT"] && int(u.State.Position) != a.number() {
			return fmt.Errorf("unit %s is at port %d, light %s", u.Name, u.State.Position, u.State.LED)
		}
	}
	return nil
}

// noMove asks the enclosure: no unit has changed its owner since the phase began, not even there and back.
func noMove(_ context.Context, r *Runner, _ args) error {
	moves, err := r.moves()
	if err != nil {
		return err
	}
	for unit, n := range moves {
		if before := r.phase.moves[unit]; n != before {
			return fmt.Errorf("unit %s has moved %d times in this phase", unit, n-before)
		}
	}
	return nil
}

func (r *Runner) moves() (map[string]uint64, error) {
	units, err := r.pair.Enclosure()
	if err != nil {
		return nil, err
	}
	m := map[string]uint64{}
	for _, u := range units {
		m[u.Name] = u.Moves
	}
	return m, nil
}

// isServed wants an answer to a request from after the step began.
func isServed(_ context.Context, r *Runner, a args) error {
	w, err := r.refreshed(a.word["WORKLOAD"])
	if err != nil {
		return err
	}
	since := r.stepBegan
	if r.expecting {
		since = since.Add(-time.Second)
	}
	if _, ok := workload.FirstAfter(w.log.Entries, since); ok {
		return nil
	}
	return w.lastFailure()
}

// wasTold wants a failure with that text in it, as the user of the client would have read it in this phase.
func wasTold(_ context.Context, r *Runner, a args) error {
	w, err := r.refreshed(a.word["WORKLOAD"])
	if err != nil {
		return err
	}
	for _, e := range w.log.Entries {
		if e.Kind != workload.Served && e.At.After(r.phase.began) && strings.Contains(e.Text, a.word["TEXT"]) {
			return nil
		}
	}
	return fmt.Errorf("%s was not told %q in this phase", a.word["WORKLOAD"], a.word["TEXT"])
}

func lost(ctx context.Context, r *Runner, a args) error {
	v, err := r.check(ctx, a.word["WORKLOAD"])
	if err != nil {
		return err
	}
	if v.Lost != a.number() || v.Wrong() != v.Lost {
		return errors.New(v.String())
	}
	return nil
}

func failures(_ context.Context, r *Runner, a args) error {
	w, err := r.refreshed(a.word["WORKLOAD"])
	if err != nil {
		return err
	}
	now := time.Now()
	n := workload.Count(w.log.Entries, workload.Failed, r.phase.began, now) +
		workload.Count(w.log.Entries, workload.Broken, r.phase.began, now)
	if n != a.number() {
		return errors.Join(fmt.Errorf("%d requests failed in this phase", n), w.lastFailure())
	}
	if workload.Count(w.log.Entries, workload.Served, r.phase.began, now) == 0 {
		return errors.New("no request was answered in this phase")
	}
	return nil
}

func outageBelow(_ context.Context, r *Runner, a args) error {
	w, err := r.refreshed(a.word["WORKLOAD"])
	if err != nil {
		return err
	}
	o := workload.Longest(w.log.Entries, r.phase.began, time.Now())
	if o.Open || o.Length() >= a.duration() {
		length := o.Length().Round(time.Millisecond)
		return fmt.Errorf("%s was not served for %v, ended: %v", a.word["WORKLOAD"], length, !o.Open)
	}
	return nil
}

func below(what string, pick func(*Measured) *float64) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, a args) error {
		m, err := r.measure(ctx)
		if err != nil {
			return err
		}
		v := pick(m)
		if v == nil {
			return fmt.Errorf("%s is not known: %s", what, m.Unknown)
		}
		if limit := float64(a.duration().Microseconds()) / 1000; *v >= limit {
			return fmt.Errorf("%s is %.1f, wanted below %.1f", what, *v, limit)
		}
		return nil
	}
}

func hasProcess(want bool) func(context.Context, *Runner, args) error {
	return func(_ context.Context, r *Runner, a args) error {
		all, err := r.pair.Processes(a.word["HOST"])
		if err != nil {
			return err
		}
		has := slices.ContainsFunc(all, func(p proc.Stat) bool { return p.Comm == a.word["NAME"] })
		if has != want {
			return fmt.Errorf("%s runs on %s: %v", a.word["NAME"], a.word["HOST"], has)
		}
		return nil
	}
}

// rememberProcesses notes the named processes whose parents have another name: a server, not its workers.
func rememberProcesses(_ context.Context, r *Runner, a args) error {
	all, err := r.pair.Processes(a.word["HOST"])
	if err != nil {
		return err
	}
	var found []proc.Stat
	for _, name := range a.rest {
		n := len(found)
		for _, p := range all {
			if p.Comm == name && !slices.ContainsFunc(all, func(q proc.Stat) bool { return q.PID == p.PPID && q.Comm == name }) {
				found = append(found, p)
			}
		}
		if len(found) == n {
			return fmt.Errorf("no %s runs on %s", name, a.word["HOST"])
		}
	}
	r.remembered[a.word["HOST"]] = found
	return nil
}

// sameProcesses wants every remembered process to run: the same pid, started at the same time.
func sameProcesses(_ context.Context, r *Runner, a args) error {
	want := r.remembered[a.word["HOST"]]
	if len(want) == 0 {
		return errors.New("no processes were remembered; right would be a line before: remember processes HOST NAME…")
	}
	all, err := r.pair.Processes(a.word["HOST"])
	if err != nil {
		return err
	}
	for _, p := range want {
		same := slices.ContainsFunc(all, func(q proc.Stat) bool {
			return q.PID == p.PID && q.Start == p.Start && q.State != 'Z'
		})
		if !same {
			return fmt.Errorf("%s with pid %d runs no more", p.Comm, p.PID)
		}
	}
	return nil
}
