// Package rsw speaks the Recovery Server Switch protocol (docs/protocols/rsw.md): a small binary protocol with one
// compare-and-swap register a storage unit, over a serial line, a unix socket or TCP. [New] is the agent's side,
// [Serve] the switch's.
//
// It must never send a request twice: a swap without an answer is [storage.ErrUnknown], and the caller reads again.
// It must never take an answer for another request than the one it was given to.
package rsw

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
)

// DefaultTimeout bounds an exchange when [Options] do not.
const DefaultTimeout = 2 * time.Second

// Options of a driver.
type Options struct {
	Endpoint string          // "unix:/path", "tcp:host:port" or "serial:/dev/name?baud=19200"
	Unit     string          // name of the unit at the switch
	Self     failover.Server // this server
	Primary  failover.Server // the group's primary: at port 1; its partner is at port 3
	Timeout  time.Duration   // of one exchange, connecting included; 0: DefaultTimeout
	Log      hclog.Logger    // nil: none
}

// New returns the switch of one unit. It asks nobody: the connection is made by the first call, and again by the next
// call after it was lost. Drivers of one process with the same endpoint share one connection. An error says what is
// wrong with o.
func New(o Options) (storage.Switch, error) {
	ep, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := checkName(o.Unit); err != nil {
		return nil, &storage.Error{Code: storage.CodeEndpoint, Err: fmt.Errorf("rsw: %w", err)}
	}
	if o.Primary.Other() == failover.Nobody || o.Self.Other() == failover.Nobody {
		return nil, fmt.Errorf("rsw: self is %v and primary %v; each must be server 1 or 2", o.Self, o.Primary)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &driver{o: o, line: openLine(ep, o.Log), life: ctx, end: cancel}, nil
}

// List asks the switch at endpoint for the names of its units.
func List(ctx context.Context, endpoint string) ([]string, error) {
	ep, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	l := openLine(ep, hclog.NewNullLogger())
	defer l.release()
	var units []string
	for {
		a, err := l.exchange(ctx, request{cmd: cmdList, first: uint8(len(units))})
		switch {
		case err != nil:
			return nil, unknown("LIST at %s: %w", endpoint, err)
		case a.status != statusOK:
			return nil, refused(a, fmt.Sprintf("LIST at %s", endpoint))
		}
		units = append(units, a.units...)
		if len(units) >= a.total {
			return units, nil
		}
		if len(a.units) == 0 {
			return nil, unknown("LIST at %s: %w: %d of %d units, and no more come", endpoint, errMalformed, len(units), a.total)
		}
	}
}

// driver is the switch of one unit.
type driver struct {
	o    Options
	line *line
	life context.Context // ends with Close
	end  context.CancelFunc
	once sync.Once
}

func (d *driver) Capabilities() storage.Capabilities {
	return storage.Capabilities{Driver: "rsw", Fences: true, Endpoint: d.o.Endpoint}
}

func (d *driver) Inspect(ctx context.Context) (storage.State, error) {
	what := fmt.Sprintf("INSPECT of unit %q at %s", d.o.Unit, d.o.Endpoint)
	a, err := d.exchange(ctx, request{cmd: cmdInspect, unit: d.o.Unit}, what)
	if err != nil {
		return storage.State{}, err
	}
	if a.status != statusOK {
		return storage.State{}, refused(a, what)
	}
	return d.state(a.state), nil
}

// Swap needs no second exchange to read back: the answer's state is what the switch read from its register after the
// change.
func (d *driver) Swap(ctx context.Context, old, next failover.Key) (storage.State, error) {
	r := request{cmd: cmdSwap, unit: d.o.Unit, old: d.wire(old), next: d.wire(next)}
	what := fmt.Sprintf("SWAP of unit %q at %s from %v to %v", d.o.Unit, d.o.Endpoint, r.old, r.next)
	a, err := d.exchange(ctx, r, what)
	if err != nil {
		return storage.State{}, err
	}
	switch a.status {
	case statusOK:
		s := d.state(a.state)
		if a.state.Key != r.next || a.state.Position != r.next.Owner {
			return s, unknown("%s: done, says the switch, but it reads back %v at position %d", what, a.state.Key,
				a.state.Position)
		}
		return s, nil
	case statusConflict:
		return d.state(a.state), &storage.Error{Code: storage.CodeConflict,
			Err: fmt.Errorf("rsw: %s: it holds %v: %w", what, a.state.Key, storage.ErrConflict)}
	}
	return storage.State{}, refused(a, what)
}

// Close ends calls under way with storage.ErrUnknown; the last driver of an endpoint closes the connection.
func (d *driver) Close() error {
	d.once.Do(func() {
		d.end()
		d.line.release()
	})
	return nil
}

// exchange bounds one exchange by ctx, the time-out and the driver's life.
func (d *driver) exchange(ctx context.Context, r request, what string) (answer, error) {
	if d.life.Err() != nil {
		return answer{}, unknown("%s: the driver is %w", what, errClosed)
	}
	bounded, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	a, err := d.line.exchange(bounded, r)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return a, unknown("%s: %w", what, ctx.Err())
	case d.life.Err() != nil:
		return a, unknown("%s: the driver was %w", what, errClosed)
	case errors.Is(err, context.DeadlineExceeded):
		return a, unknown("%s: no answer within %v: %v", what, d.o.Timeout, err)
	}
	return a, unknown("%s: %w", what, err)
}

// unknown makes an error that is storage.ErrUnknown besides what it wraps.
func unknown(format string, args ...any) error {
	return &storage.Error{Code: storage.CodeUnknown,
		Err: fmt.Errorf("rsw: %w (%w)", fmt.Errorf(format, args...), storage.ErrUnknown)}
}

// refused turns an answer other than OK and CONFLICT into an error.
func refused(a answer, what string) error {
	switch a.status {
	case statusNoUnit:
		return &storage.Error{Code: storage.CodeNoUnit, Err: fmt.Errorf("rsw: %s: %w", what, storage.ErrNoUnit)}
	case statusBad:
		return &storage.Error{Code: storage.CodeRefused, Err: fmt.Errorf("rsw: %s: the switch refused it: %s", what, a.text)}
	case statusFailed:
		return unknown("%s: the switch failed: %s", what, a.text)
	}
	return unknown("%s: %w: status %d does not fit", what, errMalformed, a.status)
}

// port maps a server to its port by the group's primary.
func (d *driver) port(s failover.Server) storage.Position {
	switch s {
	case failover.Nobody:
		return storage.Disconnected
	case d.o.Primary:
		return storage.Port1
	}
	return storage.Port3
}

func (d *driver) server(p storage.Position) failover.Server {
	switch p {
	case storage.Port1:
		return d.o.Primary
	case storage.Port3:
		return d.o.Primary.Other()
	}
	return failover.Nobody
}

func (d *driver) wire(k failover.Key) WireKey {
	return WireKey{Owner: d.port(k.Owner), N: k.N, Tag: k.Tag, By: d.port(k.By)}
}

func (d *driver) state(w WireState) storage.State {
	k := failover.Key{Owner: d.server(w.Key.Owner), N: w.Key.N, Tag: w.Key.Tag, By: d.server(w.Key.By)}
	return storage.State{Key: k, Position: w.Position, LED: w.LED}
}
