// Package node drives the decision of one server: it turns what the interconnect, the switches, the drives, the
// plugins and operators say into events, calls failover.Step, writes the hard state, and only then lets the actions
// go to workers.
//
// One goroutine owns the state. It never waits for a disk but for the hard state's, never for a switch, a plugin or
// the partner. This package must never decide anything by itself, never act on a state that is not on disk, and knows
// drivers, links and plugins only as interfaces.
package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/store"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Interconnect is what the node needs of the interconnect.
type Interconnect interface {
	Events() <-chan interconnect.Event
	SetBeat(interconnect.Beat)
	Send(interconnect.Message) error
	Links() []interconnect.LinkStatus
	Goodbye(context.Context) error
}

// Drives is what the node needs of the drive letters.
type Drives interface {
	Mount(context.Context, drive.Spec) (drive.Mounted, error)
	Unmount(context.Context, drive.Mounted) error
	ForceUnmount(context.Context, drive.Mounted) error
	Find(context.Context, drive.Spec) (drive.Mounted, bool, error)
	Alive(context.Context, drive.Mounted) error
	WriteMap(drive.Mounted, drive.Spec) error
}

// Plugins is what the node needs of the plugins. Every call is bounded by its context.
type Plugins interface {
	Schema(kind string) (*pluginv1.Block, error)
	Ready(context.Context, string, *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error)
	StartApplication(context.Context, string, *pluginv1.StartRequest, func(*pluginv1.Progress)) (*pluginv1.Handle, error)
	Recover(context.Context, string, *pluginv1.RecoverRequest) (*pluginv1.RecoverResponse, error)
	Probe(context.Context, string, *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error)
	Stop(context.Context, string, *pluginv1.StopRequest) (*pluginv1.StopResponse, error)
	Kill(context.Context, string, *pluginv1.KillRequest) (*pluginv1.KillResponse, error)
}

// Store is what the node needs of the state directory.
type Store interface {
	LoadHard(any) (bool, error)
	SaveHard(any) error
	SaveHandle(app string, version uint32, state []byte) error
	Handle(app string) (store.Handle, bool, error)
	DropHandle(app string) error
	Note(store.Record)
}

// Options are the parts of one server.
type Options struct {
	Config       *config.Config
	Switches     []storage.Switch // by unit, in the fixed order
	Drives       Drives
	Plugins      Plugins
	PluginStatus func() []control.Plugin
	Store        Store
	Interconnect Interconnect
	// Network answers whether the targets of the network check are reachable; nil when none are configured.
	Network     func(context.Context) failover.Answer
	Log         hclog.Logger
	Version     string
	BootID      string // of this run of the operating system
	Incarnation int    // of the agent
	WorkDir     string // folders of applications are made below it
}

// Node is one server's agent at work.
type Node struct {
	o      Options
	cfg    *config.Config
	params failover.Params
	self   string
	peer   string
	start  time.Time

	// owned by the loop
	state      failover.State
	detector   *interconnect.Detector
	heardAt    time.Time // newest beat on any link
	aliveFrom  time.Time // since when beats have been heard without a silence of a time-out
	network    failover.Answer
	wake       time.Time // when the loop wanted to be woken
	failing    bool      // the hard state cannot be written
	retryAt    time.Time // when a decision that could not be recorded is tried again
	houseAt    time.Time // when beat, status and moves are seen to next
	heldTurn   int
	moves      map[uint64]*moveWait
	results    map[uint64]moveResult // of moves that the partner asked for
	resultIDs  []uint64
	lastTold   time.Time
	toldPhases string
	silentWas  map[string]bool
	alarmSince map[string]time.Time // of those derived from the state: when status showed them first

	events  chan failover.Event
	calls   chan func()
	workers []*groupWorker
	wg      sync.WaitGroup // every goroutine of the node
	stop    context.CancelFunc
	ctx     context.Context
	done    chan struct{}

	live    live // what people see; has its own lock
	changed control.Broadcast
}

// ErrStopped is what calls get when the agent has ended.
var ErrStopped = errors.New("the agent has ended")

// New puts a node together. Nothing runs before Run.
func New(o Options) (*Node, error) {
	if len(o.Switches) != len(o.Config.Units()) {
		return nil, fmt.Errorf("node: %d switches for %d units", len(o.Switches), len(o.Config.Units()))
	}
	n := &Node{
		o: o, cfg: o.Config, start: time.Now(),
		self: o.Config.ServerName(o.Config.Self), peer: o.Config.ServerName(o.Config.Self.Other()),
		moves: map[uint64]*moveWait{}, results: map[uint64]moveResult{},
		silentWas: map[string]bool{},
		events:    make(chan failover.Event, 256), calls: make(chan func(), 16),
		done: make(chan struct{}),
	}
	n.params = ParamsFor(o.Config)
	var hard failover.Hard
	if _, err := o.Store.LoadHard(&hard); err != nil {
		return nil, err
	}
	n.state = failover.New(&n.params, hard, n.now())
	var names []string
	for _, l := range o.Interconnect.Links() {
		names = append(names, l.Name)
	}
	n.detector = interconnect.NewDetector(names, o.Config.Interconnect.Timeout)
	n.live.init(o.Config)
	for g := range o.Config.Groups {
		n.workers = append(n.workers, newGroupWorker(n, g))
	}
	return n, nil
}

// now is the loop's clock: milliseconds since the agent's start.
func (n *Node) now() failover.Tick { return n.tick(time.Now()) }

func (n *Node) tick(t time.Time) failover.Tick {
	return failover.Tick(t.Sub(n.start)/time.Millisecond) + 1
}

func (n *Node) when(t failover.Tick) time.Time {
	return n.start.Add(time.Duration(t-1) * time.Millisecond)
}

