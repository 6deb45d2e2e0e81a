//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

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

// storeClientCommand keeps numbers at a store, for people who try a pair out by hand.
func storeClientCommand() *cobra.Command {
	var address string
	var least time.Duration
	c := &cobra.Command{
		Use:   "store-client",
		Short: "Keep numbers at a store until ^C, tell of outages, and check that none is missing",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			first, err := nextNumber(c.Context(), address)
			if err != nil {
				return err
			}
			var last store.Ack
			client := &store.Client{Address: address, Pace: time.Millisecond, First: first}
			client.OnAck = func(a store.Ack) {
				if o := (store.Outage{From: last, To: a}); last.Number > 0 && o.Length() >= least {
					fmt.Fprintf(out, "%s  not served for %v, after number %d\n",
						last.At.Format("15:04:05.000"), o.Length().Round(time.Millisecond), last.Number)
				}
				last = a
			}
			client.Run(c.Context())
			acked := client.Acked()
			kept, err := store.Read(context.WithoutCancel(c.Context()), address) // bounds itself
			if err != nil {
				return fmt.Errorf("reading the numbers back: %w", err)
			}
			missing := store.Missing(acked, kept)
			fmt.Fprintf(out, "%d acknowledged, %d missing, %d outages\n",
				len(acked), len(missing), len(store.Outages(acked, least)))
			if len(missing) > 0 {
				return fmt.Errorf("missing: %v", missing[:min(10, len(missing))])
			}
			return nil
		},
	}
	c.Flags().StringVar(&address, "address", "", "`host:port` of the store")
	c.Flags().DurationVar(&least, "outage", 100*time.Millisecond, "shortest `time` without an answer that is an outage")
	_ = c.MarkFlagRequired("address")
	return c
}

// nextNumber is one that the store does not keep yet: keeping an old one again would prove nothing.
func nextNumber(ctx context.Context, address string) (uint64, error) {
	kept, err := store.Read(ctx, address)
	next := uint64(1)
	for n := range kept {
		next = max(next, n+1)
	}
	return next, err
}
