package upgrade

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orscore/ors/core/control"
)

// TestContinues: what an agent has to say for an upgrade to be over.
func TestContinues(t *testing.T) {
	before := agent("1.0", 1, "alive", "Active", "Standby")
	for name, c := range map[string]struct {
		now  seen
		says string // empty: it is over
	}{
		"the new one has everything":    {agent("1.1", 2, "alive", "Active", "Standby"), ""},
		"the old one":                   {agent("1.0", 1, "alive", "Active", "Standby"), "has not ended"},
		"the old one again":             {agent("1.0", 2, "alive", "Active", "Standby"), "version 1.0 answers"},
		"has not found a group yet":     {agent("1.1", 2, "alive", "Recovering", "Standby"), "group rocky is Recovering"},
		"has not heard the partner":     {agent("1.1", 2, "unknown", "Active", "Standby"), "not heard its partner"},
		"hears it on one link":          {agent("1.1", 2, "cable-fault", "Active", "Standby"), ""},
		"the partner has died":          {agent("1.1", 2, "lost", "Active", "Active"), ""},
		"the partner has just died":     {agent("1.1", 2, "lost", "Active", "Claiming"), "group apollo is Claiming"},
		"has lost a group":              {agent("1.1", 2, "alive", "Standby", "Standby"), "group rocky is Standby"},
		"has lost one and took another": {agent("1.1", 2, "lost", "Faulted", "Active"), "group rocky is Faulted"},
	} {
		err := c.now.continues(before, "1.1")
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestContinuesWithAFault: what was not well before need not be well after, and what was must.
func TestContinuesWithAFault(t *testing.T) {
	before := agent("1.0", 1, "cable-fault", "Active", "Standby")
	if err := agent("1.1", 2, "unknown", "Active", "Standby").continues(before, "1.1"); err == nil {
		t.Error("it does not hear the partner, which was heard on one link, and is taken for whole")
	}
	if err := agent("1.1", 2, "alive", "Active", "Standby").continues(before, "1.1"); err != nil {
		t.Error(err)
	}
	before = agent("1.0", 1, "lost", "Active", "Active")
	if err := agent("1.1", 2, "lost", "Active", "Active").continues(before, "1.1"); err != nil {
		t.Error(err)
	}
	before = agent("1.0", 1, "alive", "Active", "Standby")
	before.status.Agreed = true
	now := agent("1.1", 2, "alive", "Active", "Standby")
	if err := now.continues(before, "1.1"); err == nil || !strings.Contains(err.Error(), "agree") {
		t.Errorf("it is not heard by its partner: %v", err)
	}
	now.status.Agreed = true
	if err := now.continues(before, "1.1"); err != nil {
		t.Error(err)
	}
}

// TestOneUpgradeAtATime: a second upgrade of the same program is refused.
func TestOneUpgradeAtATime(t *testing.T) {
	program := filepath.Join(t.TempDir(), "orscore")
	unlock, err := lock(program)
	if err != nil {
		t.Skip(err)
	}
	if _, err := lock(program); err == nil {
		t.Error("a second upgrade may begin")
	}
	unlock()
	unlock, err = lock(program)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestTooShort: a time in which no way back is possible is refused before anything is looked at.
func TestTooShort(t *testing.T) {
	_, err := Run(t.Context(), Options{Within: Least - 1})
	if !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "ORS-7050") {
		t.Error(err)
	}
}

func agent(version string, incarnation int, verdict, rocky, apollo string) seen {
	return seen{
		status: control.Status{Verdict: verdict, Groups: []control.Group{
			{Name: "rocky", Phase: rocky}, {Name: "apollo", Phase: apollo},
		}},
		self: control.Server{Version: version, Incarnation: incarnation},
	}
}
