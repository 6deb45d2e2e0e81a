package node

import (
	"context"
	"testing"
	"time"
)

// TestProbesGoOnInMaintenance: a failure that nothing may be done about while the pair is in maintenance is acted on
// when it has ended.
func TestProbesGoOnInMaintenance(t *testing.T) {
	p := newPair(t)
	p.up()
	n := p.sides["rocky"].node
	maintain := func(d time.Duration) {
		t.Helper()
		ok, err := ask(context.Background(), n, func() bool { return n.loop.SetMode(nil, &d, "test") })
		if err != nil || !ok {
			t.Fatalf("maintenance: %v, %v", ok, err)
		}
	}
	maintain(time.Hour)
	pid, _ := p.world.is("rocky", "one/app")
	p.world.set(func() { delete(p.world.running, "rocky/one/app") })
	p.wait("the failure is told", func() bool {
		for _, g := range n.Status(context.Background()).Groups {
			if g.Name == "one" && g.Applications[0].State == "failed" {
				return g.Phase == "Active"
			}
		}
		return false
	})
	maintain(0)
	p.wait("it is restarted when maintenance is over", func() bool {
		now, ok := p.world.is("rocky", "one/app")
		return ok && now != pid
	})
}
