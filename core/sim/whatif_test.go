package sim

import (
	"strings"
	"testing"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// question about the annotated configuration of the repository.
func question(t *testing.T, fail string, mute ...string) Question {
	t.Helper()
	var q Question
	for _, name := range []string{"rocky", "apollo"} {
		c, diags := config.Load("../../config.hcl", config.Options{Server: name, NoKey: true})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		q.Configs[c.Self-1] = c
	}
	q.Fail, q.Mute = q.Configs[0].ServerByName(fail), mute
	return q
}

func TestWhatIfAServerFails(t *testing.T) {
	q := question(t, "rocky")
	a, err := WhatIf(q)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Groups) != 2 || a.Survivor != "apollo" {
		t.Fatalf("%+v", a)
	}
	moved, stays := a.Groups[0], a.Groups[1]
	if !moved.Moves || !moved.Runs || moved.From != "rocky" || moved.To != "apollo" || stays.Moves || !stays.Runs {
		t.Errorf("%+v", a.Groups)
	}
	c := q.Configs[0]
	timeout, limit := c.Interconnect.Timeout.Milliseconds(), int64(0)
	for _, d := range c.Groups[0].Storage[0].Drives {
		limit += d.MountTimeout.Milliseconds()
	}
	for i := range c.Groups[0].Applications {
		limit += c.Groups[0].Applications[i].StartTimeout.Milliseconds()
	}
	if moved.LeastMS < timeout-c.Interconnect.Interval.Milliseconds() || moved.LeastMS > 3*timeout ||
		moved.MostMS < moved.LeastMS+limit || moved.MostMS > moved.LeastMS+limit+timeout {
		t.Errorf("it runs again after %d to %d ms; the time-out is %d ms, mounts and starts may take %d ms", moved.LeastMS,
			moved.MostMS, timeout, limit)
	}
	var order []string
	for _, s := range a.Steps {
		if s.Group == "rocky" || s.Group == "" {
			order = append(order, s.Step)
		}
	}
	want := "verdict verdict, arbitration bid, group Attaching, group Starting, group Active"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("steps are %s, wanted %s", got, want)
	}
	var text strings.Builder
	if err := a.Write(&text); err != nil || !strings.Contains(text.String(), "nothing happens to it") {
		t.Errorf("%v:\n%s", err, text.String())
	}
}

func TestWhatIfASwitchIsMute(t *testing.T) {
	for _, c := range []struct {
		mute []string
		runs bool
		why  string
	}{
		{nil, true, ""},
		{[]string{"storage2"}, false, "storage2"}, // rocky's own, and the first of the arbitration
		{[]string{"storage1"}, false, "storage1"},
	} {
		a, err := WhatIf(question(t, "apollo", c.mute...))
		if err != nil {
			t.Fatal(err)
		}
		if g := a.Groups[1]; g.Runs != c.runs || !strings.Contains(g.Why, c.why) {
			t.Errorf("with mute %v: %+v", c.mute, g)
		}
	}
	if _, err := WhatIf(question(t, "apollo", "storage9")); err == nil {
		t.Error("a unit that does not exist can be mute")
	}
	if q := question(t, "apollo"); q.Fail != failover.Second {
		t.Errorf("apollo is %v", q.Fail)
	}
}
