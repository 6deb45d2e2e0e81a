// Package node is one server's node on a real server: the goroutine that owns the logic of core/node/loop, and the
// workers that carry out what it decides with switches, drives and plugins.
//
// The goroutine never waits for a disk but for the hard state's, never for a switch, a plugin or the partner. This
// package must never decide anything by itself, and knows drivers, links and plugins only as interfaces.
package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/node/loop"
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
	Renew(context.Context, string, *pluginv1.RenewRequest) (*pluginv1.RenewResponse, error)
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
	Ledger       *ledger.Recorder // nil: none is written
	Decisions    interface{ Note(store.Record) }
	Interconnect Interconnect
	// Well, when set, is told after each turn of the loop whether this server holds a group. It must not wait.
	Well func(holds bool)
	// Network answers whether the targets of the network check are reachable; nil when none are configured.
	Network     func(context.Context) failover.Answer
	Log         hclog.Logger
	Version     string
	BootID      string         // of this run of the operating system
	Incarnation int            // of the agent
	Process     control.Server // what status shows of the agent's process: pid, program, protocol
	WorkDir     string         // folders of applications are made below it
	LogDir      string         // their output goes to files below it
	// Arrivals is what the agent before this one has told last of each group.
	Arrivals []arrival.Notice
}

// Node is one server's agent at work.
type Node struct {
	o    Options
	cfg  *config.Config
	self string
	peer string

	loop *loop.Loop // owned by Run's goroutine
	view *loop.View

	decisions chan made // on their way to the disk
	lost      int       // decisions that found no room there; owned by the loop

	events  chan failover.Event
	calls   chan func()
	workers []*groupWorker

	renewedAt    time.Duration // on the boot clock: when leases were renewed last; the loop's goroutine's
	partnerKnows atomic.Bool   // of the end of this agent
	restarting   atomic.Bool   // a restart has been asked for
	successor    atomic.Pointer[string]
	wg           sync.WaitGroup // every goroutine of the node
	stop         context.CancelFunc
	ctx          context.Context
	done         chan struct{}

	tails   tails
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
		o: o, cfg: o.Config,
		self: o.Config.ServerName(o.Config.Self), peer: o.Config.ServerName(o.Config.Self.Other()),
		decisions: make(chan made, 64), events: make(chan failover.Event, 256), calls: make(chan func(), 16),
		done: make(chan struct{}),
	}
	var hard failover.Hard
	if _, err := o.Store.LoadHard(&hard); err != nil {
		return nil, err
	}
	n.loop = loop.New(loop.Options{
		Config: o.Config, Hard: hard, World: outside{n}, Log: o.Log, Version: o.Version, BootID: o.BootID,
		Incarnation: o.Incarnation, Process: o.Process, Decided: n.decided, Arrivals: o.Arrivals,
	})
	n.view = n.loop.View()
	for g := range o.Config.Groups {
		n.workers = append(n.workers, newGroupWorker(n, g))
	}
	return n, nil
}

// FirstBeat sets what beats say until Run. It comes before the links are opened.
func (n *Node) FirstBeat() { n.loop.FirstBeat() }

// Run drives the server until ctx ends or Shutdown has been carried out. Applications are left running.
func (n *Node) Run(ctx context.Context) error {
	ctx, n.stop = context.WithCancel(ctx)
	n.ctx = ctx
	defer close(n.done)
	defer n.endLeases()
	defer n.wg.Wait()
	defer n.stop()
	defer close(n.decisions)
	n.goRun(n.keepDecisions)
	for _, w := range n.workers {
		n.goRun(w.run)
	}
	if n.o.Network != nil {
		n.goRun(n.watchNetwork)
	}
	n.loop.Begin()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-n.o.Interconnect.Events():
			n.loop.Interconnect(e)
		case e := <-n.events:
			n.loop.Answer(e)
		case f := <-n.calls:
			n.loop.Do(f)
		case <-timer.C:
			n.loop.OnTime()
		}
		n.renewLeases()
		if n.o.Well != nil {
			n.o.Well(n.loop.Holds())
		}
		timer.Reset(max(0, time.Until(n.loop.Next())))
	}
}

// outside is what the loop acts on.
type outside struct{ n *Node }

func (w outside) Now() time.Time                   { return time.Now() }
func (w outside) SetBeat(b interconnect.Beat)      { w.n.o.Interconnect.SetBeat(b) }
func (w outside) Do(a failover.Action)             { w.n.act(a) }
func (w outside) Changed()                         { w.n.changed.Notify() }
func (w outside) Links() []interconnect.LinkStatus { return w.n.o.Interconnect.Links() }
func (w outside) Driver(unit int) string           { return w.n.o.Switches[unit].Capabilities().Driver }

func (w outside) SaveHard(h failover.Hard) error {
	return around("hard", func() error { return w.n.o.Store.SaveHard(h) })
}

func (w outside) Send(m interconnect.Message) error {
	pointOfMessage(m)
	return w.n.o.Interconnect.Send(m)
}

func (w outside) Record(r store.Record) {
	pointOfRecord(r)
	w.n.record(r)
}

func (w outside) Plugins() []control.Plugin {
	if w.n.o.PluginStatus == nil {
		return nil
	}
	return w.n.o.PluginStatus()
}

// watchNetwork asks the network check's targets again and again.
func (n *Node) watchNetwork(ctx context.Context) {
	t := time.NewTicker(max(n.cfg.Interconnect.Timeout/4, 100*time.Millisecond))
	defer t.Stop()
	for {
		a := n.o.Network(ctx)
		_ = n.call(ctx, func() { n.loop.Network(a) })
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// record writes into the journal, with this server's name.
func (n *Node) record(r store.Record) {
	r.Server = n.self
	if r.At.IsZero() {
		r.At = time.Now()
	}
	n.o.Store.Note(r)
	n.tails.tell(r)
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
