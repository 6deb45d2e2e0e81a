package loop

import (
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
)

// short is a lease without an announced absence.
func (b *bench) short() time.Duration { return LeaseLength(&b.lp.cfg.Interconnect) }

// TestNothingLastsBeyondWhatThePartnerKnows: leases are longer only when the partner has the announced absence on record,
// and so has this server.
func TestNothingLastsBeyondWhatThePartnerKnows(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	if !b.lp.MustBeTold() {
		t.Fatal("the partner hears this server, and need not be told")
	}
	b.deaf = true
	known := 0
	b.lp.Restart(time.Minute, "test", func() { known++ })
	b.run(2 * time.Second)
	if got := b.lp.LeaseFor(); got != b.short() || known != 0 || b.saved.BackBy != 0 || b.lp.LastLease() != 0 {
		t.Fatalf("nobody has answered: leases of %v, known %d, on disk %+v", got, known, b.saved)
	}
	if b.beat.Restarting < 57*time.Second || b.beat.Restarting > time.Minute {
		t.Errorf("beats announce %v", b.beat.Restarting)
	}
	b.full, b.deaf = true, false
	b.run(time.Second)
	if got := b.lp.LeaseFor(); got != b.short() || known != 0 {
		t.Fatalf("it could not be written down here: leases of %v, known %d", got, known)
	}
	b.full = false
	b.run(time.Second)
	if got := b.lp.LeaseFor(); got < 55*time.Second || got > 57*time.Second || known != 1 || b.lp.LastLease() != got {
		t.Fatalf("leases of %v, at the end %v, known %d", got, b.lp.LastLease(), known)
	}
	b.run(time.Second)
	if known != 1 {
		t.Errorf("told %d times that the partner knows", known)
	}
}

// TestWhatIsAnnouncedStandsUntilNothingNeedsIt: an agent that is back says on what is left of the absence until it has
// found everything and what is heard is heard for no longer than usual.
func TestWhatIsAnnouncedStandsUntilNothingNeedsIt(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.lp.Restart(time.Minute, "test", func() {})
	b.run(2 * time.Second)
	b.another()
	if b.beat.Restarting < 57*time.Second {
		t.Fatalf("its first beat announces %v", b.beat.Restarting)
	}
	b.now = b.now.Add(20 * time.Millisecond) // it hears the partner, and has found nothing yet
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.BeatHeard, Link: "lan", At: b.now,
		Beat: interconnect.Beat{HearsYou: true, Losses: 1, Promised: b.saved.Promised, Common: b.saved.Promised}})
	if got := b.lp.LeaseFor(); got < 57*time.Second || b.lp.Waited() {
		t.Fatalf("leases of %v, returned %v", got, b.lp.Waited())
	}
	b.lp.Returned()
	if b.beat.Restarting == 0 || b.saved.BackBy == 0 {
		t.Fatal("it is taken back too soon")
	}
	b.run(2 * time.Second)
	if got := b.lp.LeaseFor(); got != b.short() || !b.lp.Waited() {
		t.Fatalf("all is found: leases of %v, returned %v", got, b.lp.Waited())
	}
	if b.beat.Restarting == 0 || b.saved.BackBy == 0 {
		t.Fatal("leases that were given may still run, and it is taken back")
	}
	b.lp.Returned()
	if b.beat.Restarting != 0 || b.saved.BackBy != 0 || b.lp.Waited() {
		t.Errorf("beats announce %v, on disk %d", b.beat.Restarting, b.saved.BackBy)
	}
}

// TestDeafAgentIsRestarted: an agent that is back as announced and has not heard the partner has only what is left of
// that time, whatever it announces itself: nobody may have heard it. It ends with that time.
func TestDeafAgentIsRestarted(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.lp.Restart(10*time.Second, "test", func() {})
	b.run(time.Second)
	b.mute = true
	b.another()
	b.run(time.Second)
	if left := b.lp.LeaseFor(); left < 7*time.Second || left > 9*time.Second {
		t.Fatalf("the new agent has %v", left)
	}
	b.lp.Restart(10*time.Minute, "test", func() {})
	if left := b.lp.LeaseFor(); left < 7*time.Second || left > 9*time.Second {
		t.Errorf("its own announcement, which nobody has heard, makes that %v", left)
	}
	b.lp.Stay("test")
	b.run(9 * time.Second)
	if b.lp.LeaseFor() != b.short() || b.beat.Restarting != 0 || b.saved.BackBy != 0 {
		t.Errorf("the time is over: leases of %v, beats announce %v, on disk %d", b.lp.LeaseFor(), b.beat.Restarting,
			b.saved.BackBy)
	}
}

// TestTheClockOfTheNewAgent: what an autostart command takes does not count as silence, nor for the startup time-out.
func TestTheClockOfTheNewAgent(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.lp.Restart(10*time.Second, "test", func() {})
	b.run(time.Second)
	b.mute = true
	c := *b.lp.cfg
	c.Interconnect.StartupTimeout = 8 * time.Second
	b.todo = nil
	b.lp = New(b.options(&c, b.saved))
	b.now = b.now.Add(30 * time.Second)
	b.lp.Begin()
	b.run(3 * time.Second)
	if v := b.lp.State().Partner.Verdict; v != failover.VerdictUnknown || b.beat.Restarting != 0 {
		t.Errorf("the partner is %v after 3 s of silence, and told to wait for %v", v, b.beat.Restarting)
	}
	b.run(6 * time.Second)
	if v := b.lp.State().Partner.Verdict; v != failover.VerdictLost {
		t.Errorf("the startup time-out is over, and the partner is %v", v)
	}
}

