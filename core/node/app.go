package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// app is one application of a group on this server.
type app struct {
	w      *groupWorker
	cfg    *config.Application
	failed atomic.Bool // its checks failed: a start must not take it for running
	inUse  atomic.Bool // the newest start has found that another machine has what it takes
	doubt  atomic.Bool // they failed, and have not passed since: a restart in place has not helped yet

	cameBy   uint64 // operation by which the group came; the worker's, as attempts
	attempts uint32 // starts since then

	mu     sync.Mutex
	cancel context.CancelFunc // of the probing
	ended  chan struct{}

	leaseCancel context.CancelFunc // of the renewals
	leaseEnded  chan struct{}
	leaseEpoch  atomic.Uint32
	leased      atomic.Bool   // its plugin has taken a lease
	unleased    atomic.Bool   // its plugin knows of none
	heardTill   atomic.Int64  // on the boot clock: for so long it may be heard, by what this agent has asked for
	renewed     atomic.Uint64 // number of the newest renewal
	kick        chan struct{} // a renewal is due

	reborn chan struct{} // another process of its plugin serves it
}

func newApp(w *groupWorker, cfg *config.Application) *app {
	return &app{w: w, cfg: cfg, kick: make(chan struct{}, 1), reborn: make(chan struct{}, 1)}
}

// id names the application's handle in the store.
func (p *app) id() string { return p.w.cfg.Name + "." + p.cfg.Name }

// workDir is GROUP/NAME below the folder of all: plugins may count on that (sdk.Instance.WorkDir).
func (p *app) workDir() string { return filepath.Join(p.w.n.o.WorkDir, p.w.cfg.Name, p.cfg.Name) }

func (p *app) caller(op uint64, epoch uint32) *pluginv1.Caller {
	return &pluginv1.Caller{
		Server: p.w.n.self, BootId: fmt.Sprintf("%s/%d", p.w.n.o.BootID, p.w.n.o.Incarnation),
		Epoch: uint64(epoch), OperationId: fmt.Sprintf("%d-%d", p.w.n.o.Incarnation, op),
	}
}

// request puts together what a plugin is told of the application, with the letters as they are now; where nothing is
// mounted, with those that are configured.
func (p *app) request(mounted []drive.Mounted) (*pluginv1.Application, error) {
	values := p.w.n.cfg.ExpectedDrives(p.w.cfg)
	for i := range values {
		if i < len(mounted) {
			values[i].Letter, values[i].Path = mounted[i].Letter, mounted[i].Path
		}
	}
	schema, err := p.w.n.o.Plugins.Schema(p.cfg.Kind)
	if err != nil {
		return nil, err
	}
	body, diags := p.w.n.cfg.DecodeApplication(p.cfg, schema, values)
	if diags.HasErrors() {
		return nil, diags
	}
	a := &pluginv1.Application{Group: p.w.cfg.Name, Name: p.cfg.Name, Config: body, WorkDir: p.workDir(),
		LogFile: p.logFile(), Arrival: p.arrived(),
		Primary: p.w.n.cfg.ServerName(p.w.cfg.Primary)}
	for _, v := range values {
		a.Drives = append(a.Drives, &pluginv1.Drive{Letter: v.Letter, Path: v.Path, ConfiguredLetter: v.ConfiguredLetter})
	}
	return a, nil
}

func (p *app) handle() (*pluginv1.Handle, error) {
	h, ok, err := p.w.n.o.Store.Handle(p.id())
	if err != nil || !ok {
		return nil, err
	}
	return &pluginv1.Handle{Version: h.Version, State: h.State}, nil
}

func (p *app) save(h *pluginv1.Handle) error {
	if h == nil {
		return nil
	}
	if old, ok, _ := p.w.n.o.Store.Handle(p.id()); ok && old.Version == h.Version && string(old.State) == string(h.State) {
		return nil
	}
	return p.w.n.o.Store.SaveHandle(p.id(), h.Version, h.State)
}

func (p *app) show(state, detail string) {
	p.w.n.view.Application(p.w.index, p.cfg.Name, state, "", detail)
}

// ready asks the plugin whether the application could be started here.
func (p *app) ready(ctx context.Context, epoch uint32) error {
	a, err := p.request(nil)
	if err != nil {
		return err
	}
	resp, err := p.w.n.o.Plugins.Ready(ctx, p.cfg.Kind, &pluginv1.ReadyRequest{Caller: p.caller(0, epoch), Application: a})
	if err != nil {
		return err
	}
	var errs []error
	for _, problem := range resp.GetProblems() {
		if problem.GetSeverity() == pluginv1.Problem_SEVERITY_ERROR {
			errs = append(errs, errors.New(strings.TrimSuffix(problem.GetSummary()+": "+problem.GetDetail(), ": ")))
		}
	}
	return errors.Join(errs...)
}

