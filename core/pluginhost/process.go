package pluginhost

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// child is the operating system's side of a plugin, as go-plugin's runner.Runner. It differs from go-plugin's own in
// that standard error is a file, that the end of the process is seen at once even when somebody else holds its
// standard output open, and that it never waits for ever.
type child struct {
	cmd    *exec.Cmd
	prints printer
	exited chan struct{} // closed when the process has ended and been reaped

	mu      sync.Mutex
	started bool
	doomed  bool   // killed, perhaps before it was started
	spoke   bool   // it has said its handshake: from then on it may be asked for applications
	ended   string // how it ended

	stdoutRead *os.File
}

func newChild(path string, log *os.File) *child {
	cmd := exec.Command(path)
	cmd.Dir = string(os.PathSeparator)
	cmd.Stderr = log
	return &child{cmd: cmd, prints: printer{path: log.Name()}, exited: make(chan struct{})}
}

// drain is how long output that a dead plugin has left behind is waited for. Whoever inherited its standard output
// could keep it open for ever.
const drain = 200 * time.Millisecond

// Start starts the process in a session of its own and at ordinary priority.
func (p *child) Start(context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.stdoutRead = r
	p.cmd.Stdout = w
	ownSession(p.cmd)
	err = atOrdinaryPriority(p.cmd.Start)
	_ = w.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		_ = r.Close()
		close(p.exited)
		return err
	}
	p.started = true
	if p.doomed {
		_ = p.cmd.Process.Kill()
	}
	go p.reap()
	return nil
}

// reap waits for the end. What a program has started that has said no handshake is killed then: nobody has asked it for
// an application, so none is among that. Its number is its session's for as long as it is not reaped.
func (p *child) reap() {
	awaitEnd(p.cmd.Process.Pid)
	p.mu.Lock()
	if !p.spoke {
		killSession(p.cmd.Process.Pid)
	}
	p.mu.Unlock()
	err := p.cmd.Wait()
	p.mu.Lock()
	p.ended = "exit status 0"
	if err != nil {
		p.ended = err.Error()
	}
	p.mu.Unlock()
	_ = p.stdoutRead.SetReadDeadline(time.Now().Add(drain))
	close(p.exited)
}

// result says how the process ended.
func (p *child) result() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

func (p *child) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		return 0
	}
	return p.cmd.Process.Pid
}

// kill sends SIGKILL to exactly this process: os.Process holds a pidfd (on Windows a handle), so a reused number is
// never hit. A process that is just being started ends as soon as it is.
func (p *child) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doomed = true
	if p.started {
		_ = p.cmd.Process.Kill()
	}
}

// speaks notes that the program has said its handshake.
func (p *child) speaks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoke = true
}

func (p *child) Wait(context.Context) error {
	<-p.exited
	return nil
}

func (p *child) Kill(context.Context) error {
	p.kill()
	return nil
}

// Stdout ends some moments after the process, whoever holds it open.
func (p *child) Stdout() io.ReadCloser { return p.stdoutRead }

// Stderr is empty: the process writes to its log.
func (p *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (p *child) Name() string { return p.cmd.Path }

// ID is never empty: go-plugin cleans up only after a runner that has one.
func (p *child) ID() string { return strconv.Itoa(p.pid()) }

func (p *child) Diagnose(context.Context) string { return "" }

func (p *child) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (p *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// printer writes what a plugin prints after the handshake, which go-plugin carries over its connection, to the
// plugin's log.
type printer struct{ path string }

func (p printer) Write(b []byte) (int, error) {
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(b)
	return n, errors.Join(err, f.Close())
}
