package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// told is what a server has told of a group since position after, as "step event from".
func (p *pair) toldOf(server, group string, after uint64) (out []string, newest arrival.Notice) {
	p.t.Helper()
	log, err := store.ReadLog(filepath.Join(p.dir, server, "state"), store.JournalName)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range log.Records {
		if n, ok := arrival.Of(r); ok && n.Group == group && n.Pos > after {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", n.Step, n.Event, n.From)))
			newest = n
		}
	}
	return out, newest
}

// waitTold waits for what a server tells of a group behind position after, and returns the newest of it.
func (p *pair) waitTold(server, group string, after uint64, want ...string) arrival.Notice {
	p.t.Helper()
	var got []string
	var newest arrival.Notice
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got, newest = p.toldOf(server, group, after); slices.Equal(got, want) {
			return newest
		}
	}
	p.t.Fatalf("%s told of %s: %q, want %q", server, group, got, want)
	return newest
}

// TestArrivals: how a group has come to a server is told to the journal, so to registered programs, and to plugins: for
// every way there is.
func TestArrivals(t *testing.T) {
	p := newPair(t)
	p.up()
	home := p.waitTold("rocky", "one", 0, "coming start", "arrived start", "up start")
	if len(home.Drives) != 1 || home.Drives[0].Letter != "E:" || home.Status != 0 || home.Primary != "rocky" {
		t.Errorf("at home: %+v", home)
	}
	// an agent that is started anew finds it as it was
	p.sides["rocky"].kill()
	p.start("rocky")
	home = p.waitTold("rocky", "one", home.Pos, "coming resumed", "arrived resumed", "up resumed")

	p.powerOff("rocky")
	away := p.waitTold("apollo", "one", 0, "coming takeover rocky", "arrived takeover rocky", "up takeover rocky")
	if away.Server != "apollo" || away.Primary != "rocky" || len(away.Drives) != 1 || away.Drives[0].Path == "" {
		t.Errorf("after the takeover: %+v", away)
	}
	p.start("rocky")
	p.waitPhase("rocky", "one", "Standby")
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"one"}, Failback: true})); !m.Moved {
		t.Fatalf("failback: %+v", m)
	}
	away = p.waitTold("apollo", "one", away.Pos, "leaving takeover rocky", "left takeover rocky")
	home = p.waitTold("rocky", "one", home.Pos, "leaving resumed", "left resumed", // its boot id is the same in this test
		"coming failback apollo", "arrived failback apollo", "up failback apollo")

	// a planned move away that works, and one back that does not
	if m := last(t, p.move("rocky", control.MoveRequest{Groups: []string{"one"}})); !m.Moved {
		t.Fatalf("switchover: %+v", m)
	}
	away = p.waitTold("apollo", "one", away.Pos, "coming switchover rocky", "arrived switchover rocky", "up switchover rocky")
	p.world.set(func() { p.world.fail["rocky/one/app"] = "it breaks there" })
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"one"}})); m.Moved {
		t.Fatalf("a move that fails on the partner: %+v", m)
	}
	p.waitTold("apollo", "one", away.Pos, "leaving switchover rocky", "left switchover rocky", "coming returned",
		"arrived returned", "up returned")

	p.world.mu.Lock()
	told := slices.DeleteFunc(slices.Clone(p.world.told), func(s string) bool { return !strings.Contains(s, "/one/") })
	p.world.mu.Unlock()
	want := []string{
		"rocky/one/app start from= attempt=1", "apollo/one/app takeover from=rocky attempt=1",
		"rocky/one/app failback from=apollo attempt=1", "apollo/one/app switchover from=rocky attempt=1",
		"apollo/one/app returned from= attempt=1",
	}
	if !slices.Equal(told, want) {
		t.Errorf("plugins were told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// TestRestartInPlaceIsAnotherAttempt: a program can tell a restart from the start that followed the takeover.
func TestRestartInPlaceIsAnotherAttempt(t *testing.T) {
	p := newPair(t)
	p.up()
	p.world.set(func() { delete(p.world.running, "rocky/one/app") })
	p.wait("a restart in place", func() bool {
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		return slices.Contains(p.world.told, "rocky/one/app start from= attempt=2")
	})
}

// TestSureEnd: an application that has surely ended is restarted after one probe, one that fails its checks after `fall`,
// and one that fails them still after it was restarted for that, after one.
func TestSureEnd(t *testing.T) {
	p := newPair(t)
	p.up()
	const app = "rocky/one/app"
	failures := func(start string) (n int) {
		p.wait(start, func() bool {
			p.world.mu.Lock()
			defer p.world.mu.Unlock()
			n = p.world.failures[app]
			return slices.Contains(p.world.told, app+" "+start)
		})
		p.world.set(func() { delete(p.world.failures, app) })
		return n
	}
	p.world.set(func() { delete(p.world.running, app) })
	if n := failures("start from= attempt=2"); n != 1 {
		t.Errorf("it had ended, and %d probes said so before it was restarted", n)
	}
	p.wait("a probe that it passes", func() bool {
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		return p.world.passed[app] > 0
	})
	p.world.set(func() { p.world.sick[app] = true })
	const fall = 3 // the default
	if n := failures("start from= attempt=3"); n < fall {
		t.Errorf("it failed its checks, and was restarted after %d probes, not %d", n, fall)
	}
	p.waitPhase("apollo", "one", "Active") // the restart budget is used up
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	if n := p.world.failures[app]; n < 1 || n >= fall {
		t.Errorf("a restart had not helped, and %d probes said so before its group moved", n)
	}
}

// TestStartCutShort: what a start has begun, whose plugin was killed, is found running, and started again, which
// finishes it; what an agent finds that was started whole is left alone.
func TestStartCutShort(t *testing.T) {
	p := newPair(t)
	const app = "rocky/one/app"
	p.world.set(func() { p.world.cut[app] = true })
	p.up()
	finished := func(want int) {
		t.Helper()
		p.world.mu.Lock()
		defer p.world.mu.Unlock()
		if got := p.world.finished[app]; got != want {
			t.Errorf("%d starts of what ran already, want %d", got, want)
		}
	}
	finished(1)
	p.sides["rocky"].kill()
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
	finished(1)
}

// TestTakeoverThatIsTriedAgain: a takeover that another agent of the same server has to go on with is still one.
func TestTakeoverThatIsTriedAgain(t *testing.T) {
	p := newPair(t)
	p.up()
	p.world.set(func() { p.world.fail["apollo/one/app"] = "not now" })
	p.powerOff("rocky")
	p.wait("the takeover is told", func() bool {
		got, _ := p.toldOf("apollo", "one", 0)
		return slices.Contains(got, "coming takeover rocky")
	})
	p.sides["apollo"].kill()
	p.world.set(func() { delete(p.world.fail, "apollo/one/app") })
	p.start("apollo")
	p.waitPhase("apollo", "one", "Active")
	p.wait("the takeover is told to be up", func() bool { // the journal comes after the phase that status shows
		_, n := p.toldOf("apollo", "one", 0)
		return n.Step == arrival.Up && (n.Event == arrival.Takeover || n.Event == arrival.Resumed)
	})
}

// TestSeveralFailAtOnce: what takes all applications of a group away at the same moment is one failure. It takes one of
// the restarts that are allowed, and moves nothing.
func TestSeveralFailAtOnce(t *testing.T) {
	p := newPair(t)
	text, err := os.ReadFile(p.conf)
	if err != nil {
		t.Fatal(err)
	}
	const one = `  application "test" "app" {`
	more := ""
	for _, name := range []string{"second", "third", "fourth"} {
		more += fmt.Sprintf("  application \"test\" %q {\n    probe { interval = \"100ms\" }\n    config {}\n  }\n", name)
	}
	if err := os.WriteFile(p.conf, []byte(strings.Replace(string(text), one, more+one, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.up()
	for range 2 { // restart_limit
		p.world.set(func() {
			for key := range p.world.running {
				if strings.HasPrefix(key, "rocky/one/") {
					delete(p.world.running, key)
				}
			}
		})
		p.wait("all run again", func() bool {
			p.world.mu.Lock()
			defer p.world.mu.Unlock()
			n := 0
			for key := range p.world.running {
				if strings.HasPrefix(key, "rocky/one/") {
					n++
				}
			}
			return n == 4
		})
		p.waitPhase("rocky", "one", "Active")
	}
	log, err := store.ReadLog(filepath.Join(p.dir, "rocky", "state"), store.JournalName)
	if err != nil {
		t.Fatal(err)
	}
	restarts := 0
	for _, r := range log.Records {
		switch r.Code {
		case "ORS-1008":
			restarts++
		case "ORS-1009", "ORS-1010":
			t.Errorf("the restarts were used up: %s", r.Text)
		}
	}
	if restarts != 2 {
		t.Errorf("two failures, and %d restarts", restarts)
	}
}
