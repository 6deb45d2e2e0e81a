package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	outputKept  = 4096                   // of the end of a short command's output
	outputDelay = 500 * time.Millisecond // a grandchild may keep the output open
	heldDelay   = outputDelay + 100*time.Millisecond
)

// ErrHeld is returned when a command that was killed is still there: it waits in the kernel, perhaps for a drive that
// has gone. What it was run for is not known.
var ErrHeld = errors.New("it was killed and does not end: the kernel holds it")

// held are the commands that do not end. They are not run again meanwhile, so that they do not become more and more.
var held sync.Map

// Command is a short command that is run to its end by the plugin itself: a check, or a request to stop.
type Command struct {
	Argv []string
	Env  []string // the whole environment
	Cwd  string   // "/" when empty
	User *User    // nil: as the plugin
}

// Run runs the command and returns the end of its output. When ctx ends first, the command and everything in its
// process group is killed and the error is ctx's, or ErrHeld when even that does not end it. Otherwise an exit code
// other than 0 is an *exec.ExitError.
func (c Command) Run(ctx context.Context) (string, error) {
	key := strings.Join(append(append([]string{c.Cwd}, c.Argv...), c.Env...), "\x00")
	if _, stuck := held.Load(key); stuck {
		return "", fmt.Errorf("command %q is not run again: %w", strings.Join(c.Argv, " "), ErrHeld)
	}
	type result struct {
		out string
		err error
	}
	ended := make(chan result)
	left := make(chan struct{})
	go func() { // also a start may wait: for the program's file, or for its working directory
		out, err := c.run(ctx)
		select {
		case ended <- result{out, err}:
		case <-left:
			held.Delete(key)
		}
	}()
	select {
	case r := <-ended:
		return r.out, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-ended:
		return r.out, r.err
	case <-time.After(heldDelay):
		held.Store(key, nil)
		close(left)
		return "", fmt.Errorf("command %q: %w", strings.Join(c.Argv, " "), ErrHeld)
	}
}

// run waits for the command, however long it takes to end.
func (c Command) run(ctx context.Context) (string, error) {
	path, err := LookPath(c.Argv[0], c.Env)
	if err != nil {
		return "", err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out tail
	cmd := exec.CommandContext(ctx, path, c.Argv[1:]...)
	cmd.Args[0] = c.Argv[0]
	cmd.Env, cmd.Dir = c.Env, c.Cwd
	if cmd.Dir == "" {
		cmd.Dir = rootDir
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = outputDelay
	ownGroup(cmd, c.User)
	err = cmd.Run()
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("command %q: %w", strings.Join(c.Argv, " "), ctx.Err())
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well and left somebody with its output
	}
	if err != nil {
		return out.String(), fmt.Errorf("command %q: %w", strings.Join(c.Argv, " "), err)
	}
	return out.String(), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - outputKept; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
