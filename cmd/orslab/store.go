//go:build linux

package main

import (
	"errors"
	"net"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/store"
)

// storeCommand runs the small server that the demo protects.
func storeCommand() *cobra.Command {
	var data, listen string
	c := &cobra.Command{
		Use:   "store",
		Short: "Run a small server that keeps numbers: the demo's application",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := store.Open(data)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			return errors.Join(s.Serve(c.Context(), l), s.Close())
		},
	}
	c.Flags().StringVar(&data, "data", "", "`folder` of the log")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`address` to listen on")
	_ = c.MarkFlagRequired("data")
	return c
}
