package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// HelperEnv is the environment variable that makes a start of this program the helper process of another: it does
// what its standard input asks for and nothing else.
const HelperEnv = "ORS_DRIVE_HELPER"

const (
	helperIdle = 10 * time.Second // a helper without work ends after so long
	helperGone = 2 * time.Second  // how long Close waits for helpers
	maxLine    = 1 << 20          // bytes of one request or reply
)

// platform is Linux's part of Drives: the helpers.
type platform struct {
	idle    *helper
	timer   *time.Timer
	closed  bool
	helpers sync.WaitGroup
}

// helper is one helper process, seen from here. It is used by one call at a time.
type helper struct {
	cmd    *exec.Cmd
	in     *os.File // requests, one a line
	out    *os.File // replies, one a line
	lines  *bufio.Reader
	stderr *tail
	exited chan struct{}
}

// take returns an idle helper, or starts one.
func (d *Drives) take(ctx context.Context) (*helper, error) {
	if ctx.Err() != nil {
		return nil, &Error{Code: CodeTimeout, Text: "no time left", Err: ctx.Err()}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, &Error{Code: CodeHelper, Text: "the drives were closed"}
	}
	if h := d.idle; h != nil {
		d.idle = nil
		d.timer.Stop()
		if !h.gone() {
			return h, nil
		}
		h.closeFiles()
	}
	h, err := start()
	if err != nil {
		return nil, &Error{Code: CodeHelper, Text: "the helper process for drives cannot be started", Err: err}
	}
	d.helpers.Go(func() {
		_ = h.cmd.Wait() // how it ended does not matter: call reports what it did not do
		close(h.exited)
	})
	return h, nil
}

// give takes a helper back; a spare or broken one ends.
func (d *Drives) give(h *helper) {
	d.mu.Lock()
	if d.idle == nil && !d.closed && !h.gone() && !h.broken() {
		d.idle = h
		d.timer = time.AfterFunc(helperIdle, func() { d.endIdle(h) })
		h = nil
	}
	d.mu.Unlock()
	if h != nil {
		d.end(h)
	}
}

func (d *Drives) endIdle(h *helper) {
	d.mu.Lock()
	mine := d.idle == h
	if mine {
		d.idle = nil
	}
	d.mu.Unlock()
	if mine {
		d.end(h)
	}
}

// end makes a helper end: it leaves at the end of its input.
func (d *Drives) end(h *helper) { h.closeFiles() }

// Close ends the helper processes. Mounts stay.
func (d *Drives) Close() error {
	d.mu.Lock()
	d.closed = true
	h := d.idle
	d.idle = nil
	if h != nil {
		d.timer.Stop()
	}
	d.mu.Unlock()
	if h != nil {
		d.end(h)
	}
	done := make(chan struct{})
	go func() { // ends with the last helper; one in the kernel's hands may outlast this process
		d.helpers.Wait()
		close(done)
	}()
	timer := time.NewTimer(helperGone)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return &Error{Code: CodeHelper, Text: "a helper process is stuck in the kernel and was left behind",
			Next: "look for processes in state D"}
	}
}

// start starts this program as a helper, in a session of its own, so that a Ctrl-C meant for the agent does not end it.
func start() (*helper, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	h := &helper{in: inW, out: outR, lines: bufio.NewReader(outR), stderr: &tail{}, exited: make(chan struct{})}
	h.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{os.Args[0] + " (drive helper)"},
		Env: []string{HelperEnv + "=1", "PATH=" + helperPath}, Dir: "/",
		Stdin: inR, Stdout: outW, Stderr: h.stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, WaitDelay: time.Second,
	}
	err = h.cmd.Start()
	err = errors.Join(err, inR.Close(), outW.Close())
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	return h, nil
}

func (h *helper) gone() bool {
	select {
	case <-h.exited:
		return true
	default:
		return false
	}
}

// broken: its files were closed by a call that failed.
func (h *helper) broken() bool { return h.in.SetWriteDeadline(time.Time{}) != nil }

func (h *helper) closeFiles() { _, _ = h.in.Close(), h.out.Close() } // nothing is buffered, and twice is harmless

// call does one request. When ctx ends first, the helper is killed and never used again; if the kernel holds it, it
// is left to its waiter, which reaps it whenever it comes free.
func (h *helper) call(ctx context.Context, r request) (reply, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return reply{}, &Error{Code: CodeHelper, Text: "request", Err: err}
	}
	stop := context.AfterFunc(ctx, func() {
		_ = h.cmd.Process.Kill() // by pidfd: never another process
		h.closeFiles()
	})
	defer stop()
	var rep reply
	if _, err = h.in.Write(append(b, '\n')); err == nil {
		var line []byte
		if line, err = h.lines.ReadSlice('\n'); err == nil {
			err = json.Unmarshal(line, &rep)
		} else if errors.Is(err, bufio.ErrBufferFull) {
			rest, restErr := h.lines.ReadBytes('\n')
			err = errors.Join(restErr, json.Unmarshal(append(append([]byte(nil), line...), rest...), &rep))
		}
	}
	switch {
	case ctx.Err() != nil && err != nil:
		return reply{}, &Error{Code: CodeTimeout, Text: fmt.Sprintf("%s of %s was not done in time", r.Op, r.subject()),
			Next: "the device may hang: look for processes in state D and at dmesg", Err: ctx.Err()}
	case err != nil:
		h.closeFiles()
		return reply{}, &Error{Code: CodeHelper, Text: fmt.Sprintf("%s of %s: the helper process failed: %s", r.Op,
			r.subject(), h.stderr),
			Err: err}
	case rep.Failed != nil:
		return rep, rep.Failed.error()
	}
	return rep, nil
}

// tail keeps the last bytes of a helper's standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailMax = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - tailMax; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
