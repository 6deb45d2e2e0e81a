//go:build linux

package upgrades

import (
	"encoding/json"
	"fmt"
	"slices"
)

// proven reads what `orscore upgrade --json` has printed, and how long no agent answered, in milliseconds.
func proven(out, version string) (away float64, err error) {
	var done struct {
		To   string  `json:"to"`
		Away float64 `json:"away_ms"`
	}
	if err := json.Unmarshal([]byte(out), &done); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	if done.To != version {
		return 0, fmt.Errorf("version %q is at work, want %q", done.To, version)
	}
	return done.Away, nil
}

// summary is the median and the longest.
func summary(all []float64) [2]float64 {
	if len(all) == 0 {
		return [2]float64{}
	}
	sorted := slices.Sorted(slices.Values(all))
	return [2]float64{sorted[len(sorted)/2], sorted[len(sorted)-1]}
}
