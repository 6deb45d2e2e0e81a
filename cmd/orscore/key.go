package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/interconnect"
)

// keyCommand makes the secret that the two servers share.
func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make and change the key that the two servers share",
		Long: `Make and change the key that the two servers share. To change it while the pair is
at work:

  1. orscore key add FILE     on one server; copy the file to the other
  2. orscore status           wait until both agents have read it: a few seconds
  3. orscore key drop FILE    on both servers

A running agent reads the file anew when it changes. It goes on with the old key
until the partner has shown that it knows the new one, and keeps a key that the
partner still needs, so no step cuts the two off from each other.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
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
	c.AddCommand(&cobra.Command{
		Use:   "add FILE",
		Short: "Put a new key before the one in the file; both are accepted",
		Long: `Put a new random key before the one in the file. Both are accepted, and the new one
is used as soon as both servers know it. Copy the file to the other server.`,
		Args: exactArgs(1),
		RunE: keyChange(config.KeyAdd, "copy it to the other server; `orscore key drop` on both ends the change"),
	}, &cobra.Command{
		Use:   "drop FILE",
		Short: "Take the old key out of the file",
		Long: `Take all but the first key out of the file. Do it on both servers when both use the
new key.`,
		Args: exactArgs(1),
		RunE: keyChange(config.KeyDrop, "the old key is no longer accepted when the agent has read it"),
	}, &cobra.Command{
		Use:   "show FILE",
		Short: "Show the fingerprints of the keys in the file",
		Long: `Show the fingerprints of the keys in the file: equal ones are equal keys, and nothing
of a key can be told from them. The agent's log names the key in use by its
fingerprint.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := config.ReadKeys(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			for n, k := range keys {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", interconnect.Fingerprint(k),
					[]string{"is used when both servers know it", "is accepted"}[n])
				if err != nil {
					return err
				}
			}
			return nil
		},
	})
	return c
}

func keyChange(change func(string) error, next string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := change(args[0]); err != nil {
			return fmt.Errorf("ORS-7010: %w", err)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: written; %s\n", args[0], next)
		return err
	}
}
