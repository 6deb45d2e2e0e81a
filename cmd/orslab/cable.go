//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/cable"
)

// cableCommand serves a null-modem cable; labs start it as a process of its own. It needs no root.
func cableCommand() *cobra.Command {
	var cfg cable.Config
	c := &cobra.Command{
		Use:   "cable",
		Short: "Serve a null-modem cable between two pseudo-terminals, or change one",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return cable.Serve(c.Context(), cfg) },
	}
	c.Flags().StringVar(&cfg.A, "a", "", "`link` that is made to the device of one end")
	c.Flags().StringVar(&cfg.B, "b", "", "`link` that is made to the device of the other end")
	c.Flags().IntVar(&cfg.Baud, "baud", 115200, "speed in bits a second")
	c.PersistentFlags().StringVar(&cfg.Control, "control", "", "unix `socket` for commands")
	for _, f := range []string{"a", "b"} {
		_ = c.MarkFlagRequired(f)
	}
	_ = c.MarkPersistentFlagRequired("control")
	c.AddCommand(&cobra.Command{
		Use:   "do COMMAND",
		Short: "Change a cable that is being served: " + cable.Commands,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			said, err := cable.Command(c.Context(), cfg.Control, strings.Join(args, " "))
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), said)
			}
			return err
		},
	})
	return c
}
