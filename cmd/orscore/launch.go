package main

import (
	"context"
	"crypto/rand"
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
	app        *app
	reg        control.Registration
	on         []string // events
	from       uint64   // position of the first registration: what was here before it, and what came since
	registered bool     // once: from then on every error passes
	waiting    bool     // for an agent, and that was said
	errs       io.Writer
}

func (l *listener) flags(c *cobra.Command, on []string) {
	c.Flags().StringSliceVar(&l.reg.Groups, "group", nil, "only these `groups`; default: all")
	c.Flags().StringSliceVar(&l.on, "on", on, "only groups that came in these `ways`: "+strings.Join(arrival.Events, ", "))
}

// prepare looks at the flags, and finds the agent's socket once: later the configuration may be in a change's midst.
func (l *listener) prepare() (err error) {
	for _, e := range l.on {
		if !slices.Contains(arrival.Events, e) {
			return usage("--on is %q, wanted some of %s", e, strings.Join(arrival.Events, ", "))
		}
	}
	l.app.socket, err = l.app.socketPath()
	return err
}

// listen registers and calls fn for each notice, and registers again behind the newest one when the agent was away.
func (l *listener) listen(ctx context.Context, fn func(arrival.Notice, control.ReportFunc) error) error {
	stop := errors.New("stop")
	var end error
	for {
		err := l.app.with(ctx, func(c *control.Client) error {
			return c.Notify(ctx, l.reg, func(n arrival.Notice, report control.ReportFunc) error {
				if n.Step == control.Registered && !l.registered {
					l.registered, l.from = true, n.Pos
				}
				l.waiting, l.reg.After = false, max(l.reg.After, n.Pos)
				if end = fn(n, report); end != nil {
					return stop
				}
				return nil
			})
		})
		switch {
		case errors.Is(err, stop):
			return end
		case ctx.Err() != nil:
			return ctx.Err()
		case !l.registered && (errors.Is(err, control.ErrNotPermitted) || errors.Is(err, control.ErrRefused)):
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
		Long: `Register under a name at this server's agent and print one JSON object a line:
the newest step of each group that is here, then every step of a group that comes
to this server or leaves it. step (coming, arrived, up, leaving, left), event
(takeover, switchover, failback, returned, start, resumed), group, server, from,
primary, status, drives. It goes on until it is interrupted, across restarts of
the agent, without missing or repeating a line. Nothing waits for the program; from
"leaving" on the group's drives are about to be unmounted.`,
		Example: "  orscore notify cache | while read -r line; do echo \"$line\" | jq -r .step; done",
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := l.prepare(); err != nil {
				return err
			}
			l.reg.Program, l.errs = args[0], c.ErrOrStderr()
			out := json.NewEncoder(c.OutOrStdout())
			return unlessInterrupted(l.listen(c.Context(), func(n arrival.Notice, _ control.ReportFunc) error {
				leaves := n.Step == arrival.Leaving || n.Step == arrival.Left // perhaps as "resumed": its agent was restarted
				if n.Step != control.Registered && !leaves && !slices.Contains(l.on, n.Event) {
					return nil
				}
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
what is left of it is killed, after ten seconds at most; nothing waits for that. A
planned move that did not work and brings the group back lets FILE run again.
Groups are taken one after the other: give each its own launch if FILE goes on for
long. The command is what CPQRSGL was: start it from an autostart block or as a
service. It waits for an agent that is not there yet.`,
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

// launcher runs a program each time a group comes, one after the other.
type launcher struct {
	listener
	keep    bool
	argv    []string
	cmd     *cobra.Command
	ctx     context.Context
	run     *launched // nil: none; one at a time
	next    []arrival.Notice
	stopped map[string]bool // groups that left while their program ran, or was to run
	report  control.ReportFunc
	unsaid  []outcome // ends of the program that are not in the journal yet
}

// launched is the program, for one group.
type launched struct {
	group  string
	began  time.Time
	asked  string // why it is to end; empty: it is not
	cancel context.CancelFunc
	ended  chan error
}

// outcome is how the program ended.
type outcome control.Report

func (l *launcher) command(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("`%s` needs a FILE", c.CommandPath())
	}
	if err := l.prepare(); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("ORS-7040: %w", err)}
	}
	l.argv, l.stopped = append([]string{path}, args[1:]...), map[string]bool{}
	l.cmd, l.errs, l.reg.Program = c, c.ErrOrStderr(), "launch "+filepath.Base(path)
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	l.ctx = ctx
	err = l.loop(ctx)
	if l.run != nil { // it was interrupted, and with it the program
		l.run.cancel()
		err = l.ended(<-l.run.ended).exit(err)
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
	var patience <-chan time.Time
	for {
		var ended chan error
		if l.run != nil {
			ended = l.run.ended
		}
		said := false // an end of the program has been told, or nobody is there to be told
		select {
		case err := <-listened:
			return err
		case t := <-notices:
			if t.n.Step == control.Reported {
				said = true
				break
			}
			l.take(t)
		case err := <-ended:
			o := l.ended(err)
			if ctx.Err() != nil {
				return o.exit(ctx.Err())
			}
			l.unsaid = append(l.unsaid, o)
			l.say(o)
			if l.keep {
				l.begin()
			} else { // it ends now, and an agent that is away may not come back
				patience = time.After(launchedEnd)
			}
		case <-patience:
			_, _ = fmt.Fprintln(l.errs, "orscore: no agent was there to be told: `orscore status --switchover` will not show it")
			said = true
		}
		if said && len(l.unsaid) > 0 {
			if code := l.page(ctx); !l.keep {
				return code
			}
		}
	}
}

func (l *launcher) take(t told) {
	n := t.n
	switch n.Step {
	case control.Registered:
		l.report = t.report
		_, _ = fmt.Fprintf(l.errs, "orscore: registered; waiting for a group that comes by %s\n", strings.Join(l.on, ", "))
		for _, o := range l.unsaid { // the agent was away, or has ended before it had written them down
			l.say(o)
		}
	case arrival.Arrived:
		back := n.Event == arrival.Returned && l.stopped[n.Group] // a planned move did not work: it is wanted here again
		if n.Pos <= l.from || !back && !slices.Contains(l.on, n.Event) {
			return
		}
		delete(l.stopped, n.Group)
		l.next = append(l.next, n)
		l.begin()
	case arrival.Leaving:
		before := len(l.next)
		l.next = slices.DeleteFunc(l.next, func(o arrival.Notice) bool { return o.Group == n.Group })
		if l.run != nil && l.run.group == n.Group {
			l.run.asked = ", as it was asked to when its group left,"
			l.run.cancel()
		} else if len(l.next) == before {
			return
		}
		l.stopped[n.Group] = true
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

// ended says how the program ended.
func (l *launcher) ended(err error) outcome {
	run := l.run
	if run.asked == "" && l.ctx.Err() != nil {
		run.asked = ", as this command was interrupted,"
	}
	run.cancel()
	l.run = nil
	o := outcome{ID: rand.Text(), Group: run.group, Took: time.Since(run.began),
		Text: "it has ended" + run.asked + " well"}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		o.Exit, o.Text = exit.ExitCode(), fmt.Sprintf("it has ended%s with exit code %d", run.asked, exit.ExitCode())
	case err != nil:
		o.Exit, o.Text = exitFailed, "it has not ended by itself"+run.asked+": "+err.Error()
	}
	o.Text += fmt.Sprintf(" after %.3f s", o.Took.Seconds())
	_, _ = fmt.Fprintf(l.errs, "orscore: %s: %s\n", screen.Clean(l.reg.Program), screen.Clean(o.Text))
	return o
}

// say tells the agent of an end. Whether it has heard that, it says itself; it is told again when it is back.
func (l *launcher) say(o outcome) {
	if l.report != nil && l.report(control.Report(o)) != nil {
		l.report = nil
	}
}

// page shows what became of the oldest end that was not told yet, and returns the end of the command for it.
func (l *launcher) page(ctx context.Context) error {
	o := l.unsaid[0]
	l.unsaid = l.unsaid[1:]
	if err := l.app.lastSwitchovers(ctx, l.cmd.OutOrStdout(), o.Group, false); err != nil {
		_, _ = fmt.Fprintln(l.errs, "orscore: no status page: "+problem(err))
	}
	return o.exit(nil)
}

// exit is the end of the command for an outcome; well where it is a good one.
func (o outcome) exit(well error) error {
	if o.Exit != 0 {
		return &exitError{code: o.Exit}
	}
	return well
}
