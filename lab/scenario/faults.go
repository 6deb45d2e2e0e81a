//go:build linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/internal/faultpoint"
	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/workload"
)

// actions are what a fault point can do.
var actions = []string{faultpoint.Kill, faultpoint.Stop, faultpoint.Exit}

func arm(_ context.Context, r *Runner, a args) error {
	return r.pair.Arm(a.word["SERVER"], a.word["POINT"], a.word["ACTION"])
}

func passed(_ context.Context, r *Runner, a args) error {
	ok, err := r.pair.Passed(a.word["SERVER"], a.word["POINT"])
	if err == nil && !ok {
		err = fmt.Errorf("the agent of %s has not passed %s", a.word["SERVER"], a.word["POINT"])
	}
	return err
}

func restartAgent(ctx context.Context, r *Runner, a args) error {
	ctx, cancel := context.WithTimeout(ctx, defaultWait)
	defer cancel()
	return r.pair.RestartAgent(ctx, a.word["SERVER"])
}

func pauseServer(ctx context.Context, r *Runner, a args) error {
	return r.pair.Pause(ctx, a.word["SERVER"])
}

func resumeServer(ctx context.Context, r *Runner, a args) error {
	return r.pair.Resume(ctx, a.word["SERVER"])
}

func fillState(_ context.Context, r *Runner, a args) error { return r.pair.FillState(a.word["SERVER"]) }

func freeState(_ context.Context, r *Runner, a args) error { return r.pair.FreeState(a.word["SERVER"]) }

func deafen(undo bool) func(context.Context, *Runner, args) error {
	return func(_ context.Context, r *Runner, a args) error { return r.pair.Deafen(a.word["SERVER"], undo) }
}

func heal(ctx context.Context, r *Runner, _ args) error { return r.pair.Heal(ctx) }

// begin starts a command and does not wait for it: what it asks for may never be answered.
func begin(_ context.Context, r *Runner, a args) error {
	spec, err := r.pair.Spec(a.word["HOST"])
	if err == nil {
		_, err = spec.Start(host.Cmd{Args: a.rest})
	}
	return err
}

func movesAtMost(_ context.Context, r *Runner, a args) error {
	now, err := r.moves()
	if err != nil {
		return err
	}
	unit := a.word["UNIT"]
	if n := now[unit] - r.phase.moves[unit]; n > uint64(a.number()) {
		return fmt.Errorf("unit %s has moved %d times in this phase", unit, n)
	}
	return nil
}

// Moves is how often units have changed their owners since the phase began.
func (r *Runner) Moves() (int, error) {
	now, err := r.moves()
	n := 0
	for unit, m := range now {
		n += int(m - r.phase.moves[unit])
	}
	return n, err
}

// converged: both servers are normal and agreed, all links are ok, and every group is active on exactly one server and
// standby on the other. What is mounted, runs and answers is where the agents and the switch say, and nowhere else.
func converged(ctx context.Context, r *Runner, _ args) error {
	var both []control.Status
	for _, s := range r.Scenario.Setup.Servers {
		st, err := r.status(ctx, s.Name)
		if err != nil {
			return err
		}
		if err := errors.Join(isNormal(st, args{}), isAgreed(st, args{}), linksOK(st)); err != nil {
			return err
		}
		both = append(both, st)
	}
	owners := map[string]string{} // of units
	for _, g := range both[0].Groups {
		other, err := findGroup(both[1], g.Name)
		if err != nil {
			return err
		}
		owner, phases := both[0].Self, g.Phase+" and "+other.Phase
		if !strings.EqualFold(g.Phase, "active") {
			owner, g, other = both[1].Self, other, g
		}
		if !strings.EqualFold(g.Phase, "active") || !strings.EqualFold(other.Phase, "standby") || g.Blocked != "" ||
			g.Owner != owner || other.Owner != owner {
			return fmt.Errorf("group %s is %s, owner %s and %s, %s", g.Name, phases, g.Owner, other.Owner, g.Blocked)
		}
		for _, u := range g.Units {
			owners[u.Name] = owner
		}
	}
	return errors.Join(r.unitsAre(owners), r.programsRunOnce())
}

func linksOK(st control.Status) error {
	for _, l := range st.Links {
		if l.State != "ok" {
			return fmt.Errorf("link %s of %s is %s: %s", l.Name, st.Self, l.State, l.Reason)
		}
	}
	return nil
}

// unitsAre wants each unit connected to its owner, and its volume mounted there and nowhere else.
func (r *Runner) unitsAre(owners map[string]string) error {
	units, err := r.pair.Enclosure()
	if err != nil {
		return err
	}
	for _, u := range units {
		if at := u.Hosts[fmt.Sprint(u.State.Position)]; at != owners[u.Name] {
			return fmt.Errorf("unit %s is connected to %q, its group is active on %q", u.Name, at, owners[u.Name])
		}
		on, err := r.pair.Only("volume of "+u.Name, func(server string) (bool, error) {
			mounted, err := r.pair.Mounted(server)
			for _, m := range mounted {
				if m == u.Name {
					return true, err
				}
			}
			return false, err
		})
		if err != nil || on != owners[u.Name] {
			return errors.Join(err, fmt.Errorf("unit %s: its group is active on %q", u.Name, owners[u.Name]))
		}
	}
	return nil
}

// programsRunOnce wants the address of each workload, and a program that names it, on the same one server.
func (r *Runner) programsRunOnce() error {
	for _, w := range r.Scenario.Workloads {
		address := w.host()
		runs, err := r.pair.Only("program of "+w.Name, func(s string) (bool, error) { return r.pair.Serves(s, address) })
		if err != nil {
			return err
		}
		has, err := r.pair.Only("address "+address, func(s string) (bool, error) { return r.pair.Answers(s, address) })
		if err != nil {
			return err
		}
		if runs != has {
			return fmt.Errorf("%s: its program runs on %s, its address is on %s", w.Name, runs, has)
		}
	}
	return nil
}

// host is the address that a workload asks.
func (w Workload) host() string {
	to := w.To
	if u, err := url.Parse(w.To); err == nil && u.Host != "" {
		to = u.Host
	}
	if h, _, err := net.SplitHostPort(to); err == nil {
		return h
	}
	return to
}

// goHome moves every group to its primary by planned moves.
func goHome(ctx context.Context, r *Runner, _ args) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	st, err := r.status(ctx, r.Scenario.Setup.Servers[0].Name)
	if err != nil {
		return err
	}
	for _, g := range st.Groups {
		if g.Owner == g.Primary {
			continue
		}
		out, code, err := r.pair.Run(ctx, g.Primary, "orscore", "failback", g.Name)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("failback of %s: exit code %d: %s", g.Name, code, strings.TrimSpace(out))
		}
	}
	return nil
}

// Requests counts what all clients have asked since a moment, and what of that was not answered.
func (r *Runner) Requests(since time.Time) (all, failed int, err error) {
	now := time.Now()
	for _, c := range r.clients {
		if err := c.log.Refresh(); err != nil {
			return all, failed, err
		}
		n := workload.Count(c.log.Entries, workload.Failed, since, now) +
			workload.Count(c.log.Entries, workload.Broken, since, now)
		failed += n
		all += n + workload.Count(c.log.Entries, workload.Served, since, now)
	}
	return all, failed, nil
}

// Output runs a command on a host and returns what it prints; another exit code than 0 is an error.
func (r *Runner) Output(ctx context.Context, host string, argv ...string) (string, error) {
	out, code, err := r.pair.Run(ctx, host, argv...)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(out))
	}
	return out, err
}
