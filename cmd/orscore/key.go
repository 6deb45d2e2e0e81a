package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/config"
)

// keyCommand makes the secret that the two servers share.
func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make the key that the two servers share",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:   "generate FILE",
		Short: "Write a new key into a file that does not exist yet",
		Long: `Write a new random key into a file that only its owner may read. Copy the file to
the other server; interconnect.key_file of the configuration names it. A file that
exists is not overwritten.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := config.KeyGenerate(args[0]); err != nil {
				return fmt.Errorf("ORS-7010: %w", err)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s: written; copy it to the other server\n", args[0])
			return err
		},
	})
	return c
}
