// Package upgrade lets another program take a running agent's place: it looks at the new program, puts it in place,
// has the agent hand over, and waits until the new one has found everything that runs. A new one that does not come up
// in time is taken away again, and the old one runs.
//
// It must never begin what it has not proven to be possible, never signal a process whose identity it does not hold,
// and never leave the server without saying which program is in place and which one runs.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/internal/safefile"
)

// Options say what is upgraded to what.
type Options struct {
	Dial   func(context.Context) (*control.Client, error)
	To     string // the new program
	Config string // of the agent, as the new program is to read it
	Server string // name of this server; empty: the host name
	// Within is how long the partner is told to wait. The new agent has half of it to come up; the rest is for the way
	// back.
	Within time.Duration
	Reason string            // for the journal
	Tell   func(text string) // what happens, a sentence each
}

// Result is what came of an upgrade.
type Result struct {
	From    string        // version
	To      string        // version
	Program string        // that is in place now
	Kept    string        // the one before
	Away    time.Duration // from the old agent's last word to the new one's being at work
}

const (
	answerWait  = 10 * time.Second // of the new program, for its version
	checkWait   = time.Minute      // of the new program, for its check of the configuration
	managerWait = 5 * time.Second  // a service manager has so long, at most, to start an agent again
	leastWait   = 2 * time.Second  // and at least so long
	orderWait   = 2 * time.Second  // of a new agent that is asked to make room for the old one
	poll        = 50 * time.Millisecond

	// Least is the shortest announced time that leaves room for the way back: half of it for the new agent, the rest for
	// its end, a service manager's start, and the old agent's.
	Least = 8 * time.Second
)

// Run upgrades the agent that answers. An error that wraps control.ErrRefused says that nothing was changed.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Within < Least {
		return Result{}, refused("within %v no old agent could be put in place again should the new one fail; "+
			"right would be %v at least", o.Within, Least)
	}
	before, err := look(ctx, o)
	if err != nil {
		return Result{}, err
	}
	old, err := hold(before.self.PID)
	if err != nil {
		return Result{}, refused("the agent's process cannot be held: %w", err)
	}
	defer old.release()
	unlock, err := lock(before.self.Program)
	if err != nil {
		return Result{}, refused("another upgrade is under way: %w", err)
	}
	defer unlock()
	if again, err := look(ctx, o); err != nil || again.self.PID != before.self.PID {
		return Result{}, errors.Join(refused("the agent has just been restarted; try again"), err)
	}
	staged, err := safefile.Stage(o.To, before.self.Program)
	if err != nil {
		return Result{}, refused("the new program cannot be copied into place: %w", err)
	}
	defer func() { _ = os.Remove(staged) }() // it is gone when it has been put in place
	about, err := o.prove(ctx, staged, old, before)
	if err != nil {
		return Result{}, err
	}
	res := Result{From: before.self.Version, To: about.Version, Program: before.self.Program,
		Kept: before.self.Program + safefile.Old}
	o.Tell(fmt.Sprintf("%s is version %s, runs here, and accepts the configuration", o.To, about.Version))
	if err := safefile.Place(staged, res.Program, old.program()); err != nil {
		return res, refused("the new program cannot be put in place: %w", err)
	}
	o.Tell(fmt.Sprintf("it is in place as %s; the one before is kept as %s", res.Program, res.Kept))
	end := time.Now().Add(o.Within) // the partner waits until then, or for a moment longer
	text, err := o.handOver(ctx, control.RestartRequest{Within: o.Within, Reason: o.Reason, Program: res.Program})
	if err != nil {
		back := safefile.Back(res.Program)
		return res, errors.Join(fmt.Errorf("the agent did not hand over and goes on: %w", err), back)
	}
	began := time.Now()
	o.Tell(text)
	// From here on the server has no agent for a moment: this must end well or be undone, whoever leaves.
	ctx = context.WithoutCancel(ctx)
	newest, err := o.comesUp(ctx, before, old, res, began.Add(end.Sub(began)/2))
	if err != nil {
		return res, o.wayBack(ctx, res, old, newest, end, err)
	}
	res.Away = time.Since(began)
	return res, nil
}

