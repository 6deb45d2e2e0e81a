package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/codes"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, watch, code, switchover bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the pair on one screen",
		Long: `Show both servers, the links, and each group with its storage units, drives and
applications, as this server's agent sees them. Blocked groups come first.
Symbols: ● runs, ○ does not and need not, ◐ is being changed, ✗ has failed, ? is
not known, ! take note (in a locale without UTF-8: * o ~ X ? !). NO_COLOR is
honoured.

With --switchover it shows instead how each group has come to this server last:
from where and why, its drives, each step with its time since the storage was
this server's, and what registered programs did. Without an agent it reads the
state directory.`,
		Example: "  orscore status\n  orscore status --switchover\n  orscore status --watch\n" +
			"  orscore status --json | jq -r '.groups[] | [.name, .owner] | @tsv'",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if watch && code {
				return usage("--watch and --exit-code exclude each other")
			}
			out := c.OutOrStdout()
			if switchover {
				if watch || code {
					return usage("--switchover goes with --json only")
				}
				return a.lastSwitchovers(c.Context(), out, "", asJSON)
			}
			if watch {
				if _, tty := terminal(out); tty && !asJSON {
					return a.watchScreen(c.Context(), out)
				}
				return a.watchLines(c.Context(), out, asJSON)
			}
			return a.with(c.Context(), func(cl *control.Client) error {
				return statusOnce(c.Context(), cl, out, asJSON, code)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON; with --watch one object a line")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on and show every change")
	c.Flags().BoolVar(&switchover, "switchover", false, "show how each group has come to this server last")
	c.Flags().BoolVar(&code, "exit-code", false, "exit with 5 when the state is not normal")
	return c
}

func statusOnce(ctx context.Context, c *control.Client, out io.Writer, asJSON, code bool) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(out, st)
	} else {
		err = printScreen(out, st)
	}
	if err == nil && code && !st.Normal {
		return &exitError{code: exitNotNormal}
	}
	return err
}

func printScreen(out io.Writer, st control.Status) error {
	o := options(out)
	o.Height = 0 // a terminal scrolls
	_, err := fmt.Fprintln(out, strings.Join(screen.Render(st, o), "\n"))
	return err
}

// watchLines prints each status for programs and files: JSON always, a screen when more than ages and counters has
// changed.
func (a *app) watchLines(ctx context.Context, out io.Writer, asJSON bool) error {
	last := ""
	err := a.with(ctx, func(c *control.Client) error {
		return c.Watch(ctx, func(st control.Status) error {
			if asJSON {
				return json.NewEncoder(out).Encode(st)
			}
			now := essence(st)
			if now == last {
				return nil
			}
			if last != "" {
				if _, err := fmt.Fprintln(out); err != nil {
					return err
				}
			}
			last = now
			return printScreen(out, st)
		})
	})
	return unlessInterrupted(err)
}

// unlessInterrupted takes the operator's ^C, which ends what would go on for ever, for success.
func unlessInterrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// essence is a status without what changes all the time.
func essence(st control.Status) string {
	st.At = time.Time{}
	links := make([]control.Link, len(st.Links))
	for i, l := range st.Links {
		links[i] = control.Link{Name: l.Name, State: l.State}
	}
	st.Links = links
	alarms := make([]control.Alarm, len(st.Alarms))
	for i, al := range st.Alarms {
		alarms[i] = control.Alarm{Code: al.Code, Group: al.Group, Text: al.Text}
	}
	st.Alarms = alarms
	groups := make([]control.Group, len(st.Groups))
	for i, g := range st.Groups {
		g.Next = "" // counts seconds
		groups[i] = g
	}
	st.Groups = groups
	raw, err := json.Marshal(st)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Sequences of terminals since the VT100; those that one does not know it ignores.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginFrame  = "\x1b[?2026h\x1b[H"
	endLine     = "\x1b[K"
	endFrame    = "\x1b[J\x1b[?2026l"
	retryWatch  = time.Second
)

// watchScreen keeps the screen up to date until ^C, across restarts of the agent. Each frame overwrites the last one
// in place and is sent in one write.
func (a *app) watchScreen(ctx context.Context, out io.Writer) (err error) {
	if _, err := a.socketPath(); err != nil {
		return err
	}
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	defer func() {
		_, leave := io.WriteString(out, leaveScreen)
		err = errors.Join(err, leave)
	}()
	var last *control.Status
	for {
		err := a.with(ctx, func(c *control.Client) error {
			return c.Watch(ctx, func(st control.Status) error {
				last = &st
				return drawFrame(out, &st, "")
			})
		})
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, control.ErrNotPermitted) {
			return err
		}
		if err := drawFrame(out, last, problem(err)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryWatch):
		}
	}
}

// problem is an error as one line.
func problem(err error) string {
	if err == nil {
		return "the agent has ended the stream"
	}
	code, what := codes.Split(err.Error())
	return code + " " + what
}

// drawFrame draws st, which may be nil, below what is wrong, if anything.
func drawFrame(out io.Writer, st *control.Status, wrong string) error {
	o := options(out)
	var lines []string
	if wrong != "" {
		lines = append(screen.Fold("NOT CURRENT: "+wrong+"; trying again, ^C ends", max(o.Width, 40)), "")
	}
	if st != nil {
		o.Height = max(o.Height-len(lines), 0)
		lines = append(lines, screen.Render(*st, o)...)
	}
	var b strings.Builder
	b.WriteString(beginFrame)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + endLine)
	}
	b.WriteString(endFrame)
	_, err := io.WriteString(out, b.String())
	return err
}
