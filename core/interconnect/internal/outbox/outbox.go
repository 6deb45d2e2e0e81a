// Package outbox is the queue between whoever sends frames and the one goroutine that writes them to a link: beats
// first, everything else behind them, both bounded.
//
// It must never block a sender.
package outbox

import "sync"

// urgentMax is how many urgent frames wait at most: a beat, and the handshake that goes before it.
const urgentMax = 2

// Outbox is safe for use by several senders and one writer.
type Outbox struct {
	mu     sync.Mutex
	urgent [][]byte
	bulk   [][]byte
	max    int
	wake   chan struct{}
}

// New returns an Outbox in which at most max frames wait behind the urgent ones.
func New(max int) *Outbox { return &Outbox{max: max, wake: make(chan struct{}, 1)} }

// Put queues a frame. An urgent one replaces the oldest urgent one when two wait already (replaced is true then);
// another one is not taken when max wait.
func (o *Outbox) Put(frame []byte, urgent bool) (taken, replaced bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case urgent:
		if replaced = len(o.urgent) >= urgentMax; replaced {
			copy(o.urgent, o.urgent[1:])
			o.urgent = o.urgent[:urgentMax-1]
		}
		o.urgent = append(o.urgent, frame)
	case len(o.bulk) >= o.max:
		return false, false
	default:
		o.bulk = append(o.bulk, frame)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true, replaced
}

// Take returns the next frame to write, nil when none waits.
func (o *Outbox) Take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := &o.urgent
	if len(*q) == 0 {
		q = &o.bulk
	}
	if len(*q) == 0 {
		return nil
	}
	f := (*q)[0]
	(*q)[0] = nil
	*q = (*q)[1:]
	if len(*q) == 0 {
		*q = nil // lets the array go
	}
	return f
}

// Wake carries a token after frames were put. The writer takes all frames at each token.
func (o *Outbox) Wake() <-chan struct{} { return o.wake }

// Clear drops what waits, because it would be stale on a line that was opened anew. It returns how many were
// dropped.
func (o *Outbox) Clear() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.urgent) + len(o.bulk)
	o.urgent, o.bulk = nil, nil
	return n
}
