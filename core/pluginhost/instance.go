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

	replace chan *replacement // another program is to serve

	mu       sync.Mutex
	state    State
	err      *Error     // why it is not running
	proc     *process   // running; nil otherwise
	last     *candidate // what was looked at last; nil: nothing that may run
	version  string
	swapping bool          // another process is about to serve: calls wait
	attempts int           // launches that have ended, well or badly
	launches []time.Time   // processes started, within the budget's window
	total    int           // processes started
	served   bool          // a process has served before
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
		c, err := in.check(ctx)
		if err == nil {
			if wait := in.overBudget(time.Now()); wait > 0 {
				sleep(ctx, wait, in.nudged)
				continue
			}
		}
		var p *process
		if err == nil {
			p, err = in.launch(ctx, c, false)
		}
		if err != nil {
			in.failed(err)
			if err.refusal() {
				sleep(ctx, in.h.lim.recheck, in.nudged)
				continue
			}
			failures++
			sleep(ctx, in.h.lim.backoff(failures), in.nudged)
			continue
		}
		in.running(p)
		started := time.Now()
		p, why := in.serve(ctx, p)
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

// serve watches a process until it has ended, was killed, or ctx is over; meanwhile another one may have taken its
// place. It returns the one that served last, and why it does not any more.
func (in *instance) serve(ctx context.Context, p *process) (*process, string) {
	for {
		why, r := in.watch(ctx, p)
		if r == nil {
			return p, why
		}
		p = in.succeed(ctx, p, r)
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
			Next: in.next(),
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

// says notes the version that a program says it is.
func (in *instance) says(version string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.version = version
}

func (in *instance) running(p *process) {
	in.mu.Lock()
	in.attempts++
	in.state, in.err, in.proc, in.version = StateRunning, nil, p, p.info.GetVersion()
	in.last, in.swapping = p.program, false
	again := in.served
	in.served = true
	in.h.o.Log.Info("plugin is running", "plugin", in.name(), "version", in.version, "pid", p.run.pid())
	in.tell()
	in.mu.Unlock()
	if again && in.h.o.Replaced != nil {
		in.h.o.Replaced(in.kind, in.application)
	}
}

func (in *instance) stopped(p *process, why string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.proc == p {
		in.proc = nil
	}
	in.state = StateStarting
	in.err = &Error{Code: CodeStart, Kind: in.kind, What: why, Next: in.next()}
	in.tell()
}

// watch returns, with the reason, when the process has ended, hangs and was killed, or ctx is over; or with what is to
// take its place.
func (in *instance) watch(ctx context.Context, p *process) (string, *replacement) {
	defer in.inform(ctx, p)()
	tick := time.NewTicker(in.h.lim.healthEvery)
	defer tick.Stop()
	misses := 0
	for {
		suspected := false
		select {
		case <-ctx.Done():
			return "the host is closed", nil
		case <-p.run.exited:
			return p.why(), nil
		case r := <-in.replace:
			return "", r
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
			return p.why(), nil
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

// acquire returns the running process for a call, which release ends. When there is none it waits for the outcome of
// the next launch, unless the restart budget is used up. A change starts or stops an application.
func (in *instance) acquire(ctx context.Context, change bool) (*process, error) {
	first := -1
	for {
		in.mu.Lock()
		p, state, err, attempts, changed := in.proc, in.state, in.err, in.attempts, in.changed
		if p != nil && !in.swapping && !p.ended() {
			p.calls++
			if change {
				p.changes++
			}
			in.mu.Unlock()
			return p, nil
		}
		in.mu.Unlock()
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

// release ends a call.
func (in *instance) release(p *process, change bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	p.calls--
	if change {
		p.changes--
	}
	if in.swapping && p.calls == 0 {
		in.tell()
	}
}

func (in *instance) status() PluginStatus {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := PluginStatus{
		Kind: in.kind, Application: in.application, Version: in.version,
		Pinned: in.h.o.Pins[in.kind].SHA256 != "", State: in.state, Launches: in.total,
	}
	if in.last != nil {
		s.SHA256 = in.last.sum
	}
	if in.err != nil {
		s.Detail = in.err.Error()
	}
	if in.proc != nil {
		s.PID = in.proc.run.pid()
	}
	return s
}
