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
)

// LogName is the log's name in the data folder. An entry is a number and its CRC-32C, 8 and 4 bytes, big endian.
const LogName = "numbers.log"

const entrySize = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Store keeps numbers.
type Store struct {
	mu      sync.Mutex
	log     *os.File
	numbers []uint64
	known   map[uint64]bool
}

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
	s := &Store{log: f, known: map[uint64]bool{}}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
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
		s.add(binary.BigEndian.Uint64(e))
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
	s.numbers = append(s.numbers, n)
}

// Put keeps a number. When it returns without an error the number is on the disk. Keeping it again changes nothing.
func (s *Store) Put(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[n] {
		return nil
	}
	var e [entrySize]byte
	binary.BigEndian.PutUint64(e[:], n)
	binary.BigEndian.PutUint32(e[8:], crc32.Checksum(e[:8], castagnoli))
	if _, err := s.log.Write(e[:]); err != nil {
		return err
	}
	if err := s.log.Sync(); err != nil {
		return err
	}
	s.add(n)
	return nil
}

// All returns the numbers in the order in which they were kept.
func (s *Store) All() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.numbers...)
}

// Close closes the log.
func (s *Store) Close() error { return s.log.Close() }

// Serve answers clients until ctx ends: "PUT n" with "OK", "ALL" with a line a number and "END". A log that cannot be
// written ends it: a server that goes on would promise what it cannot keep.
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
			if err := s.converse(conn); err != nil {
				cancel(err)
			}
		}()
	}
}

// converse serves one client. An error is the log's, not the client's.
func (s *Store) converse(conn net.Conn) error {
	lines := bufio.NewScanner(conn)
	out := bufio.NewWriter(conn)
	for lines.Scan() {
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "PUT":
			n, err := strconv.ParseUint(arg, 10, 64)
			if err != nil {
				fmt.Fprintf(out, "ERROR %q is no number\n", arg)
				break
			}
			if err := s.Put(n); err != nil {
				return err
			}
			fmt.Fprintln(out, "OK")
		case "ALL":
			for _, n := range s.All() {
				fmt.Fprintln(out, n)
			}
			fmt.Fprintln(out, "END")
		default:
			fmt.Fprintf(out, "ERROR %q is not known; known are PUT n and ALL\n", verb)
		}
		if out.Flush() != nil {
			return nil
		}
	}
	return nil
}
