//go:build linux

package workload

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/orscore/ors/lab/store"
)

func ack(n int64, line string) Entry { return Entry{Kind: Served, Number: n, Text: line} }
func lack(n int64) Entry             { return Entry{Kind: Failed, Number: n, Text: "timeout"} }

func rows(line string, numbers ...int64) []Row {
	var all []Row
	for _, n := range numbers {
		all = append(all, Row{Number: n, Line: line})
	}
	return all
}

func join[T any](parts ...[]T) []T {
	var all []T
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// The client's log of a takeover from line a to line b: 4 had no answer.
var takeover = []Entry{ack(1, "a"), ack(2, "a"), ack(3, "a"), lack(4), {Kind: Broken, Number: 4}, ack(5, "b"), ack(6, "b")}

func TestJudge(t *testing.T) {
	tests := []struct {
		name    string
		entries []Entry
		rows    []Row
		want    Verdict // without the counts of what is right
	}{
		{"all of it", takeover, join(rows("a", 1, 2, 3), rows("b", 5, 6)), Verdict{}},
		{"what had no answer is there", takeover, join(rows("a", 1, 2, 3, 4), rows("b", 5, 6)), Verdict{}},
		{"what had no answer comes late", takeover, join(rows("a", 1, 2, 3), rows("b", 5, 4, 6)), Verdict{}},
		{"written after the log was read", takeover, join(rows("a", 1, 2, 3), rows("b", 5, 6, 7, 8)), Verdict{}},
		{"an acknowledged one is lost", takeover, join(rows("a", 1, 2), rows("b", 5, 6)), Verdict{Lost: 1}},
		{"the end of a line is lost", takeover, join(rows("a", 1), rows("b", 5, 6)), Verdict{Lost: 2}},
		{"one is there twice", takeover, join(rows("a", 1, 2, 2, 3), rows("b", 5, 6)), Verdict{Doubled: 1}},
		{"one was acknowledged twice", append(join(takeover), ack(5, "b")), join(rows("a", 1, 2, 3), rows("b", 5, 6)),
			Verdict{Doubled: 1}},
		{"out of order", takeover, join(rows("a", 2, 1, 3), rows("b", 5, 6)), Verdict{Disordered: 1}},
		{"nobody has written it", takeover, join(rows("a", -7, 1, 2, 3), rows("b", 5, 6)), Verdict{Foreign: 1}},
		{"a number was left out", append(join(takeover), ack(8, "b")), join(rows("a", 1, 2, 3), rows("b", 5, 6, 8)),
			Verdict{Gaps: 1}},
		{"the old line writes on behind the new one", takeover,
			join(rows("a", 1, 2, 3), rows("b", 5, 6), rows("a", 4)), Verdict{Diverged: 1}},
		{"the old line acknowledges after the new one", append(join(takeover), ack(7, "a")),
			join(rows("a", 1, 2, 3), rows("b", 5, 6), rows("a", 7)), Verdict{Diverged: 2}},
		{"an acknowledged row was replaced by another line's", takeover,
			join(rows("a", 1, 2), rows("b", 3, 5, 6)), Verdict{Diverged: 1}},
		{"nothing is there", takeover, nil, Verdict{Lost: 5}},
		{"a client that was never answered", []Entry{lack(1), lack(2)}, nil, Verdict{}},
		{"no client", nil, nil, Verdict{}},
	}
	right := cmpopts.IgnoreFields(Verdict{}, "Acknowledged", "Rows", "Lines", "Examples")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.entries, tt.rows)
			if diff := cmp.Diff(tt.want, got, right); diff != "" {
				t.Error(diff, got)
			}
			if (got.Wrong() == 0) != (len(got.Examples) == 0) {
				t.Errorf("%d things are wrong, examples: %v", got.Wrong(), got.Examples)
			}
		})
	}
	got := Judge(takeover, join(rows("a", 1, 2, 3, 4), rows("b", 5, 6)))
	if got.Acknowledged != 5 || got.Rows != 6 || got.Lines != 2 {
		t.Errorf("counted %+v", got)
	}
}

// A client of each kind writes to a real store over its restart, and what it wrote down agrees with the store.
func TestRowsAtAStore(t *testing.T) {
	for _, patient := range []bool{false, true} {
		dir := t.TempDir()
		address, stop := serve(t, dir, "127.0.0.1:0")
		client := Rows{Kind: KindStore, Address: address, Patient: patient, Pace: time.Millisecond}
		path := filepath.Join(t.TempDir(), "log")
		l, err := CreateLog(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- client.Run(ctx, l) }()
		r := NewReader(path)
		await(t, r, 20)
		stop()
		_, stop = serve(t, dir, address)
		await(t, r, len(r.Entries)+20)
		cancel()
		if err := errors.Join(<-ended, l.Close(), r.Refresh()); err != nil {
			t.Fatal(err)
		}
		v, err := client.CheckPatiently(context.Background(), r.Entries)
		if err != nil || v.Wrong() != 0 || v.Lines != 2 || v.Acknowledged < 40 {
			t.Errorf("patient %v: %+v, %v", patient, v, err)
		}
		other := client
		other.Patient = !patient
		if v, err = other.Check(context.Background(), nil); err != nil || v.Rows != 0 {
			t.Errorf("rows of the other kind of client: %+v, %v", v, err)
		}
		stop()
	}
}

func serve(t *testing.T, dir, address string) (string, func()) {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// await waits until so many entries of the log are answers.
func await(t *testing.T, r *Reader, n int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if err := r.Refresh(); err != nil {
			t.Fatal(err)
		}
		if Count(r.Entries, Served, time.Time{}, time.Now()) >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries, want %d answers", len(r.Entries), n)
		}
		time.Sleep(time.Millisecond)
	}
}
