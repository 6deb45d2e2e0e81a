//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

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
			o.Screen = &demo.Screen{
				Out:    c.OutOrStdout(),
				Colour: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "",
			}
			_, err := demo.Run(c.Context(), o)
			if errors.Is(err, context.Canceled) {
				return errors.New("ended; everything is cleaned up")
			}
			return err
		},
	}
	c.Flags().StringVar(&o.JSON, "json", "", "`file` for the outcome")
	c.Flags().StringVar(&o.Bin, "bin", "", "`folder` of the programs (default: this program's)")
	return c
}
