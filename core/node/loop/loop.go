// Package loop is the logic of one server's node without clock, goroutine or I/O: it turns what the interconnect, the
// workers and operators say into events, calls failover.Step, has the hard state written, and only then lets the
// actions and the next beat go.
//
// One goroutine owns a Loop; core/node is that goroutine on a real server, core/sim on a simulated one. This package
// must never wait for anything but the hard state's disk, never read a clock by itself, and never act on a state that
// is not on disk.
package loop

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/internal/bootclock"
)

// World is what a Loop acts on. No method waits, but SaveHard for the disk.
type World interface {
	// Now is this moment. Differences between two of them must not follow steps of the wall clock.
	Now() time.Time
	// SaveHard makes the hard state durable. After an error the one saved before is still there.
	SaveHard(failover.Hard) error
	// SetBeat changes what the next beats say.
	SetBeat(interconnect.Beat)
	// Send sends a message to the partner; one that cannot be sent is one that was lost.
	Send(interconnect.Message) error
	// Do has an action carried out that is no note and no word about a move. Its answer comes back through Answer.
	Do(failover.Action)
	// Record writes into the journal, without waiting for it.
	Record(store.Record)
	// Changed tells whoever watches that the status may have changed.
	Changed()
	// Links is what is to be seen of the links of the interconnect.
	Links() []interconnect.LinkStatus
	// Plugins is what is to be seen of the plugins.
	Plugins() []control.Plugin
	// Driver is the name of the driver of a unit's switch.
	Driver(unit int) string
}

// Options are what a Loop is made of.
type Options struct {
	Config      *config.Config
	Hard        failover.Hard // as last saved
	World       World
	Log         hclog.Logger
	Version     string
	BootID      string               // of this run of the operating system
	Uptime      func() time.Duration // of the operating system, suspensions included
	Incarnation int                  // of the agent
	Process     control.Server       // what status shows of the agent's process: pid, program, protocol
	// Arrivals is what was told last of each group, by the agent before this one.
	Arrivals []arrival.Notice
	// StatusEvery is how often the partner is told how things are here when no phase has changed; 0: once a second.
	StatusEvery time.Duration
	// Decided takes each decision with the state that came of it, and does not wait. nil: they are not kept.
	Decided func(d decision.Decision, after failover.State)
}

// Loop is one server's logic. None of its methods may run beside another one, but those of its View.
type Loop struct {
	o      Options
	w      World
	cfg    *config.Config
	params failover.Params
	self   string
	peer   string
	start  time.Time
	view   View

	decisions   decisions
	state       failover.State
	detector    *interconnect.Detector
	heardAt     time.Time // newest beat on any link
	aliveFrom   time.Time // since when beats have been heard without a silence of a time-out
	network     failover.Answer
	doubt       []bool           // by group: late since the group was last proven to be here
	wake        time.Time        // when the loop wanted to be woken
	failing     bool             // the hard state cannot be written
	retryAt     time.Time        // when a decision that could not be recorded is tried again
	owed        []failover.Event // what nobody will say again, and could not be recorded yet
	houseAt     time.Time        // when beat, status and moves are seen to next
	heldTurn    int
	moves       map[uint64]*moveWait
	results     map[uint64]MoveResult // of moves that the partner asked for
	resultIDs   []uint64
	lastTold    time.Time
	toldPhases  []failover.Phase
	silentWas   map[string]bool
	modeToldAt  time.Time     // when the partner was told the mode last
	peerMode    modeWord      // as the partner has told it
	kept        failover.Hard // as on disk
	keptWorks   bool          // the newest try to write what nothing depends on
	announced   announcement
	lines       failover.Answer      // modem lines
	wantedMoves int                  // by the decision itself
	peerHad     []bool               // by group: the partner was seen to own it since it was here last
	alarmSince  map[string]time.Time // of those derived from the state: when status showed them first
}

// New returns the logic of an agent that has just been started. It does nothing before Begin.
func New(o Options) *Loop {
	lp := &Loop{
		o: o, w: o.World, cfg: o.Config, params: ParamsFor(o.Config), kept: o.Hard, keptWorks: true,
		self: o.Config.ServerName(o.Config.Self), peer: o.Config.ServerName(o.Config.Self.Other()),
		moves: map[uint64]*moveWait{}, results: map[uint64]MoveResult{}, silentWas: map[string]bool{},
	}
	if lp.o.StatusEvery == 0 {
		lp.o.StatusEvery = time.Second
	}
	if lp.o.Uptime == nil {
		lp.o.Uptime = bootclock.Now
	}
	lp.params.Boot = BootHash(o.BootID)
	lp.anew()
	var names []string
	for _, l := range o.World.Links() {
		names = append(names, l.Name)
	}
	lp.detector = interconnect.NewDetector(names, o.Config.Interconnect.Timeout)
	lp.view.init(o.Config, lp.start)
	lp.view.beginArrivals(o.Arrivals, lp)
	lp.initDecisions()
	lp.doubt = make([]bool, len(o.Config.Groups))
	lp.peerHad = make([]bool, len(o.Config.Groups))
	return lp
}

