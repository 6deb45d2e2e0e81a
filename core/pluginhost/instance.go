package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// instance is one place for a plugin process: the goroutine supervise keeps a process in it.
type instance struct {
	h           *Host
	kind        string
	application string // of an isolated plugin

	done   chan struct{} // closed when supervise has ended
	nudged chan struct{} // a call wants a missing or refused program looked at again

	mu       sync.Mutex
	state    State
	err      *Error   // why it is not running
	proc     *process // running; nil otherwise
	last     identity // what was looked at last
	version  string
	attempts int           // launches that have ended, well or badly
	launches []time.Time   // processes started, within the budget's window
	total    int           // processes started
	changed  chan struct{} // closed and replaced when anything above changes
}

func (in *instance) name() string {
	if in.application == "" {
		return in.kind
	}
	return in.kind + " for " + in.application
}

// supervise keeps a process running until ctx ends, then ends it.
func (in *instance) supervise(ctx context.Context) {
	defer close(in.done)
	failures := 0
	for ctx.Err() == nil {
		path, err := in.check()
		if err == nil {
			if wait := in.overBudget(time.Now()); wait > 0 {
				sleep(ctx, wait, nil)
				continue
			}
		}
		var p *process
		if err == nil {
			p, err = in.launch(ctx, path)
		}
		if err != nil {
			in.failed(err)
			if err.refusal() {
				sleep(ctx, in.h.lim.recheck, in.nudged)
				continue
			}
			failures++
			sleep(ctx, in.h.lim.backoff(failures), nil)
			continue
		}
		in.running(p)
		started := time.Now()
		why := in.watch(ctx, p)
		in.stopped(p, why)
		if ctx.Err() != nil {
			p.end(in.h.lim.stop, in.h.lim.dead)
			return
		}
		p.end(0, in.h.lim.dead)
		in.h.o.Log.Warn("plugin ended and is started again", "plugin", in.name(), "pid", p.run.pid(), "why", why)
		if time.Since(started) > in.h.lim.window {
			failures = 0
		}
		failures++
		sleep(ctx, in.h.lim.backoff(failures), nil)
	}
}

// backoff is how long to wait before a launch after so many failures in a row: not at all after the first one.
func (l limits) backoff(failures int) time.Duration {
	if failures < 2 {
		return 0
	}
	d := l.backoffFirst
	for i := 2; i < failures && d < l.backoffMost; i++ {
		d *= 2
	}
	return min(d, l.backoffMost)
}

// sleep waits for d, the end of ctx, or something on early.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-early:
	}
}

// overBudget says how long to wait until the restart budget allows a launch.
func (in *instance) overBudget(now time.Time) time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	recent := in.launches[:0]
	for _, t := range in.launches {
		if now.Sub(t) < in.h.lim.window {
			recent = append(recent, t)
		}
	}
	in.launches = recent
	if len(recent) < in.h.lim.budget {
		return 0
	}
	wait := recent[0].Add(in.h.lim.window).Sub(now)
	if in.state != StateBackoff {
		cause := in.err
		in.state = StateBackoff
		in.err = &Error{
			Code: CodeBudget, Kind: in.kind,
			What: fmt.Sprintf("it ended %d times within %v; the next try is at %s",
				len(recent), in.h.lim.window, now.Add(wait).Format(time.TimeOnly)),
			Next: "see " + in.h.logPath(in.kind, in.application),
		}
		if cause != nil {
			in.err.Err = errors.New(cause.What)
		}
		in.h.o.Log.Error("plugin is not started for a while", "plugin", in.name(), "error", in.err)
		in.tell()
	}
	return wait
}

// tell wakes whoever waits for a change. The caller holds mu.
func (in *instance) tell() {
	close(in.changed)
	in.changed = make(chan struct{})
}

func (in *instance) started() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.launches = append(in.launches, time.Now())
	in.total++
}

func (in *instance) failed(err *Error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil || in.err.Error() != err.Error() {
		in.h.o.Log.Error("plugin is not running", "plugin", in.name(), "error", err)
	}
	in.attempts++
	in.state, in.err = err.state(), err
	in.tell()
}

func (in *instance) running(p *process) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.attempts++
	in.state, in.err, in.proc, in.version = StateRunning, nil, p, p.info.GetVersion()
	in.h.o.Log.Info("plugin is running", "plugin", in.name(), "version", in.version, "pid", p.run.pid())
	in.tell()
}

func (in *instance) stopped(p *process, why string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.proc == p {
		in.proc = nil
	}
	in.state = StateStarting
	in.err = &Error{Code: CodeStart, Kind: in.kind, What: why, Next: "see " + in.h.logPath(in.kind, in.application)}
	in.tell()
}

// watch returns, with the reason, when the process has ended, hangs and was killed, or ctx is over.
func (in *instance) watch(ctx context.Context, p *process) string {
	tick := time.NewTicker(in.h.lim.healthEvery)
	defer tick.Stop()
	misses := 0
	for {
		suspected := false
		select {
		case <-ctx.Done():
			return "the host is closed"
		case <-p.run.exited:
			return p.why()
		case <-p.suspect:
			suspected = true
		case <-tick.C:
		}
		if p.healthy(ctx, in.h.lim.health) || ctx.Err() != nil {
			misses = 0
			continue
		}
		// One check that is late may be our own lateness; a call that was late, too, makes it sure.
		if misses++; suspected || misses > 1 {
			p.kill("it hung: a health check was not answered")
			return p.why()
		}
	}
}

func (in *instance) kill(why string) {
	in.mu.Lock()
	p := in.proc
	in.mu.Unlock()
	if p != nil {
		p.kill(why)
	}
}

// settle waits until a launch has been tried once, or ctx is over.
func (in *instance) settle(ctx context.Context) {
	for {
		in.mu.Lock()
		tried, changed := in.attempts > 0, in.changed
		in.mu.Unlock()
		if tried {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-in.done:
			return
		}
	}
}

// acquire returns the running process. When there is none it waits for the outcome of the next launch, unless the
// restart budget is used up.
func (in *instance) acquire(ctx context.Context) (*process, error) {
	first := -1
	for {
		in.mu.Lock()
		p, state, err, attempts, changed := in.proc, in.state, in.err, in.attempts, in.changed
		in.mu.Unlock()
		if p != nil && !p.ended() {
			return p, nil
		}
		if first < 0 {
			first = attempts
			if state == StateMissing || state == StateRefused {
				select {
				case in.nudged <- struct{}{}:
				default:
				}
			}
		}
		if err != nil && (state == StateBackoff || attempts > first && state != StateStarting) {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			waited := &Error{Code: CodeStart, Kind: in.kind, What: "it is not running yet", Next: "try again", Err: ctx.Err()}
			if err != nil {
				waited.What += " (" + err.What + ")"
			}
			return nil, waited
		case <-in.done:
			return nil, &Error{Code: CodeClosed, Kind: in.kind, What: "the plugin host is closed", Next: "start the agent"}
		}
	}
}

func (in *instance) status() PluginStatus {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := PluginStatus{
		Kind: in.kind, Application: in.application, Version: in.version, SHA256: in.last.sum,
		Pinned: in.h.o.Pins[in.kind].SHA256 != "", State: in.state, Launches: in.total,
	}
	if in.err != nil {
		s.Detail = in.err.Error()
	}
	if in.proc != nil {
		s.PID = in.proc.run.pid()
	}
	return s
}
