package node

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
)

func (p *pair) mode(server string, r control.ModeRequest) string {
	p.t.Helper()
	text, err := p.sides[server].node.Mode(context.Background(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p *pair) maintenance(server string, d time.Duration) string {
	p.t.Helper()
	return p.mode(server, control.ModeRequest{Maintenance: &d})
}

func (p *pair) disabled(server string, on bool) string {
	p.t.Helper()
	return p.mode(server, control.ModeRequest{Disabled: &on})
}

func (p *pair) status(server string) control.Status {
	return p.sides[server].node.Status(context.Background())
}

// alarm waits until a server shows an alarm, and returns it.
func (p *pair) alarm(server, code string) control.Alarm {
	p.t.Helper()
	var found control.Alarm
	p.wait(server+" shows "+code, func() bool {
		for _, a := range p.status(server).Alarms {
			if a.Code == code {
				found = a
				return true
			}
		}
		return false
	})
	return found
}

// noAlarm waits until a server does not show an alarm any more.
func (p *pair) noAlarm(server, code string) {
	p.t.Helper()
	p.wait(server+" does not show "+code, func() bool {
		return !slices.ContainsFunc(p.status(server).Alarms, func(a control.Alarm) bool { return a.Code == code })
	})
}

// lostFor waits until the partner has been lost for so long by the server's own clock.
func (p *pair) lostFor(server string, d failover.Tick) {
	p.t.Helper()
	n := p.sides[server].node
	p.wait(server+" has lost its partner for a while", func() bool {
		s, err := ask(context.Background(), n, func() failover.State { return n.loop.State().Clone() })
		return err == nil && s.Partner.Lost && s.Now >= s.Partner.LostAt+d
	})
}

// Disabled on one server, switchover is disabled on both, also after a restart of the agent: the partner dies and
// nothing is taken; enabled again, it is taken at once.
func TestDisabledTakesNothingOver(t *testing.T) {
	p := newPair(t)
	p.up()
	if text := p.disabled("rocky", true); !strings.Contains(text, "switchover is disabled") {
		t.Fatal(text)
	}
	if a := p.alarm("apollo", "ORS-1045"); !strings.Contains(a.Text, "set on rocky") {
		t.Errorf("apollo does not say who: %q", a.Text)
	}
	p.wait("rocky knows that apollo has it", func() bool { return p.status("rocky").Mode.PartnerHasIt })
	p.sides["apollo"].kill()
	p.start("apollo")
	p.waitPhase("apollo", "two", "Active")
	p.wait("both servers agree again", func() bool { return p.status("apollo").Agreed && p.status("rocky").Agreed })
	p.powerOff("rocky")
	p.lostFor("apollo", 3_000)
	if ph := p.phase("apollo", "one"); ph != "Standby" {
		t.Fatalf("disabled, and yet group one is %s on apollo", ph)
	}
	if _, ok := p.world.is("apollo", "two/app"); !ok {
		t.Fatal("what ran was touched")
	}
	p.disabled("apollo", false)
	p.waitPhase("apollo", "one", "Active")
	p.start("rocky")
	p.wait("rocky learns that switchover is enabled", func() bool { return !p.status("rocky").Mode.Disabled })
}

// In maintenance a failed application is shown and not restarted, also after a restart of the agent; planned moves are
// refused unless forced; at its end the application is restarted.
func TestMaintenanceRestartsNothing(t *testing.T) {
	p := newPair(t)
	p.up()
	p.maintenance("apollo", time.Hour)
	if a := p.alarm("rocky", "ORS-1046"); !strings.Contains(a.Text, "set on apollo") || !strings.Contains(a.Text, "until ") {
		t.Errorf("rocky does not say who and until when: %q", a.Text)
	}
	p.world.set(func() { delete(p.world.running, "rocky/one/app") })
	p.wait("rocky shows that the application fails", func() bool {
		for _, g := range p.status("rocky").Groups {
			if g.Name == "one" {
				return g.Phase == "Active" && strings.Contains(g.Why, "in maintenance nothing is restarted")
			}
		}
		return false
	})
	if _, ok := p.world.is("rocky", "one/app"); ok {
		t.Fatal("it was restarted in maintenance")
	}
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"two"}})); m.Moved || m.Code != "ORS-1020" {
		t.Fatalf("a planned move in maintenance: %+v", m)
	}
	if m := last(t, p.move("rocky", control.MoveRequest{Groups: []string{"two"}, Force: true})); !m.Moved {
		t.Fatalf("a forced move in maintenance: %+v", m)
	}
	p.sides["apollo"].kill()
	p.start("apollo")
	p.alarm("apollo", "ORS-1046")
	p.maintenance("rocky", 0)
	p.waitRunning("rocky", "one/app")
	p.waitPhase("rocky", "one", "Active")
	p.wait("apollo knows that the maintenance is over", func() bool { return !p.status("apollo").Mode.Maintenance })
}