// anew is the decision of an agent that starts now.
func (lp *Loop) anew() {
	lp.start = lp.w.Now()
	lp.params.Uptime = lp.uptime() - lp.ticks()
	lp.state = failover.New(&lp.params, lp.o.Hard, lp.ticks())
}

// FirstBeat sets what beats say until Begin: an agent that is heard before it has decided anything must not take back
// what the one before has announced.
func (lp *Loop) FirstBeat() {
	lp.anew()
	lp.publishBeat()
}

// Begin tells the world that the agent has started: its time counts from now on. From then on, OnTime is due whenever
// Next has come.
func (lp *Loop) Begin() {
	lp.anew()
	lp.record(store.Record{Kind: "agent", Step: "started", Text: fmt.Sprintf(
		"The agent of %s has started: version %s, start %d.", lp.self, lp.o.Version, lp.o.Incarnation)})
	lp.publishBeat()
	lp.wake, lp.houseAt = lp.now(), lp.now()
	lp.beginMode()
}

// View is what workers tell people through.
func (lp *Loop) View() *View { return &lp.view }

// Params are the decision's.
func (lp *Loop) Params() *failover.Params { return &lp.params }

// State is the decision's state now. The caller must not change it.
func (lp *Loop) State() *failover.State { return &lp.state }

// now is this moment.
func (lp *Loop) now() time.Time { return lp.w.Now() }

// ticks is this moment on the decision's clock: milliseconds since the agent's start.
func (lp *Loop) ticks() failover.Tick {
	return failover.Tick(lp.now().Sub(lp.start)/time.Millisecond) + 1
}

// uptime is this moment on the clock of the operating system's run.
func (lp *Loop) uptime() failover.Tick { return failover.Tick(lp.o.Uptime() / time.Millisecond) }

// When turns a moment of the decision's clock into time.
func (lp *Loop) When(t failover.Tick) time.Time {
	return lp.start.Add(time.Duration(t-1) * time.Millisecond)
}

// Answer takes what a worker found out: the answer to an action, or what an application did by itself.
func (lp *Loop) Answer(e failover.Event) {
	lp.checkLate()
	lp.step(e)
}

// Do runs an operator's or observer's f between two events.
func (lp *Loop) Do(f func()) {
	lp.checkLate()
	f()
}

// step lets one event into the decision, after those that it still owes. It reports whether the decision was made.
func (lp *Loop) step(e failover.Event) bool {
	owed := lp.owed
	lp.owed = nil
	for _, o := range owed {
		lp.take(o)
	}
	return lp.take(e)
}

// take lets one event into the decision: hard state first, then the beat, then the actions. Where it cannot be written,
// only what needs no record is done; what would have been done besides is asked for again by time, or owed.
func (lp *Loop) take(e failover.Event) bool {
	e.At, e.Uptime = lp.ticks(), lp.uptime()
	e.Text = strings.ToValidUTF8(e.Text, "\uFFFD") // what is on record comes back as it was
	next, actions := failover.Step(&lp.params, lp.state, e)
	taken, unrecorded := true, false
	if !next.Hard.Equal(lp.state.Hard) {
		if err := lp.keep(next.Hard); err != nil {
			lp.hardFailed(err)
			unrecorded = true
			if next, actions, taken = failover.StepUnrecorded(&lp.params, lp.state, e); !taken {
				lp.owe(e)
			}
		} else {
			lp.hardWorks()
		}
	}
	before := lp.state
	lp.state = next
	lp.decided(before, e, unrecorded, actions)
	lp.settleDoubt()
	lp.publishBeat()
	lp.noteVerdict(&before)
	lp.noteArrivals(&before)
	var wanted []failover.Action
	for _, a := range actions {
		if a.Kind == failover.MoveWanted {
			wanted = append(wanted, a)
			continue
		}
		lp.act(a)
	}
	if !next.Hard.Same(before.Hard) {
		lp.keepRest()
	}
	lp.w.Changed()
	for _, a := range wanted {
		lp.wantMove(a)
	}
	lp.decisions.id = ""
	return taken
}

