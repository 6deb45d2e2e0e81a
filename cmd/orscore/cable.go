package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
)

// cableCommand is about the serial cable.
func (a *app) cableCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cable",
		Short: "Test the serial cable",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.cableTestCommand())
	return c
}

func (a *app) cableTestCommand() *cobra.Command {
	o := core.CableOptions{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "test [LINK]",
		Short: "Find out what is wrong with a serial cable, from both of its ends",
		Long: `Find out what is wrong with a serial cable. Run it on both servers at the same
time, each on its own end: it sends short probes both ways, and tells a good cable
from a loopback plug, a wrong speed, a cable of three wires, noise with its bit
error rate, a cable that works one way only, and one on which nothing arrives. It
drives the port's DTR and RTS and looks at what the far end's do.

The port is that of a serial link of the configuration, or --device. No agent may
hold it: stop the agent first, on both servers. Nothing moves because of that, for
it says goodbye.

The exit code is 0 when the cable is good, 5 when it is anything else.`,
		Example: `  orscore cable test
  orscore cable test cable --time 60s
  orscore cable test --device /dev/ttyUSB0 --baud 115200 --json`,
		Args: maxArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && o.Device != "":
				return usage("a LINK of the configuration or --device, not both")
			case o.Baud <= 0:
				return usage("--baud %d: a positive number such as 115200 would be right", o.Baud)
			case o.Wait <= 0 || o.Measure < time.Second:
				return usage("--wait %v --time %v: a wait of more than 0 and a time of at least 1s would be right",
					o.Wait, o.Measure)
			case len(args) > 0:
				o.Link = args[0]
			}
			if !asJSON {
				_, _ = fmt.Fprintln(c.ErrOrStderr(), "testing; the test must run at the other end, too …")
			}
			r, err := core.Options{ConfigPath: a.config, Server: a.server}.CableTest(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(r)
			} else {
				err = printCable(c.OutOrStdout(), r)
			}
			if err == nil && r.Verdict != "good" {
				err = &exitError{code: exitNotNormal}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Device, "device", "", "`port` instead of a link of the configuration")
	f.IntVar(&o.Baud, "baud", 115200, "speed of --device in `bits` a second")
	f.DurationVar(&o.Wait, "wait", 30*time.Second, "how `long` to wait for a sign of the far end")
	f.DurationVar(&o.Measure, "time", 10*time.Second, "how `long` to measure")
	f.BoolVar(&asJSON, "json", false, "print JSON: verdict, text, next, here, there, modem_lines, …")
	return c
}

func printCable(w io.Writer, r *core.CableReport) error {
	lines := string(r.Handshake)
	if r.Seen != "" {
		lines += " (on at some time: " + r.Seen + ")"
	}
	there := "not known"
	if r.There != nil {
		there = fmt.Sprintf("%d probes arrived, %d damaged, bit error rate %.1e", r.There.Heard, r.There.Bad,
			r.There.BitErrorRate)
	}
	_, err := fmt.Fprintf(w, `%s at %d baud: %s
  %s
  towards here:  %d probes arrived, %d damaged, bit error rate %.1e
  towards there: %s
  modem lines:   %s
`, r.Device, r.Baud, r.Verdict, r.Text, r.Here.Heard, r.Here.Bad, r.Here.BitErrorRate, there, lines)
	if err == nil && r.Next != "" {
		_, err = fmt.Fprintf(w, "  next: %s\n", r.Next)
	}
	return err
}
