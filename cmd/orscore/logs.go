package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/config"
)

const logPoll = 200 * time.Millisecond

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var lines int
	c := &cobra.Command{
		Use:   "logs APPLICATION",
		Short: "Show the output of an application on this server",
		Long: `Show the end of the output of an application, which is named as in the
configuration, or GROUP/NAME where two groups have one of that name. It needs no
agent, but the right to read the file: log_dir/GROUP/NAME.log, or what log_file
in the application's config says.`,
		Example: "  orscore logs web\n  orscore logs rocky/web -f -n 100",
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if lines < 0 {
				return usage("--last is %d, wanted 0 (all) or more", lines)
			}
			conf, diags := config.Load(a.config, config.Options{Server: a.server, NoKey: true})
			if diags.HasErrors() {
				return &core.ConfigError{Config: conf, Diagnostics: diags}
			}
			path, err := core.OutputFile(conf, args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			err = showLog(c.Context(), c.OutOrStdout(), path, lines, follow)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("ORS-7043: %w", err)
			}
			return unlessInterrupted(err)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	c.Flags().IntVarP(&lines, "last", "n", 50, "only the newest `N` lines; 0: all")
	return c
}

// showLog prints the end of a file and, with follow, what is appended; a file that was cut or replaced is read from its
// beginning.
func showLog(ctx context.Context, out io.Writer, path string, lines int, follow bool) error {
	f, err := os.Open(path)
	if follow && errors.Is(err, fs.ErrNotExist) { // it comes with the first start
		f, err = awaitFile(ctx, path)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the one that is open then
	if lines > 0 {
		if err := seekLast(f, lines); err != nil {
			return err
		}
	}
	for {
		if _, err := io.Copy(out, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(logPoll):
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		old, err := f.Stat()
		if err != nil {
			return err
		}
		now, err := os.Stat(path)
		switch {
		case err == nil && !os.SameFile(old, now):
			next, err := os.Open(path)
			if err != nil {
				continue // it is just being replaced
			}
			_, err = io.Copy(out, f) // what was written before it was replaced
			_ = f.Close()
			f = next
			if err != nil {
				return err
			}
		case old.Size() < at:
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
	}
}

func awaitFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.Open(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(logPoll):
		}
	}
}

// seekLast moves to the beginning of the last lines, reading blocks from the end.
func seekLast(f *os.File, lines int) error {
	const block = 64 << 10
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	buffer := make([]byte, block)
	for first := true; at > 0; first = false {
		n := min(at, block)
		at -= n
		if _, err := f.ReadAt(buffer[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		part := buffer[:n]
		if first { // the line feed that ends the last line begins none
			part = bytes.TrimSuffix(part, []byte("\n"))
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part, '\n') {
			if lines--; lines == 0 {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
			part = part[:i]
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