// keep writes the hard state.
func (lp *Loop) keep(h failover.Hard) error {
	err := lp.w.SaveHard(h)
	if err == nil {
		lp.kept = h
	}
	return err
}

// keepRest writes what is worth keeping and no action waits for. What could not be written is tried again with time.
func (lp *Loop) keepRest() {
	if lp.state.Hard.Same(lp.kept) {
		return
	}
	err := lp.keep(lp.state.Hard)
	if err != nil && lp.keptWorks {
		lp.o.Log.Warn("what the decision would like to remember was not written", "error", err)
	}
	lp.keptWorks = err == nil
}

// owe keeps an event that could not be recorded and that nobody will say again.
func (lp *Loop) owe(e failover.Event) {
	switch e.Kind {
	case failover.WasLate, failover.PeerStarted, failover.AppsFailed, failover.OpClear, failover.OpShutdown:
	default:
		return
	}
	for _, o := range lp.owed {
		if o.Kind == e.Kind && o.Group == e.Group {
			return
		}
	}
	lp.owed = append(lp.owed, e)
}

// act lets one action go to whoever carries it out.
func (lp *Loop) act(a failover.Action) {
	switch a.Kind {
	case failover.Tell:
		lp.tellMove(a)
	case failover.MoveEnded:
		lp.moveEnded(a)
	case failover.Note:
		lp.note(a)
	default:
		lp.w.Do(a)
	}
}

// hardFailed tells that the hard state cannot be written, and has it tried again soon.
func (lp *Loop) hardFailed(err error) {
	if !lp.failing || !lp.now().Before(lp.retryAt) { // what fails in between does not put it off
		lp.retryAt = lp.now().Add(500 * time.Millisecond)
	}
	if lp.failing {
		return
	}
	lp.failing = true
	lp.o.Log.Error("ORS-1030: the hard state cannot be written: nothing is claimed or started until it can", "error", err)
	lp.view.SetAlarm("ORS-1030", "", "The state directory cannot be written: "+err.Error(),
		"make room or mend the disk; until then this server claims and starts nothing", lp.now())
	lp.record(store.Record{Kind: "alarm", Code: "ORS-1030", Text: err.Error()})
	lp.w.Changed()
}

// Writable finds out whether the hard state can be written, by writing it as it is once more.
func (lp *Loop) Writable() error {
	err := lp.keep(lp.state.Hard)
	if err != nil {
		lp.hardFailed(err)
	} else {
		lp.hardWorks()
	}
	return err
}

func (lp *Loop) hardWorks() {
	if !lp.failing {
		return
	}
	lp.failing = false
	lp.view.ClearAlarm("ORS-1030", "")
	lp.record(store.Record{Kind: "agent", Step: "store", Text: "The state directory can be written again."})
}

// Next is when OnTime is due: the next moment at which something is, never later than the beats' interval. It is
// absolute, so that whoever keeps the loop busy with questions does not put it off.
func (lp *Loop) Next() time.Time {
	wake, now := lp.houseAt, lp.now()
	if t := failover.Next(&lp.params, &lp.state); t != failover.Never && lp.When(t).Before(wake) {
		wake = lp.When(t)
	}
	if t := lp.detector.Next(now); !t.IsZero() && t.After(now) && t.Before(wake) {
		wake = t
	}
	if lp.failing && wake.Before(lp.retryAt) {
		wake = lp.retryAt // do not spin on a decision that cannot be recorded
	}
	if wake.Before(now) {
		wake = now // what is overdue already is late only from now on: it is told once
	}
	lp.wake = wake
	return wake
}

// checkLate notices that this server did not run for a while: stopped, suspended, or starved. Half a time-out is the
// limit, so that a verdict of silence never rests on a time in which nobody listened.
func (lp *Loop) checkLate() {
	now := lp.now()
	lag := now.Sub(lp.wake)
	limit := max(lp.cfg.Interconnect.Timeout/2, 100*time.Millisecond)
	if lag <= limit {
		return
	}
	lp.wake = now
	lp.detector.Forget(now)
	text := fmt.Sprintf("This server did not run for %d ms: verdict and reads are forgotten.", lag.Milliseconds())
	lp.o.Log.Warn("ORS-1002: "+text, "lag", lag)
	for g := range lp.doubt {
		lp.doubt[g] = true
	}
	lp.step(failover.Event{Kind: failover.WasLate, Text: text})
}

