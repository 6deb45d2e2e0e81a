//go:build linux

package enclosure

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/orscore/ors/core/storage/rsw"
)

// Serve opens the enclosure, shows its ports, and answers on the switch's socket, on a serial line a host, and on the
// lab's control socket, until ctx ends or the lab asks it to stop.
func Serve(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := Open(cfg)
	if err != nil {
		return err
	}
	server, err := e.mount()
	if err != nil {
		return errors.Join(err, e.Close())
	}
	err = e.answer(ctx, cancel)
	return errors.Join(err, server.Unmount(), e.Close())
}

// answer serves all sockets and lines, and returns when each of them has ended.
func (e *Enclosure) answer(ctx context.Context, stop context.CancelFunc) error {
	rswListener, err := listen(e.cfg.SocketPath(), 0o666)
	if err != nil {
		return err
	}
	lines, err := e.openLines()
	if err != nil {
		return errors.Join(err, rswListener.Close())
	}
	control, err := listen(e.cfg.ControlPath(), 0o600) // last: who can connect to it knows that the enclosure is ready
	if err != nil {
		return errors.Join(err, rswListener.Close(), closeLines(lines))
	}
	var wg sync.WaitGroup
	for _, l := range lines {
		wg.Go(func() { l.serve(ctx, e) })
	}
	errs := make(chan error, 2)
	wg.Go(func() { errs <- rsw.ServeListener(ctx, rswListener, e) })
	wg.Go(func() { errs <- e.control(ctx, control, stop) })
	err = errors.Join(<-errs, <-errs)
	stop()
	wg.Wait()
	return errors.Join(err, closeLines(lines))
}

func listen(path string, mode os.FileMode) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serialLine is a pseudo terminal: the switch's end, and a host's end that is held open so that the line outlives the
// host.
type serialLine struct {
	host          string
	master, slave *os.File
}

func (c Config) hosts() []string {
	seen := map[string]bool{}
	for _, u := range c.Units {
		for _, h := range u.Hosts {
			seen[h] = true
		}
	}
	var all []string
	for h := range seen {
		all = append(all, h)
	}
	sort.Strings(all)
	return all
}

// LinePath is a link to the serial line of the switch that goes to host.
func (c Config) LinePath(host string) string { return filepath.Join(c.SwitchDir(), "line-"+host) }

func (e *Enclosure) openLines() (lines []*serialLine, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeLines(lines))
		}
	}()
	for _, h := range e.cfg.hosts() {
		m, s, err := pty.Open()
		if err != nil {
			return lines, fmt.Errorf("serial line of %s: %w", h, err)
		}
		if m, err = pollable(m); err != nil {
			return lines, fmt.Errorf("serial line of %s: %w", h, errors.Join(err, s.Close()))
		}
		lines = append(lines, &serialLine{host: h, master: m, slave: s})
		if _, err := term.MakeRaw(int(s.Fd())); err != nil {
			return lines, fmt.Errorf("serial line of %s: %w", h, err)
		}
		if err := os.Remove(e.cfg.LinePath(h)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return lines, err
		}
		if err := os.Symlink(s.Name(), e.cfg.LinePath(h)); err != nil {
			return lines, err
		}
	}
	return lines, nil
}

// pollable opens the same terminal in a form whose reads end when it is closed; pty.Open leaves it in blocking mode.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeLines(lines []*serialLine) error {
	var errs []error
	for _, l := range lines {
		if err := l.master.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
		errs = append(errs, l.slave.Close())
	}
	return errors.Join(errs...)
}

// serve answers on the line until ctx ends. Noise and a host's death do not end it.
func (l *serialLine) serve(ctx context.Context, b rsw.Backend) {
	if err := rsw.Serve(ctx, l.master, b); err != nil {
		fmt.Fprintf(os.Stderr, "enclosure: serial line of %s: %v\n", l.host, err)
	}
}

// request is what the lab asks over the control socket, one JSON object a line.
type request struct {
	Do   string `json:"do"` // "status", "dead", "alive", "power-cycle", "stop"
	Host string `json:"host,omitempty"`
}

