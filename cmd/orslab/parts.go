//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/enclosure"
	"github.com/orscore/ors/lab/workload"
)

// enclosureCommand serves an enclosure; labs start it as a process of its own.
func enclosureCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "enclosure FILE",
		Short: "Serve an enclosure described in a JSON file",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var cfg enclosure.Config
			if err := json.Unmarshal(raw, &cfg); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			// A signal that ends the lab must not end the storage before the hosts: only a control command or SIGKILL does.
			signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGTERM)
			return enclosure.Serve(context.WithoutCancel(c.Context()), cfg)
		},
	}
}

type clientFlags struct {
	to, log string
	pace    time.Duration
	patient bool
}

// clientCommand is what runs in the client's host.
func clientCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{Use: "client", Short: "Ask for a service the whole time and write down what came of it"}
	c.PersistentFlags().StringVar(&f.to, "to", "", "`address` of the service: host:port, or a URL")
	c.PersistentFlags().StringVar(&f.log, "log", "", "`file` to write to, or to compare with")
	c.PersistentFlags().DurationVar(&f.pace, "pace", 0,
		"`time` between requests (default: rows 5ms, patient 50ms, http 10ms)")
	c.PersistentFlags().BoolVar(&f.patient, "patient", false, "wait long for each commit, and keep the connection")
	for _, kind := range []string{workload.KindPostgres, workload.KindStore, workload.KindNotes} {
		c.AddCommand(&cobra.Command{Use: kind, Short: "Commit numbered rows until it is ended", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				return f.logged(func(l *workload.Log) error { return f.rows(kind).Run(c.Context(), l) })
			}})
	}
	c.AddCommand(
		&cobra.Command{Use: "http", Short: "Get a page again and again until it is ended", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				return f.logged(func(l *workload.Log) error {
					return workload.HTTP{URL: f.to, Pace: f.paced(10 * time.Millisecond)}.Run(c.Context(), l)
				})
			}},
		&cobra.Command{Use: "check KIND", Short: "Read all rows back and compare them with the log", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return f.check(c, args[0]) }},
	)
	return c
}

func (f *clientFlags) paced(usual time.Duration) time.Duration {
	if f.pace > 0 {
		return f.pace
	}
	return usual
}

func (f *clientFlags) rows(kind string) workload.Rows {
	pace := 5 * time.Millisecond
	if f.patient {
		pace *= 10 // nobody measures an outage by it
	}
	return workload.Rows{Kind: kind, Address: f.to, Patient: f.patient, Pace: f.paced(pace)}
}

func (f *clientFlags) logged(run func(*workload.Log) error) error {
	l, err := workload.CreateLog(f.log)
	if err != nil {
		return err
	}
	return errors.Join(run(l), l.Close())
}

func (f *clientFlags) check(c *cobra.Command, kind string) error {
	log := workload.NewReader(f.log)
	if err := log.Refresh(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	v, err := f.rows(kind).CheckPatiently(ctx, log.Entries)
	if err != nil {
		return err
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(v)
}
