//go:build linux

// Command orslab is the lab: a whole pair on one machine, with hosts that can lose power, a cable that can be cut,
// and an enclosure whose switch moves storage.
//
// It is for trying ORS out and for testing it. It must never change the machine's own network, and never leave
// anything behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/host"
)

func main() {
	if host.IsInit(os.Args) { // as process 1 of a host; it does not return
		fmt.Fprintln(os.Stderr, host.Init(os.Args[1:]))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "orslab:", err)
		os.Exit(1)
	}
}

// exitCode ends the program with another command's code, without a word.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:               "orslab",
		Short:             "A whole pair on one machine, to try ORS out and to test it",
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(runCommand(), matrixCommand(), upgradesCommand(), upCommand(), superviseCommand(), statusCommand(),
		doCommand(),
		execCommand(), downCommand(), enclosureCommand(), cableCommand(), clientCommand(), demoCommand(), storeCommand(),
		storeClientCommand())
	return root
}
