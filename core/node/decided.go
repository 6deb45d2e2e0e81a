package node

import (
	"context"

	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
)

// made is a decision on its way to the disk, with the state that came of it.
type made struct {
	decision decision.Decision
	after    failover.State
}

// decided queues a decision. The loop calls it, so it never waits: when the queue is full the decision is lost, and
// the next one that is written says so.
func (n *Node) decided(d decision.Decision, after failover.State) {
	d.Lost = n.lost
	select {
	case n.decisions <- made{d, after}:
		n.lost = 0
	default:
		n.lost++
	}
}

// keepDecisions writes decisions down until the loop has ended.
func (n *Node) keepDecisions(context.Context) {
	for m := range n.decisions {
		r, err := m.decision.Record(&m.after)
		if err != nil {
			n.o.Log.Error("a decision cannot be recorded", "id", m.decision.ID, "error", err)
			continue
		}
		n.o.Decisions.Note(r)
	}
}