// A maintenance ends by itself; a partner that was lost meanwhile is then taken over from.
func TestMaintenanceEndsByItself(t *testing.T) {
	p := newPair(t)
	p.up()
	p.maintenance("rocky", 6*time.Second)
	p.alarm("apollo", "ORS-1046")
	p.powerOff("rocky")
	p.lostFor("apollo", 0)
	if p.status("apollo").Mode.Maintenance && p.phase("apollo", "one") != "Standby" {
		t.Fatal("it was taken in maintenance")
	}
	p.waitPhase("apollo", "one", "Active")
	if p.status("apollo").Mode.Maintenance {
		t.Fatal("it was taken in maintenance")
	}
}

func TestMaintenanceHasAnEnd(t *testing.T) {
	p := newPair(t)
	p.start("rocky")
	for _, d := range []time.Duration{-time.Second, 721 * time.Hour} {
		if _, err := p.sides["rocky"].node.Mode(context.Background(), control.ModeRequest{Maintenance: &d}); err == nil ||
			!strings.Contains(err.Error(), "ORS-1048") {
			t.Errorf("a maintenance of %v: %v", d, err)
		}
	}
}

// With failback = "automatic" a group goes home by itself when its primary has been back for the delay. Both servers count
// that, and an operator who clears the group on one of them has both forget it.
func TestAutomaticFailback(t *testing.T) {
	p := newPair(t)
	text, err := os.ReadFile(p.conf)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(text), `primary = "rocky"`,
		"primary = \"rocky\"\n  failback = \"automatic\"\n  failback_delay = \"1s\"\n  flap_limit = 1", 1)
	if err := os.WriteFile(p.conf, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	p.up()
	p.powerOff("rocky")
	p.waitPhase("apollo", "one", "Active")
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
	p.waitRunning("rocky", "one/app")
	if _, ok := p.world.is("apollo", "one/app"); ok {
		t.Fatal("it still runs on apollo")
	}
	p.alarm("rocky", "ORS-1044")
	p.alarm("apollo", "ORS-1044")
	if _, err := p.sides["apollo"].node.Clear(context.Background(), "one"); err != nil {
		t.Fatal(err)
	}
	p.noAlarm("apollo", "ORS-1044")
	p.noAlarm("rocky", "ORS-1044")
}

// An application that fails for good goes to the partner only when that is ready; until then it is tried where it is.
func TestSickApplicationStaysWhenThePartnerIsNotReady(t *testing.T) {
	p := newPair(t)
	p.up()
	p.world.set(func() {
		p.world.fail["apollo/one/app"] = "not ready: no program"
		p.world.fail["rocky/one/app"] = "no licence"
		delete(p.world.running, "rocky/one/app")
	})
	a := p.alarm("rocky", "ORS-1042")
	if !strings.Contains(a.Text, "no licence") {
		t.Errorf("the alarm does not say why: %q", a.Text)
	}
	p.wait("rocky's journal has the refusal", func() bool {
		for _, g := range p.status("rocky").Groups {
			if g.Name == "one" && strings.Contains(g.Why, "no program") {
				return true
			}
		}
		return false
	})
	if ph := p.phase("rocky", "one"); ph != "Starting" {
		t.Fatalf("group one is %s on rocky", ph)
	}
	p.world.set(func() { delete(p.world.fail, "rocky/one/app") })
	p.waitPhase("rocky", "one", "Active")
}

