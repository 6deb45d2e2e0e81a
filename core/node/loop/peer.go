package loop

import (
	"encoding/json"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
)

// The kinds of messages between two nodes. Bodies are JSON; unknown fields and kinds are ignored, so that
// neighbouring versions understand each other.
const (
	msgStatus     uint8 = 1 // peerStatus, for people: network links only
	msgMove       uint8 = 2 // moveWord, of a planned move under way
	msgMoveAsk    uint8 = 3 // moveRequest: the sender's operator wants a group moved that the receiver owns
	msgMoveResult uint8 = 4 // MoveResult
	msgMode       uint8 = 5 // modeWord
	msgClear      uint8 = 6 // clearWord: an operator has cleared a group on the sender
	msgAway       uint8 = 7 // awayWord: the sender's agent is to be restarted
	msgWaits      uint8 = 8 // waitWord: that is on record at the sender
)

// peerStatus is what a server tells its partner of itself, for status.
type peerStatus struct {
	Server control.Server  `json:"server"`
	Groups []control.Group `json:"groups"`
}

type moveWord struct {
	Group string        `json:"g"`
	ID    uint64        `json:"i"`
	Word  failover.Word `json:"w"`
	Text  string        `json:"t,omitempty"`
	Auto  bool          `json:"a,omitempty"` // not asked for by an operator
}

type clearWord struct {
	Group string `json:"g"`
}

// sendJSON sends a message; one that cannot be sent is one that was lost.
func (lp *Loop) sendJSON(kind uint8, body any, networkOnly bool) {
	b, err := json.Marshal(body)
	if err != nil || len(b) > interconnect.MaxMessage {
		lp.o.Log.Error("a message for the partner cannot be sent", "kind", kind, "bytes", len(b), "error", err)
		return
	}
	if err := lp.w.Send(interconnect.Message{Kind: kind, Body: b, NetworkOnly: networkOnly}); err != nil {
		lp.o.Log.Debug("a message for the partner was not sent", "kind", kind, "error", err)
	}
}

// tellMove carries a word about a planned move to the partner.
func (lp *Loop) tellMove(a failover.Action) {
	text := a.Text
	if len(text) > 400 {
		text = text[:400]
	}
	lp.sendJSON(msgMove, moveWord{Group: lp.GroupName(a.Group), ID: a.Move, Word: a.Word, Text: text, Auto: a.Auto}, false)
}

// TellStatus tells the partner once a second how things are here, and soon after a group's phase has changed.
func (lp *Loop) TellStatus() {
	now := lp.now()
	same := len(lp.toldPhases) == len(lp.state.Groups)
	for g := range lp.toldPhases {
		same = same && lp.toldPhases[g] == lp.state.Groups[g].Phase
	}
	lost := lp.state.Partner.Lost
	if (same || lost) && now.Sub(lp.lastTold) < lp.o.StatusEvery {
		return
	}
	st := lp.Status() // also while nobody can be told: it notes since when there has been an alarm
	lp.lastTold, lp.toldPhases = now, lp.toldPhases[:0]
	if lost {
		return
	}
	for g := range lp.state.Groups {
		lp.toldPhases = append(lp.toldPhases, lp.state.Groups[g].Phase)
	}
	for _, s := range st.Servers {
		if s.Self {
			lp.sendJSON(msgStatus, peerStatus{Server: s, Groups: lp.ownGroups()}, true)
		}
	}
}

// onMessage takes a message of the partner's. What cannot be understood is of another version, and ignored.
func (lp *Loop) onMessage(m interconnect.Message) {
	switch m.Kind {
	case msgStatus:
		var s peerStatus
		if json.Unmarshal(m.Body, &s) == nil {
			lp.view.partnerStatus(&s, lp.now())
			lp.w.Changed()
		}
	case msgMove:
		var w moveWord
		if json.Unmarshal(m.Body, &w) != nil {
			return
		}
		if g := lp.GroupIndex(w.Group); g >= 0 {
			lp.step(failover.Event{Kind: failover.PeerSaid, Group: g, Move: w.ID, Word: w.Word, Text: w.Text,
				Auto: w.Auto})
		}
	case msgMoveAsk:
		var r moveRequest
		if json.Unmarshal(m.Body, &r) == nil {
			lp.partnerAsks(r)
		}
	case msgClear:
		var w clearWord
		if json.Unmarshal(m.Body, &w) != nil {
			return
		}
		if g := lp.GroupIndex(w.Group); g >= 0 {
			lp.step(failover.Event{Kind: failover.PeerCleared, Group: g})
		}
	case msgMode:
		var w modeWord
		if json.Unmarshal(m.Body, &w) == nil {
			lp.onMode(w)
		}
	case msgAway:
		var w awayWord
		if json.Unmarshal(m.Body, &w) == nil {
			lp.onAway(w)
		}
	case msgWaits:
		var w waitWord
		if json.Unmarshal(m.Body, &w) == nil {
			lp.onWaits(w)
		}
	case msgMoveResult:
		var r MoveResult
		if json.Unmarshal(m.Body, &r) == nil {
			lp.endWait(r)
		}
	}
}
