package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is the agent's process, held by a descriptor of the kernel: it stays this process when it becomes another
// program, and is nobody else when its number is used again.
type process struct {
	pid    int
	fd     int
	args   []string
	env    []string
	dir    string
	output string // file that its standard error goes to; empty: none
}

// hold takes hold of a running process.
func hold(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, fd: fd, dir: "/"}
	args, err := os.ReadFile(p.proc("cmdline"))
	env, envErr := os.ReadFile(p.proc("environ"))
	if err := errors.Join(err, envErr); err != nil || len(args) == 0 {
		p.release()
		return nil, errors.Join(err, fmt.Errorf("how process %d was started is not to be seen", pid))
	}
	p.args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
	p.env = strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	if dir, err := os.Readlink(p.proc("cwd")); err == nil {
		p.dir = dir
	}
	if out, err := os.Readlink(p.proc("fd/2")); err == nil {
		if info, err := os.Stat(out); err == nil && info.Mode().IsRegular() {
			p.output = out
		}
	}
	return p, nil
}

func (p *process) proc(what string) string { return fmt.Sprintf("/proc/%d/%s", p.pid, what) }

func (p *process) release() { _ = unix.Close(p.fd) }

// program is the file that the process executes now, whatever has become of its name.
func (p *process) program() string { return p.proc("exe") }

// runs says whether the process executes a file.
func (p *process) runs(file string) bool {
	a, err := os.Stat(p.program())
	b, errB := os.Stat(file)
	return err == nil && errB == nil && os.SameFile(a, b) && !p.ended()
}

// lock keeps a second upgrade of a program away until unlock is called, or this process ends.
func lock(program string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(program))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("the folder %s is locked: %w", dir.Name(), err)
	}
	return func() { _ = dir.Close() }, nil
}

// ended says whether the process has ended.
func (p *process) ended() bool { return p.wait(0) }

func (p *process) wait(d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	return err == nil && n > 0
}

// kill ends the process.
func (p *process) kill(ctx context.Context) error {
	if err := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for range 100 {
		if p.wait(poll) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("process %d does not end", p.pid)
}

// startAgain starts a program as the process was started, for whoever has no service manager that does it.
func (p *process) startAgain(program string) error {
	cmd := exec.Command(program, p.args[1:]...)
	cmd.Env, cmd.Dir = p.env, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.output != "" {
		out, err := os.OpenFile(p.output, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			defer func() { _ = out.Close() }()
			cmd.Stdout, cmd.Stderr = out, out
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
