//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// tty is a terminal with a program in it.
type tty struct {
	t    *testing.T
	file *os.File
	got  chan string
	seen string
}

// wait returns when the terminal has been sent text since the last wait.
func (y *tty) wait(text string) {
	y.t.Helper()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(y.seen, text) {
		select {
		case more, ok := <-y.got:
			if !ok {
				y.t.Fatalf("the program ended before %q: %q", text, y.seen)
			}
			y.seen += more
		case <-timeout:
			y.t.Fatalf("no %q in %q", text, y.seen)
		}
	}
	_, y.seen, _ = strings.Cut(y.seen, text)
}

func startTTY(t *testing.T, env []string, args ...string) (*tty, *exec.Cmd) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "orscore", args...)
	cmd.Env = append(os.Environ(), append([]string{"LC_ALL=C.UTF-8", "TERM=xterm"}, env...)...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	y := &tty{t: t, file: f, got: make(chan string, 1024)}
	go func() {
		defer close(y.got)
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return // EIO: the program has closed its side
			}
			y.got <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { _ = f.Close() })
	return y, cmd
}

// serveHere runs an agent until stop is called.
func serveHere(t *testing.T, dir string, a *agent) (stop func()) {
	t.Helper()
	st, err := store.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	a.store = st
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- control.Serve(ctx, filepath.Join(dir, "s"), control.Permission{}, a, hclog.NewNullLogger())
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWatchScreen: on a terminal the screen is redrawn in place, survives the agent's restart, and is left as it was
// found.
func TestWatchScreen(t *testing.T) {
	dir := t.TempDir()
	a := &agent{status: control.Status{Pair: "cpqlab", Self: "rocky", Sentence: "First.", Normal: true}}
	stop := serveHere(t, dir, a)
	y, cmd := startTTY(t, nil, "status", "--watch", "--socket", filepath.Join(dir, "s"))
	y.wait(enterScreen)
	y.wait("\x1b[1mFirst.\x1b[0m")
	a.mu.Lock()
	a.status.Sentence = "Second."
	a.mu.Unlock()
	a.Notify()
	y.wait(beginFrame)
	y.wait("Second.")
	stop()
	y.wait("NOT CURRENT: ORS-700")
	a.status.Sentence = "Third."
	stop = serveHere(t, dir, a)
	defer stop()
	y.wait("Third.")
	if _, err := io.WriteString(y.file, "\x03"); err != nil { // ^C
		t.Fatal(err)
	}
	y.wait(leaveScreen)
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit after ^C: %v", err)
	}
}

func TestColours(t *testing.T) {
	dir := t.TempDir()
	defer serveHere(t, dir, &agent{status: control.Status{Pair: "cpqlab", Sentence: "All is well."}})()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := control.Dial(t.Context(), filepath.Join(dir, "s")); err == nil {
			_ = c.Close()
			break
		}
	}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{nil, " \x1b[1mAll is well.\x1b[0m\r\n"},
		{[]string{"NO_COLOR=1"}, " All is well.\r\n"},
		{[]string{"TERM=dumb"}, " All is well.\r\n"},
	} {
		y, cmd := startTTY(t, tc.env, "status", "--socket", filepath.Join(dir, "s"))
		y.wait(tc.want)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
