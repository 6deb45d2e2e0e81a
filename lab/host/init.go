//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// secondStage marks the init that has its own control group namespace.
const secondStage = "__init2"

// Init is the process 1 of a host; it returns only when it could not become one. args are the program's arguments from
// [InitArg] on.
//
// It runs in two stages, since a control group namespace belongs to one thread until the next exec.
func Init(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("init: %d arguments; this is not for people", len(args))
	}
	if args[0] == InitArg {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("init: control group namespace: %w", err)
		}
		return syscall.Exec("/proc/self/exe", []string{"orslab-init", secondStage, args[1]}, os.Environ())
	}
	var spec Spec
	if err := json.Unmarshal([]byte(args[1]), &spec); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if os.Getpid() != 1 {
		return errors.New("init: this is not process 1 of a host")
	}
	return boot(spec)
}

// IsInit says whether the program was executed as a host's process 1.
func IsInit(args []string) bool {
	return len(args) == 3 && args[0] == "orslab-init" && (args[1] == InitArg || args[1] == secondStage)
}

func boot(spec Spec) error {
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("init: name: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("init: loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("init: loopback: %w", err)
	}
	// The socket is made under another name first: who can connect to the final one finds a host that is ready.
	early := spec.socketPath() + ".new"
	if err := os.Remove(early); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("init: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: early, Net: "unix"})
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	l.SetUnlinkOnClose(false)
	sockets, err := os.Open(spec.Dir)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	root := filepath.Join(spec.Dir, "root")
	if err := buildRoot(spec, root); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := enterRoot(root); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	ignoreEnd()
	in := &initd{children: map[int]chan unix.WaitStatus{}}
	go in.reap()
	err = unix.Renameat(int(sockets.Fd()), filepath.Base(early), int(sockets.Fd()), filepath.Base(spec.socketPath()))
	if err := errors.Join(err, sockets.Close()); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return fmt.Errorf("init: %w", err)
		}
		go in.serve(c)
	}
}

// initd runs and reaps.
type initd struct {
	mu       sync.Mutex // held from a fork until the child is known, so that the reaper finds whom it reaps
	children map[int]chan unix.WaitStatus
}

// reap waits for all children for ever: those that were started here, and orphans of the host.
func (in *initd) reap() {
	chld := make(chan os.Signal, 16)
	notifyChild(chld)
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // no children: wait for a signal that there is one that ended
			<-chld
			continue
		}
		in.mu.Lock()
		if ch := in.children[pid]; ch != nil {
			delete(in.children, pid)
			ch <- ws
		}
		in.mu.Unlock()
	}
}

// start forks a command with the three given descriptors as its standard ones, in a session of its own.
func (in *initd) start(r execRequest, files []*os.File) (int, chan unix.WaitStatus, error) {
	path, err := lookPath(r.Args[0], r.Env)
	if err != nil {
		return 0, nil, err
	}
	attr := &syscall.ProcAttr{Dir: r.Dir, Env: r.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	pid, err := syscall.ForkExec(path, r.Args, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", path, err)
	}
	ch := make(chan unix.WaitStatus, 1)
	in.children[pid] = ch
	return pid, ch, nil
}

func lookPath(name string, env []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, e := range env {
		if len(e) > 5 && e[:5] == "PATH=" {
			for _, dir := range filepath.SplitList(e[5:]) {
				p := filepath.Join(dir, name)
				if unix.Access(p, unix.X_OK) == nil {
					return p, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%s: not found in PATH", name)
}

// serve runs one command for one connection.
func (in *initd) serve(c *net.UnixConn) {
	defer c.Close()
	var r execRequest
	files, err := receive(c, &r)
	defer func() { closeAll(files) }()
	if err != nil {
		return // a connection that only asks whether somebody listens
	}
	if len(r.Args) == 0 || len(files) != 3 {
		_ = send(c, execEvent{Error: "a command and three descriptors are needed"}, nil)
		return
	}
	pid, ended, err := in.start(r, files)
	closeAll(files)
	files = nil
	if err != nil {
		_ = send(c, execEvent{Error: err.Error()}, nil)
		return
	}
	if send(c, execEvent{PID: pid}, nil) != nil && !r.Detach {
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	go in.forwardSignals(c, pid, r.Detach)
	ws := <-ended
	_ = send(c, execEvent{Ended: true, Code: exitCode(ws)}, nil) // nobody may be left to hear it
}

// forwardSignals passes signals on until the connection ends. A command that is not detached ends with its connection.
// Signals go only to a child that was not reaped yet.
func (in *initd) forwardSignals(c *net.UnixConn, pid int, detached bool) {
	for {
		var s execSignal
		files, err := receive(c, &s)
		closeAll(files)
		in.mu.Lock()
		_, alive := in.children[pid]
		if alive && err == nil {
			target := pid
			if s.Group {
				target = -pid
			}
			_ = unix.Kill(target, unix.Signal(s.Signal)) // it may be ending
		}
		if alive && err != nil && !detached {
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
		in.mu.Unlock()
		if err != nil || !alive {
			return
		}
	}
}

func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
