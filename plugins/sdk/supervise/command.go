package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// outputKept is how much of the end of a short command's output is kept.
const outputKept = 4096

// Command is a short command that is run to its end by the plugin itself: a check, or a request to stop.
type Command struct {
	Argv []string
	Env  []string // the whole environment
	Cwd  string   // "/" when empty
	User *User    // nil: as the plugin
}

// Run runs the command and returns the end of its output. When ctx ends first, the command and everything in its
// process group is killed and the error is ctx's. Otherwise an exit code other than 0 is an *exec.ExitError.
func (c Command) Run(ctx context.Context) (string, error) {
	path, err := LookPath(c.Argv[0], c.Env)
	if err != nil {
		return "", err
	}
	var out tail
	cmd := exec.CommandContext(ctx, path, c.Argv[1:]...)
	cmd.Args[0] = c.Argv[0]
	cmd.Env, cmd.Dir = c.Env, c.Cwd
	if cmd.Dir == "" {
		cmd.Dir = rootDir
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 500 * time.Millisecond // a grandchild may keep the output open
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