// TestWhatAnotherMachineHas: a start that finds in use what it takes says that a lost partner may live.
func TestWhatAnotherMachineHas(t *testing.T) {
	p := newPair(t)
	p.up()
	p.world.set(func() { p.world.fail["rocky/two/app"] = "in use: 02:00:00:00:00:01 answers for 10.0.0.5" })
	p.powerOff("apollo")
	a := p.alarm("rocky", "ORS-1065")
	for _, words := range []string{"answers for 10.0.0.5", "apollo is taken for lost and may live"} {
		if !strings.Contains(a.Text, words) || a.Group != "two" {
			t.Errorf("the alarm of %q does not say %q: %q", a.Group, words, a.Text)
		}
	}
	p.world.set(func() { delete(p.world.fail, "rocky/two/app") })
	p.waitPhase("rocky", "two", "Active")
	p.noAlarm("rocky", "ORS-1065")
}

// The survivor's agent is killed before it has taken over and started again: it goes on, also without a startup
// time-out.
func TestSurvivorRestartedGoesOn(t *testing.T) {
	p := newPair(t)
	p.up()
	p.disabled("apollo", true) // holds the takeover, so that the agent surely ends before its claim
	p.powerOff("rocky")
	p.lostFor("apollo", 0)
	p.sides["apollo"].kill()
	p.start("apollo")
	p.disabled("apollo", false)
	p.waitPhase("apollo", "one", "Active")
}

// A restart that was announced moves nothing, and the applications go on; the partner does not take the silence for a
// loss before the time is over, and does after it.
func TestAnnouncedRestart(t *testing.T) {
	p := newPair(t)
	p.up()
	pid, _ := p.world.is("rocky", "one/app")
	restart := func(within time.Duration) {
		t.Helper()
		if _, err := p.sides["rocky"].node.Restart(context.Background(), control.RestartRequest{Within: within, Reason: "upgrade"}); err != nil {
			t.Fatal(err)
		}
		<-p.sides["rocky"].ended
	}
	restart(time.Minute)
	p.wait("apollo waits for it", func() bool { return p.status("apollo").Verdict == "restarting" })
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
	if now, ok := p.world.is("rocky", "one/app"); !ok || now != pid {
		t.Fatalf("the application has pid %d, had %d", now, pid)
	}
	p.wait("both servers agree again", func() bool { return p.status("apollo").Agreed && p.status("rocky").Agreed })
	restart(3 * time.Second)
	p.wait("apollo takes it for lost when the time is over", func() bool { return p.status("apollo").Verdict == "lost" })
	p.waitPhase("apollo", "one", "Active")
	p.powerOff("rocky")
	if _, err := p.sides["apollo"].node.Restart(context.Background(), control.RestartRequest{Within: time.Hour}); err == nil ||
		!strings.Contains(err.Error(), "ORS-1049") {
		t.Errorf("an absence of an hour: %v", err)
	}
}

// A partner that dies while the agent here is away as announced is taken over from when the announced time is over.
func TestPartnerDiesDuringAnnouncedRestart(t *testing.T) {
	p := newPair(t)
	p.up()
	if _, err := p.sides["rocky"].node.Restart(context.Background(),
		control.RestartRequest{Within: 3 * time.Second, Reason: "upgrade"}); err != nil {
		t.Fatal(err)
	}
	<-p.sides["rocky"].ended
	p.powerOff("apollo")
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
	p.waitPhase("rocky", "two", "Active")
}