func refused(format string, a ...any) error {
	return fmt.Errorf("ORS-7050: %w: %w", fmt.Errorf(format, a...), control.ErrRefused)
}

// seen is what an agent says.
type seen struct {
	status control.Status
	self   control.Server
}

func look(ctx context.Context, o Options) (seen, error) {
	c, err := o.Dial(ctx)
	if err != nil {
		return seen{}, err
	}
	st, err := c.Status(ctx)
	if err := errors.Join(err, c.Close()); err != nil {
		return seen{}, err
	}
	s := seen{status: st}
	for _, srv := range st.Servers {
		if srv.Self {
			s.self = srv
		}
	}
	if s.self.PID == 0 || s.self.Program == "" {
		return s, refused("the agent that runs is too old to be upgraded by itself: put the new program in place and " +
			"say `orscore restart`")
	}
	return s, nil
}

// settled says whether nothing is on its way: an upgrade in the midst of a move would only lengthen it.
func (s seen) settled() error {
	steady := []string{"active", "standby", "parked", "faulted"}
	for _, g := range s.status.Groups {
		if !slices.Contains(steady, strings.ToLower(g.Phase)) {
			return fmt.Errorf("ORS-7051: group %s is %s: %w", g.Name, g.Phase, control.ErrRefused)
		}
	}
	return nil
}

// prove finds out whether the staged program may take the agent's place.
func (o Options) prove(ctx context.Context, staged string, old *process, before seen) (about, error) {
	if err := safefile.Check(staged); err != nil {
		return about{}, refused("others could replace the program: %w", err)
	}
	a, err := ask(ctx, staged)
	if err != nil {
		return a, refused("%s is no orscore that runs here: %w", o.To, err)
	}
	if err := a.speaks(before); err != nil {
		return a, refused("%s cannot work with this pair: %w", o.To, err)
	}
	problems, err := o.check(ctx, staged)
	if err != nil {
		return a, refused("%s does not check the configuration: %w", o.To, err)
	}
	if len(problems) > 0 { // perhaps they are none of the new program's
		known, err := o.check(ctx, old.program())
		if err != nil {
			return a, refused("the running program does not check the configuration: %w", err)
		}
		problems = slices.DeleteFunc(problems, func(p problem) bool { return slices.Contains(known, p) })
	}
	if len(problems) > 0 {
		return a, refused("version %s does not accept the configuration: %s", a.Version, problems[0])
	}
	return a, before.settled()
}

// handOver asks the agent to become the program.
func (o Options) handOver(ctx context.Context, r control.RestartRequest) (string, error) {
	c, err := o.Dial(ctx)
	if err != nil {
		return "", err
	}
	text, err := c.Restart(ctx, r)
	return text, errors.Join(err, c.Close())
}

// comesUp waits until the new agent is at work in the process and has everything that ran before. It returns the number
// of the newest start that was seen.
func (o Options) comesUp(ctx context.Context, before seen, p *process, res Result, until time.Time) (int, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	within := time.Until(until).Round(time.Second / 10)
	why, newest := errors.New("it did not answer"), before.self.Incarnation
	for {
		now, err := look(ctx, o)
		if err == nil {
			newest = max(newest, now.self.Incarnation)
			err = now.continues(before, res.To)
		}
		if now.self.Incarnation > before.self.Incarnation && p.runs(res.Kept) {
			return newest, fmt.Errorf("version %s goes on: the new program could not be run", now.self.Version)
		}
		if err == nil {
			return newest, nil
		}
		if ctx.Err() == nil {
			why = err // the answer to a question that was cut short says nothing
		}
		if p.ended() {
			return newest, errors.New("its process has ended")
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return newest, fmt.Errorf("it was not at work within %v: %w", within, why)
		}
	}
}

