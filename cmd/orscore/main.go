// Command orscore is ORS on one server: the recovery agent, and what operators ask of it.
//
// Here are flags, subcommands and how answers look; what is decided is decided in core. It must never change anything
// without being asked to, and never end with exit code 0 when what was asked has not happened.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/codes"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
)

// Set by the build: -ldflags "-X main.version=… -X main.commit=…".
var (
	version = "dev"
	commit  = ""
)

// Exit codes, as documented in docs/cli.md.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitNoAgent   = 3
	exitRefused   = 4
	exitNotNormal = 5
	exitRestart   = 6 // of the agent only
)

func main() { os.Exit(run()) }

func run() int {
	core.Version = version
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	err := root.ExecuteContext(ctx)
	if err != nil {
		report(root.ErrOrStderr(), err)
	}
	return exitCode(err)
}

// exitError is an error whose exit code is not derived from its kind. Without a text nothing is printed: the command
// has said it all.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usage is a mistake on the command line.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf("ORS-7008: "+format, args...)}
}

func exitCode(err error) int {
	var exit *exitError
	var config *core.ConfigError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &config):
		return exitUsage
	case errors.Is(err, control.ErrNoAgent):
		return exitNoAgent
	case errors.Is(err, control.ErrRefused), errors.Is(err, control.ErrNotPermitted):
		return exitRefused
	}
	return exitFailed
}

// report prints an error with its code and next step.
func report(w io.Writer, err error) {
	var config *core.ConfigError
	if errors.As(err, &config) {
		config.Write(w, colourful(w))
	}
	text := err.Error()
	if text == "" {
		return
	}
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	code, what := codes.Split(text)
	what = strings.TrimSuffix(screen.Clean(what), ".")
	line := "orscore: " + what
	if code != "" {
		line = "orscore: " + code + ": " + what
	}
	if page, ok := codes.Lookup(code); ok && page.Next != "" {
		line += "; next: " + page.Next
	}
	_, _ = fmt.Fprintln(w, line)
}

// app is what the global flags say.
type app struct {
	config string
	server string
	socket string
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "orscore",
		Short: "On-Line Recovery Server: two servers, each able to take over the other's work",
		Long: `orscore is ORS on one server: the recovery agent, and what operators ask of it.

Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 no agent answers; 4
refused, nothing was changed; 5 not normal (status --exit-code); 6 the agent is
to be started again.

Every message has a code; "orscore explain CODE" tells what it means and what to
do.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              noArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("`%s`: %w", c.CommandPath(), err)
	})
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", envOr("ORS_CONFIG", config.DefaultPath),
		"configuration `file` (environment: ORS_CONFIG)")
	f.StringVar(&a.server, "server", "", "`name` of this server (default: the host name)")
	f.StringVar(&a.socket, "socket", "", "control `socket` of the agent (default: in the configuration's agent.run_dir)")
	// The default shown is not the environment's, so that the help is the same everywhere.
	f.Lookup("config").DefValue = config.DefaultPath
	root.AddCommand(a.agentCommand(), a.checkCommand(), a.statusCommand(), a.switchoverCommand(), a.failbackCommand(),
		a.eventsCommand(), auditCommand(), a.mapCommand(), a.clearCommand(), a.shutdownCommand(), a.simulateCommand(),
		a.disableCommand(), a.enableCommand(), a.maintenanceCommand(), a.restartCommand(),
		keyCommand(), explainCommand(), versionCommand(), completionCommand())
	root.AddCommand(a.upgradeCommand(), a.networkCommand(), a.ipsetCommand(), a.whyCommand(), a.cableCommand(),
		a.logsCommand(), a.launchCommand(), a.notifyCommand(), a.pluginCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	return root
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%q is not known to `%s`", args[0], c.CommandPath())
	}
	return nil
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("`%s` takes at most %d arguments, not %d", c.CommandPath(), n, len(args))
		}
		return nil
	}
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("`%s` takes %d argument(s), not %d: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}
