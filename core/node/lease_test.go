package node

import (
	"context"
	"testing"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/internal/bootclock"
)

// lease is until when an application is heard.
func (w *world) lease(key string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leases[key]
}

// An agent whose loop hangs looks dead to its partner, and what it runs is silent before the partner has it: every
// start looks for that (see apps.StartApplication).
func TestALoopThatHangs(t *testing.T) {
	p := newPair(t)
	p.up()
	rocky := p.sides["rocky"]
	before := p.world.lease("rocky/one/app")
	p.wait("a renewal", func() bool { return p.world.lease("rocky/one/app") > before })
	release := make(chan struct{})
	held := make(chan struct{})
	go func() {
		defer close(held)
		_ = rocky.node.call(context.Background(), func() { <-release })
	}()
	defer func() { <-held }()
	defer close(release)
	p.waitRunning("apollo", "one/app")
	if until := p.world.lease("rocky/one/app"); bootclock.Until(until) > 0 {
		t.Errorf("rocky's is heard for another %v", bootclock.Until(until))
	}
}

// The agent's orderly end, which the partner knows of, leaves what runs where it is, and heard.
func TestLeasesAreLiftedAtAnOrderlyEnd(t *testing.T) {
	p := newPair(t)
	p.up()
	rocky := p.sides["rocky"]
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := rocky.node.Goodbye(ctx); err != nil {
		t.Fatal(err)
	}
	rocky.kill()
	if until := p.world.lease("rocky/one/app"); until != 0 {
		t.Errorf("rocky's is heard for %v only", bootclock.Until(until))
	}
	p.start("rocky")
	p.wait("the new agent renews", func() bool { return bootclock.Until(p.world.lease("rocky/one/app")) > 0 })
}

// An agent that is back soon, as the partner was told, is heard until then.
func TestLeasesLastUntilTheAgentIsBack(t *testing.T) {
	p := newPair(t)
	p.up()
	rocky := p.sides["rocky"]
	p.wait("they hear each other", func() bool {
		up, err := ask(context.Background(), rocky.node, func() bool { return rocky.node.loop.State().Partner.Up })
		return err == nil && up
	})
	if _, err := rocky.node.Restart(context.Background(), control.RestartRequest{Within: time.Minute, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	<-rocky.ended
	if left := bootclock.Until(p.world.lease("rocky/one/app")); left < 20*time.Second || left > time.Minute {
		t.Errorf("rocky's is heard for %v", left)
	}
}

// An agent that is back as announced and does not hear its partner leaves as much time for one more to come as it had
// itself; when it has heard the partner, a lease is as short as ever.
func TestLeasesOfAnAgentThatIsDeaf(t *testing.T) {
	p := newPair(t)
	p.up()
	rocky := p.sides["rocky"]
	p.wait("they hear each other", func() bool {
		up, err := ask(context.Background(), rocky.node, func() bool { return rocky.node.loop.State().Partner.Up })
		return err == nil && up
	})
	if _, err := rocky.node.Restart(context.Background(), control.RestartRequest{Within: time.Minute, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	<-rocky.ended
	p.sides["apollo"].kill()
	end := p.world.lease("rocky/one/app")
	p.start("rocky")
	p.wait("the new agent renews", func() bool { return p.world.lease("rocky/one/app") != end })
	if left := p.world.lease("rocky/one/app") - end; left < -time.Second || left > time.Second {
		t.Errorf("the new agent's lease ends %v after the announced end", left)
	}
	p.start("apollo")
	p.wait("the lease is short again", func() bool {
		return bootclock.Until(p.world.lease("rocky/one/app")) <= loop.LeaseLength(&rocky.node.cfg.Interconnect)
	})
}

// An agent that ends without having been heard says nothing about its applications: the partner may take over.
func TestLeasesEndWithTheAgent(t *testing.T) {
	p := newPair(t)
	p.up()
	rocky := p.sides["rocky"]
	rocky.kill()
	until := p.world.lease("rocky/one/app")
	if until == 0 || bootclock.Until(until) > loop.LeaseLength(&rocky.node.cfg.Interconnect) {
		t.Errorf("rocky's is heard for %v", bootclock.Until(until))
	}
	p.waitRunning("apollo", "one/app")
}