// UnitStatus is what the enclosure shows of a unit.
type UnitStatus struct {
	Name  string            `json:"name"`
	State rsw.WireState     `json:"state"`
	Hosts map[string]string `json:"hosts"`
	Dead  []string          `json:"dead,omitempty"` // hosts whose port is dead
	Moves uint64            `json:"moves"`          // changes of its owner since the enclosure was started
}

type response struct {
	Error string       `json:"error,omitempty"`
	Units []UnitStatus `json:"units,omitempty"`
}

func (e *Enclosure) control(ctx context.Context, l net.Listener, stop context.CancelFunc) error {
	unhook := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept reports it
	defer unhook()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		wg.Go(func() {
			hangUp := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer hangUp()
			defer c.Close()
			e.talk(c, stop)
		})
	}
}

func (e *Enclosure) talk(c net.Conn, stop context.CancelFunc) {
	in := bufio.NewScanner(c)
	out := json.NewEncoder(c)
	for in.Scan() {
		var q request
		var a response
		err := json.Unmarshal(in.Bytes(), &q)
		if err == nil {
			a, err = e.obey(q)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if out.Encode(a) != nil {
			return
		}
		if q.Do == "stop" {
			stop()
			return
		}
	}
}

func (e *Enclosure) obey(q request) (response, error) {
	switch q.Do {
	case "status":
		return response{Units: e.Status()}, nil
	case "dead":
		return response{}, e.SetHost(q.Host, true)
	case "alive":
		return response{}, e.SetHost(q.Host, false)
	case "power-cycle":
		return response{}, e.PowerCycle()
	case "stop":
		return response{}, nil
	}
	return response{}, fmt.Errorf("%q is not known: status, dead, alive, power-cycle, stop", q.Do)
}

// Status lists the units with their positions, lights and dead ports.
func (e *Enclosure) Status() []UnitStatus {
	var all []UnitStatus
	for i, name := range e.order {
		st, err := e.Inspect(name)
		if err != nil {
			continue // cannot be: the unit exists
		}
		u := e.units[name]
		s := UnitStatus{Name: name, State: st, Hosts: e.cfg.Units[i].Hosts, Moves: e.moves(name)}
		u.gate.RLock()
		for _, p := range ports {
			if u.dead[p] {
				s.Dead = append(s.Dead, u.hosts[p])
			}
		}
		u.gate.RUnlock()
		all = append(all, s)
	}
	return all
}

func (e *Enclosure) moves(name string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.moved[name]
}

// Client asks a running enclosure.
type Client struct {
	conn net.Conn
	in   *bufio.Scanner
	mu   sync.Mutex
}

// Dial connects to the control socket of the enclosure of cfg; it tries until ctx ends, since the enclosure may be
// starting.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	var last error
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", cfg.ControlPath())
		if err == nil {
			return &Client{conn: c, in: bufio.NewScanner(c)}, nil
		}
		last = err
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("enclosure in %s does not answer: %w", cfg.Dir, errors.Join(ctx.Err(), last))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Close ends the connection, not the enclosure.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) ask(q request) (response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a response
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return a, err
	}
	if err := json.NewEncoder(c.conn).Encode(q); err != nil {
		return a, fmt.Errorf("enclosure: %s: %w", q.Do, err)
	}
	if !c.in.Scan() {
		return a, fmt.Errorf("enclosure: %s: no answer: %w", q.Do, errors.Join(c.in.Err(), net.ErrClosed))
	}
	if err := json.Unmarshal(c.in.Bytes(), &a); err != nil {
		return a, fmt.Errorf("enclosure: %s: %w", q.Do, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("enclosure: %s: %s", q.Do, a.Error)
	}
	return a, nil
}

// Status lists the units.
func (c *Client) Status() ([]UnitStatus, error) {
	a, err := c.ask(request{Do: "status"})
	return a.Units, err
}

// SetHost makes the ports of a host dead, or lets them work again.
func (c *Client) SetHost(host string, dead bool) error {
	do := "alive"
	if dead {
		do = "dead"
	}
	_, err := c.ask(request{Do: do, Host: host})
	return err
}

// PowerCycle takes the power from the switch for a moment.
func (c *Client) PowerCycle() error {
	_, err := c.ask(request{Do: "power-cycle"})
	return err
}

// Stop ends the enclosure.
func (c *Client) Stop() error {
	_, err := c.ask(request{Do: "stop"})
	return err
}
