package domino

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"sync"
	"time"
)

// worker is a process that is at work in a data directory.
type worker struct {
	pid           int
	program, user string
	how           string
}

func (w *worker) String() string {
	return fmt.Sprintf("process %d (%s, user %s) %s", w.pid, w.program, w.user, w.how)
}

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// longestLook bounds the look for processes: a storage unit that has died may answer no look at a directory ever.
const longestLook = 5 * time.Second

// looking has a channel for each data directory, with one place: of looks that never end there is one at most.
var looking sync.Map

// whoWorks finds a process that works in the data directory of a server; nil: surely none. An error says that it cannot
// be told.
func (a *application) whoWorks(ctx context.Context, s server, uid uint32) (*worker, error) {
	ctx, cancel := context.WithTimeout(ctx, longestLook)
	defer cancel()
	v, _ := looking.LoadOrStore(s.Data, make(chan struct{}, 1))
	place := v.(chan struct{})
	late := fmt.Errorf("whether a process works in %s cannot be told: a look there did not come back in time", s.Data)
	select {
	case place <- struct{}{}:
	case <-ctx.Done():
		return nil, late
	}
	var found *worker
	var err error
	done := make(chan struct{})
	go func() {
		defer func() { <-place }()
		defer close(done)
		found, err = whoWorksIn(s.Data, uid, a.config.Program)
	}()
	select {
	case <-done:
		return found, err
	case <-ctx.Done():
		return nil, late
	}
}
