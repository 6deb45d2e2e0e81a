package node

import (
	"context"
	"sync"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// tails are those who follow the journal's records as they are made; a slow one misses some. Its zero value is ready
// for use.
type tails struct {
	mu   sync.Mutex
	subs map[chan store.Record]struct{}
}

func (t *tails) follow() (<-chan store.Record, func()) {
	c := make(chan store.Record, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[chan store.Record]struct{}{}
	}
	t.subs[c] = struct{}{}
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, c)
	}
}

func (t *tails) tell(r store.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.subs {
		select {
		case c <- r:
		default:
		}
	}
}

// Status answers with the pair as this agent sees it.
func (n *Node) Status(ctx context.Context) control.Status {
	st, err := ask(ctx, n, n.loop.Status)
	if err != nil {
		return control.Status{Pair: n.cfg.Pair.Name, Self: n.self, At: time.Now(), Version: n.o.Version,
			Sentence: err.Error()}
	}
	return st
}

// Subscribe returns a channel that receives whenever the status may have changed.
func (n *Node) Subscribe() (<-chan struct{}, func()) { return n.changed.Subscribe() }

// Alarm shows an alarm of a part of the agent that is not the node's, or ends it when text is empty.
func (n *Node) Alarm(code, text, next string) {
	if text == "" {
		n.view.ClearAlarm(code, "")
		n.changed.Notify()
		return
	}
	n.alarm(code, "", text, next)
}

// alarm raises an alarm that holds until its cause ends.
func (n *Node) alarm(code, group, text, next string) {
	n.view.SetAlarm(code, group, text, next, time.Now())
}
