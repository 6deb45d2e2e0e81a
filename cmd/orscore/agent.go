package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
)

func (a *app) agentCommand() *cobra.Command {
	var o core.Options
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run this server's recovery agent",
		Long: `Run this server's recovery agent in the foreground until SIGTERM or SIGINT. It
then says goodbye to its partner and leaves the applications running: nothing
moves. To end applications, too, use "orscore shutdown".

The exit code is 6 when "orscore restart" was said: whoever keeps the agent
running is to start it again, which after "orscore shutdown" nobody should.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch o.LogLevel {
			case "trace", "debug", "info", "warn", "error":
			default:
				return usage("--log-level is %q, wanted trace, debug, info, warn or error", o.LogLevel)
			}
			o.ConfigPath, o.Server, o.Out = a.config, a.server, c.ErrOrStderr()
			err := core.Run(c.Context(), o)
			if errors.Is(err, core.ErrRestart) {
				return &exitError{code: exitRestart}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.StateDir, "state-dir", "", "`folder` of the state, instead of agent.state_dir")
	f.StringVar(&o.RunDir, "run-dir", "", "`folder` of the control socket, instead of agent.run_dir")
	f.StringVar(&o.LogLevel, "log-level", "info", "least `level` to log: trace, debug, info, warn, error")
	f.BoolVar(&o.LogJSON, "log-json", false, "log one JSON object a line")
	return c
}

func (a *app) checkCommand() *cobra.Command {
	var asJSON, noPlugins bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and what it needs on this server",
		Long: `Check the configuration file, the plugins and what they say of their
applications, the folders and the switches. Nothing is changed and no
application is started. The exit code is 2 when there are errors, 0 when there
are warnings at most.

What a plugin's configuration may hold is known by the hash of its program once
it has been asked: plugins are started only for what needs them, and with
--no-plugins not at all.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := core.Check(c.Context(), core.Options{
				ConfigPath: a.config, Server: a.server, NoPlugins: noPlugins, Out: c.ErrOrStderr(), LogLevel: "error",
			})
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), checkReport(r))
			} else {
				err = printReport(c.OutOrStdout(), a.config, r)
			}
			if err == nil && r.Failed() {
				return &exitError{code: exitUsage}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: ok, server, groups, problems[]")
	c.Flags().BoolVar(&noPlugins, "no-plugins", false, "start no plugin: judge by the schemas that are known")
	return c
}

// checked is the JSON of `orscore check`.
type checked struct {
	OK       bool           `json:"ok"`
	Server   string         `json:"server"`
	Groups   int            `json:"groups"`
	Problems []core.Problem `json:"problems"`
}

func checkReport(r *core.Report) checked {
	out := checked{OK: !r.Failed(), Server: r.Server, Groups: r.Groups, Problems: r.Problems}
	if out.Problems == nil {
		out.Problems = []core.Problem{}
	}
	return out
}

// printReport shows every finding with its source line, and the verdict.
func printReport(w io.Writer, path string, r *core.Report) error {
	r.Config.WriteDiagnostics(w, r.Diagnostics, colourful(w))
	errorCount := len(r.Diagnostics.Errs())
	verdict := fmt.Sprintf("%s: ready on %s, %d group(s)", path, r.Server, r.Groups)
	if errorCount > 0 {
		verdict = fmt.Sprintf("%s: %d error(s): the agent would refuse to start, or a group could not run here",
			path, errorCount)
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
