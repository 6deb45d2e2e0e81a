//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/scenario"
)

// runFlags are the flags of `orslab run`.
type runFlags struct {
	json    string
	logs    string
	bin     string
	keep    bool
	verbose bool
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Make a lab, play a scenario in it, and take it apart",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return f.run(c.Context(), c.OutOrStdout(), args[0]) },
	}
	c.Flags().StringVar(&f.json, "json", "", "write an object a phase to this `file`")
	c.Flags().StringVar(&f.logs, "logs", "", "when it fails, copy all logs to this `folder`, which is replaced")
	c.Flags().StringVar(&f.bin, "bin", "", "`folder` with orscore, plugins and orslab (default: this program's)")
	c.Flags().BoolVar(&f.keep, "keep", false, "keep the lab afterwards until Ctrl-C")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what commands print")
	return c
}

// prepare loads a scenario, checks that it can be played here, and sweeps the remains of dead labs.
func prepare(ctx context.Context, file, bin string) (*scenario.Scenario, error) {
	sc, err := scenario.Load(file)
	if err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, errors.New("a lab needs root: it makes namespaces, mounts and loop devices")
	}
	if sc.Setup.Program, err = os.Executable(); err != nil {
		return nil, err
	}
	if bin == "" {
		bin = filepath.Dir(sc.Setup.Program)
	}
	if sc.Setup.Bin, err = filepath.Abs(bin); err != nil {
		return nil, err
	}
	for _, name := range []string{"orscore", "orslab"} {
		if _, err := os.Stat(filepath.Join(sc.Setup.Bin, name)); err != nil {
			return nil, fmt.Errorf("%w; right would be --bin with the folder of the programs", err)
		}
	}
	if _, err := pair.SweepDead(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "orslab: remains of former labs:", err) // they do not hinder a new one
	}
	return sc, nil
}

func (f *runFlags) run(ctx context.Context, out io.Writer, file string) (err error) {
	sc, err := prepare(ctx, file, f.bin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sc.Limit)
	defer cancel()
	begin := time.Now()
	say := sayTo(out, begin)
	p, err := pair.New(ctx, "", sc.Setup, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	say("lab %s", p.Name())
	detail := func(string) {}
	if f.verbose {
		detail = func(text string) { say("%s", strings.TrimRight(text, "\n")) }
	}
	results, err := scenario.NewRunner(sc, p, say, detail).Run(ctx)
	if err != nil && f.logs != "" {
		err = errors.Join(err, os.RemoveAll(f.logs), p.Collect(f.logs))
		say("logs are in %s", f.logs)
	}
	err = errors.Join(err, writeResults(f.json, results))
	if err == nil {
		say("%d phases passed", len(results))
	}
	if f.keep {
		say("kept: try `orslab exec --lab %s %s -- bash`; Ctrl-C ends it", p.Name(), sc.Setup.Servers[0].Name)
		<-ctx.Done()
	}
	return err
}

func sayTo(out io.Writer, begin time.Time) func(string, ...any) {
	return func(format string, a ...any) {
		fmt.Fprintf(out, "%7.2f  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, a...))
	}
}

// writeResults writes an object whose members are the phases, in their order.
func writeResults(path string, results []scenario.Result) error {
	if path == "" {
		return nil
	}
	var b strings.Builder
	b.WriteString("{")
	for i, res := range results {
		raw, err := json.MarshalIndent(res, "  ", "  ")
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n  %q: %s", res.Name, raw)
	}
	b.WriteString("\n}\n")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
