//go:build linux

package upgrades

import "testing"

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
