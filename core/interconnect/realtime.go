package interconnect

import (
	"context"
	"sync/atomic"
	"time"
)

// realtime is set once LockRealtime was granted real-time priority: threads that the runtime starts later get it,
// too.
var realtime atomic.Bool

// keepRealtime gives real-time priority to threads that were started since LockRealtime, until ctx ends.
func keepRealtime(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if realtime.Load() {
				_ = raiseThreads()
			}
		case <-ctx.Done():
			return
		}
	}
}
