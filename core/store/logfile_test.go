package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeLedger fills a ledger of n records and returns the path of its file.
func writeLedger(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	s := reopen(t, dir)
	for i := range n {
		s.Ledger().Note(Record{Kind: "ledger", Text: fmt.Sprint(i), Body: []byte(`{"a":1}`)})
		s.Decisions().Note(Record{Kind: "decision", ID: "1.1"})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, logFile(LedgerName, 1))
}

func TestLogsAreReadWithoutAnAgent(t *testing.T) {
	file := writeLedger(t, 5)
	for _, path := range []string{file, filepath.Dir(file)} {
		c, err := ReadLog(path, LedgerName)
		if err != nil || len(c.Records) != 5 || c.Torn != "" || len(c.Damaged)+len(c.Missing) > 0 {
			t.Fatalf("%s: %+v, %v", path, c, err)
		}
		if r := c.Records[4]; r.Pos != 5 || r.Text != "4" || string(r.Body) != `{"a":1}` || r.At.IsZero() {
			t.Errorf("%s: last record is %+v", path, r)
		}
	}
	if c, err := ReadLog(filepath.Dir(file), DecisionsName); err != nil || len(c.Records) != 5 || c.Records[0].ID != "1.1" {
		t.Errorf("decisions: %+v, %v", c, err)
	}
	if _, err := ReadLog(t.TempDir(), LedgerName); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "ORS-6010") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestDamagedLogsAreTold(t *testing.T) {
	whole, err := os.ReadFile(writeLedger(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	flipped := strings.Replace(lines[2], "ledger", "leger!", 1)
	for _, c := range []struct {
		what, text             string
		records, damaged, gaps int
		torn                   bool
	}{
		{"whole", string(whole), 5, 0, 0, false},
		{"torn", string(whole[:len(whole)-3]), 4, 0, 0, true},
		{"line flipped", lines[0] + lines[1] + flipped + lines[3] + lines[4], 4, 1, 1, false},
		{"line gone", lines[0] + lines[3] + lines[4], 3, 0, 1, false},
		{"damaged and torn tail", strings.Join(lines[:4], "") + "x\n" + lines[4][:9], 4, 1, 0, false},
		{"last line flipped", strings.Join(lines[:2], "") + flipped, 2, 1, 0, false},
		{"twice", string(whole) + string(whole), 5, 1, 0, false},
		{"empty", "", 0, 0, 0, false},
	} {
		path := filepath.Join(t.TempDir(), "a.log")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadLog(path, LedgerName)
		if err != nil || len(got.Records) != c.records || len(got.Damaged) != c.damaged || len(got.Missing) != c.gaps ||
			(got.Torn != "") != c.torn {
			t.Errorf("%s: %d records, %+v, %v", c.what, len(got.Records), got, err)
		}
	}
}
