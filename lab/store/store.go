// Package store is a small program with a state: numbers that it has promised to keep. It is what the demo protects.
//
// It writes each number to its log, syncs, and only then says that it is kept. It must never say so before.
package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LogName is the log's name in the data folder. An entry is a number and its CRC-32C, 8 and 4 bytes, big endian. A
// number with the highest bit set is none that was kept: it names the start of the store that has written what follows.
const LogName = "numbers.log"

const lineMark = 1 << 63

const entrySize = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Store keeps numbers.
type Store struct {
	mu     sync.Mutex
	broken error // the log could not be written: what is at its end is not known, so nothing may be put behind it
	log    *os.File
	line   uint64 // this start of the store: the line of history of what is kept from now on
	marked bool   // the log says so
	last   uint64 // line of the log's end
	rows   []Row
	known  map[uint64]bool
}

// Row is a number that is kept, and the line of history that has kept it: a start of the store.
type Row struct{ Number, Line uint64 }

// Open reads the log in a folder, which it makes where it is missing, and cuts off what a crash left half written at
// its end.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, LogName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &Store{log: f, known: map[uint64]bool{}, line: uint64(time.Now().UnixNano()) &^ lineMark}
	if err := errors.Join(s.recover(), syncFolder(dir)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// syncFolder makes the log's name as durable as what is in it.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) recover() error {
	raw, err := io.ReadAll(s.log)
	if err != nil {
		return err
	}
	good := 0
	for ; good+entrySize <= len(raw); good += entrySize {
		e := raw[good : good+entrySize]
		if crc32.Checksum(e[:8], castagnoli) != binary.BigEndian.Uint32(e[8:]) {
			break
		}
		if n := binary.BigEndian.Uint64(e); n&lineMark != 0 {
			s.last = n &^ lineMark
		} else {
			s.add(n)
		}
	}
	if rest := raw[good:]; len(rest) > entrySize {
		return fmt.Errorf("%s: damaged at byte %d, with %d bytes behind it: that is no torn end",
			s.log.Name(), good, len(rest))
	}
	if err := s.log.Truncate(int64(good)); err != nil {
		return err
	}
	_, err = s.log.Seek(int64(good), io.SeekStart)
	return err
}

func (s *Store) add(n uint64) {
	s.known[n] = true
	s.rows = append(s.rows, Row{Number: n, Line: s.last})
}

// Put keeps a number. When it returns without an error the number is on the disk. Keeping it again changes nothing.
func (s *Store) Put(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if n&lineMark != 0 {
		return fmt.Errorf("%d is too large a number", n)
	}
	if s.known[n] {
		return nil
	}
	if !s.marked {
		if err := s.append(s.line | lineMark); err != nil {
			return err
		}
		s.marked, s.last = true, s.line
	}
	if err := s.append(n); err != nil {
		return err
	}
	s.add(n)
	return nil
}

// append puts one entry on the disk; s.mu is held.
func (s *Store) append(n uint64) error {
	var e [entrySize]byte
	binary.BigEndian.PutUint64(e[:], n)
	binary.BigEndian.PutUint32(e[8:], crc32.Checksum(e[:8], castagnoli))
	_, err := s.log.Write(e[:])
	if err == nil {
		err = s.log.Sync()
	}
	s.broken = err
	return err
}

// Has reports whether a number is kept.
func (s *Store) Has(n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[n]
}

// All returns the numbers in the order in which they were kept.
func (s *Store) All() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]uint64, len(s.rows))
	for i, r := range s.rows {
		all[i] = r.Number
	}
	return all
}

// Rows returns the numbers with their lines of history, in the order in which they were kept.
func (s *Store) Rows() []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Row(nil), s.rows...)
}

// lineOf returns the line of history of a number that is kept; 0: it is not kept.
func (s *Store) lineOf(n uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.rows) - 1; i >= 0; i-- {
		if s.rows[i].Number == n {
			return s.rows[i].Line
		}
	}
	return 0
}

// Close closes the log.
func (s *Store) Close() error { return s.log.Close() }

// Serve answers clients until ctx ends: "PUT n" with "OK" and the line of history that keeps n, "GET n" with "KEPT" or
// "NONE", "ALL" with a number a line and "END", "ROWS" with a number and its line of history a line and "END". A log
// that cannot be written ends it: a server that goes on would promise what it cannot keep.
func (s *Store) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			cancel(nil)
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { _ = conn.Close() }()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if err := s.Converse(conn, conn); err != nil {
				cancel(err)
			}
		}()
	}
}

// Converse serves one client, as Serve says. An error is the log's, not the client's.
func (s *Store) Converse(from io.Reader, to io.Writer) error {
	lines := bufio.NewScanner(from)
	out := bufio.NewWriter(to)
	for lines.Scan() {
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "PUT", "GET":
			answer, err := s.one(verb, arg)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, answer)
		case "ALL":
			for _, n := range s.All() {
				fmt.Fprintln(out, n)
			}
			fmt.Fprintln(out, "END")
		case "ROWS":
			for _, r := range s.Rows() {
				fmt.Fprintln(out, r.Number, r.Line)
			}
			fmt.Fprintln(out, "END")
		default:
			fmt.Fprintf(out, "ERROR %q is not known; known are PUT n, GET n, ALL and ROWS\n", verb)
		}
		if out.Flush() != nil {
			return nil
		}
	}
	return nil
}

// one answers a command about one number. An error is the log's.
func (s *Store) one(verb, arg string) (string, error) {
	n, err := strconv.ParseUint(arg, 10, 64)
	switch {
	case err != nil || n&lineMark != 0:
		return fmt.Sprintf("ERROR %q is no number", arg), nil
	case verb == "PUT":
		err := s.Put(n)
		return fmt.Sprintf("OK %d", s.lineOf(n)), err
	case s.Has(n):
		return "KEPT", nil
	}
	return "NONE", nil
}