// up recovers the application when it runs, and starts it when it surely does not, or when its start was cut short:
// no handle is on record before a start has ended, and a start of what runs finishes what is missing. "Unknown" is
// asked again until ctx ends.
func (p *app) up(ctx context.Context, act failover.Action, mounted []drive.Mounted) error {
	from := time.Now()
	a, err := p.request(mounted)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.GetWorkDir(), 0o700); err != nil {
		return fmt.Errorf("ORS-1031: its work folder cannot be made: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(a.GetLogFile()), 0o755); err != nil {
		return fmt.Errorf("ORS-1031: the folder of its output cannot be made: %w", err)
	}
	handle, err := p.handle()
	if err != nil {
		return err
	}
	caller := p.caller(act.Op, act.Epoch)
	running, found, err := p.recover(ctx, caller, a, handle)
	if err != nil {
		return err
	}
	finished := handle != nil
	if running && finished {
		if err := p.save(found); err != nil {
			return err
		}
	}
	if running && finished && !p.failed.Load() {
		if err := p.beginLease(ctx, act.Epoch); err != nil {
			return err
		}
		p.show("running", "recovered")
		p.w.n.stepRecord(p.w.index, "app-recovered "+p.cfg.Name, act.Op, "It was running already.", took(from))
		return nil
	}
	switch {
	case running && p.failed.Load():
		if err := p.down(ctx, act); err != nil {
			return err
		}
	case running:
		handle = found
	}
	return p.begin(ctx, act, a, handle)
}

// recover asks until it is sure.
func (p *app) recover(ctx context.Context, c *pluginv1.Caller, a *pluginv1.Application,
	h *pluginv1.Handle) (running bool, found *pluginv1.Handle, err error) {
	for {
		r, err := p.w.n.o.Plugins.Recover(ctx, p.cfg.Kind, &pluginv1.RecoverRequest{Caller: c, Application: a, Handle: h})
		detail := r.GetDetail()
		switch {
		case err != nil:
			detail = err.Error()
		case r.GetState() == pluginv1.RunState_RUN_STATE_RUNNING:
			return true, r.GetHandle(), nil
		case r.GetState() == pluginv1.RunState_RUN_STATE_STOPPED:
			return false, nil, nil
		}
		p.show("unknown", detail)
		if !sleepUntil(ctx, 200*time.Millisecond, 0) {
			return false, nil, fmt.Errorf("it is not known whether it runs: %s", detail)
		}
	}
}

func (p *app) begin(ctx context.Context, act failover.Action, a *pluginv1.Application,
	previous *pluginv1.Handle) error {
	from := time.Now()
	p.show("starting", "")
	n := p.w.n
	n.stepRecord(p.w.index, "app-start "+p.cfg.Name, act.Op, "It is being started.", nil)
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StartTimeout)
	defer cancel()
	if err := p.beginLease(ctx, act.Epoch); err != nil {
		p.show("failed", err.Error())
		return err
	}
	if a.Arrival != nil {
		a.Arrival.Attempt = p.attempt()
	}
	req := &pluginv1.StartRequest{Caller: p.caller(act.Op, act.Epoch), Application: a, Previous: previous}
	var h *pluginv1.Handle
	err := around("start", func() (err error) {
		h, err = n.o.Plugins.StartApplication(ctx, p.cfg.Kind, req, func(pr *pluginv1.Progress) {
			n.record(store.Record{Kind: "application", Group: p.w.cfg.Name, Step: p.cfg.Name + " " + pr.GetStep(),
				Text: pr.GetText()})
			p.show("starting", pr.GetText())
		})
		return err
	})
	p.elsewhere(ctx, err)
	if err != nil {
		p.show("failed", err.Error())
		return err
	}
	if err := p.save(h); err != nil {
		return err
	}
	p.failed.Store(false)
	p.show("running", "started")
	n.stepRecord(p.w.index, "app-up "+p.cfg.Name, act.Op, "It is started and answers.", took(from))
	return nil
}

