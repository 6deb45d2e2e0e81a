package store

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestKeepsOverARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, n := range []uint64{1, 2, 2, 3} {
		if err := s.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).All(); len(got) != 3 || got[2] != 3 {
		t.Fatalf("kept %v", got)
	}
}

// A log that was torn at any byte of its last entry keeps what was before it, and can be written on.
func TestTornEnd(t *testing.T) {
	for cut := 1; cut < entrySize; cut++ {
		dir := t.TempDir()
		s := open(t, dir)
		for n := range uint64(3) {
			if err := s.Put(n); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Close()
		const entries = 4 // the first one names the start
		if err := os.Truncate(filepath.Join(dir, LogName), int64(entries*entrySize-cut)); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		if got := s.All(); len(got) != 2 {
			t.Fatalf("cut by %d: kept %v", cut, got)
		}
		if err := s.Put(9); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if got := open(t, dir).All(); len(got) != 3 {
			t.Fatalf("cut by %d, then written: kept %v", cut, got)
		}
	}
}

// After a write that failed nothing more is promised: an entry behind a torn one would be lost with it.
func TestBrokenLogPromisesNothingMore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Put(1); err != nil {
		t.Fatal(err)
	}
	good := s.log
	closed, err := os.Open(filepath.Join(dir, LogName)) // read-only: writing fails
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closed.Close() }()
	s.log = closed
	if s.Put(2) == nil {
		t.Fatal("a number was kept without a log")
	}
	s.log = good
	if s.Put(3) == nil || s.Put(1) == nil {
		t.Error("it promised something after its log had failed")
	}
	if !s.Has(1) || s.Has(2) || s.Has(3) {
		t.Error("it does not know what it keeps:", s.All())
	}
}

// Each start of a store is a line of history of its own, and every row names its own.
func TestRowsNameTheirLine(t *testing.T) {
	dir := t.TempDir()
	var want []Row
	for n := range uint64(3) {
		s := open(t, dir)
		for _, number := range []uint64{2 * n, 2*n + 1} {
			if err := s.Put(number); err != nil {
				t.Fatal(err)
			}
			want = append(want, Row{Number: number, Line: s.line})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	if got := s.Rows(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := s.Put(2); err != nil || s.lineOf(2) != want[2].Line {
		t.Errorf("kept again, it is of line %d, %v; want %d", s.lineOf(2), err, want[2].Line)
	}
}

func TestProtocol(t *testing.T) {
	s := open(t, t.TempDir())
	ok := fmt.Sprintf("OK %d", s.line)
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.Converse(theirs, theirs) }()
	in := bufio.NewReader(ours)
	for _, c := range []struct{ say, want string }{
		{"GET 7", "NONE"}, {"PUT 7", ok}, {"PUT 7", ok}, {"GET 7", "KEPT"}, {"PUT x", `ERROR "x" is no number`},
		{"GET", `ERROR "" is no number`}, {"SUM", `ERROR "SUM" is not known; known are PUT n, GET n, ALL and ROWS`}, {"ALL", "7"},
	} {
		if _, err := fmt.Fprintln(ours, c.say); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || got != c.want+"\n" {
			t.Errorf("%s: %q, %v; want %q", c.say, got, err, c.want)
		}
	}
	if got, err := in.ReadString('\n'); err != nil || got != "END\n" {
		t.Errorf("after ALL: %q, %v", got, err)
	}
	_ = ours.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	acks := []Ack{{Number: 1}, {Number: 2}, {Number: 4}}
	got := Missing(acks, map[uint64]bool{1: true, 3: true}) // 3 was kept without an answer: no harm
	if len(got) != 2 || got[0] != 2 || got[1] != 4 {
		t.Errorf("missing: %v", got)
	}
}

func TestOutages(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	acks := []Ack{{1, at(0)}, {2, at(1)}, {3, at(901)}, {4, at(902)}, {5, at(1002)}, {6, at(1003)}}
	got := Outages(acks, 100*time.Millisecond)
	if len(got) != 2 || got[0].Length() != 900*time.Millisecond || got[1].From.Number != 4 {
		t.Errorf("%v", got)
	}
	if last, first := Longest(acks, at(902), at(2000)); last.Number != 4 || first.Number != 5 {
		t.Errorf("longest after the first outage: %v to %v", last, first)
	}
}

func TestDamageInTheMiddleIsNotGuessedAt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range uint64(3) {
		if err := s.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	path := filepath.Join(dir, LogName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[3] ^= 1
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Fatal("it was taken")
	}
}

// A client goes on after its server has been ended and started anew, and nothing that was acknowledged is missing.
func TestClientOverARestart(t *testing.T) {
	dir := t.TempDir()
	serve := func(address string) (string, func()) {
		s := open(t, dir)
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx, l) }()
		return l.Addr().String(), func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			_ = s.Close()
		}
	}
	address, stop := serve("127.0.0.1:0")
	c := &Client{Address: address, Pace: time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	await := func(n int) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for len(c.Acked()) < n {
			if time.Now().After(deadline) {
				t.Fatalf("%d acknowledged, want %d", len(c.Acked()), n)
			}
			time.Sleep(time.Millisecond)
		}
	}
	await(20)
	stop()
	before := len(c.Acked())
	_, stop = serve(address)
	await(before + 20)
	cancel()
	<-done
	kept, err := Read(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	if m := Missing(c.Acked(), kept); len(m) > 0 {
		t.Errorf("missing: %v", m)
	}
	stop()
}
