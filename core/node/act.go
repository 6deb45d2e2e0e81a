package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/store"
)

// act lets one action go to whoever carries it out. It never waits.
func (n *Node) act(a failover.Action) {
	switch a.Kind {
	case failover.Inspect:
		n.work(a, n.inspect)
	case failover.Swap:
		if s := a.Swaps[0]; s.Old.Owner != s.New.Owner { // re-keys and renewals are no step of a takeover
			n.stepRecord(a.Group, "claim", a.Op, fmt.Sprintf("%s: %v -> %v", n.unitName(a.Unit), s.Old, s.New), nil)
		}
		n.work(a, n.swap)
	case failover.Claim, failover.ReKey, failover.Release:
		n.work(a, n.swapGroup)
	case failover.Witness:
		n.work(a, func(ctx context.Context, a failover.Action) { n.workers[a.Group].witness(ctx, a) })
	case failover.CheckReady:
		n.work(a, func(ctx context.Context, a failover.Action) { n.workers[a.Group].checkReady(ctx, a) })
	case failover.Attach, failover.StartApps, failover.StopApps, failover.Detach, failover.KillAll:
		n.workers[a.Group].give(a)
	}
}

// work runs one bounded exchange in a goroutine of its own. How many there are is bounded by the decision: one read
// and one swap a unit, and one of the rest a group, each with a deadline.
func (n *Node) work(a failover.Action, f func(context.Context, failover.Action)) {
	n.goRun(func(ctx context.Context) {
		ctx, cancel := context.WithDeadline(ctx, n.loop.When(a.Deadline))
		defer cancel()
		f(ctx, a)
	})
}

func (n *Node) unitName(i int) string { return n.cfg.Units()[i].Storage.Name }

// inspect reads a unit's key.
func (n *Node) inspect(ctx context.Context, a failover.Action) {
	st, err := n.o.Switches[a.Unit].Inspect(ctx)
	if err != nil {
		n.view.UnitError(a.Unit, err)
		n.send(failover.Event{Kind: failover.UnitMute, Unit: a.Unit, Op: a.Op, Text: err.Error()})
		return
	}
	n.view.Unit(a.Unit, st)
	n.o.Ledger.Saw(a.Unit, st.Key)
	n.send(failover.Event{Kind: failover.UnitRead, Unit: a.Unit, Op: a.Op, Key: st.Key})
}

// swap asks for one change of a key. Whatever the answer is, the decision reads again.
func (n *Node) swap(ctx context.Context, a failover.Action) {
	_, _ = n.swapOne(ctx, a.Op, a.Swaps[0])
	n.send(failover.Event{Kind: failover.Swapped, Unit: a.Unit, Op: a.Op})
}

// swapOne changes one key, and writes into the ledger what was asked and what came of it.
func (n *Node) swapOne(ctx context.Context, op uint64, s failover.KeySwap) (storage.State, error) {
	n.o.Ledger.Ask(s.Unit, op, s.Old, s.New)
	var st storage.State
	err := around(pointOfSwap(s), func() (err error) {
		st, err = n.o.Switches[s.Unit].Swap(ctx, s.Old, s.New)
		return err
	})
	switch {
	case err == nil:
		n.view.Unit(s.Unit, st)
		n.o.Ledger.Swapped(s.Unit, op, s.Old, st.Key)
	case errors.Is(err, storage.ErrConflict):
		n.o.Log.Info("a swap met another key", "unit", n.unitName(s.Unit), "found", st.Key)
		n.o.Ledger.Refused(s.Unit, op, s.Old, st.Key)
	default:
		n.o.Log.Warn("a swap got no usable answer", "unit", n.unitName(s.Unit), "error", err)
		n.o.Ledger.Unanswered(s.Unit, op, s.Old, s.New, err.Error())
	}
	return st, err
}

// swapGroup changes the keys of a group's units in their fixed order: a claim, a re-key or a release. No answer is no
// event: the decision's deadline passes and the switch is asked who owns them.
func (n *Node) swapGroup(ctx context.Context, a failover.Action) {
	done, refused := failover.Granted, failover.Denied
	if a.Kind == failover.Release {
		done, refused = failover.Released, failover.ReleaseFailed
	}
	for _, s := range a.Swaps {
		st, err := n.swapOne(ctx, a.Op, s)
		switch {
		case err == nil:
		case errors.Is(err, storage.ErrConflict):
			n.send(failover.Event{Kind: refused, Group: a.Group, Op: a.Op, Text: "found " + st.Key.String()})
			return
		default:
			n.record(store.Record{Kind: "storage", Group: n.groupName(a.Group), Code: "ORS-4002", Op: a.Op,
				Text: fmt.Sprintf("%s: %v", n.unitName(s.Unit), err)})
			return
		}
	}
	n.send(failover.Event{Kind: done, Group: a.Group, Op: a.Op})
}

func (n *Node) groupName(g int) string { return n.loop.GroupName(g) }

// stepRecord writes one step of a group's way up or down, for timelines.
func (n *Node) stepRecord(group int, step string, op uint64, text string, data map[string]any) {
	n.record(store.Record{Kind: "step", Group: n.groupName(group), Step: step, Op: op, Text: text, Data: data})
}

// took puts a duration into a step's data, in milliseconds.
func took(from time.Time) map[string]any {
	return map[string]any{"duration_ms": float64(time.Since(from).Microseconds()) / 1000}
}
