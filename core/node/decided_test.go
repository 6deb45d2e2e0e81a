package node

import (
	"testing"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
)

// TestDecisionsNeverHoldTheLoopUp: where a disk does not keep up, decisions are lost, and the next one says how many.
func TestDecisionsNeverHoldTheLoopUp(t *testing.T) {
	n := &Node{decisions: make(chan made, 1)}
	for range 4 {
		n.decided(decision.Decision{}, failover.State{})
	}
	if m := <-n.decisions; m.decision.Lost != 0 {
		t.Errorf("before the first one %d were lost", m.decision.Lost)
	}
	for _, want := range []int{3, 0} {
		n.decided(decision.Decision{}, failover.State{})
		if m := <-n.decisions; m.decision.Lost != want {
			t.Errorf("before the next one %d were lost, wanted %d", m.decision.Lost, want)
		}
	}
}
