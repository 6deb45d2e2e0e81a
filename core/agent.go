package core

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/node"
	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/core/pluginhost"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/core/watchdog"
	"github.com/orscore/ors/internal/safefile"
)

// A node whose loop does not run for so long hangs: its beats end. It may wait for the disk of its state, and a slow
// disk is no reason to be taken for dead.
const (
	staleTimeouts = 3
	staleLeast    = 5 * time.Second
)

// ErrRestart is the end of an agent that is to be started again.
var ErrRestart = errors.New("the agent is to be started again")

// Run is one server's recovery agent. It returns when ctx ends (applications are left running and goodbye is said, so
// that the partner takes nothing over) or when an orderly shutdown has been carried out. When it was asked to let
// another program take its place, this process becomes that one; if it cannot, the agent goes on.
//
// ErrRestart: it has ended in order because a restart was asked for, and is to be started again.
func Run(ctx context.Context, o Options) error {
	log := o.logger()
	c, err := o.load()
	if err != nil {
		return err
	}
	for _, n := range c.Notes {
		log.Warn(n.Code+": "+n.Summary, "detail", n.Detail)
	}
	for {
		a, err := assemble(c, log)
		if err != nil {
			return err
		}
		err = a.run(ctx)
		next, restart := a.node.Successor()
		if restart && next == "" && ctx.Err() == nil && err == nil {
			return ErrRestart
		}
		if next == "" || ctx.Err() != nil {
			return err
		}
		if err != nil {
			log.Warn("the agent did not end in order", "error", err)
		}
		log.Info("another program takes this agent's place", "program", next)
		log.Error("ORS-1063: the other program cannot be run; this agent goes on", "program", next, "error", become(next))
	}
}

// agent is everything that runs, in the order in which it was opened.
type agent struct {
	cfg      *config.Config
	boot     string // id of this run of the operating system
	log      hclog.Logger
	store    *store.Store
	ledger   *ledger.Recorder
	switches []storage.Switch
	plugins  *pluginhost.Host
	drives   interface{ Close() error }
	links    *interconnect.Interconnect
	node     *node.Node
	watchdog *watchdog.Watchdog // nil: none is configured
}

// assemble opens all parts; on an error it closes those that were opened.
func assemble(c *config.Config, log hclog.Logger) (_ *agent, err error) {
	a := &agent{cfg: c, log: log}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	a.boot = boot
	if err := os.MkdirAll(c.Agent.RunDir, 0o755); err != nil {
		return nil, fmt.Errorf("ORS-1033: agent.run_dir: %w", err)
	}
	if a.store, err = store.Open(c.Agent.StateDir); err != nil {
		return nil, err
	}
	for _, w := range a.store.Warnings() {
		log.Warn(w)
	}
	a.ledger = ledger.New(ledgerOptions(c, a.store, boot))
	if a.switches, err = switches(c, log); err != nil {
		return nil, err
	}
	drives, err := newDrives(c, log)
	if err != nil {
		return nil, err
	}
	a.drives = drives
	plugins := pluginOptions(c, fmt.Sprintf("%s/%d", boot, a.store.Incarnation()), log)
	plugins.Replaced, plugins.Events = a.replaced, a.events
	a.plugins = pluginhost.New(plugins)
	if a.links, err = interconnect.New(interconnect.Options{
		Pair: c.Pair.Name, Self: uint8(c.Self), Key: c.Interconnect.Key,
		OtherKey: c.Interconnect.OtherKey, Interval: c.Interconnect.Interval, MaxVersion: maxInterconnect(),
		Timeout: c.Interconnect.Timeout, Stale: max(staleTimeouts*c.Interconnect.Timeout, staleLeast),
		Links: links(c, log), Boot: loop.BootHash(boot),
		Incarnation: a.store.Incarnation16(), Log: log.Named("interconnect"),
	}); err != nil {
		return nil, err
	}
	var well func(bool)
	if w := c.Agent.Watchdog; w != nil {
		a.watchdog = watchdog.New(watchdog.Options{Device: w.Device, Timeout: w.Timeout, Log: log.Named("watchdog"),
			Tell: func(code, text, next string) { a.node.Alarm(code, text, next) }})
		well = a.watchdog.Well
	}
	a.node, err = node.New(node.Options{
		Well:   well,
		Config: c, Switches: a.switches, Drives: drives, Plugins: a.plugins, PluginStatus: a.pluginStatus,
		Store: a.store, Ledger: a.ledger, Decisions: a.store.Decisions(), Interconnect: a.links, Network: networkCheck(c),
		Log: log.Named("node"), Version: Version, BootID: boot, Incarnation: a.store.Incarnation(),
		WorkDir: filepath.Join(c.Agent.RunDir, "apps"), LogDir: c.Agent.LogDir, Arrivals: a.arrivals(), Process: ownProcess(),
	})
	return a, err
}

// arrivals is what the agent before this one has told last of each group, as far as the end of its journal goes.
func (a *agent) arrivals() []arrival.Notice {
	last, _, err := arrival.Last(a.store)
	if err != nil {
		a.log.Warn("what was told of the groups before is not known", "error", err)
	}
	return last
}

