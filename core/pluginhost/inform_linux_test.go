package pluginhost

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// TestEvents: a plugin that wants to know is told, also the process that comes after one that was killed; another one is
// not, and one that does not listen keeps nobody waiting, not even the end of the host.
func TestEvents(t *testing.T) {
	h := newRig(t, quick, nil, "good", "listener", "deaf")
	var feeds atomic.Int32
	var sent atomic.Int64
	h.o.Events = func(ctx context.Context, send func(*pluginv1.EventsRequest) error) error {
		feed := feeds.Add(1)
		err := send(&pluginv1.EventsRequest{Kind: "pair", Text: fmt.Sprintf("The partner is lost, feed %d.", feed)})
		if err != nil {
			return err
		}
		for feed == 3 && ctx.Err() == nil { // more than any buffer takes
			err := send(&pluginv1.EventsRequest{Kind: "group", Group: "rocky", Text: strings.Repeat("x", 1<<10)})
			if err != nil {
				return err
			}
			sent.Add(1)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	h.Start(background(t), []string{"good", "listener"})
	log := func() string {
		raw, err := os.ReadFile(h.logPath("listener", ""))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	eventually(t, "the first process is told", func() bool {
		return strings.Contains(log(), "pair  The partner is lost, feed 1.")
	})
	if n := feeds.Load(); n != 1 {
		t.Errorf("%d plugins are told, one wants to be", n)
	}
	old := statusOf(t, h, "listener").PID
	signal(t, old, unix.SIGKILL)
	eventually(t, "the next process is told", func() bool { return strings.Contains(log(), "feed 2.") })
	if text := log(); strings.Contains(text, fmt.Sprintf("told: %d pair  The partner is lost, feed 2.", old)) {
		t.Error("the process that was killed is told more")
	}
	h.Start(background(t), []string{"deaf"})
	eventually(t, "nobody reads", func() bool {
		before := sent.Load()
		<-within(t, 50*time.Millisecond).Done()
		return before > 10 && sent.Load() == before
	})
	if r, err := h.Validate(background(t), "deaf", &pluginv1.ValidateRequest{}); err != nil {
		t.Errorf("a call beside: %v, %v", r, err)
	}
}
