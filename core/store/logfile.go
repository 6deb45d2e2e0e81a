package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// logFile names the file of a log that begins at position first.
func logFile(name string, first uint64) string { return fmt.Sprintf("%s-%020d.log", name, first) }

// logFiles lists the files of a log, oldest first, and their first positions; behind the last one's is one that no
// position reaches.
func logFiles(dir, name string) (paths []string, firsts []uint64, err error) {
	if paths, err = filepath.Glob(filepath.Join(dir, name+"-*.log")); err != nil {
		return nil, nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		number, _ := strings.CutPrefix(filepath.Base(path), name+"-")
		first, err := strconv.ParseUint(strings.TrimSuffix(number, ".log"), 10, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("file %s has no position in its name: %w", path, err)
		}
		firsts = append(firsts, first)
	}
	return paths, append(firsts, math.MaxUint64), nil
}

// Contents is what ReadLog found.
type Contents struct {
	Records []Record // oldest first
	Files   []string
	// Torn: the last line is not whole. Its record was on its way to the disk when the agent or the machine stopped, or
	// when the file was copied.
	Torn string
	// Damaged: stretches of bytes that are no records, each with its place.
	Damaged []string
	// Missing: positions between two records that nothing was found of.
	Missing []Span
}

// Span is a range of positions, both ends included.
type Span struct{ From, To uint64 }

func (s Span) String() string {
	if s.From == s.To {
		return fmt.Sprint(s.From)
	}
	return fmt.Sprintf("%d to %d", s.From, s.To)
}

// ReadLog reads a log without an agent, and without changing anything: path is one file, or a state directory of which
// the files of the log name are read. What is damaged is told and passed over. It returns an error (ORS-6010) when
// there is nothing to read.
func ReadLog(path, name string) (Contents, error) {
	c := Contents{Files: []string{path}}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		c.Files, _, err = logFiles(path, name)
		if err == nil && len(c.Files) == 0 {
			err = fmt.Errorf("folder %s has no file %s-*.log: %w", path, name, fs.ErrNotExist)
		}
	}
	if err != nil {
		return c, fmt.Errorf("ORS-6010: %w", err)
	}
	for i, file := range c.Files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && i < len(c.Files)-1 {
			continue // removed as too old since the folder was read
		}
		if err != nil {
			return c, fmt.Errorf("ORS-6010: %w", err)
		}
		c.add(file, raw, i == len(c.Files)-1)
	}
	return c, nil
}

// add takes one file's contents.
func (c *Contents) add(file string, raw []byte, newest bool) {
	s := scanFrames(raw, math.MaxUint64)
	for _, d := range s.damaged {
		c.Damaged = append(c.Damaged, fmt.Sprintf("%s: %d bytes at %d are damaged", file, d.length, d.at))
	}
	if tail := raw[s.good:]; len(tail) > 0 {
		whole := tail[len(tail)-1] == '\n'
		text := fmt.Sprintf("%s: %d bytes at %d", file, len(tail), s.good)
		if newest && !whole && !slices.Contains(tail, '\n') {
			c.Torn = text + ": the last record was not written to its end"
		} else {
			c.Damaged = append(c.Damaged, text+" are damaged")
		}
	}
	for _, r := range s.records {
		last := uint64(0)
		if n := len(c.Records); n > 0 {
			last = c.Records[n-1].Pos
		}
		switch {
		case r.Pos <= last:
			c.Damaged = append(c.Damaged, fmt.Sprintf("%s: position %d comes after %d", file, r.Pos, last))
			continue
		case last > 0 && r.Pos > last+1:
			c.Missing = append(c.Missing, Span{last + 1, r.Pos - 1})
		}
		c.Records = append(c.Records, r)
	}
}
