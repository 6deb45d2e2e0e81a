package interconnect

import (
	"context"
	"slices"
	"sync"
)

// maxEvents is how many events wait for a slow consumer.
const maxEvents = 1024

// eventQueue holds events for a consumer that may be slow. Putting one never blocks.
type eventQueue struct {
	mu     sync.Mutex
	events []Event
	wake   chan struct{}
	out    chan Event
}

func newEventQueue() *eventQueue {
	return &eventQueue{wake: make(chan struct{}, 1), out: make(chan Event, 16)}
}

// put queues an event. When maxEvents wait, the oldest beat makes room, else the oldest refusal, else the oldest
// event: beats and refusals come again.
func (q *eventQueue) put(e Event) {
	q.mu.Lock()
	if len(q.events) >= maxEvents {
		of := func(k EventKind) int { return slices.IndexFunc(q.events, func(e Event) bool { return e.Kind == k }) }
		i := of(BeatHeard)
		if i < 0 {
			i = of(Refused)
		}
		q.events = slices.Delete(q.events, max(i, 0), max(i, 0)+1)
	}
	q.events = append(q.events, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return Event{}, false
	}
	e := q.events[0]
	q.events = slices.Delete(q.events, 0, 1)
	return e, true
}

// run hands events to the consumer until ctx ends.
func (q *eventQueue) run(ctx context.Context) {
	for {
		e, ok := q.take()
		if !ok {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case q.out <- e:
		case <-ctx.Done():
			return
		}
	}
}
