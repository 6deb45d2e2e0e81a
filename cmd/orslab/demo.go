//go:build linux

package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/orscore/ors/lab/demo"
)

// demoCommand shows ORS at work without root.
func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a pair at work on this machine, without root: a server is cut off, and comes back",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Bin == "" {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				o.Bin = filepath.Dir(self)
			}
			tty := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
			o.Screen = &demo.Screen{
				Out: c.OutOrStdout(), Colour: tty && os.Getenv("NO_COLOR") == "", Unicode: utf8Locale(),
			}
			// A reader that goes away (`orslab demo | head`) must end the demo, not just this process: writing fails then.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGQUIT)
			defer stop()
			_, err := demo.Run(ctx, o)
			return err
		},
	}
	c.Flags().StringVar(&o.JSON, "json", "", "`file` for the outcome")
	c.Flags().StringVar(&o.Bin, "bin", "", "`folder` of the programs (default: this program's)")
	return c
}

// utf8Locale reports whether the locale's characters are UTF-8; the first of the three variables that is set decides.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