// elsewhere tells people when a start has found that another machine has what the application takes: a partner that
// is taken for lost may live, behind links that are cut. What becomes of the group is not decided by that: the plugin
// takes nothing that is in use, and the start is tried again.
func (p *app) elsewhere(ctx context.Context, err error) {
	n := p.w.n
	if status.Code(err) != codes.AlreadyExists {
		p.notElsewhere()
		return
	}
	p.inUse.Store(true)
	text := fmt.Sprintf("Another machine has what %s takes: %v.", p.cfg.Name, err)
	next := "find the machine that answers, and free what it has"
	if lost, err := ask(ctx, n, func() bool { return n.loop.State().Partner.Lost }); err == nil && lost {
		text += fmt.Sprintf(" %s is taken for lost and may live, cut off from this server.", n.peer)
		next = fmt.Sprintf("look whether %s runs: mend its links, or power it off", n.peer)
	}
	n.alarm("ORS-1065", p.w.cfg.Name, text, next)
	n.record(store.Record{Kind: "alarm", Group: p.w.cfg.Name, Code: "ORS-1065", Text: text})
}

// notElsewhere ends the alarm, if it was this application's.
func (p *app) notElsewhere() {
	if p.inUse.Swap(false) {
		p.w.n.view.ClearAlarm("ORS-1065", p.w.cfg.Name)
	}
}

// down stops the application in order; nil means that surely nothing of it runs.
func (p *app) down(ctx context.Context, act failover.Action) error {
	from := time.Now()
	handle, err := p.handle()
	if err != nil {
		return err
	}
	if p.untouched(handle) {
		p.show("stopped", "")
		return nil
	}
	a, err := p.request(p.w.mounted)
	if err != nil {
		return err
	}
	p.show("stopping", "")
	p.w.n.stepRecord(p.w.index, "app-stop "+p.cfg.Name, act.Op, "It is being stopped.", nil)
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StopTimeout)
	defer cancel()
	var r *pluginv1.StopResponse
	err = around("stop", func() (err error) {
		r, err = p.w.n.o.Plugins.Stop(ctx, p.cfg.Kind, &pluginv1.StopRequest{
			Caller: p.caller(act.Op, act.Epoch), Application: a, Handle: handle})
		return err
	})
	if err == nil && r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		err = fmt.Errorf("it still runs, or may: %s", r.GetDetail())
	}
	if err != nil {
		p.show("unknown", err.Error())
		return err
	}
	p.endLease()
	p.notElsewhere()
	p.failed.Store(false)
	p.show("stopped", r.GetDetail())
	p.w.n.stepRecord(p.w.index, "app-stopped "+p.cfg.Name, act.Op, r.GetDetail(), took(from))
	return p.w.n.o.Store.DropHandle(p.id())
}

// untouched: no start of the application was ever asked for on this server since it was switched on, so nothing of it
// can run, and a plugin that is missing does not keep its group from being stopped or clear. The work folder is made
// before the first start.
func (p *app) untouched(h *pluginv1.Handle) bool {
	_, err := os.Stat(p.workDir())
	return h == nil && errors.Is(err, os.ErrNotExist)
}

// kill ends the application at once.
func (p *app) kill(ctx context.Context, act failover.Action) error {
	handle, err := p.handle()
	if err != nil {
		return err
	}
	if p.untouched(handle) {
		p.show("stopped", "")
		return nil
	}
	a, err := p.request(p.w.mounted)
	if err != nil {
		return err
	}
	p.show("stopping", "")
	p.w.n.stepRecord(p.w.index, "app-kill "+p.cfg.Name, act.Op, "What is left of it is killed.", nil)
	r, err := p.w.n.o.Plugins.Kill(ctx, p.cfg.Kind, &pluginv1.KillRequest{
		Caller: p.caller(act.Op, act.Epoch), Application: a, Handle: handle})
	if err == nil && r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		err = fmt.Errorf("it still runs, or may: %s", r.GetDetail())
	}
	if err != nil {
		p.show("unknown", err.Error())
		return err
	}
	p.endLease()
	p.notElsewhere()
	p.failed.Store(false)
	p.show("stopped", r.GetDetail())
	return p.w.n.o.Store.DropHandle(p.id())
}

// watch probes the application that act has brought up until stopWatch. An answer that is neither ok nor failed counts
// for nothing (S6).
func (p *app) watch(act failover.Action) {
	p.stopWatch()
	ctx, cancel := context.WithCancel(p.w.n.ctx)
	ended := make(chan struct{})
	p.mu.Lock()
	p.cancel, p.ended = cancel, ended
	p.mu.Unlock()
	p.w.n.goRun(func(context.Context) {
		defer close(ended)
		p.probes(ctx, act)
	})
}

