//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/upgrades"
)

const (
	upgradesFile = "lab/scenarios/upgrades.scenario"
	// upgradesBuilds is where both builds are below the folder of the programs; a server sees them below /opt/ors/lab.
	upgradesBuilds = "upgrade"
)

// upgradesNeeded are the scenario's takeovers in the midst of upgrades: the time-out and what each announces.
var upgradesNeeded = []upgrades.Needed{
	{Phase: "needed", Bound: 1*time.Second + 4*time.Second},
	{Phase: "partner_dies", Bound: 1*time.Second + 8*time.Second},
}

type upgradesFlags struct {
	count     int
	json      string
	logs      string
	bin       string
	verbose   bool
	timeLimit time.Duration
}

func upgradesCommand() *cobra.Command {
	var f upgradesFlags
	c := &cobra.Command{
		Use:   "upgrades",
		Short: "Upgrade the agents and plugins of a working pair, again and again",
		Long: `Upgrade the agents and plugins of a working pair again and again, to and fro
between two builds of different versions of which one speaks the previous protocol
of the interconnect, while clients write and read; then try programs that are none
or do not come up, and let either server die in the midst of an upgrade. make upgrades
builds what is needed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context(), c.OutOrStdout()) },
	}
	c.Flags().IntVar(&f.count, "count", 100, "so many `upgrades` of agents, and as many of plugins")
	c.Flags().StringVar(&f.json, "json", "", "write an object to this `file`")
	c.Flags().StringVar(&f.logs, "logs", "", "when it fails, copy all logs to this `folder`, which is replaced")
	c.Flags().StringVar(&f.bin, "bin", "", "`folder` with orscore, plugins and orslab (default: this program's)")
	c.Flags().DurationVar(&f.timeLimit, "limit", 30*time.Minute, "give up after this `time`")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show every step")
	return c
}

func (f *upgradesFlags) run(ctx context.Context, out io.Writer) (err error) {
	sc, err := prepare(ctx, upgradesFile, f.bin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeLimit)
	defer cancel()
	o := upgrades.Options{Count: f.count, Kinds: []string{"generic", "ipset"}, Within: 20 * time.Second,
		Needed: upgradesNeeded, Detail: func(string) {}}
	for i, name := range []string{"a", "b"} {
		if o.Builds[i], err = versions(ctx, filepath.Join(sc.Setup.Bin, upgradesBuilds, name)); err != nil {
			return err
		}
		o.Builds[i].Folder = "/opt/ors/lab/" + upgradesBuilds + "/" + name
	}
	o.Say = sayTo(out, time.Now())
	say := o.Say
	if !f.verbose {
		o.Say = func(format string, a ...any) {
			if !strings.HasPrefix(format, "  ") {
				say(format, a...)
			}
		}
	}
	p, err := pair.New(ctx, "", sc.Setup, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	res, err := upgrades.Run(ctx, sc, p, o)
	if err != nil && f.logs != "" {
		err = errors.Join(err, os.RemoveAll(f.logs), p.Collect(f.logs))
	}
	raw, jsonErr := json.MarshalIndent(res, "", "  ")
	fmt.Fprintf(out, "%s\n", raw)
	if f.json != "" && jsonErr == nil {
		jsonErr = os.WriteFile(f.json, append(raw, '\n'), 0o644)
	}
	return errors.Join(err, jsonErr)
}

// versions asks the programs of a build what they are.
func versions(ctx context.Context, dir string) (upgrades.Build, error) {
	var b upgrades.Build
	for _, one := range []struct {
		args []string
		read func([]byte) error
	}{
		{[]string{"version", "--json"}, func(raw []byte) error {
			var v struct{ Version string }
			err := json.Unmarshal(raw, &v)
			b.Agent = v.Version
			return err
		}},
		{[]string{"plugin", "list", "--json", "--plugin-dir", dir}, func(raw []byte) error {
			var l struct {
				Plugins []struct{ Kind, Version string }
			}
			err := json.Unmarshal(raw, &l)
			for _, p := range l.Plugins {
				if b.Plugin != "" && b.Plugin != p.Version {
					return fmt.Errorf("the plugins in %s have versions %s and %s, not one", dir, b.Plugin, p.Version)
				}
				b.Plugin = p.Version
			}
			return err
		}},
	} {
		raw, err := exec.CommandContext(ctx, filepath.Join(dir, "orscore"), one.args...).Output()
		if err == nil {
			err = one.read(raw)
		}
		if err != nil {
			return b, fmt.Errorf("the build in %s, which make upgrades makes: %w", dir, err)
		}
	}
	return b, nil
}