// TestThePartnersAbsenceIsOnRecord: it is answered only when it is on disk, and known to the next agent, until the partner
// itself is started anew.
func TestThePartnersAbsenceIsOnRecord(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	answered := func() (n int) {
		for _, m := range b.sent {
			if m.Kind == msgWaits {
				n++
			}
		}
		return n
	}
	b.full, b.sent = true, nil
	b.says(msgAway, awayWord{ID: 7, LeftMS: 10_000})
	if answered() != 0 {
		t.Fatal("it is answered, and could not be written")
	}
	b.full = false
	b.says(msgAway, awayWord{ID: 7, LeftMS: 10_000})
	if answered() != 1 || b.saved.PeerBackBy == 0 {
		t.Fatalf("answered %d times, on disk %d", answered(), b.saved.PeerBackBy)
	}
	b.mute = true
	b.another()
	b.run(4 * time.Second)
	if v := b.lp.State().Partner.Verdict; v != failover.VerdictRestarting || b.lp.PeerBackIn() < 5*time.Second {
		t.Fatalf("the new agent takes the partner for %v, back in %v", v, b.lp.PeerBackIn())
	}
	if !b.lp.MustBeTold() || b.lp.LastLease() != 0 {
		t.Errorf("must be told: %v; the last lease is %v", b.lp.MustBeTold(), b.lp.LastLease())
	}
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.SessionOpen, PeerBoot: 1, PeerIncarnation: 1})
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.SessionOpen, PeerBoot: 1, PeerIncarnation: 2})
	if b.lp.PeerBackIn() < 5*time.Second {
		t.Errorf("its agent was restarted once more, and it is waited for %v", b.lp.PeerBackIn())
	}
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.SessionOpen, PeerBoot: 2, PeerIncarnation: 3})
	if left := b.lp.PeerBackIn(); left > 2*time.Second || b.saved.PeerBackBy != 0 {
		t.Errorf("it was started anew, and is waited for %v; on disk %d", left, b.saved.PeerBackBy)
	}
}

// TestWhatCouldNotBeWrittenIsTriedAgain: also what no decision waits for.
func TestWhatCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.full = true
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.BeatHeard, Link: "lan", At: b.now, Beat: interconnect.Beat{
		HearsYou: true, Losses: 1, Promised: b.saved.Promised, Common: b.saved.Promised, Leaving: true}})
	if b.saved.PeerLeft {
		t.Fatal("the disk takes it")
	}
	b.full, b.mute = false, true
	b.run(time.Second)
	if !b.saved.PeerLeft {
		t.Error("the partner's goodbye is not on record")
	}
}

// TestTheLastLease: for how long an agent's applications may be heard when it has ended.
func TestTheLastLease(t *testing.T) {
	alone := 3*2*time.Second - time.Second - 2*200*time.Millisecond
	alive := func(b *bench) { b.run(3 * time.Second) }
	dead := func(b *bench) { b.mute = true; b.run(3 * time.Second) }
	leaves := func(b *bench) {
		b.lp.Interconnect(interconnect.Event{Kind: interconnect.BeatHeard, Link: "lan", At: b.now,
			Beat: interconnect.Beat{HearsYou: true, Losses: 1, Promised: b.saved.Promised, Common: b.saved.Promised,
				Leaving: true}})
	}
	anew := func(b *bench) { b.mute = true; b.another(); b.run(time.Second) }
	away := func(b *bench) { b.says(msgAway, awayWord{ID: 1, LeftMS: 1_000}); b.mute = true; b.run(time.Second) }
	mutes := func(b *bench) { // no key is renewed any more, and the newest one is known
		b.stuck = true
		b.run(2 * time.Second)
	}
	for name, c := range map[string]struct {
		startup time.Duration
		before  []func(*bench)
		want    time.Duration
	}{
		"the partner is there":                 {0, []func(*bench){alive}, 0},
		"it was never heard":                   {0, []func(*bench){alive, anew}, alone},
		"it may be about to take over":         {10 * time.Second, []func(*bench){alive, anew}, 0},
		"it was never heard, nothing is known": {0, []func(*bench){dead}, 0},
		"it is lost":                           {0, []func(*bench){alive, dead}, alone},
		"it is lost, and has won": {0, []func(*bench){alive, dead, func(b *bench) {
			b.keys[0] = b.keys[0].Won(failover.Second, b.keys[0].Tag+1)
			b.run(500 * time.Millisecond)
		}}, 0},
		"it is lost, and no renewal comes through": {0, []func(*bench){alive, dead, mutes}, alone - 2*time.Second},
		"it was lost before this agent":            {0, []func(*bench){alive, dead, anew}, 0},
		"it has left":                              {0, []func(*bench){alive, leaves}, alone},
		"it has left, and may have started":        {10 * time.Second, []func(*bench){alive, leaves}, 0},
		"it was away when the agent before ended":  {0, []func(*bench){alive, away, anew}, 0},
	} {
		b := newBench(t)
		if c.startup > 0 {
			cfg := *b.lp.cfg
			cfg.Interconnect.StartupTimeout = c.startup
			b.todo = nil
			b.lp = New(b.options(&cfg, failover.Hard{}))
			b.lp.Begin()
		}
		for _, f := range c.before {
			f(b)
		}
		// of a round that was won it is counted from the newest renewal, up to an interval of these ago
		if got := b.lp.LastLease(); got < c.want || got > c.want+1200*time.Millisecond || c.want == 0 && got != 0 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
