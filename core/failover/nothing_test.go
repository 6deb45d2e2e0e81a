package failover_test

import (
	"testing"

	"github.com/orscore/ors/core/failover"
)

// TestPairWithoutUnits: an operator who sets up the interconnect first has no group yet. Verdicts come and go, and
// nothing else does.
func TestPairWithoutUnits(t *testing.T) {
	p := failover.Defaults(2_000)
	p.Self = failover.First
	s := failover.New(&p, failover.Hard{}, 1)
	heard := failover.Evidence{Links: []failover.LinkEvidence{{Ever: true}}}
	silent := failover.Evidence{Links: []failover.LinkEvidence{{Ever: true, Silent: true}}}
	for i, e := range []failover.Event{
		{Kind: failover.Passed}, {Kind: failover.Seen, Evidence: heard},
		{Kind: failover.Heard, Beat: failover.Beat{HearsUs: true, Losses: 1}}, {Kind: failover.Seen, Evidence: silent},
		{Kind: failover.PeerStarted}, {Kind: failover.WasLate}, {Kind: failover.OpShutdown},
	} {
		e.At = failover.Tick(i+1) * 3_000
		var actions []failover.Action
		s, actions = failover.Step(&p, s, e)
		for _, a := range actions {
			if a.Kind != failover.Note {
				t.Errorf("event %v: action %v", e.Kind, a.Kind)
			}
		}
		failover.Next(&p, &s)
		if s.Agreed() {
			t.Errorf("event %v: agreed about nothing", e.Kind)
		}
	}
}
