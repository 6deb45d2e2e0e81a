package store

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type hard struct {
	Epoch uint32 `json:"epoch"`
	Text  string `json:"text"`
}

func reopen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	var h hard
	if found, err := s.LoadHard(&h); found || err != nil {
		t.Fatalf("new store: LoadHard = %v, %v", found, err)
	}
	for i := range uint32(5) {
		if err := s.SaveHard(hard{Epoch: i, Text: "line\nfeed"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveHandle("Rocky/db", 3, []byte{0, 1, 255}); err != nil {
		t.Fatal(err)
	}
	r := Record{Kind: KindAgent, Text: "started"}
	if err := s.Append(&r); err != nil || r.Pos != 1 || r.At.IsZero() {
		t.Fatalf("Append = %v, %+v", err, r)
	}
	s.Note(Record{Kind: KindStep, Text: "queued"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, dir)
	if found, err := s.LoadHard(&h); !found || err != nil || h.Epoch != 4 || h.Text != "line\nfeed" {
		t.Fatalf("LoadHard = %v, %v, %+v", found, err, h)
	}
	got, found, err := s.Handle("Rocky/db")
	if err != nil || !found || got.Version != 3 || string(got.State) != "\x00\x01\xff" {
		t.Fatalf("Handle = %+v, %v, %v", got, found, err)
	}
	if apps, err := s.Handles(); err != nil || len(apps) != 1 || apps[0] != "Rocky/db" {
		t.Fatalf("Handles = %q, %v", apps, err)
	}
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 2 || rs[1].Text != "queued" || rs[1].Pos != 2 || !rs[0].At.Equal(r.At) {
		t.Fatalf("Read = %+v, %v", rs, err)
	}
	if s.Incarnation() != 2 || len(s.Warnings()) != 0 {
		t.Fatalf("incarnation %d, warnings %q", s.Incarnation(), s.Warnings())
	}
}
