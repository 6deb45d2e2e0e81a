//go:build linux

package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const maxMessage = 256 << 10 // bytes of one message to or from a host's process 1

type execRequest struct {
	Args   []string `json:"args"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir,omitempty"`
	Detach bool     `json:"detach,omitempty"` // outlives the connection
}

type execSignal struct {
	Signal int  `json:"signal"`
	Group  bool `json:"group"` // the whole process group
}

type execEvent struct {
	PID   int    `json:"pid,omitempty"` // in the host
	Ended bool   `json:"ended,omitempty"`
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

func notifyChild(ch chan os.Signal) { signal.Notify(ch, unix.SIGCHLD) }

// ignoreEnd keeps process 1 alive when somebody in the host signals everybody. They are taken and dropped: a signal
// that is ignored would stay so in every command.
func ignoreEnd() { signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP) }

func dial(path string) (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// send writes one message: four bytes of length, JSON, and descriptors beside the first byte.
func send(c *net.UnixConn, v any, files []*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	msg := append([]byte{byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(msg[:1], oob, nil)
	if err != nil || n != 1 {
		return errors.Join(err, errors.New("message not sent"))
	}
	_, err = c.Write(msg[1:])
	return err
}

// receive reads one message and the descriptors that came with it, which are the caller's to close.
func receive(c *net.UnixConn, v any) (files []*os.File, err error) {
	first := make([]byte, 1)
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := c.ReadMsgUnix(first, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err = rights(oob[:oobn])
	if err != nil {
		return files, err
	}
	head := make([]byte, 3)
	if _, err := io.ReadFull(c, head); err != nil {
		return files, err
	}
	size := int(first[0])<<24 | int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if size > maxMessage {
		return files, fmt.Errorf("a message of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return files, err
	}
	return files, json.Unmarshal(body, v)
}

func rights(oob []byte) (files []*os.File, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // passed descriptors: whoever passed them looks after them
	}
}

// Cmd is a command to run in a host.
type Cmd struct {
	Args   []string
	Env    []string // added to a small environment
	Dir    string
	Stdin  *os.File // nil: /dev/null
	Stdout *os.File
	Stderr *os.File
	Detach bool // outlives this process
}

// Process is a running command of a host.
type Process struct {
	PID  int // in the host
	conn *net.UnixConn
	done chan struct{}
	mu   sync.Mutex
	code int
	err  error
}

// searchPath is PATH in a host: the programs under test come first.
const searchPath = "PATH=/opt/ors/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment of every command.
var environment = []string{searchPath, "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}

// Start runs a command in the host that listens at spec's folder, in a session of its own.
func (s Spec) Start(cmd Cmd) (*Process, error) {
	wrong := func(err error) (*Process, error) {
		return nil, fmt.Errorf("host %s: %s: %w", s.Name, strings.Join(cmd.Args, " "), err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return wrong(err)
	}
	defer null.Close()
	files := []*os.File{cmd.Stdin, cmd.Stdout, cmd.Stderr}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	c, err := dial(s.socketPath())
	if err != nil {
		return wrong(fmt.Errorf("it has no power: %w", err))
	}
	env := append(append([]string(nil), environment...), cmd.Env...)
	r := execRequest{Args: cmd.Args, Env: env, Dir: cmd.Dir, Detach: cmd.Detach}
	var first execEvent
	if err = send(c, r, files); err == nil {
		_, err = receive(c, &first)
	}
	if err == nil && first.Error != "" {
		err = errors.New(first.Error)
	}
	if err != nil {
		return wrong(errors.Join(err, c.Close()))
	}
	p := &Process{PID: first.PID, conn: c, done: make(chan struct{})}
	go p.watch()
	return p, nil
}

func (p *Process) watch() {
	defer close(p.done)
	defer p.conn.Close()
	var ev execEvent
	_, err := receive(p.conn, &ev)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code = ev.Code
	if err != nil {
		p.code, p.err = 137, fmt.Errorf("its host lost power: %w", err)
	}
}

// Done is closed when the command has ended, or its host has.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and returns the exit code: 128 and more for a signal. The error says that the host lost
// power, or ctx's.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.code, p.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Running says whether the command has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the command; to its whole process group when group is set.
func (p *Process) Signal(sig unix.Signal, group bool) error {
	if !p.Running() {
		return nil
	}
	if err := send(p.conn, execSignal{Signal: int(sig), Group: group}, nil); err != nil && p.Running() {
		return fmt.Errorf("signal %v: %w", sig, err)
	}
	return nil
}

// Run runs a command to its end and returns what it printed on both outputs. An error says also when its code is not
// 0; a command that outlives ctx is killed.
func (s Spec) Run(ctx context.Context, args ...string) (string, error) {
	out, code, err := s.Output(ctx, Cmd{Args: args})
	if err == nil && code != 0 {
		err = fmt.Errorf("host %s: %s: exit code %d: %s", s.Name, strings.Join(args, " "), code, strings.TrimSpace(out))
	}
	return out, err
}

// Output runs a command to its end; its outputs go together. It returns the exit code.
func (s Spec) Output(ctx context.Context, cmd Cmd) (string, int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	p, err := s.Start(cmd)
	if err := errors.Join(err, w.Close()); err != nil {
		return "", 0, err
	}
	var buf bytes.Buffer
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(&buf, r) // ends with the command, or with the deadline below
	}()
	code, err := p.Wait(ctx)
	if err != nil && p.Running() {
		err = fmt.Errorf("host %s: %s: killed: %w", s.Name, strings.Join(cmd.Args, " "), err)
		_ = p.Signal(unix.SIGKILL, true) // the connection's end would do it, too
		<-p.done
	}
	_ = r.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // a daemon it left behind may hold the pipe for ever
	<-copied
	return buf.String(), code, err
}
