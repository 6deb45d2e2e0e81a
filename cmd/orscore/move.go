package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
)

func (a *app) switchoverCommand() *cobra.Command {
	var r control.MoveRequest
	var all, asJSON bool
	c := &cobra.Command{
		Use:   "switchover [GROUP…]",
		Short: "Move groups to the other server, in a planned way",
		Long: `Move groups to the other server, in a planned way: the other server proves first
that it could run the group; then applications are stopped, drives unmounted,
storage handed over, drives mounted, applications started. When a step fails the
group returns to where it ran. Leaving with ^C does not stop a move.

The exit code is 0 when every group has moved, 4 when all were refused before
anything was touched, else 1.`,
		ValidArgsFunction: a.completeGroups,
		Example:           "  orscore switchover rocky\n  orscore switchover --all --to apollo",
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usage("name the groups to move, or say --all")
			}
			r.Groups = args
			return a.move(c.Context(), c.OutOrStdout(), r, asJSON)
		},
	}
	c.Flags().StringVar(&r.To, "to", "", "`server` to move to (default: the one that does not own the group)")
	c.Flags().BoolVar(&all, "all", false, "move every group")
	moveFlags(c, &r, &asJSON)
	return c
}

func (a *app) failbackCommand() *cobra.Command {
	r := control.MoveRequest{Failback: true}
	var all, asJSON bool
	c := &cobra.Command{
		Use:   "failback [GROUP…]",
		Short: "Bring groups back to their primary server",
		Long: `Bring groups back to their primary server; without names, all that are away from
it. It is a switchover otherwise: see there for what is done and for the exit
codes.`,
		ValidArgsFunction: a.completeGroups,
		Example:           "  orscore failback\n  orscore failback rocky",
		RunE: func(c *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usage("name the groups to bring back, or say --all, not both")
			}
			r.Groups = args
			return a.move(c.Context(), c.OutOrStdout(), r, asJSON)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "bring back every group that is away (as without names)")
	moveFlags(c, &r, &asJSON)
	return c
}

func moveFlags(c *cobra.Command, r *control.MoveRequest, asJSON *bool) {
	c.Flags().StringVar(&r.Reason, "reason", "", "`text` for the journal")
	c.Flags().BoolVar(&r.Force, "force", false, "also in maintenance")
	c.Flags().BoolVar(asJSON, "json", false, "print JSON when the move has ended: ok, groups[], steps[]")
}

// moved is the JSON of a move.
type moved struct {
	OK     bool         `json:"ok"`
	Groups []movedGroup `json:"groups"`
	Steps  []movedStep  `json:"steps"`
}

type movedGroup struct {
	Group  string `json:"group"`
	Before string `json:"before"` // owner
	After  string `json:"after"`
	Moved  bool   `json:"moved"`
	Step   string `json:"step"` // the last one
	TookMS int64  `json:"took_ms"`
	Code   string `json:"code,omitempty"`
	Text   string `json:"text,omitempty"`
}

type movedStep struct {
	AtMS  int64  `json:"at_ms"`
	Group string `json:"group"`
	Step  string `json:"step"`
	Text  string `json:"text,omitempty"`
	Code  string `json:"code,omitempty"`
}

func (a *app) move(ctx context.Context, out io.Writer, r control.MoveRequest, asJSON bool) error {
	return a.with(ctx, func(c *control.Client) error {
		before, err := c.Status(ctx)
		if err != nil {
			return err
		}
		m := moved{Groups: []movedGroup{}, Steps: []movedStep{}}
		err = c.Move(ctx, r, func(p control.MoveProgress) {
			m.take(p)
			if !asJSON {
				printStep(out, p)
			}
		})
		if errors.Is(err, context.Canceled) {
			return errors.New("ORS-7009: left before the end; the move goes on")
		}
		if err != nil {
			return err
		}
		after, err := c.Status(ctx)
		if err != nil {
			return err
		}
		m.finish(before, after)
		if asJSON {
			err = printJSON(out, m)
		} else {
			err = printMoved(out, m)
		}
		return errors.Join(err, m.exit())
	})
}

func (m *moved) take(p control.MoveProgress) {
	step := movedStep{AtMS: p.At.Milliseconds(), Group: p.Group, Step: p.Step, Text: p.Text, Code: p.Code}
	m.Steps = append(m.Steps, step)
	i := slices.IndexFunc(m.Groups, func(g movedGroup) bool { return g.Group == p.Group })
	if i < 0 {
		m.Groups = append(m.Groups, movedGroup{Group: p.Group})
		i = len(m.Groups) - 1
	}
	g := &m.Groups[i]
	g.Step, g.TookMS, g.Code, g.Text = p.Step, p.At.Milliseconds(), p.Code, p.Text
	g.Moved = p.Finished && p.Moved
}

func (m *moved) finish(before, after control.Status) {
	owner := func(st control.Status, group string) string {
		for _, g := range st.Groups {
			if g.Name == group {
				return g.Owner
			}
		}
		return "unknown"
	}
	m.OK = true
	for i := range m.Groups {
		g := &m.Groups[i]
		g.Before, g.After = owner(before, g.Group), owner(after, g.Group)
		m.OK = m.OK && g.Moved
	}
}

// exit is nil when every group has moved.
func (m *moved) exit() error {
	if m.OK {
		return nil
	}
	for _, g := range m.Groups {
		if g.Moved || g.Step != "refused" {
			return &exitError{code: exitFailed}
		}
	}
	return &exitError{code: exitRefused}
}

func printStep(out io.Writer, p control.MoveProgress) {
	text := p.Text
	if p.Code != "" {
		text = p.Code + " " + text
	}
	// A terminal that is gone must not end what the agent does.
	_, _ = fmt.Fprintf(out, "%9.3f s  %-12s  %-10s  %s\n",
		p.At.Seconds(), screen.Clean(p.Group), screen.Clean(p.Step), screen.Clean(text))
}

func printMoved(out io.Writer, m moved) error {
	if len(m.Groups) == 0 {
		_, err := fmt.Fprintln(out, "Nothing to move: every group is where it was asked to be.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(w, "\nGROUP\tBEFORE\tAFTER\tRESULT\n")
	for _, g := range m.Groups {
		took := (time.Duration(g.TookMS) * time.Millisecond).Round(time.Millisecond)
		result := fmt.Sprintf("moved in %s", took)
		if !g.Moved {
			result = "NOT MOVED: " + g.Step
			if g.Code != "" {
				result += fmt.Sprintf(" (`orscore explain %s`)", g.Code)
			}
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n",
			screen.Clean(g.Group), screen.Clean(g.Before), screen.Clean(g.After), result)
	}
	return w.Flush()
}
