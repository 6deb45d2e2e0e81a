package node

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/internal/bootclock"
)

// hearEachOther waits until a server's agent knows that its partner hears it.
func (p *pair) hearEachOther(server string) {
	p.t.Helper()
	n := p.sides[server].node
	p.wait("they hear each other", func() bool {
		up, err := ask(context.Background(), n, func() bool { return n.loop.State().Partner.Up })
		return err == nil && up
	})
}

// An agent whose partner hears it ends for a restart only when that has it on record; one whose partner is gone ends, and
// says that nobody waits.
func TestRestartNeedsThePartnersWord(t *testing.T) {
	p := newPair(t)
	p.up()
	p.hearEachOther("rocky")
	p.sides["apollo"].kill()
	rocky := p.sides["rocky"]
	restart := func() (string, error) {
		return rocky.node.Restart(context.Background(), control.RestartRequest{Within: 4 * time.Second, Reason: "test"})
	}
	if _, err := restart(); err == nil || !strings.Contains(err.Error(), "ORS-1064") {
		t.Fatalf("nobody has confirmed it: %v", err)
	}
	select {
	case <-rocky.ended:
		t.Fatal("the agent has ended")
	default:
	}
	if lease := bootclock.Until(p.world.lease("rocky/one/app")); lease > loop.LeaseLength(&rocky.node.cfg.Interconnect) {
		t.Errorf("rocky's is heard for %v", lease)
	}
	p.waitPhase("rocky", "two", "Active") // it takes over, as ever
	text, err := restart()
	if err != nil || !strings.Contains(text, "does not know") {
		t.Fatalf("the partner is lost: %q, %v", text, err)
	}
	<-rocky.ended
}

// Both agents are restarted in the same moment: what they leave is heard until they are back, nothing moves, and nobody
// is told to wait any more when all is found.
func TestBothRestart(t *testing.T) {
	p := newPair(t)
	p.up()
	pids := map[string]int{}
	for server, app := range map[string]string{"rocky": "one/app", "apollo": "two/app"} {
		p.hearEachOther(server)
		pids[server], _ = p.world.is(server, app)
	}
	var wg sync.WaitGroup
	sides := map[string]*side{"rocky": p.sides["rocky"], "apollo": p.sides["apollo"]}
	for server, s := range sides {
		wg.Go(func() {
			if _, err := s.node.Restart(context.Background(), control.RestartRequest{Within: time.Minute, Reason: "test"}); err != nil {
				t.Errorf("%s: %v", server, err)
			}
			<-s.ended
		})
	}
	wg.Wait()
	for server, app := range map[string]string{"rocky": "one/app", "apollo": "two/app"} {
		if left := bootclock.Until(p.world.lease(server + "/" + app)); left < 20*time.Second {
			t.Errorf("%s of %s is heard for %v", app, server, left)
		}
	}
	if t.Failed() {
		return
	}
	for server := range sides {
		p.start(server)
	}
	for server, app := range map[string]string{"rocky": "one/app", "apollo": "two/app"} {
		p.wait("nobody waits for "+server, func() bool {
			n := p.sides[server].node
			back, err := ask(context.Background(), n, func() bool {
				st := n.loop.State()
				return st.Found() && st.BackAt == 0 && st.Hard.BackBy == 0 && st.Hard.PeerBackBy == 0
			})
			return err == nil && back
		})
		if now, ok := p.world.is(server, app); !ok || now != pids[server] {
			t.Errorf("%s on %s has pid %d, had %d", app, server, now, pids[server])
		}
		if left := bootclock.Until(p.world.lease(server + "/" + app)); left > 2*time.Second {
			t.Errorf("%s of %s is heard for %v", app, server, left)
		}
	}
}

// A goodbye that is said while the partner's agent is away as announced is heard when that is back.
func TestGoodbyeToAPartnerThatIsAway(t *testing.T) {
	p := newPair(t)
	p.up()
	p.hearEachOther("rocky")
	if _, err := p.sides["rocky"].node.Restart(context.Background(),
		control.RestartRequest{Within: 8 * time.Second, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	<-p.sides["rocky"].ended // its silence has not been noticed yet
	said := make(chan error, 1)
	go func() { said <- p.sides["apollo"].node.Goodbye(context.Background()) }()
	time.Sleep(3 * time.Second) // longer than a goodbye is said to a partner that is there
	p.start("rocky")
	if err := <-said; err != nil {
		t.Fatalf("the goodbye: %v", err)
	}
	p.sides["apollo"].kill()
	p.waitPhase("rocky", "one", "Active")
	p.wait("rocky knows that apollo has left", func() bool { return p.status("rocky").Verdict == "left" })
	time.Sleep(8 * time.Second) // beyond the announced time
	if ph := p.phase("rocky", "two"); ph != "Standby" {
		t.Errorf("group two is %s on rocky", ph)
	}
}
