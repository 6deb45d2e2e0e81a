package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/plugins/sdk/plugintest"
)

func (a *app) pluginCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "plugin",
		Short: "For those who write plugins, and those who install them",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.pluginListCommand(), a.pluginDocsCommand(), a.pluginUpgradeCommand(), pluginCheckCommand(),
		pluginNewCommand())
	return c
}

func pluginCheckCommand() *cobra.Command {
	var p core.PluginCheck
	var asJSON bool
	c := &cobra.Command{
		Use:   "check PROGRAM",
		Short: "Find out whether a plugin keeps the contract",
		Long: `Run a plugin as the agent does, put every promise of the plugin protocol to the
test, and say what it keeps and what not: the plugin and its application are
killed, frozen and asked again at bad moments. Each check is explained in
docs/plugins.md.

--config names a file with what would stand inside the application's config
block. The application must be one that may be started, stopped and killed here,
many times. drive["E:"] is an empty folder. Without it only what needs no
application is checked, unless the plugin's schema requires nothing.

No agent is needed. The exit code is 1 when the plugin has failed a check.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p.Program = args[0]
			for _, name := range p.Only {
				if plugintest.Promise(name) == "" {
					return usage("there is no check %q; the checks are %s", name, strings.Join(plugintest.Checks(), ", "))
				}
			}
			if p.Start <= 0 || p.Stop <= 0 {
				return usage("--start-timeout and --stop-timeout are more than 0")
			}
			// Also when nobody reads on, what was started has to end first. The signal itself says nothing of who: it comes
			// for a plugin's socket, too, which is closed on strangers.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			ctx, stop := context.WithCancel(c.Context())
			defer stop()
			if !asJSON {
				p.Progress = func(f plugintest.Finding) {
					if printFinding(c.OutOrStdout(), f) != nil {
						stop()
					}
				}
			}
			o, err := p.Options()
			if err != nil {
				return &exitError{exitUsage, err}
			}
			r, err := plugintest.Check(ctx, o)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(r)
			} else {
				err = printVerdict(c.OutOrStdout(), r)
			}
			if err == nil && !r.Passed {
				err = &exitError{code: exitFailed}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&p.Config, "config", "", "`file` with the body of an application's config block")
	f.StringVar(&p.Previous, "previous", "", "older release of the plugin (a `program`), whose handles it has to read")
	f.BoolVar(&p.TLS, "tls", true, "speak TLS with the plugin; false: as the configuration's tls = false does")
	f.StringSliceVar(&p.Only, "only", nil, "`checks` to make, with commas between them; default: all")
	f.DurationVar(&p.Start, "start-timeout", time.Minute, "how `long` a start of the application may take")
	f.DurationVar(&p.Stop, "stop-timeout", time.Minute, "how `long` a stop may take")
	f.BoolVar(&asJSON, "json", false, "print JSON: plugin, version, passed, findings (check, outcome, evidence)")
	return c
}

var outcomes = map[plugintest.Outcome]string{
	plugintest.Passed: "ok  ", plugintest.Failed: "FAIL", plugintest.Skipped: "skip",
}

// printFinding writes one line, and for a failed check a second one with what was promised.
func printFinding(w io.Writer, f plugintest.Finding) error {
	evidence := strings.Join(strings.Fields(screen.Clean(f.Evidence)), " ")
	_, err := fmt.Fprintf(w, "%s  %-26s %s\n", outcomes[f.Outcome], f.Check, evidence)
	if f.Outcome == plugintest.Failed {
		_, err = fmt.Fprintf(w, "      %-26s promised: %s\n", "", plugintest.Promise(f.Check))
	}
	return err
}

func printVerdict(w io.Writer, r plugintest.Report) error {
	count := map[plugintest.Outcome]int{}
	started := false
	for _, f := range r.Findings {
		count[f.Outcome]++
		started = started || f.Check == "start" && f.Outcome == plugintest.Passed
	}
	verdict := "keeps the contract"
	switch {
	case !r.Passed:
		verdict = "does not keep the contract"
	case !started || len(r.Findings) < len(plugintest.Checks()): // no application was given, or not all was asked for
		verdict = "keeps the part of the contract that was looked at"
	}
	_, err := fmt.Fprintf(w, "\n%s %s %s: %d checks passed, %d failed, %d skipped\n", screen.Clean(r.Plugin),
		screen.Clean(r.Version), verdict, count[plugintest.Passed], count[plugintest.Failed], count[plugintest.Skipped])
	return err
}
