package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// swapWait is how long an upgrade waits for calls that are under way at the process that is to go.
const swapWait = 10 * time.Second

// Candidate is a plugin process that has said what it is and does not serve yet.
type Candidate struct{ p *process }

// Info is what it says of itself.
func (c *Candidate) Info() *pluginv1.InfoResponse { return c.p.info }

// Schema is what the configuration of an application may hold.
func (c *Candidate) Schema() *pluginv1.Block { return c.p.schema }

// Validate asks it about a configuration.
func (c *Candidate) Validate(ctx context.Context, q *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, validateDeadline)
	defer cancel()
	return c.p.service.Validate(ctx, q)
}

// replacement is a wish for another program in a process's place.
type replacement struct {
	ctx    context.Context
	accept func(context.Context, *Candidate) error
	done   chan error // has room for the answer
}

// ErrPartly is in an error of Upgrade when processes of other applications have been upgraded before.
var ErrPartly = errors.New("ORS-5014: processes of other applications were upgraded before")

// Upgrade looks at the plugin folder anew and lets the program that is to serve a kind take the place of the one that
// does. It is started beside that one; accept, asked with it, may refuse it. Calls under way are waited for, new ones
// wait a moment; then the old process ends. When anything fails the old one goes on serving. Where none serves, the new
// one is started at once.
func (h *Host) Upgrade(ctx context.Context, kind string, accept func(context.Context, *Candidate) error) error {
	h.mu.Lock()
	clear(h.failed) // an operator asks: each program is tried
	h.mu.Unlock()
	found := 0
	for _, in := range h.all() {
		if in.kind != kind {
			continue
		}
		if err := in.upgrade(ctx, accept); err != nil && found > 0 {
			return fmt.Errorf("%w (%d): %w", ErrPartly, found, err)
		} else if err != nil {
			return err
		}
		found++
	}
	if found == 0 {
		return &Error{Code: CodeMissing, Kind: kind, What: "no application of this configuration is of that kind",
			Next: "`orscore plugin list` shows all"}
	}
	return nil
}

func (in *instance) upgrade(ctx context.Context, accept func(context.Context, *Candidate) error) error {
	r := &replacement{ctx: ctx, accept: accept, done: make(chan error, 1)}
	for {
		in.mu.Lock()
		runs, changed := in.proc != nil && !in.proc.ended(), in.changed
		if !runs {
			in.launches = nil // an operator asks: it need not wait for the budget
		}
		in.mu.Unlock()
		if !runs {
			in.h.forgive(in.kind)
			p, err := in.acquireAnew(ctx)
			if err != nil {
				return err
			}
			in.release(p, false)
			return nil // it was chosen a moment ago
		}
		select {
		case in.replace <- r:
			return <-r.done
		case <-changed: // it may have ended meanwhile
		case <-in.done:
			return &Error{Code: CodeClosed, Kind: in.kind, What: "the plugin host is closed", Next: "start the agent"}
		case <-ctx.Done():
			return &Error{Code: CodeBusy, Kind: in.kind, What: "it was not upgraded in time", Next: "try again", Err: ctx.Err()}
		}
	}
}

// acquireAnew is acquire for somebody who knows that something has changed: a launch is tried at once.
func (in *instance) acquireAnew(ctx context.Context) (*process, error) {
	select {
	case in.nudged <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, in.h.lim.start+in.h.lim.backoffMost)
	defer cancel()
	return in.acquire(ctx, false)
}

// succeed lets another process take the place of p, and returns the one that serves from now on.
func (in *instance) succeed(ctx context.Context, p *process, r *replacement) *process {
	q, err := in.launchBeside(ctx, p, r)
	if q == nil {
		r.done <- err
		return p
	}
	if err := in.swap(r.ctx, p, q); err != nil {
		q.end(in.h.lim.stop, in.h.lim.dead)
		r.done <- err
		return p
	}
	in.h.o.Log.Info("plugin was upgraded", "plugin", in.name(), "from", p.info.GetVersion(), "to", q.info.GetVersion())
	r.done <- nil
	p.end(in.h.lim.stop, in.h.lim.dead)
	return q
}

// launchBeside starts the program that is to serve, and has it accepted. Without an error and a process it is the one
// that serves already.
func (in *instance) launchBeside(ctx context.Context, p *process, r *replacement) (*process, error) {
	within, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	c, failed := in.h.chooseAgain(within, in.kind)
	if failed != nil {
		return nil, failed
	}
	if c.sum == p.program.sum {
		return nil, nil
	}
	q, failed := in.launch(within, c, true)
	if failed != nil {
		return nil, failed
	}
	if err := r.accept(within, &Candidate{q}); err != nil {
		q.end(in.h.lim.stop, in.h.lim.dead)
		if within.Err() == nil {
			in.h.refuse(c.sum, err.Error())
		}
		return nil, err
	}
	in.h.refuse(c.sum, "")
	return q, nil
}

// swap lets q serve when the calls at p have ended. A start or a stop that is under way is not waited for: it may take
// as long as its application.
func (in *instance) swap(ctx context.Context, p, q *process) error {
	ctx, cancel := context.WithTimeout(ctx, swapWait)
	defer cancel()
	busy := &Error{Code: CodeBusy, Kind: in.kind, What: "an application is being started or stopped",
		Next: "try again when that has ended"}
	for {
		in.mu.Lock()
		calls, changes, changed := p.calls, p.changes, in.changed
		in.swapping = changes == 0 // from here on no call begins at p
		in.mu.Unlock()
		switch {
		case q.ended():
			return in.unswap(&Error{Code: CodeStart, Kind: in.kind, What: q.why(),
				Next: in.next()})
		case changes > 0 && !p.ended():
			return busy
		case calls == 0 || p.ended():
			in.running(q)
			return nil
		}
		select {
		case <-changed:
		case <-p.run.exited:
		case <-ctx.Done():
			return in.unswap(&Error{Code: CodeBusy, Kind: in.kind,
				What: fmt.Sprintf("%d calls at it have not ended within %v", calls, swapWait), Next: "try again"})
		}
	}
}

// unswap lets calls go on to the process that serves.
func (in *instance) unswap(err *Error) *Error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.swapping = false
	in.tell()
	return err
}