// continues says whether this is the new agent and all that was here before is here again. A group that it has taken
// over meanwhile is more than that: its partner has died, and the way back would cut the takeover short.
func (s seen) continues(before seen, version string) error {
	switch {
	case s.self.Incarnation <= before.self.Incarnation:
		return errors.New("the old agent has not ended")
	case s.self.Version != version:
		return fmt.Errorf("version %s answers", s.self.Version)
	}
	phases := map[string]string{}
	for _, g := range s.status.Groups {
		phases[g.Name] = g.Phase
	}
	took := false
	for _, g := range before.status.Groups {
		now := phases[g.Name]
		if strings.EqualFold(g.Phase, "standby") && strings.EqualFold(now, "active") {
			took = true
		} else if now != g.Phase {
			return fmt.Errorf("group %s is %s, it was %s", g.Name, now, g.Phase)
		}
	}
	switch {
	case took:
	case before.heard() && !s.heard():
		return fmt.Errorf("it has not heard its partner yet: %s", s.status.VerdictWhy)
	case before.status.Agreed && !s.status.Agreed:
		return errors.New("it does not agree with its partner yet")
	}
	return nil
}

// heard says whether the agent hears its partner, on every link or not.
func (s seen) heard() bool {
	return slices.Contains([]string{"alive", "cable-fault"}, s.status.Verdict)
}

// wayBack puts the old program in place again and sees to it that it runs, before the announced time ends. newest is
// the number of the newest start that was seen.
func (o Options) wayBack(ctx context.Context, res Result, p *process, newest int, end time.Time, why error) error {
	o.Tell(fmt.Sprintf("the new agent is not at work: %v; the way back begins", why))
	failed := fmt.Errorf("ORS-7052: version %s is not at work: %w", res.To, why)
	if err := safefile.Back(res.Program); err != nil {
		return fmt.Errorf("ORS-7053: %w; and the old program cannot be put in place: %w", failed, err)
	}
	o.Tell(fmt.Sprintf("version %s is in place again as %s", res.From, res.Program))
	short, cancel := context.WithTimeout(ctx, orderWait)
	now, err := look(short, o)
	cancel()
	if err == nil {
		newest = max(newest, now.self.Incarnation)
		if p.runs(res.Program) {
			return fmt.Errorf("%w; version %s goes on", failed, res.From)
		}
		if o.makesRoom(ctx, res, p, newest, end) {
			return fmt.Errorf("%w; version %s runs again", failed, res.From)
		}
	}
	if err := p.kill(ctx); err != nil {
		return fmt.Errorf("ORS-7053: %w; and its process cannot be ended: %w", failed, err)
	}
	manager := max(min(o.Within/4, managerWait), leastWait)
	if o.returns(ctx, newest, res.From, manager) == nil { // a service manager was quicker
		return fmt.Errorf("%w; version %s runs again", failed, res.From)
	}
	if err := p.startAgain(res.Program); err != nil {
		return fmt.Errorf("ORS-7053: %w; and the old program cannot be started: %w", failed, err)
	}
	if err := o.returns(ctx, newest, res.From, max(o.Within/2, managerWait)); err != nil {
		return fmt.Errorf("ORS-7053: %w; and version %s does not come back: %w", failed, res.From, err)
	}
	return fmt.Errorf("%w; version %s runs again", failed, res.From)
}

// makesRoom asks a new agent that answers to become the old one in order, for as long as the partner still waits, and
// says whether it has. An agent that does not is killed.
func (o Options) makesRoom(ctx context.Context, res Result, p *process, newest int, end time.Time) bool {
	left := time.Until(end).Truncate(time.Second)
	if left < 2*time.Second {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, min(orderWait, left/4)) // the rest is for the other way
	defer cancel()
	if _, err := o.handOver(ctx, control.RestartRequest{Within: left, Reason: o.Reason + ": the way back",
		Program: res.Program}); err != nil {
		return false
	}
	for !p.runs(res.Program) {
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return false
		}
	}
	return o.returns(context.WithoutCancel(ctx), newest, res.From, left/2) == nil
}

// returns waits until an agent of the old version answers that was started after the start of a number.
func (o Options) returns(ctx context.Context, after int, version string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		now, err := look(ctx, o)
		if err == nil && now.self.Version == version && now.self.Incarnation > after {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return errors.Join(errors.New("no agent answers"), err)
		}
	}
}