// Run drives the server until ctx ends or Shutdown has been carried out. Applications are left running.
func (n *Node) Run(ctx context.Context) error {
	ctx, n.stop = context.WithCancel(ctx)
	n.ctx = ctx
	defer close(n.done)
	defer n.wg.Wait()
	defer n.stop()
	for _, w := range n.workers {
		n.goRun(w.run)
	}
	if n.o.Network != nil {
		n.goRun(n.watchNetwork)
	}
	n.record(store.Record{Kind: "agent", Step: "started", Text: fmt.Sprintf(
		"The agent of %s has started: version %s, start %d.", n.self, n.o.Version, n.o.Incarnation)})
	n.publishBeat()
	timer := time.NewTimer(0)
	defer timer.Stop()
	n.wake, n.houseAt = time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.o.Interconnect.Events():
			n.checkLate()
			n.onInterconnect(e)
		case e := <-n.events:
			n.checkLate()
			n.step(e)
		case f := <-n.calls:
			n.checkLate()
			f()
		case <-timer.C:
			n.checkLate()
			n.onTime()
		}
		n.arm(timer)
	}
}

// goRun starts a goroutine that ends with the node.
func (n *Node) goRun(f func(context.Context)) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f(n.ctx)
	}()
}

// send hands an event to the loop. It gives up only when the node ends.
func (n *Node) send(e failover.Event) {
	select {
	case n.events <- e:
	case <-n.ctx.Done():
	}
}

// call runs f in the loop and waits for it.
func (n *Node) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case n.calls <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrStopped
	}
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrStopped
	}
}

// ask runs f in the loop and returns its answer, which nobody else can still write when ask has given up.
func ask[T any](ctx context.Context, n *Node, f func() T) (T, error) {
	answer := make(chan T, 1)
	if err := n.call(ctx, func() { answer <- f() }); err != nil {
		var none T
		return none, err
	}
	return <-answer, nil
}

// step lets one event into the decision: hard state first, then the beat, then the actions.
func (n *Node) step(e failover.Event) {
	e.At = n.now()
	next, actions := failover.Step(&n.params, n.state, e)
	if !next.Hard.Equal(n.state.Hard) {
		if err := n.o.Store.SaveHard(next.Hard); err != nil {
			n.hardFailed(err)
			return
		}
		n.hardWorks()
	}
	before := n.state
	n.state = next
	n.publishBeat()
	n.noteVerdict(&before)
	for _, a := range actions {
		n.act(a)
	}
	n.changed.Notify()
}

// hardFailed: without a record nothing is done. The event is dropped; what it would have caused is asked for again by
// time.
func (n *Node) hardFailed(err error) {
	n.retryAt = time.Now().Add(500 * time.Millisecond)
	if n.failing {
		return
	}
	n.failing = true
	n.o.Log.Error("ORS-1030: the hard state cannot be written: nothing is claimed or started until it can", "error", err)
	n.live.setAlarm("ORS-1030", "", "The state directory cannot be written: "+err.Error(),
		"make room or mend the disk; until then this server claims and starts nothing")
	n.record(store.Record{Kind: "alarm", Code: "ORS-1030", Text: err.Error()})
	n.changed.Notify()
}

func (n *Node) hardWorks() {
	if !n.failing {
		return
	}
	n.failing = false
	n.live.clearAlarm("ORS-1030", "")
	n.record(store.Record{Kind: "agent", Step: "store", Text: "The state directory can be written again."})
}

// arm sets the timer for the next moment at which something is due, never later than the beats' interval. All moments
// are absolute: whoever keeps the loop busy with questions does not put them off.
func (n *Node) arm(timer *time.Timer) {
	now := time.Now()
	wake := n.houseAt
	if n.failing {
		wake = n.retryAt // do not spin on a decision that cannot be recorded
	} else {
		if t := failover.Next(&n.params, &n.state); t != failover.Never && n.when(t).Before(wake) {
			wake = n.when(t)
		}
		if t := n.detector.View(now).Next; !t.IsZero() && t.After(now) && t.Before(wake) {
			wake = t
		}
	}
	n.wake = wake
	timer.Reset(max(0, wake.Sub(now)))
}

// checkLate notices that this server did not run for a while: stopped, suspended, or starved. Half a time-out is the
// limit, so that a verdict of silence never rests on a time in which nobody listened.
func (n *Node) checkLate() {
	now := time.Now()
	lag := now.Sub(n.wake)
	limit := max(n.cfg.Interconnect.Timeout/2, 100*time.Millisecond)
	if lag <= limit {
		return
	}
	n.wake = now
	n.detector.Forget(now)
	text := fmt.Sprintf("This server did not run for %d ms: verdict and reads are forgotten.", lag.Milliseconds())
	n.o.Log.Warn("ORS-1002: "+text, "lag", lag)
	n.step(failover.Event{Kind: failover.WasLate, Text: text})
}

// onTime runs when the timer fires.
func (n *Node) onTime() {
	if e := n.evidence(time.Now()); !sameEvidence(e, n.state.Partner.Evidence) {
		n.step(failover.Event{Kind: failover.Seen, Evidence: e})
	} else if failover.Next(&n.params, &n.state) <= n.now() || n.due() {
		n.step(failover.Event{Kind: failover.Passed})
	}
	if now := time.Now(); !now.Before(n.houseAt) {
		n.houseAt = now.Add(n.cfg.Interconnect.Interval)
		n.publishBeat()
		n.tellStatus()
		n.resendMoves()
	}
}

// due reports whether the state's own clock lags behind a moment that has passed.
func (n *Node) due() bool { return n.now()-n.state.Now >= 100 }
