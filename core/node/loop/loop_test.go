package loop

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/store"
)

// bench is one server's loop with a switch that obeys, workers that succeed at once, and a partner that only beats.
type bench struct {
	t      *testing.T
	lp     *Loop
	now    time.Time
	full   bool // the disk under the state directory
	mute   bool // the partner
	lines  interconnect.Lines
	saved  failover.Hard
	keys   []failover.Key
	todo   []failover.Action
	done   []failover.ActionKind
	record []store.Record
	beat   interconnect.Beat // newest that this server sends
	sent   []interconnect.Message
	deaf   bool // the partner does not answer messages
	stuck  bool // the switch changes no key
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.Unix(1_000_000, 0), keys: make([]failover.Key, 2)}
	c := &config.Config{
		Servers: [2]config.Server{{Name: "rocky"}, {Name: "apollo"}}, Self: failover.First,
		Interconnect: config.Interconnect{Interval: 200 * time.Millisecond, Timeout: 2 * time.Second},
		Groups: []config.Group{
			{Name: "one", Primary: failover.First, Storage: []config.StorageUnit{{Name: "u1"}}},
			{Name: "two", Primary: failover.Second, Storage: []config.StorageUnit{{Name: "u2"}}},
		},
	}
	b.lp = New(b.options(c, failover.Hard{}))
	b.lp.Begin()
	return b
}

func (b *bench) options(c *config.Config, hard failover.Hard) Options {
	return Options{Config: c, Hard: hard, World: b, Log: hclog.NewNullLogger(), Uptime: b.uptime}
}

// another agent takes the place of the one that runs.
func (b *bench) another() {
	b.todo, b.sent = nil, nil
	b.lp = New(b.options(b.lp.cfg, b.saved))
	b.lp.Begin()
}

func (b *bench) uptime() time.Duration        { return b.now.Sub(time.Unix(1_000_000-100, 0)) }
func (b *bench) Now() time.Time               { return b.now }
func (b *bench) SetBeat(bt interconnect.Beat) { b.beat = bt }
func (b *bench) Record(r store.Record)        { b.record = append(b.record, r) }
func (b *bench) Changed()                     {}

func (b *bench) Send(m interconnect.Message) error {
	b.sent = append(b.sent, m)
	return nil
}

// says lets the partner send a message.
func (b *bench) says(kind uint8, word any) {
	body, err := json.Marshal(word)
	if err != nil {
		b.t.Fatal(err)
	}
	b.lp.Interconnect(interconnect.Event{Kind: interconnect.MessageIn, Message: interconnect.Message{Kind: kind, Body: body}})
}

// answers lets the partner answer what it was told.
func (b *bench) answers() {
	sent := b.sent
	b.sent = nil
	for _, m := range sent {
		var w awayWord
		if m.Kind != msgAway || b.mute || b.deaf {
			continue
		}
		if err := json.Unmarshal(m.Body, &w); err != nil {
			b.t.Fatal(err)
		}
		b.says(msgWaits, waitWord{ID: w.ID})
	}
}
func (b *bench) Links() []interconnect.LinkStatus {
	return []interconnect.LinkStatus{{Name: "lan", Lines: b.lines}}
}

// Do takes an action. What changes a key must be on record first.
func (b *bench) Do(a failover.Action) {
	for _, s := range a.Swaps {
		if len(b.saved.Units) == 0 || b.saved.Units[s.Unit].Asked < s.New.N {
			b.t.Fatalf("%v of unit %d before it is on record: %v, %+v", a.Kind, s.Unit, s.New, b.saved)
		}
	}
	b.todo = append(b.todo, a)
}

func (b *bench) Plugins() []control.Plugin { return nil }
func (b *bench) Driver(int) string         { return "bench" }

func (b *bench) SaveHard(h failover.Hard) error {
	if b.full {
		return errors.New("no space left on device")
	}
	b.saved = h
	return nil
}

// run lets time pass: the partner beats, and what was asked for is done.
func (b *bench) run(d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); b.now = b.now.Add(20 * time.Millisecond) {
		if !b.mute && b.now.UnixMilli()%200 == 0 {
			h := b.saved
			b.lp.Interconnect(interconnect.Event{Kind: interconnect.BeatHeard, Link: "lan", At: b.now, Beat: interconnect.Beat{
				HearsYou: true, Losses: 1, Promised: h.Promised, Common: h.Promised}})
		}
		for len(b.todo) > 0 {
			a := b.todo[0]
			b.todo = b.todo[1:]
			b.done = append(b.done, a.Kind)
			b.lp.Answer(b.answer(a))
		}
		b.answers()
		if !b.now.Before(b.lp.Next()) {
			b.lp.OnTime()
		}
		b.lp.Next()
	}
}

