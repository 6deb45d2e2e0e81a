package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/store"
)

// replayed is the JSON of `orscore why`.
type replayed struct {
	ID     string `json:"id"`
	At     string `json:"at"`
	Server string `json:"server"`
	*decision.Decision
	Replay *decision.Replay `json:"replay"`
	Text   string           `json:"text"`
}

func (a *app) whyCommand() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "why [ID]",
		Short: "Tell why something was decided: evidence, rule and outcome, made again",
		Long: `Tell a decision of this server's agent in sentences: what happened, what was
decided by which row of the table, what was done, and on what evidence. The
decision is then made again from what is on record, and is said to be identical or
not. "orscore events" shows the IDs in brackets. Without an ID, the newest
decision about the partner's verdict and about each group are told.

It reads the state directory, so it needs no agent, but root or the agent's user.
The exit code is 1 when a decision made again by the same rules is another one.`,
		Example: "  orscore why\n  orscore why 7.123\n  orscore why 7.123 --json",
		Args:    maxArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.stateDir(dir)
			if err != nil {
				return err
			}
			log, err := store.ReadLog(dir, store.DecisionsName)
			if err != nil {
				return err
			}
			for _, text := range log.Damaged {
				_, _ = fmt.Fprintln(c.ErrOrStderr(), "orscore: "+screen.Clean(text))
			}
			told := decision.Newest(log.Records)
			if len(args) == 1 {
				d, err := decision.Find(log.Records, args[0])
				if err != nil {
					return fmt.Errorf("ORS-7021: %w", err)
				}
				told = []*decision.Decision{d}
			} else if len(told) == 0 {
				return fmt.Errorf("ORS-7021: no decision is on record in %s", dir)
			}
			return tellDecisions(c.OutOrStdout(), told, asJSON)
		},
	}
	c.Flags().StringVar(&dir, "state-dir", "", "`folder` to read (default: the configuration's agent.state_dir)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a decision: all that is on record, replay, text")
	return c
}

func tellDecisions(out io.Writer, told []*decision.Decision, asJSON bool) error {
	differs := false
	for i, d := range told {
		r, err := d.Replay()
		if err != nil {
			return err
		}
		differs = differs || !r.Identical && r.SameRules
		text := d.Explain(r)
		if asJSON {
			err = printJSON(out, replayed{d.ID, d.At.Format("2006-01-02T15:04:05.000Z07:00"), d.Server, d, r, text})
		} else {
			if i > 0 {
				text = "\n" + text
			}
			_, err = io.WriteString(out, cleanLines(text))
		}
		if err != nil {
			return err
		}
	}
	if differs {
		return &exitError{code: exitFailed}
	}
	return nil
}
