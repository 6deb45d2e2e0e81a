//go:build linux

package upgrades

import (
	"encoding/json"
	"errors"
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

// noticed says what anybody has noticed of the upgrades.
func (r *Result) noticed() error {
	var all []error
	for _, c := range []struct {
		count int
		what  string
	}{
		{r.Failed, "requests failed"}, {r.Moves, "units moved"},
		{r.Changed, "processes changed"}, {r.Lost, "rows are lost or wrong"},
	} {
		if c.count > 0 {
			all = append(all, fmt.Errorf("%d %s", c.count, c.what))
		}
	}
	for _, t := range r.Takeovers {
		switch {
		case t.Outage == nil:
			all = append(all, fmt.Errorf("the outage of the takeover of phase %s is not known", t.Phase))
		case *t.Outage > t.Bound:
			all = append(all, fmt.Errorf("the takeover of phase %s took %.0f ms, more than %.0f", t.Phase, *t.Outage, t.Bound))
		}
	}
	if r.Requests == 0 {
		all = append(all, errors.New("no client has asked for anything"))
	}
	return errors.Join(all...)
}