// settleDoubt ends the doubt about groups whose units the switch has shown with this server since, and about all when
// the partner has been heard for a time-out: its beats would have said that it holds a unit.
func (lp *Loop) settleDoubt() {
	heard := lp.state.Partner.Up && lp.state.Now >= lp.state.LateUntil
	for g := range lp.doubt {
		if !lp.doubt[g] {
			continue
		}
		proven := true
		for _, u := range lp.params.Groups[g].Units {
			proven = proven && lp.state.Units[u].Known && lp.state.Units[u].Key.Owner == lp.cfg.Self
		}
		lp.doubt[g] = !proven && !heard
	}
}

// Holds says whether this server holds a group: something of it may run here.
func (lp *Loop) Holds() bool {
	for g := range lp.state.Groups {
		if lp.HoldsGroup(g) {
			return true
		}
	}
	return false
}

// HoldsGroup says whether something of a group may run here.
func (lp *Loop) HoldsGroup(g int) bool {
	switch lp.state.Groups[g].Phase {
	case failover.Attaching, failover.Starting, failover.Active, failover.Stopping, failover.Detaching, failover.Faulted:
		return true
	}
	return false
}

// MayServe says whether the applications of a group may be heard on the network: the group is held here, and that was
// proven anew since this server was late last.
func (lp *Loop) MayServe(g int) bool { return lp.HoldsGroup(g) && !lp.doubt[g] }

// OnTime does what time asks for. Whoever drives the loop calls it when Next has come, and may call it earlier.
func (lp *Loop) OnTime() {
	lp.checkLate()
	if lp.failing && !lp.now().Before(lp.retryAt) {
		// The decision that could not be recorded may not be asked for again, and nothing else would find out that the
		// disk is well; nor would the time for a retry ever come to an end.
		_ = lp.Writable() // it has told
	}
	if e := lp.evidence(lp.now()); !sameEvidence(e, lp.state.Partner.Evidence) {
		lp.step(failover.Event{Kind: failover.Seen, Evidence: e})
	} else if failover.Next(&lp.params, &lp.state) <= lp.ticks() || lp.due() {
		lp.step(failover.Event{Kind: failover.Passed})
	}
	if now := lp.now(); !now.Before(lp.houseAt) {
		lp.houseAt = now.Add(lp.cfg.Interconnect.Interval)
		lp.seeLines()
		lp.publishBeat()
		lp.TellStatus()
		lp.tellMode()
		lp.resendMoves()
		lp.tellAway()
		lp.keepRest()
	}
}

// due reports whether the state's own clock lags behind a moment that has passed.
func (lp *Loop) due() bool { return lp.ticks()-lp.state.Now >= 100 }

func (lp *Loop) unitName(i int) string { return lp.cfg.Units()[i].Storage.Name }

// GroupName is the name of a group, "" for none.
func (lp *Loop) GroupName(g int) string {
	if g < 0 {
		return ""
	}
	return lp.cfg.Groups[g].Name
}

// GroupIndex is the index of the group of that name, -1 when there is none.
func (lp *Loop) GroupIndex(name string) int {
	for i := range lp.cfg.Groups {
		if lp.cfg.Groups[i].Name == name {
			return i
		}
	}
	return -1
}

// note writes what the decision said into the journal, and the steps of a takeover beside it.
func (lp *Loop) note(a failover.Action) {
	if a.Group < 0 {
		kind := "agent"
		switch a.Step {
		case "verdict":
			return // noteVerdict has it, with its evidence
		case "bid", "winner-died":
			kind = "arbitration"
		}
		lp.record(store.Record{Kind: kind, Step: a.Step, Code: a.Code, Text: a.Text})
		return
	}
	moved := lp.view.groupNoted(a.Group, a.Step, a.Text, lp.now())
	lp.record(store.Record{Kind: "group", Group: lp.GroupName(a.Group), Step: a.Step, Code: a.Code, Text: a.Text, Op: a.Op,
		Data: map[string]any{"epoch": a.Epoch}})
	if !moved {
		return
	}
	step := store.Record{Kind: "step", Group: lp.GroupName(a.Group), Op: a.Op}
	switch a.Step {
	case failover.Attaching.String():
		step.Step, step.Text = "claimed", "The storage is this server's."
	case failover.Active.String():
		step.Step, step.Text = "active", "All applications of the group answer."
	default:
		return
	}
	lp.record(step)
}

// record writes into the journal, with this server's name.
func (lp *Loop) record(r store.Record) {
	r.Server = lp.self
	if r.ID == "" {
		r.ID = lp.decisions.id
	}
	if r.At.IsZero() {
		r.At = lp.now()
	}
	lp.w.Record(r)
}
