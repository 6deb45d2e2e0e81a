//go:build linux

package upgrades

import (
	"strings"
	"testing"
)

func TestProven(t *testing.T) {
	for _, c := range []struct {
		out, version string
		away         float64
		ok           bool
	}{
		{`{"from": "a", "to": "b", "away_ms": 712}`, "b", 712, true},
		{`{"from": "a", "to": "a", "away_ms": 712}`, "b", 0, false},
		{"no agent answers", "b", 0, false},
	} {
		if away, err := proven(c.out, c.version); away != c.away || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", c.out, away, err)
		}
	}
}

func TestSummary(t *testing.T) {
	if got := summary([]float64{3, 1, 2}); got != [2]float64{2, 3} {
		t.Error(got)
	}
	if got := summary(nil); got != [2]float64{} {
		t.Error(got)
	}
}

func TestNoticed(t *testing.T) {
	took, long := 4000.0, 5001.0
	takeover := func(ms *float64) []Takeover {
		return []Takeover{{Phase: "one", Outage: &took, Bound: 5000}, {Phase: "two", Outage: ms, Bound: 5000}}
	}
	quiet := Result{Requests: 9, Takeovers: takeover(&took)}
	if err := quiet.noticed(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Result){
		"1 requests failed":      func(r *Result) { r.Failed = 1 },
		"2 units moved":          func(r *Result) { r.Moves = 2 },
		"1 processes changed":    func(r *Result) { r.Changed = 1 },
		"3 rows are lost":        func(r *Result) { r.Lost = 3 },
		"phase two is not known": func(r *Result) { r.Takeovers = takeover(nil) },
		"took 5001 ms":           func(r *Result) { r.Takeovers = takeover(&long) },
		"no client has asked":    func(r *Result) { r.Requests = 0 },
	} {
		r := quiet
		change(&r)
		if err := r.noticed(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
