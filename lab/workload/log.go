//go:build linux

// Package workload is the clients of a lab: they ask for a service the whole time, write down what they were answered
// and when, and say afterwards how long they were not served.
//
// They must never count an answer that did not come, and never repeat a request whose outcome they do not know under
// the same number.
package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Kind of a line in a client's log.
type Kind byte

// What a client writes down.
const (
	Served Kind = 'A' // request Number was answered as it should be; of a database: its commit was acknowledged
	Failed Kind = 'F' // request Number was not answered; what came of it is not known
	Broken Kind = 'B' // no connection could be made
)

// Entry is one line of a client's log.
type Entry struct {
	Kind   Kind
	Number int64
	At     time.Time
	Text   string // reason of a failure
}

// Log is written by a client.
type Log struct{ f *os.File }

// CreateLog makes a log, or goes on with one.
func CreateLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("client's log: %w", err)
	}
	return &Log{f: f}, nil
}

// Write writes one line as one write, so that a reader never sees half of it.
func (l *Log) Write(e Entry) error {
	text := strings.Join(strings.Fields(e.Text), " ")
	_, err := fmt.Fprintf(l.f, "%c %d %d %s\n", e.Kind, e.Number, e.At.UnixNano(), text)
	return err
}

// Close closes the log.
func (l *Log) Close() error { return l.f.Close() }

// Reader reads a log that is still being written.
type Reader struct {
	path    string
	offset  int64
	Entries []Entry
}

// NewReader reads the log at path, which may not exist yet.
func NewReader(path string) *Reader { return &Reader{path: path} }

// Refresh reads what was written since the last time.
func (r *Reader) Refresh() error {
	f, err := os.Open(r.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("client's log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return fmt.Errorf("client's log: %w", err)
	}
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a line without its end is read the next time
		}
		if err != nil {
			return fmt.Errorf("client's log: %w", err)
		}
		e, err := parseEntry(line)
		if err != nil {
			return fmt.Errorf("client's log %s at byte %d: %w", r.path, r.offset, err)
		}
		r.offset += int64(len(line))
		r.Entries = append(r.Entries, e)
	}
}

func parseEntry(line []byte) (Entry, error) {
	f := strings.SplitN(string(bytes.TrimRight(line, "\n")), " ", 4)
	if len(f) != 4 || len(f[0]) != 1 || !strings.Contains("AFB", f[0]) {
		return Entry{}, fmt.Errorf("not an entry: %q", line)
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("number: %w", err)
	}
	at, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("time: %w", err)
	}
	return Entry{Kind: Kind(f[0][0]), Number: n, At: time.Unix(0, at), Text: f[3]}, nil
}

// Outage is a time in which nothing was served.
type Outage struct {
	From, To time.Time // last answer before, first answer after
	Open     bool      // it had not ended
}

// Length of the outage.
func (o Outage) Length() time.Duration { return o.To.Sub(o.From) }

// Longest finds the longest time without an answer that touches the window. It counts from the last answer before
// the window; a client that was never answered was out from the start of the window. The zero value: not a moment.
func Longest(entries []Entry, from, to time.Time) Outage {
	var longest Outage
	last := from
	note := func(o Outage) {
		if o.Length() > longest.Length() {
			longest = o
		}
	}
	for _, e := range entries {
		if e.Kind != Served {
			continue
		}
		if e.At.After(to) {
			note(Outage{From: last, To: e.At})
			return longest
		}
		if e.At.After(from) {
			note(Outage{From: last, To: e.At})
		}
		last = e.At
	}
	note(Outage{From: last, To: to, Open: true})
	return longest
}

// Count counts the entries of a kind in a window.
func Count(entries []Entry, kind Kind, from, to time.Time) int {
	n := 0
	for _, e := range entries {
		if e.Kind == kind && e.At.After(from) && !e.At.After(to) {
			n++
		}
	}
	return n
}

// FirstAfter finds the first answer after t.
func FirstAfter(entries []Entry, t time.Time) (Entry, bool) {
	for _, e := range entries {
		if e.Kind == Served && e.At.After(t) {
			return e, true
		}
	}
	return Entry{}, false
}
