package upgrade

import (
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

func agent(version string, incarnation int, verdict, rocky, apollo string) seen {
	return seen{
		status: control.Status{Verdict: verdict, Groups: []control.Group{
			{Name: "rocky", Phase: rocky}, {Name: "apollo", Phase: apollo},
		}},
		self: control.Server{Version: version, Incarnation: incarnation},
	}
}
