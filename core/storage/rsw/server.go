package rsw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/internal/cobs"
)

// Backend is a switch behind the protocol. Its methods are called from several goroutines; requests of one connection
// for one unit come one after another, in the order in which they arrived.
type Backend interface {
	// Inspect reads a unit. Errors: storage.ErrNoUnit; any other is passed on as text.
	Inspect(unit string) (WireState, error)
	// Swap changes a unit's key from old to next, as one step, if it is old, and returns the state read back afterwards.
	// Before it returns, the key survives a restart of the switch, no I/O of the former port is accepted any more, and
	// the unit is connected to next.Owner. Errors: storage.ErrConflict with the state found, storage.ErrNoUnit; any
	// other means that the swap may or may not have happened.
	Swap(unit string, old, next WireKey) (WireState, error)
	// Units lists the names of all units, in an order that does not change.
	Units() []string
}

const (
	// requests that wait for one unit on one connection; older ones are dropped for newer
	unitQueue         = 16
	maxListed         = 255             // units that LIST can count
	serverWriteBudget = 5 * time.Second // a client that takes no answer for so long is cut off
	acceptPause       = 20 * time.Millisecond
)

// Serve answers requests on rw until the stream or ctx ends, and closes rw. It returns nil when the client left or
// ctx ended, else the stream's error. It waits for backend calls under way. Closing rw must end a Read of it: a pty's
// master does so only when it was opened non-blocking.
func Serve(ctx context.Context, rw io.ReadWriteCloser, b Backend) error {
	s := &session{rw: rw, b: b, queues: map[string]chan request{}}
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	err := s.run()
	for _, q := range s.queues {
		close(q)
	}
	s.workers.Wait()
	s.close()
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("rsw: serving: %w", err)
}

// ServeListener serves every connection that l accepts until ctx ends or l fails, closes l, and waits for all
// connections to end.
func ServeListener(ctx context.Context, l net.Listener, b Backend) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept reports it
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool } // out of descriptors, an aborted connection
			if ctx.Err() == nil && errors.As(err, &temporary) && temporary.Temporary() {
				select {
				case <-time.After(acceptPause):
				case <-ctx.Done():
				}
				continue
			}
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("rsw: accepting at %v: %w", l.Addr(), err)
		}
		wg.Go(func() { _ = Serve(ctx, c, b) }) // a client that went wrong comes again by itself
	}
}

// session is one connection at the switch's side.
type session struct {
	rw      io.ReadWriteCloser
	b       Backend
	queues  map[string]chan request // one a unit, each with its worker; the reader owns the map
	workers sync.WaitGroup
	once    sync.Once
	out     sync.Mutex
}

func (s *session) close() { s.once.Do(func() { _ = s.rw.Close() }) }

// run reads requests and gives each to its unit's worker, so that a slow unit keeps no other waiting.
func (s *session) run() error {
	frames := cobs.NewReader(s.rw, maxPacket)
	for {
		p, err := frames.Next()
		if err != nil {
			return err
		}
		body, ok := checked(p)
		if !ok || command(body[1])&answerBit != 0 {
			continue // noise, or our own answers coming back on a line with echo
		}
		r, err := decodeRequest(body)
		if err != nil {
			s.answer(answer{cmd: r.cmd &^ answerBit, id: r.id, status: statusBad, text: err.Error()})
			continue
		}
		if r.cmd == cmdList {
			s.answer(s.ask(r))
			continue
		}
		if !slices.Contains(s.b.Units(), r.unit) {
			s.answer(answer{cmd: r.cmd, id: r.id, status: statusNoUnit})
			continue
		}
		q := s.queues[r.unit]
		if q == nil {
			q = make(chan request, unitQueue)
			s.queues[r.unit] = q
			s.workers.Go(func() {
				for r := range q {
					s.answer(s.ask(r))
				}
			})
		}
		enqueue(q, r)
	}
}

// enqueue drops the oldest requests of a full queue: whoever sent them has given up before whoever sent the newest.
func enqueue(q chan request, r request) {
	for {
		select {
		case q <- r:
			return
		default:
		}
		select {
		case <-q:
		default:
		}
	}
}

// ask puts one request to the backend.
func (s *session) ask(r request) answer {
	a := answer{cmd: r.cmd, id: r.id}
	var err error
	switch r.cmd {
	case cmdInspect:
		a.state, err = s.b.Inspect(r.unit)
	case cmdSwap:
		a.state, err = s.b.Swap(r.unit, r.old, r.next)
	case cmdList:
		all := s.b.Units()
		all = all[:min(len(all), maxListed)]
		a.total, a.units = len(all), all[min(int(r.first), len(all)):]
	}
	switch {
	case err == nil:
	case errors.Is(err, storage.ErrConflict):
		a.status = statusConflict
	case errors.Is(err, storage.ErrNoUnit):
		a.status = statusNoUnit
	default:
		a.status, a.text = statusFailed, err.Error()
	}
	return a
}

// answer sends one answer; a connection that does not take it is closed.
func (s *session) answer(a answer) {
	s.out.Lock()
	defer s.out.Unlock()
	if d, ok := s.rw.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(serverWriteBudget)) // streams without deadlines are bounded by Serve's ctx
	}
	if _, err := s.rw.Write(a.encode()); err != nil {
		s.close()
	}
}