func (p *app) stopWatch() {
	p.mu.Lock()
	cancel, ended := p.cancel, p.ended
	p.cancel, p.ended = nil, nil
	p.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

func (p *app) probes(ctx context.Context, act failover.Action) {
	t := time.NewTicker(p.cfg.Probe.Interval)
	defer t.Stop()
	fails := 0
	if p.doubt.Load() {
		fails = p.cfg.Probe.Fall - 1
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.reborn:
			if p.recoverAnew(ctx, act.Epoch) {
				continue
			}
		case <-t.C:
		}
		r := p.probe(ctx, act.Epoch)
		switch {
		case ctx.Err() != nil:
			return
		case r.GetFinished() && r.GetHealth() == pluginv1.Health_HEALTH_OK:
			p.w.n.record(store.Record{Kind: "application", Group: p.w.cfg.Name, Step: p.cfg.Name + arrival.Finished,
				Text: r.GetDetail(), Op: act.Op})
			return
		case r.GetHealth() == pluginv1.Health_HEALTH_OK:
			fails = 0
			p.failed.Store(false)
			p.doubt.Store(false)
		case r.GetHealth() == pluginv1.Health_HEALTH_FAILED && r.GetEnded():
			fails = p.cfg.Probe.Fall
		case r.GetHealth() == pluginv1.Health_HEALTH_FAILED:
			fails++
		}
		if fails >= p.cfg.Probe.Fall {
			p.failed.Store(true)
			p.doubt.Store(true)
			p.w.n.send(failover.Event{Kind: failover.AppsFailed, Group: p.w.index, Op: act.Op,
				Text: strings.TrimSuffix(p.cfg.Name+" failed its checks: "+r.GetDetail(), ": ")})
			fails = 0 // told again if it goes on: in maintenance nothing may be done about it yet
		}
	}
}

// PluginReplaced tells the node that another process of a plugin has begun to serve its kind, or one application
// "group/name" of it. It never waits.
func (n *Node) PluginReplaced(kind, application string) {
	for _, w := range n.workers {
		for _, p := range w.apps {
			if p.cfg.Kind == kind && (application == "" || application == w.cfg.Name+"/"+p.cfg.Name) {
				select {
				case p.reborn <- struct{}{}:
				default:
				}
			}
		}
	}
}

// recoverAnew lets a plugin process that has just begun to serve find the application that runs, and renew its handle.
// It draws no conclusions: the checks go on, and say whether the application is well; where it returns false, at once.
func (p *app) recoverAnew(ctx context.Context, epoch uint32) bool {
	ctx, cancel := context.WithTimeout(ctx, recoverAnswer)
	defer cancel()
	a, err := p.request(p.w.n.view.Mounted(p.w.index))
	if err != nil {
		return true
	}
	h, err := p.handle()
	if err != nil {
		return true
	}
	r, err := p.w.n.o.Plugins.Recover(ctx, p.cfg.Kind,
		&pluginv1.RecoverRequest{Caller: p.caller(0, epoch), Application: a, Handle: h})
	text := r.GetDetail()
	switch {
	case err != nil:
		text = "Its plugin was started anew and does not know whether it runs: " + err.Error()
	case r.GetState() == pluginv1.RunState_RUN_STATE_RUNNING:
		text = "Its plugin was started anew and has found it running."
		if err := p.save(r.GetHandle()); err != nil {
			p.w.n.o.Log.Warn("a handle cannot be written", "application", p.id(), "error", err)
		}
	default:
		text = "Its plugin was started anew and has not found it running: " + text
	}
	p.w.n.record(store.Record{Kind: "application", Group: p.w.cfg.Name, Step: p.cfg.Name + " recovered", Text: text})
	return err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED
}

// recoverAnswer is how long a plugin that was started anew has to find an application.
const recoverAnswer = 5 * time.Second

func (p *app) probe(ctx context.Context, epoch uint32) *pluginv1.ProbeResponse {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Probe.Timeout)
	defer cancel()
	view := p.w.n.view
	a, err := p.request(view.Mounted(p.w.index))
	var r *pluginv1.ProbeResponse
	if err == nil {
		var h *pluginv1.Handle
		if h, err = p.handle(); err == nil {
			r, err = p.w.n.o.Plugins.Probe(ctx, p.cfg.Kind,
				&pluginv1.ProbeRequest{Caller: p.caller(0, epoch), Application: a, Handle: h})
		}
	}
	if err != nil {
		view.Application(p.w.index, p.cfg.Name, "running", "unknown", err.Error())
		return &pluginv1.ProbeResponse{Health: pluginv1.Health_HEALTH_UNKNOWN}
	}
	state := "running"
	if r.GetFinished() {
		state = "finished"
	}
	view.Application(p.w.index, p.cfg.Name, state, healthWord(r.GetHealth()), r.GetDetail())
	return r
}

func healthWord(h pluginv1.Health) string {
	switch h {
	case pluginv1.Health_HEALTH_OK:
		return "ok"
	case pluginv1.Health_HEALTH_FAILED:
		return "failed"
	}
	return "unknown"
}