// ledgerOptions say whose ledger of ownership is written, and about which units.
func ledgerOptions(c *config.Config, s *store.Store, boot string) ledger.Options {
	o := ledger.Options{Log: s.Ledger(), Self: c.Self, Boot: boot, Incarnation: s.Incarnation(),
		Servers: [2]string{c.ServerName(failover.First), c.ServerName(failover.Second)}}
	for _, u := range c.Units() {
		o.Units = append(o.Units, ledger.Unit{Name: u.Storage.Name, Group: c.Groups[u.Group].Name})
	}
	return o
}

// run starts the parts and waits for the node's end.
func (a *agent) run(ctx context.Context) error {
	defer a.close()
	if err := a.autostart(ctx); err != nil { // before the agent asks for priority, which commands must not inherit
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if a.cfg.Agent.Realtime {
		granted, refused := interconnect.LockRealtime()
		a.log.Info("real time", "granted", strings.Join(granted, ", "), "refused", strings.Join(refused, ", "))
	}
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 2)
	a.node.FirstBeat()
	go func() { ended <- wrap("interconnect", a.links.Run(inner)) }()
	go func() {
		ended <- wrap("control",
			control.Serve(inner, ControlSocket(a.cfg), control.Permission{}, a.backend(), a.log.Named("control")))
	}()
	go watchKeys(inner, &a.cfg.Interconnect, a.links.SetKeys, a.log.Named("interconnect"))
	// Plugins take a while to start; beats and ownership do not wait for them, a group that needs one does.
	go a.plugins.Start(inner, a.cfg.Kinds())
	nodeCtx, stopNode := context.WithCancel(inner)
	defer stopNode()
	endWatchdog := a.startWatchdog(inner)
	defer endWatchdog()
	nodeEnd := make(chan error, 1)
	go func() { nodeEnd <- a.node.Run(nodeCtx) }()
	a.log.Info("the agent runs", "server", a.cfg.ServerName(a.cfg.Self), "partner", partner(a.cfg), "version", Version)
	var errs []error
	left := 2
	select {
	case <-ctx.Done():
		errs = append(errs, a.node.Goodbye(inner))
		stopNode()
		errs = append(errs, <-nodeEnd)
	case err := <-nodeEnd:
		errs = append(errs, err)
	case err := <-ended:
		left--
		errs = append(errs, err)
		stopNode()
		errs = append(errs, <-nodeEnd)
	}
	stop()
	for range left {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// startWatchdog drives the configured watchdog until ctx ends or the result is called, which waits for its last word.
func (a *agent) startWatchdog(ctx context.Context) (end func()) {
	if a.watchdog == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.watchdog.Run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(closeTimeout): // a device that hangs keeps no agent from its end
		}
	}
}

func wrap(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (a *agent) close() {
	if a.plugins != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		if err := a.plugins.Close(ctx); err != nil {
			a.log.Warn("a plugin did not end in time", "error", err)
		}
		cancel()
	}
	closeSwitches(a.switches)
	if a.drives != nil {
		_ = a.drives.Close()
	}
	if a.store != nil {
		a.ledger.Close()
		if err := a.store.Close(); err != nil {
			a.log.Warn("the state directory", "error", err)
		}
	}
}

// replaced tells the node of a plugin that was started anew. There is a node as soon as plugins are started.
func (a *agent) replaced(kind, application string) { a.node.PluginReplaced(kind, application) }

func (a *agent) pluginStatus() []control.Plugin {
	var out []control.Plugin
	for _, p := range a.plugins.Status() {
		kind := p.Kind
		if p.Application != "" {
			kind += " (" + p.Application + ")"
		}
		out = append(out, control.Plugin{
			Kind: kind, Version: p.Version, SHA256: p.SHA256, Pinned: p.Pinned, State: string(p.State),
			Detail: p.Detail, PID: p.PID,
		})
	}
	return out
}

// backend is what the control socket may ask for.
func (a *agent) backend() control.Backend { return &backend{Node: a.node, agent: a} }

type backend struct {
	*node.Node
	agent *agent
}

// Journal gives readers of events the journal.
func (b *backend) Journal() control.Journal { return b.agent.store }

// Restart ends the agent as the node does, once it is clear that a program that is to take its place may do so.
func (b *backend) Restart(ctx context.Context, r control.RestartRequest) (string, error) {
	if r.Program != "" {
		if err := mayBecome(r.Program); err != nil {
			return "", fmt.Errorf("ORS-1063: %w: %w", err, control.ErrRefused)
		}
	}
	return b.Node.Restart(ctx, r)
}

func mayBecome(program string) error {
	if !canBecome {
		return errors.New("no other program can take the agent's place on this system; right would be a restart without one")
	}
	if !filepath.IsAbs(program) {
		return fmt.Errorf("%q is no absolute path", program)
	}
	info, err := os.Stat(program)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o100 == 0:
		return fmt.Errorf("%s is no program (mode %v)", program, info.Mode())
	}
	return safefile.Check(program)
}
