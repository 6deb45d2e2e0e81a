package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/config"
)

const (
	logPoll  = 200 * time.Millisecond
	logPiece = 1 << 20 // bytes read at once
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	var lines int
	c := &cobra.Command{
		Use:   "logs APPLICATION",
		Short: "Show the output of an application on this server",
		Long: `Show the end of the output of an application, which is named as in the
configuration, or GROUP/NAME where two groups have one of that name. It needs no
agent, but the right to read the file: log_dir/GROUP/NAME.log, or what log_file
in the application's config says. Where each of several programs has a file of
its own, as Domino servers have, it says which there are.`,
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
			err = showLog(c.Context(), c.OutOrStdout(), path, lines, follow, func() error {
				if parts := core.OutputParts(conf, path); len(parts) > 0 {
					return fmt.Errorf("ORS-7043: each of its programs has a file of its own: %s", strings.Join(parts, ", "))
				}
				return nil
			})
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
// beginning. The file is only open while a piece of it is read: on switched storage it would keep the drive from being
// unmounted. While it is not there, parts says whether others are in its place.
func showLog(ctx context.Context, out io.Writer, path string, lines int, follow bool, parts func() error) error {
	r := &logReader{path: path, lines: lines}
	for {
		piece, err := r.next()
		if errors.Is(err, fs.ErrNotExist) && r.info == nil {
			if err := parts(); err != nil {
				return err
			}
		}
		if err != nil && (!follow || !errors.Is(err, fs.ErrNotExist)) { // with follow, it comes with the next start
			return err
		}
		if _, err := out.Write(piece); err != nil {
			return err
		}
		if len(piece) > 0 {
			continue
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(logPoll):
		}
	}
}

// logReader reads a file piece by piece.
type logReader struct {
	path  string
	lines int         // to begin with, from the end; 0: all
	info  fs.FileInfo // of the file that was read last; nil: none yet
	at    int64
}

// next returns what comes next, nothing at the end.
func (r *logReader) next() ([]byte, error) {
	f, err := os.Open(r.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case r.info == nil && r.lines > 0:
		if r.at, err = lastLines(f, r.lines); err != nil {
			return nil, err
		}
	case r.info != nil && (!os.SameFile(r.info, info) || info.Size() < r.at):
		r.at = 0
	}
	r.info = info
	piece := make([]byte, logPiece)
	n, err := f.ReadAt(piece, r.at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	r.at += int64(n)
	return piece[:n], err
}

// lastLines is where the last lines begin; blocks are read from the end.
func lastLines(f *os.File, lines int) (int64, error) {
	const block = 64 << 10
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, block)
	for first := true; at > 0; first = false {
		n := min(at, block)
		at -= n
		if _, err := f.ReadAt(buffer[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		part := buffer[:n]
		if first { // the line feed that ends the last line begins none
			part = bytes.TrimSuffix(part, []byte("\n"))
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part, '\n') {
			if lines--; lines == 0 {
				return at + int64(i) + 1, nil
			}
			part = part[:i]
		}
	}
	return 0, nil
}
