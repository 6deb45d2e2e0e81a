package loop

import (
	"maps"
	"slices"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// moveRequest asks the partner to move a group that it owns.
type moveRequest struct {
	Group string `json:"g"`
	ID    uint64 `json:"i"`
	Force bool   `json:"f,omitempty"`
}

// MoveResult says how a planned move ended.
type MoveResult struct {
	ID    uint64 `json:"i"`
	Moved bool   `json:"m"`
	Text  string `json:"t"`
	Code  string `json:"c,omitempty"`
}

// moveWait is an operator who waits here for the end of a move.
type moveWait struct {
	group  int
	force  bool // also in maintenance
	remote bool // the partner owns the group: it is asked again until it answers
	ended  func(MoveResult)
}

// StartMove begins the planned move id of a group away from owner; the id is the caller's, and of no other move of the
// pair. ended is called once when the move has ended, unless ForgetMove comes first.
func (lp *Loop) StartMove(id uint64, group int, owner failover.Server, reason string, ended func(MoveResult)) {
	lp.startMove(id, owner, reason, &moveWait{group: group, ended: ended})
}

// ForceMove is StartMove, also in maintenance.
func (lp *Loop) ForceMove(id uint64, group int, owner failover.Server, reason string, ended func(MoveResult)) {
	lp.startMove(id, owner, reason, &moveWait{group: group, ended: ended, force: true})
}

func (lp *Loop) startMove(id uint64, owner failover.Server, reason string, w *moveWait) {
	w.remote = owner != lp.cfg.Self
	lp.moves[id] = w
	lp.record(store.Record{Kind: "operator", Group: lp.GroupName(w.group), Step: "move",
		Text: "An operator asked for a planned move.", Why: reason})
	if w.remote {
		lp.resendMoves()
	} else if lp.Writable() != nil || // it would stop in the midst of the move
		!lp.step(failover.Event{Kind: failover.OpMove, Group: w.group, Move: id, Force: w.force}) {
		lp.endWait(MoveResult{ID: id, Code: "ORS-1020", Text: notWritable})
	}
}

const notWritable = "the state directory cannot be written: nothing was changed"

// ForgetMove is called when nobody waits for the end of the move any more. The move goes on.
func (lp *Loop) ForgetMove(id uint64) { delete(lp.moves, id) }

// resendMoves asks the partner again about moves that it has not reported the end of.
func (lp *Loop) resendMoves() {
	for _, id := range slices.Sorted(maps.Keys(lp.moves)) { // in an order that a simulation repeats
		if w := lp.moves[id]; w.remote {
			lp.sendJSON(msgMoveAsk, moveRequest{Group: lp.GroupName(w.group), ID: id, Force: w.force}, false)
		}
	}
}

// partnerAsks serves the partner's operator. A request is repeated until its result has arrived, so results are kept.
func (lp *Loop) partnerAsks(r moveRequest) {
	if res, ok := lp.results[r.ID]; ok {
		lp.sendJSON(msgMoveResult, res, false)
		return
	}
	g := lp.GroupIndex(r.Group)
	if g < 0 {
		lp.sendJSON(msgMoveResult, MoveResult{ID: r.ID, Text: "this server has no group of that name", Code: "ORS-1020"},
			false)
		return
	}
	if m := lp.state.Groups[g].Move; m.Role == failover.NoMove || m.ID != r.ID {
		lp.record(store.Record{Kind: "operator", Group: r.Group, Step: "move",
			Text: "An operator on " + lp.peer + " asked for a planned move."})
		if lp.Writable() != nil {
			lp.sendJSON(msgMoveResult, MoveResult{ID: r.ID, Code: "ORS-1020", Text: notWritable}, false)
			return
		}
	}
	lp.step(failover.Event{Kind: failover.OpMove, Group: g, Move: r.ID, Force: r.Force})
}

// moveEnded takes the decision's word that a move which this server gave away has ended.
func (lp *Loop) moveEnded(a failover.Action) {
	r := MoveResult{ID: a.Move, Moved: a.Moved, Text: a.Text, Code: a.Code}
	const kept = 64
	if _, ok := lp.results[r.ID]; !ok {
		lp.resultIDs = append(lp.resultIDs, r.ID)
		if len(lp.resultIDs) > kept {
			delete(lp.results, lp.resultIDs[0])
			lp.resultIDs = lp.resultIDs[1:]
		}
	}
	lp.results[r.ID] = r
	if w := lp.moves[r.ID]; w != nil && !w.remote {
		lp.endWait(r)
		return
	}
	lp.sendJSON(msgMoveResult, r, false)
}

func (lp *Loop) endWait(r MoveResult) {
	if w := lp.moves[r.ID]; w != nil {
		delete(lp.moves, r.ID)
		w.ended(r)
	}
}

// GroupOwner is the server to which all units of a group belong, Nobody when that is not so or not known.
func (lp *Loop) GroupOwner(g int) failover.Server {
	owner := failover.Nobody
	for i, u := range lp.params.Groups[g].Units {
		unit := &lp.state.Units[u]
		if !unit.Known || i > 0 && unit.Key.Owner != owner {
			return failover.Nobody
		}
		owner = unit.Key.Owner
	}
	return owner
}

// Shutdown begins this server's orderly end: applications are stopped, drives unmounted, the storage stays. It has been
// carried out when NotParked names no group.
func (lp *Loop) Shutdown() { lp.step(failover.Event{Kind: failover.OpShutdown}) }

// NotParked names the groups that an orderly shutdown still waits for.
func (lp *Loop) NotParked() string {
	left := ""
	for g := range lp.state.Groups {
		if ph := lp.state.Groups[g].Phase; ph != failover.Parked {
			left += " " + lp.GroupName(g) + " is " + ph.String() + ";"
		}
	}
	return left
}

// Clear lets a group that is blocked or faulted try again, and says how it was. The partner forgets what it has counted
// against the group, too, when it hears of it.
func (lp *Loop) Clear(g int) string {
	gr := &lp.state.Groups[g]
	text := "group " + lp.GroupName(g) + " was " + gr.Phase.String()
	if gr.Blocked != "" {
		text += ", blocked: " + gr.Blocked
	}
	lp.record(store.Record{Kind: "operator", Group: lp.GroupName(g), Step: "clear",
		Text: "An operator cleared the group."})
	lp.step(failover.Event{Kind: failover.OpClear, Group: g})
	lp.sendJSON(msgClear, clearWord{Group: lp.GroupName(g)}, false)
	return text + "; it may try again"
}
