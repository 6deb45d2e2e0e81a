package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/upgrade"
)

func (a *app) upgradeCommand() *cobra.Command {
	o := upgrade.Options{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "upgrade --to PROGRAM",
		Short: "Let another version of orscore take the running agent's place; applications go on",
		Long: `Let another version of orscore take the running agent's place. The new program is
looked at first: it must run here, understand the partner and the plugins, and
accept the configuration. It is put where the agent's program is, and that one
is kept beside it with the end ".old"; the way back is an upgrade to that file.

The partner is told to wait (--within), applications and their addresses go on,
and the agent becomes the new program in the same process: a service manager
notices nothing. When the new one has not found everything again after half of
that time, it is ended, the old program is put back and runs again.

The exit code is 4 when nothing was changed, 1 when the way back was taken.`,
		Example: "  orscore upgrade --to ./orscore-1.4.0\n  orscore upgrade --to /usr/sbin/orscore.old",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.To == "" {
				return usage("say to which program: orscore upgrade --to PROGRAM")
			}
			// A terminal that goes away must not leave the server between two programs.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE)
			o.Dial, o.Config, o.Server = a.dial, a.config, a.server
			o.Tell = func(text string) {
				if !asJSON {
					_, _ = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
				}
			}
			r, err := upgrade.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"from": r.From, "to": r.To, "program": r.Program, "kept": r.Kept,
					"away_ms": r.Away.Milliseconds()})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "version %s is at work after %v, in place of %s\n", r.To,
				r.Away.Round(time.Millisecond), r.From)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.To, "to", "", "`program` to upgrade to")
	f.DurationVar(&o.Within, "within", time.Minute, "`duration` that the partner is told to wait (8s to 10m)")
	f.StringVar(&o.Reason, "reason", "upgrade", "`text` for the journal")
	f.BoolVar(&asJSON, "json", false, "print JSON at the end: from, to, program, kept, away_ms")
	return c
}
