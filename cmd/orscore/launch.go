package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/plugins/sdk/environment"
)

const (
	agentRetry  = time.Second      // between looks for an agent that is not there yet
	launchedEnd = 10 * time.Second // a launched program is asked to end, and killed after so long
)

// listener is a program that is told of groups, across restarts of the agent.
type listener struct {
	app     *app
	reg     control.Registration
	on      []string // events
	waiting bool     // for an agent, and that was said
	errs    io.Writer
}

func (l *listener) flags(c *cobra.Command, on []string) {
	c.Flags().StringSliceVar(&l.reg.Groups, "group", nil, "only these `groups`; default: all")
	c.Flags().StringSliceVar(&l.on, "on", on, "only groups that came in these `ways`: "+strings.Join(arrival.Events, ", "))
}

func (l *listener) check() error {
	for _, e := range l.on {
		if !slices.Contains(arrival.Events, e) {
			return usage("--on is %q, wanted some of %s", e, strings.Join(arrival.Events, ", "))
		}
	}
	return nil
}

// wants leaves out groups that came in another way. That a group leaves is always told: one that came by a takeover
// leaves as "resumed" when the agent was restarted since.
func (l *listener) wants(n arrival.Notice) bool {
	switch n.Step {
	case control.Registered, arrival.Leaving, arrival.Left:
		return true
	}
	return slices.Contains(l.on, n.Event)
}

// listen registers and calls fn for each notice, and registers again behind the newest one when the agent was away.
func (l *listener) listen(ctx context.Context, fn func(arrival.Notice, control.ReportFunc) error) error {
	stop := errors.New("stop")
	var end error
	for {
		err := l.app.with(ctx, func(c *control.Client) error {
			return c.Notify(ctx, l.reg, func(n arrival.Notice, report control.ReportFunc) error {
				l.waiting, l.reg.After = false, n.Pos
				if !l.wants(n) {
					return nil
				}
				if end = fn(n, report); end != nil {
					return stop
				}
				return nil
			})
		})
		var exit *exitError
		switch {
		case errors.Is(err, stop):
			return end
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, control.ErrNotPermitted), errors.Is(err, control.ErrRefused), errors.As(err, &exit):
			return err
		}
		if !l.waiting {
			_, _ = fmt.Fprintln(l.errs, "orscore: waiting for the agent: "+problem(err))
			l.waiting = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(agentRetry):
		}
	}
}

func (a *app) notifyCommand() *cobra.Command {
	l := &listener{app: a}
	c := &cobra.Command{
		Use:   "notify NAME",
		Short: "Register a program that is no plugin, and print what it is told",
		Long: `Register under a name at this server's agent and print one JSON object a line for
every group that comes to this server or leaves it: step (coming, arrived, up,
leaving, left), event (takeover, switchover, failback, returned, start, resumed),
group, server, from, primary, status, drives. It goes on until it is interrupted,
across restarts of the agent, without missing or repeating a line. Nothing waits
for the program; from "leaving" on the group's drives are about to be unmounted.`,
		Example: "  orscore notify cache | while read -r line; do echo \"$line\" | jq -r .step; done",
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := l.check(); err != nil {
				return err
			}
			l.reg.Program, l.errs = args[0], c.ErrOrStderr()
			out := json.NewEncoder(c.OutOrStdout())
			return unlessInterrupted(l.listen(c.Context(), func(n arrival.Notice, _ control.ReportFunc) error {
				return out.Encode(struct {
					Position uint64    `json:"position"`
					At       time.Time `json:"at"`
					arrival.Notice
					Text string `json:"text"`
				}{n.Pos, n.At, n, n.Text})
			}))
		},
	}
	l.flags(c, arrival.Events)
	return c
}

func (a *app) launchCommand() *cobra.Command {
	l := &launcher{listener: listener{app: a}}
	c := &cobra.Command{
		Use:   "launch FILE [ARG…]",
		Short: "Wait for a switchover, then run a command with the drive letters",
		Long: `Register at this server's agent, wait until a group comes to this server, and run
FILE once its drives are mounted. The arguments are ARG…, then the letters d1 … dn,
then the status parameters: status=N event=… group=… server=… from=… primary=….
status is 0, or the sum of 1 (a drive has another letter than configured) and 2 (a
drive was mounted with a problem). The same is in the environment: ORS_STATUS,
ORS_EVENT, ORS_GROUP, ORS_SERVER, ORS_FROM, ORS_PRIMARY, ORS_DRIVES, ORS_Dn,
ORS_Dn_PATH, and ORS_DRIVE_E for the folder of the drive configured as E:.

When FILE has ended, the page of "orscore status --switchover" is shown, and its
exit code is the command's. If the group leaves before, FILE is asked to end, and
what is left of it is killed, after ten seconds at most; nothing waits for that.
The command is what CPQRSGL was: start it from an autostart block or as a service.
It waits for an agent that is not there yet.`,
		Example: "  orscore launch --group rocky /usr/local/sbin/rcvrnts\n" +
			"  orscore launch --keep /usr/local/sbin/each-time",
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error { return l.command(c, args) },
	}
	c.Flags().SetInterspersed(false)
	l.flags(c, []string{arrival.Takeover, arrival.Switchover, arrival.Failback})
	c.Flags().BoolVar(&l.keep, "keep", false, "wait again afterwards, and run it at each switchover")
	return c
}

