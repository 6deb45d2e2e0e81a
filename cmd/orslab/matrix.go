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

	"github.com/orscore/ors/lab/matrix"
	"github.com/orscore/ors/lab/scenario"
)

// matrixFiles are played when no file is named.
var matrixFiles = []string{"lab/scenarios/matrix.scenario", "lab/scenarios/matrix-postgres.scenario"}

type matrixFlags struct {
	only      []string
	sample    int
	json      string
	logs      string
	bin       string
	list      bool
	verbose   bool
	timeLimit time.Duration
}

func matrixCommand() *cobra.Command {
	var f matrixFlags
	c := &cobra.Command{
		Use:   "matrix [FILE…]",
		Short: "Play many faults, one after the other, and show how each went",
		Long: `Play many faults, one after the other, and show how each went. The first phase of
a file sets the pair up; every other one is a case. After each case all faults
end, and the pair must come back to its normal state by itself.

The programs must be built with the tag orsfault: make matrix does it.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = matrixFiles
			}
			return f.run(c.Context(), c.OutOrStdout(), args)
		},
	}
	c.Flags().StringSliceVar(&f.only, "only", nil, "`names` of the cases to play; * stands for anything")
	c.Flags().IntVar(&f.sample, "sample", 0, "play only so many `cases`, of each class as many as of any other")
	c.Flags().StringVar(&f.json, "json", "", "write an array with an object a case to this `file`")
	c.Flags().StringVar(&f.logs, "logs", "", "copy the logs of red cases to this `folder`, which is replaced")
	c.Flags().StringVar(&f.bin, "bin", "", "`folder` with orscore, plugins and orslab (default: this program's)")
	c.Flags().BoolVar(&f.list, "list", false, "only show the names of the cases")
	c.Flags().DurationVar(&f.timeLimit, "limit", 30*time.Minute, "give up after this `time`")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what commands print")
	return c
}

func (f *matrixFlags) cases(ctx context.Context, files []string) ([]matrix.Case, error) {
	var all []*scenario.Scenario
	for _, file := range files {
		load := func() (*scenario.Scenario, error) { return prepare(ctx, file, f.bin) }
		if f.list {
			load = func() (*scenario.Scenario, error) { return scenario.Load(file) }
		}
		sc, err := load()
		if err != nil {
			return nil, err
		}
		all = append(all, sc)
	}
	cases, err := matrix.Only(matrix.Cases(all), f.only)
	return matrix.Sample(cases, f.sample), err
}

func (f *matrixFlags) run(ctx context.Context, out io.Writer, files []string) error {
	cases, err := f.cases(ctx, files)
	if err != nil {
		return err
	}
	if f.list {
		for _, c := range cases {
			fmt.Fprintln(out, c.Phase.Name)
		}
		return nil
	}
	if f.logs != "" {
		if err := os.RemoveAll(f.logs); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeLimit)
	defer cancel()
	say := sayTo(out, time.Now())
	r := matrix.Run{Say: say, Logs: f.logs, Detail: func(string) {}}
	if f.verbose {
		r.Detail = func(text string) { say("%s", strings.TrimRight(text, "\n")) }
	}
	results, err := r.All(ctx, cases)
	fmt.Fprintf(out, "\n%s", matrix.Table(results))
	red := len(cases) - len(results)
	for _, res := range results {
		if res.Outcome != matrix.Green {
			red++
			fmt.Fprintf(out, "\nRED %s: %s\n", res.Name, res.Error)
		}
	}
	fmt.Fprintf(out, "\n%d cases, %d green\n", len(cases), len(cases)-red)
	err = errors.Join(err, writeMatrix(f.json, results))
	if err == nil && red > 0 {
		err = fmt.Errorf("%d of %d cases are red", red, len(cases))
	}
	return err
}

func writeMatrix(file string, results []matrix.Result) error {
	if file == "" {
		return nil
	}
	raw, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}
