package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
)

// switchMode asks the agent for another mode of the pair and prints how it is then.
func (a *app) switchMode(c *cobra.Command, r control.ModeRequest) error {
	return a.with(c.Context(), func(cl *control.Client) error {
		text, err := cl.Mode(c.Context(), r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
		return err
	})
}

func (a *app) disableCommand() *cobra.Command {
	return a.disabling("disable", true, "Disable switchover: nothing is taken over or moved by itself",
		`Disable switchover for the pair, until "orscore enable". It holds on both
servers, also after a restart: when the partner is lost nothing is taken over,
and no group moves by itself. What runs goes on, failed applications are
restarted in place, and operators may still move groups.`)
}

func (a *app) enableCommand() *cobra.Command {
	return a.disabling("enable", false, "Enable switchover again",
		`Enable switchover again. If the partner is lost, its groups are taken over at
once.`)
}

func (a *app) disabling(name string, disabled bool, short, long string) *cobra.Command {
	r := control.ModeRequest{Disabled: &disabled}
	c := &cobra.Command{
		Use: name, Short: short, Long: long, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.switchMode(c, r) },
	}
	c.Flags().StringVar(&r.Reason, "reason", "", "`text` for the journal")
	return c
}

func (a *app) maintenanceCommand() *cobra.Command {
	var r control.ModeRequest
	var length time.Duration
	c := &cobra.Command{
		Use:   "maintenance on|off",
		Short: "Put the pair into maintenance for a while, or end that",
		Long: `Put the pair into maintenance for a while: nothing is taken over, nothing moves,
and failed checks of applications restart nothing. Planned moves are refused
unless they are forced ("switchover --force"). It holds on both servers, also
after a restart, and ends by itself; setting the clock neither ends nor extends
it. What is due then is done at once.`,
		Example:   "  orscore maintenance on --for 2h\n  orscore maintenance off",
		Args:      exactArgs(1),
		ValidArgs: []string{"on", "off"},
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "on":
				if length <= 0 {
					return usage("say how long: orscore maintenance on --for 2h")
				}
			case "off":
				length = 0
			default:
				return usage("%q is not known to `orscore maintenance`, wanted on or off", args[0])
			}
			r.Maintenance = &length
			return a.switchMode(c, r)
		},
	}
	c.Flags().DurationVar(&length, "for", 0, "`duration` of the maintenance, such as 90m or 2h (at most 720h)")
	c.Flags().StringVar(&r.Reason, "reason", "", "`text` for the journal")
	return c
}

func (a *app) restartCommand() *cobra.Command {
	var reason string
	var within time.Duration
	c := &cobra.Command{
		Use:   "restart",
		Short: "End the agent for a restart; applications go on and the partner waits",
		Long: `End the agent for a restart, such as an upgrade: applications go on, and the
partner is told to wait so long before it takes silence for a loss. Whatever
keeps the agent running (a service manager) starts the new one. Without this, a
signal says goodbye, and the partner takes nothing over until the agent is back,
however long that takes.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), func(cl *control.Client) error {
				text, err := cl.Restart(c.Context(), control.RestartRequest{Within: within, Reason: reason})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
				return err
			})
		},
	}
	c.Flags().DurationVar(&within, "within", time.Minute, "`duration` until the agent is back, at the latest (1s to 10m)")
	c.Flags().StringVar(&reason, "reason", "", "`text` for the journal")
	return c
}