// launcher runs a program each time a group comes.
type launcher struct {
	listener
	keep bool
	argv []string
	cmd  *cobra.Command
	ctx  context.Context
	run  *launched // nil: none; one at a time
	next []arrival.Notice
}

// launched is the program, for one group.
type launched struct {
	group  string
	began  time.Time
	asked  string // why it is to end; empty: it is not
	cancel context.CancelFunc
	ended  chan error
}

func (l *launcher) command(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("`%s` needs a FILE", c.CommandPath())
	}
	if err := l.check(); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("ORS-7040: %w", err)}
	}
	l.argv = append([]string{path}, args[1:]...)
	l.cmd, l.errs, l.reg.Program = c, c.ErrOrStderr(), "launch "+filepath.Base(path)
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	l.ctx = ctx
	err = l.loop(ctx)
	if l.run != nil {
		l.run.cancel()
		<-l.run.ended
	}
	return unlessInterrupted(err)
}

// told is one notice with the way to report about it.
type told struct {
	n      arrival.Notice
	report control.ReportFunc
}

// loop takes notices and ends of the program one after the other.
func (l *launcher) loop(ctx context.Context) error {
	notices, listened := make(chan told), make(chan error, 1)
	go func() {
		listened <- l.listen(ctx, func(n arrival.Notice, report control.ReportFunc) error {
			select {
			case notices <- told{n, report}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	var report control.ReportFunc
	for {
		var ended chan error
		if l.run != nil {
			ended = l.run.ended
		}
		select {
		case err := <-listened:
			return err
		case t := <-notices:
			report = t.report
			l.take(t.n)
		case err := <-ended:
			if done, err := l.finish(ctx, report, err); done {
				return err
			}
		}
	}
}

func (l *launcher) take(n arrival.Notice) {
	switch n.Step {
	case control.Registered:
		_, _ = fmt.Fprintf(l.errs, "orscore: registered; waiting for a group that comes by %s\n", strings.Join(l.on, ", "))
	case arrival.Arrived:
		l.next = append(l.next, n)
		l.begin()
	case arrival.Leaving:
		l.next = slices.DeleteFunc(l.next, func(o arrival.Notice) bool { return o.Group == n.Group })
		if l.run != nil && l.run.group == n.Group {
			l.run.asked = ", as it was asked to when its group left,"
			l.run.cancel()
		}
	}
}

// begin runs the program for the next group, unless it runs.
func (l *launcher) begin() {
	if l.run != nil || len(l.next) == 0 {
		return
	}
	n := l.next[0]
	l.next = l.next[1:]
	v := environment.Values{Group: n.Group, Server: n.Server, Primary: n.Primary, Event: n.Event, From: n.From,
		Status: n.Status}
	for _, d := range n.Drives {
		v.Drives = append(v.Drives, environment.Drive(d))
	}
	argv := slices.Concat(l.argv, v.Letters(), v.Parameters())
	ctx, cancel := context.WithCancel(l.ctx)
	run := &launched{group: n.Group, began: time.Now(), cancel: cancel, ended: make(chan error, 1)}
	l.run = run
	_, _ = fmt.Fprintf(l.errs, "orscore: %s Running %s\n", screen.Clean(n.Sentence()),
		screen.Clean(strings.Join(argv, " ")))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), environment.List(v.Variables())...)
	cmd.Stdout, cmd.Stderr = l.cmd.OutOrStdout(), l.cmd.ErrOrStderr()
	go func() { run.ended <- runLaunched(ctx, cmd) }()
}

// finish tells how the program ended, and says whether that is the end of the command.
func (l *launcher) finish(ctx context.Context, report control.ReportFunc, err error) (bool, error) {
	run := l.run
	run.cancel()
	l.run = nil
	took := time.Since(run.began)
	code, text := 0, "it has ended"+run.asked+" well"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		code, text = exit.ExitCode(), fmt.Sprintf("it has ended%s with exit code %d", run.asked, exit.ExitCode())
	case err != nil:
		code, text = exitFailed, "it has not ended by itself"+run.asked+": "+err.Error()
	}
	text += fmt.Sprintf(" after %.3f s", took.Seconds())
	if err := report(run.group, text, code, took); err != nil {
		_, _ = fmt.Fprintln(l.errs, "orscore: the agent was not told: "+problem(err))
	}
	_, _ = fmt.Fprintf(l.errs, "orscore: %s: %s\n", screen.Clean(l.reg.Program), screen.Clean(text))
	if err := l.app.lastSwitchovers(ctx, l.cmd.OutOrStdout(), run.group, false); err != nil {
		_, _ = fmt.Fprintln(l.errs, "orscore: no status page: "+problem(err))
	}
	if l.keep {
		l.begin()
		return false, nil
	}
	if code != 0 {
		return true, &exitError{code: code}
	}
	return true, nil
}
