package core

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage/directory"
	"github.com/orscore/ors/core/watchdog/watchdogtest"
)

// The device is armed when the agent's server holds a group, fed while it decides, and left in order at its end.
func TestAgentFeedsItsWatchdog(t *testing.T) {
	d, path := watchdogtest.New(t)
	l := newLone(t, `watchdog {
    device  = "`+path+`"
    timeout = "5s"
  }
`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sw, err := directory.New(directory.Options{
		Path: filepath.Join(l.dir, "units"), Unit: "u1", Self: failover.First, Primary: failover.First,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sw.Close() }()
	st, err := sw.Inspect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sw.Swap(ctx, st.Key, st.Key.Claimed(failover.First)); err != nil {
		t.Fatal(err)
	}
	_, end := l.run()
	l.await("the device is fed", func() bool { _, _, feeds := d.Look(); return feeds > 3 })
	if running, reboots, _ := d.Look(); !running || reboots {
		t.Errorf("running %v, reboots %v", running, reboots)
	}
	end()
	l.await("the device is left in order", func() bool { running, _, _ := d.Look(); return !running })
}