func (b *bench) answer(a failover.Action) failover.Event {
	e := failover.Event{Group: a.Group, Unit: a.Unit, Op: a.Op}
	switch a.Kind {
	case failover.Inspect:
		e.Kind, e.Key = failover.UnitRead, b.keys[a.Unit]
	case failover.Witness:
		e.Kind = failover.DiskSilent
	case failover.Attach:
		e.Kind = failover.Attached
	case failover.StartApps:
		e.Kind = failover.AppsUp
	case failover.StopApps:
		e.Kind = failover.AppsStopped
	case failover.Detach:
		e.Kind = failover.Detached
	case failover.KillAll:
		e.Kind = failover.Cleared
	default:
		for _, s := range a.Swaps {
			if b.keys[s.Unit] == s.Old && !b.stuck {
				b.keys[s.Unit] = s.New
			}
		}
		e.Kind = map[failover.ActionKind]failover.EventKind{failover.Swap: failover.Swapped, failover.Claim: failover.Granted,
			failover.Release: failover.Released}[a.Kind]
	}
	return e
}

func (b *bench) phase(g int) failover.Phase { return b.lp.State().Groups[g].Phase }

func (b *bench) want(g int, ph failover.Phase) {
	b.t.Helper()
	if got := b.phase(g); got != ph {
		b.t.Fatalf("group %d is %v, want %v; newest record %+v", g, got, ph, b.record[len(b.record)-1])
	}
}

// TestLossIsActedOnWithoutADisk: while a claim waits for a disk that is full, the loss of another group's storage is
// still acted on at once, and so is what nobody says again.
func TestLossIsActedOnWithoutADisk(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.want(0, failover.Active)
	b.want(1, failover.Standby)
	b.full = true
	b.run(8 * time.Second) // the other group's primary does not come for it: it would be claimed now
	b.want(1, failover.Standby)
	if slices.Contains(b.done[1:], failover.Claim) && b.keys[1].Owner != failover.Nobody {
		t.Fatalf("claimed without a record: %v", b.keys[1])
	}
	b.keys[0] = b.keys[0].Claimed(failover.Second)
	b.run(2 * time.Second)
	b.want(0, failover.Fenced) // that nothing is held any more is to be recorded, too
	if !slices.Contains(b.done, failover.KillAll) {
		t.Fatal("left-overs were not killed")
	}
	b.full = false
	b.run(6 * time.Second)
	b.want(0, failover.Standby)
	b.want(1, failover.Active)
}

// TestNothingIsForgottenWhileTheDiskIsFull: an application's failure is told once; it must reach the decision though a
// claim that waits for the disk fails every step.
func TestNothingIsForgottenWhileTheDiskIsFull(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.full = true
	b.run(8 * time.Second)
	b.done = nil
	b.lp.Answer(failover.Event{Kind: failover.AppsFailed, Group: 0, Text: "its checks failed"})
	b.run(time.Second)
	if !slices.Contains(b.done, failover.StartApps) && !slices.Contains(b.done, failover.StopApps) {
		t.Fatalf("the failure was forgotten: %v", b.done)
	}
}

// TestMoveIsRefusedWhileTheDiskIsFull: an operator hears at once that nothing can be done.
func TestMoveIsRefusedWhileTheDiskIsFull(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.full = true
	b.run(8 * time.Second)
	var got MoveResult
	b.lp.StartMove(7, 0, failover.First, "", func(r MoveResult) { got = r })
	b.run(time.Second)
	if got.ID == 0 && b.lp.State().Groups[0].Move.Role == failover.NoMove {
		t.Fatal("neither begun nor refused")
	}
}

// TestModemLines: lines that were up and have dropped are evidence; a port that has none, or is closed, says
// nothing.
func TestModemLines(t *testing.T) {
	b := newBench(t)
	for _, step := range []struct {
		lines interconnect.Lines
		want  failover.Answer
	}{
		{interconnect.LinesUnknown, failover.NoAnswer}, {interconnect.LinesNone, failover.NoAnswer},
		{interconnect.LinesUp, failover.Yes}, {interconnect.LinesDropped, failover.No},
		{interconnect.LinesUnknown, failover.NoAnswer}, {interconnect.LinesDropped, failover.No},
		{interconnect.LinesUp, failover.Yes},
	} {
		b.lines = step.lines
		b.run(500 * time.Millisecond)
		if got := b.lp.State().Partner.Evidence.Lines; got != step.want {
			t.Errorf("with lines %v the evidence is %v, want %v", step.lines, got, step.want)
		}
	}
}

// TestSinceWhenAnAlarmIs: an alarm is as old as its cause, however late somebody looks.
func TestSinceWhenAnAlarmIs(t *testing.T) {
	b := newBench(t)
	b.run(3 * time.Second)
	b.mute = true
	b.run(22 * time.Second)
	alarms := b.lp.Status().Alarms
	i := slices.IndexFunc(alarms, func(a control.Alarm) bool { return a.Code == "ORS-1040" })
	if i < 0 || b.now.Sub(alarms[i].Since) < 18*time.Second {
		t.Errorf("the partner has been lost for 20 s: %+v", alarms)
	}
}
