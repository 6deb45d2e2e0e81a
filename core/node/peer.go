package node

import (
	"encoding/json"
	"time"

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
	msgMoveResult uint8 = 4 // moveResult
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
}

// sendJSON sends a message; one that cannot be sent is one that was lost.
func (n *Node) sendJSON(kind uint8, body any, networkOnly bool) {
	b, err := json.Marshal(body)
	if err != nil || len(b) > interconnect.MaxMessage {
		n.o.Log.Error("a message for the partner cannot be sent", "kind", kind, "bytes", len(b), "error", err)
		return
	}
	if err := n.o.Interconnect.Send(interconnect.Message{Kind: kind, Body: b, NetworkOnly: networkOnly}); err != nil {
		n.o.Log.Debug("a message for the partner was not sent", "kind", kind, "error", err)
	}
}

// tellMove carries a word about a planned move to the partner.
func (n *Node) tellMove(a failover.Action) {
	text := a.Text
	if len(text) > 400 {
		text = text[:400]
	}
	n.sendJSON(msgMove, moveWord{Group: n.groupName(a.Group), ID: a.Move, Word: a.Word, Text: text}, false)
}

// tellStatus tells the partner once a second how things are here, and soon after a group's phase has changed.
func (n *Node) tellStatus() {
	now := time.Now()
	phases := ""
	for g := range n.state.Groups {
		phases += n.state.Groups[g].Phase.String() + " "
	}
	if (now.Sub(n.lastTold) < time.Second && phases == n.toldPhases) || n.state.Partner.Lost {
		return
	}
	n.lastTold, n.toldPhases = now, phases
	st := n.status()
	for _, s := range st.Servers {
		if s.Self {
			n.sendJSON(msgStatus, peerStatus{Server: s, Groups: n.ownGroups()}, true)
		}
	}
}

// onMessage takes a message of the partner's. What cannot be understood is of another version, and ignored.
func (n *Node) onMessage(m interconnect.Message) {
	switch m.Kind {
	case msgStatus:
		var s peerStatus
		if json.Unmarshal(m.Body, &s) == nil {
			n.live.mu.Lock()
			n.live.partner.status, n.live.partner.statusAt = &s, time.Now()
			n.live.mu.Unlock()
			n.changed.Notify()
		}
	case msgMove:
		var w moveWord
		if json.Unmarshal(m.Body, &w) != nil {
			return
		}
		if g := n.groupIndex(w.Group); g >= 0 {
			n.step(failover.Event{Kind: failover.PeerSaid, Group: g, Move: w.ID, Word: w.Word, Text: w.Text})
		}
	case msgMoveAsk:
		var r moveRequest
		if json.Unmarshal(m.Body, &r) == nil {
			n.partnerAsks(r)
		}
	case msgMoveResult:
		var r moveResult
		if json.Unmarshal(m.Body, &r) == nil {
			n.endWait(r)
		}
	}
}

func (n *Node) groupIndex(name string) int {
	for i := range n.cfg.Groups {
		if n.cfg.Groups[i].Name == name {
			return i
		}
	}
	return -1
}
