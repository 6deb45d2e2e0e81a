package rsw

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/internal/cobs"
)

var errClosed = errors.New("closed")

// line is the way to one endpoint, shared by all drivers of this process that name it. It holds one connection at a
// time and opens the next one when somebody asks.
type line struct {
	ep   endpoint
	log  hclog.Logger
	dial chan struct{} // one token: who holds it may replace cur

	mu     sync.Mutex
	refs   int
	closed bool
	cur    *conn
	conns  map[*conn]struct{} // cur, and retired ones whose exchanges are not over
}

var lines = struct {
	sync.Mutex
	m map[string]*line
}{m: map[string]*line{}}

// openLine returns the line to ep and counts a user more.
func openLine(ep endpoint, log hclog.Logger) *line {
	lines.Lock()
	defer lines.Unlock()
	l := lines.m[ep.text]
	if l == nil {
		l = &line{ep: ep, log: log, dial: make(chan struct{}, 1), conns: map[*conn]struct{}{}}
		l.dial <- struct{}{}
		lines.m[ep.text] = l
	}
	l.refs++
	return l
}

// release counts a user less; the last one closes the connections and waits for their readers.
func (l *line) release() {
	lines.Lock()
	l.refs--
	last := l.refs == 0
	if last {
		delete(lines.m, l.ep.text)
	}
	lines.Unlock()
	if !last {
		return
	}
	l.mu.Lock()
	l.closed = true
	conns := l.conns
	l.conns = map[*conn]struct{}{}
	l.cur = nil
	l.mu.Unlock()
	for c := range conns {
		c.fail(errClosed)
		<-c.readerDone
	}
}

// connection returns the open connection, or opens one.
func (l *line) connection(ctx context.Context) (*conn, error) {
	select {
	case <-l.dial:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a connection: %w", ctx.Err())
	}
	defer func() { l.dial <- struct{}{} }()
	l.mu.Lock()
	old, closed := l.cur, l.closed
	l.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if old != nil {
		if !old.dead() {
			return old, nil
		}
		select { // a serial port is free for the next open only when its reader has left
		case <-old.readerDone:
		case <-ctx.Done():
			return nil, fmt.Errorf("closing the former connection: %w", ctx.Err())
		}
	}
	rw, err := l.ep.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	c := &conn{
		line: l, rw: rw, pending: map[uint64]chan answer{}, id: uint64(rand.Uint32()) << 32,
		writing: make(chan struct{}, 1), done: make(chan struct{}), readerDone: make(chan struct{}),
	}
	c.writing <- struct{}{}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, errors.Join(errClosed, rw.Close())
	}
	l.cur = c
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	go c.read()
	return c, nil
}

// retire makes later exchanges use a new connection; those under way on c end in peace. A serial line has no second
// connection and is kept: silence on it says nothing of the port.
func (l *line) retire(c *conn) {
	if l.ep.network == "serial" {
		return
	}
	l.mu.Lock()
	if l.cur == c {
		l.cur = nil
	}
	l.mu.Unlock()
	c.mu.Lock()
	c.retired = true
	idle := len(c.pending) == 0
	c.mu.Unlock()
	if idle {
		c.fail(errClosed)
	}
}

func (l *line) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// exchange asks and waits for the answer, until ctx ends.
func (l *line) exchange(ctx context.Context, r request) (answer, error) {
	c, err := l.connection(ctx)
	if err != nil {
		return answer{}, err
	}
	a, err := c.exchange(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		l.retire(c)
	}
	return a, err
}

// conn is one connection. Many exchanges may be under way on it; the request id tells their answers apart.
type conn struct {
	line       *line
	rw         stream
	writing    chan struct{} // one token: who holds it writes
	done       chan struct{} // closed when the connection has failed or was closed
	readerDone chan struct{}

	mu      sync.Mutex
	pending map[uint64]chan answer
	id      uint64 // high half random a connection, so that answers to a former agent's requests fit nothing
	retired bool
	err     error
}

func (c *conn) dead() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// fail closes the connection once; err is what exchanges under way report.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
	c.mu.Unlock()
	_ = c.rw.Close() // nothing is left to be flushed, and a second close is harmless
}

// read hands answers to those who wait for them, until the connection fails. It is the only reader.
func (c *conn) read() {
	defer close(c.readerDone)
	defer c.line.forget(c)
	frames := cobs.NewReader(c.rw, maxPacket)
	for {
		p, err := frames.Next()
		if err != nil {
			c.fail(fmt.Errorf("connection lost: %w", err))
			return
		}
		body, ok := checked(p)
		if !ok {
			c.line.log.Debug("garbled frame dropped", "endpoint", c.line.ep.text)
			continue
		}
		a, err := decodeAnswer(body)
		if err != nil {
			c.line.log.Debug("frame dropped", "endpoint", c.line.ep.text, "error", err)
			continue
		}
		c.mu.Lock()
		ch := c.pending[a.id]
		delete(c.pending, a.id)
		c.mu.Unlock()
		if ch == nil {
			c.line.log.Debug("late or foreign answer dropped", "endpoint", c.line.ep.text, "command", a.cmd)
			continue
		}
		ch <- a
	}
}

func (c *conn) exchange(ctx context.Context, r request) (answer, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	c.id++
	r.id = c.id
	c.pending[r.id] = ch
	c.mu.Unlock()
	defer c.abandon(r.id)
	if err := c.write(ctx, r.encode()); err != nil {
		return answer{}, err
	}
	select {
	case a := <-ch:
		if a.cmd != r.cmd {
			return answer{}, fmt.Errorf("%w: %v was answered as %v", errMalformed, r.cmd, a.cmd)
		}
		return a, nil
	case <-c.done:
		select {
		case a := <-ch: // the answer came before the connection went
			return a, nil
		default:
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return answer{}, c.err
	case <-ctx.Done():
		return answer{}, fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// abandon forgets an exchange: its answer, if it still comes, is dropped.
func (c *conn) abandon(id uint64) {
	c.mu.Lock()
	delete(c.pending, id)
	over := c.retired && len(c.pending) == 0
	c.mu.Unlock()
	if over {
		c.fail(errClosed)
	}
}

// write sends one frame whole; a frame that could not be sent whole ends the connection.
func (c *conn) write(ctx context.Context, frame []byte) error {
	select {
	case <-c.writing:
	case <-c.done:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("waiting to send: %w", ctx.Err())
	}
	defer func() { c.writing <- struct{}{} }()
	if ctx.Err() != nil { // select takes any case that is ready; what nobody waits for must not be asked
		return fmt.Errorf("nothing was sent: %w", ctx.Err())
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	err := c.rw.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.rw.Write(frame)
	}
	if err != nil {
		err = fmt.Errorf("sending: %w", err)
		c.fail(err)
	}
	return err
}
