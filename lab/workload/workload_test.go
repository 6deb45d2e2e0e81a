//go:build linux

package workload

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func at(ms int) time.Time { return time.UnixMilli(1_000_000 + int64(ms)) }

func served(ms ...int) []Entry {
	var all []Entry
	for i, t := range ms {
		all = append(all, Entry{Kind: Served, Number: int64(i + 1), At: at(t)})
	}
	return all
}

func TestLongest(t *testing.T) {
	tests := []struct {
		name     string
		entries  []Entry
		from, to int
		want     Outage
	}{
		{"within the window", served(0, 10, 20, 90, 95), 15, 100, Outage{From: at(20), To: at(90)}},
		{"it began before the window", served(0, 10, 90, 95), 15, 100, Outage{From: at(10), To: at(90)}},
		{"it ends after the window", served(0, 10, 20, 90), 15, 50, Outage{From: at(20), To: at(90)}},
		{"it has not ended", served(0, 10, 20), 15, 100, Outage{From: at(20), To: at(100), Open: true}},
		{"never served", nil, 15, 100, Outage{From: at(15), To: at(100), Open: true}},
		{"failures are not answers", append(served(0, 10), Entry{Kind: Failed, At: at(50)}), 5, 100,
			Outage{From: at(10), To: at(100), Open: true}},
		{"before the window is not counted", served(0, 50, 60, 70), 55, 75, Outage{From: at(50), To: at(60)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Longest(tt.entries, at(tt.from), at(tt.to)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLogIsReadWhileItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := NewReader(path)
	if err := r.Refresh(); err != nil || len(r.Entries) != 0 {
		t.Fatalf("a log that is not there: %v", err)
	}
	l, err := CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{{Kind: Served, Number: 1, At: at(1)}, {Kind: Failed, Number: 2, At: at(2), Text: "two words"}}
	for i, e := range want {
		if i == 1 {
			e.Text = "two\n words"
		}
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
		if err := r.Refresh(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[:i+1], r.Entries); diff != "" {
			t.Error(diff)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []string{"A 3 ", "5 \n"} {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		if err := r.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Entries) != 3 || r.Entries[2].Number != 3 {
		t.Errorf("a line written in two parts: %+v", r.Entries)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("A 1 2 \n"))
	f.Add([]byte("F 1 2 why not\n"))
	f.Add([]byte("X 1\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err == nil && e.Kind != Served && e.Kind != Failed && e.Kind != Broken {
			t.Errorf("%q became %+v", line, e)
		}
	})
}

func TestHTTPCountsFailures(t *testing.T) {
	var asked atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 2:
			w.WriteHeader(http.StatusBadGateway)
		case 4:
			cancel()
		}
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "log")
	l, err := CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(HTTP{URL: s.URL, Pace: time.Millisecond}.Run(ctx, l), l.Close()); err != nil {
		t.Fatal(err)
	}
	r := NewReader(path)
	if err := r.Refresh(); err != nil || len(r.Entries) < 3 {
		t.Fatalf("%d entries, %v", len(r.Entries), err)
	}
	for i, want := range []Kind{Served, Failed, Served} {
		if r.Entries[i].Kind != want {
			t.Errorf("request %d: %c, want %c", i+1, r.Entries[i].Kind, want)
		}
	}
}
