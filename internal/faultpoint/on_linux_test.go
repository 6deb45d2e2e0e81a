//go:build orsfault

package faultpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain passes points and says which it came through when it is run by a test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "pass" {
		for _, name := range os.Args[2:] {
			At(name)
			fmt.Println(name)
		}
		return
	}
	os.Exit(m.Run())
}

func pass(t *testing.T, dir string, names ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"pass"}, names...)...)
	if dir != "" {
		cmd.Env = append(os.Environ(), Env+"="+dir)
	}
	cmd.Stdout = &bytes.Buffer{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func arm(t *testing.T, dir, name, what string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(what+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func printed(c *exec.Cmd) string { return c.Stdout.(*bytes.Buffer).String() }

func TestKillsOnceAtItsPoint(t *testing.T) {
	dir := t.TempDir()
	arm(t, dir, "second", Kill)
	cmd := pass(t, dir, "first", "second", "third")
	var end *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &end) || end.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if got := printed(cmd); got != "first\n" {
		t.Errorf("it came through %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "second"+Done)); err != nil {
		t.Error(err)
	}
	cmd = pass(t, dir, "first", "second", "third")
	if err := cmd.Wait(); err != nil || printed(cmd) != "first\nsecond\nthird\n" {
		t.Errorf("the second time: %v, %q", err, printed(cmd))
	}
}

func TestStopsAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	arm(t, dir, "point", Stop)
	cmd := pass(t, dir, "point")
	var ws unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("it did not stop: %v, %v", ws, err)
	}
	if got := printed(cmd); got != "" {
		t.Errorf("it stopped behind the point: %q", got)
	}
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || printed(cmd) != "point\n" {
		t.Errorf("continued: %v, %q", err, printed(cmd))
	}
}

func TestExits(t *testing.T) {
	dir := t.TempDir()
	arm(t, dir, "point", Exit)
	cmd := pass(t, dir, "point")
	var end *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &end) || end.ExitCode() != 3 {
		t.Errorf("it ended with %v", err)
	}
}

func TestNothingHappensWithoutTheVariable(t *testing.T) {
	dir := t.TempDir()
	arm(t, dir, "point", Kill)
	t.Setenv(Env, "")
	cmd := pass(t, "", "point")
	if err := cmd.Wait(); err != nil || printed(cmd) != "point\n" {
		t.Errorf("%v, %q", err, printed(cmd))
	}
}
