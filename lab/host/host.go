//go:build linux

// Package host makes hosts out of namespaces on one machine: a network, mounts, process ids, a name and a process 1
// of their own, that can lose their power.
//
// It must never leave anything of a host behind once its process 1 is dead, never touch the machine's own network,
// and never show a host the devices of another one.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/lab/proc"
)

// InitArg is the first argument of a program that is to be the process 1 of a host: main calls [Init] then.
const InitArg = "__init"

// Mount is a folder of the machine that a host sees at another place.
type Mount struct {
	From     string `json:"from"`
	To       string `json:"to"` // absolute
	ReadOnly bool   `json:"read_only"`
}

// Spec describes a host.
type Spec struct {
	Name    string            `json:"name"`
	Dir     string            `json:"dir"`     // folder on the machine; sockets and the root's mount point are in it
	Mounts  []Mount           `json:"mounts"`  // what survives a power cut, and what is shared
	Devices map[string]string `json:"devices"` // name below /dev/ors: device of the machine
	Links   map[string]string `json:"links"`   // symbolic links: absolute path in the host: target
	Cgroup  string            `json:"cgroup"`  // name for a control group of the host; empty: none
	Grouped bool              `json:"grouped"` // the machine has control groups of version 2; Start sets it
	Mark    string            `json:"mark"`    // NAME=value in the environment of process 1, by which a lab finds it again
}

func (s Spec) socketPath() string { return filepath.Join(s.Dir, "init.sock") }

// Host is a running host.
type Host struct {
	Spec Spec
	ID   proc.Identity // of its process 1
	cmd  *exec.Cmd
	done chan struct{}
}

// Start makes a host: this program is executed again as its process 1. It returns when the host takes commands. The
// host's network holds only its loopback.
func Start(ctx context.Context, spec Spec) (_ *Host, err error) {
	if err := os.MkdirAll(spec.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("host %s: %w", spec.Name, err)
	}
	spec.Grouped = spec.Cgroup != "" && cgroupRoot() != "" // the host could not tell: it sees only its own
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", spec.Name, err)
	}
	if err := os.Remove(spec.socketPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("host %s: %w", spec.Name, err)
	}
	log, err := os.OpenFile(filepath.Join(spec.Dir, "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", InitArg, string(raw))
	cmd.Args[0] = "orslab-init"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append([]string(nil), environment...)
	if spec.Mark != "" {
		cmd.Env = append(cmd.Env, spec.Mark)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, // autogroup scheduling treats a session as one
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC,
	}
	leave, err := enterCgroup(spec.Cgroup, cmd.SysProcAttr)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", spec.Name, err)
	}
	defer leave()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("host %s: starting its process 1: %w", spec.Name, err)
	}
	h := &Host{Spec: spec, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // a process 1 that was killed is how a host ends
		close(h.done)
	}()
	if h.ID, err = proc.Identify(cmd.Process.Pid); err == nil {
		err = h.waitReady(ctx)
	}
	if err != nil {
		_ = cmd.Process.Kill() // it may be gone
		<-h.done
		return nil, errors.Join(fmt.Errorf("host %s: %w", spec.Name, err), initLog(spec))
	}
	return h, nil
}

func initLog(spec Spec) error {
	b, err := os.ReadFile(filepath.Join(spec.Dir, "init.log"))
	if err != nil || len(b) == 0 {
		return err
	}
	return fmt.Errorf("its log: %s", b[max(0, len(b)-2000):])
}

func (h *Host) waitReady(ctx context.Context) error {
	for {
		c, err := dial(h.Spec.socketPath())
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it takes no commands: %w", errors.Join(err, ctx.Err()))
		case <-h.done:
			return errors.New("its process 1 ended")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Kill takes the power from the host's processes: all of them are killed with its process 1, and none gets to run any
// more when it returns. It ends no storage and no links: whoever cuts the power does that first.
func (h *Host) Kill(ctx context.Context) error {
	if err := h.ID.Signal(unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("host %s: %w", h.Spec.Name, err)
	}
	select {
	case <-h.done:
	case <-ctx.Done():
		return fmt.Errorf("host %s: its process 1 was killed and is still there: %w", h.Spec.Name, ctx.Err())
	}
	return nil
}

// Clean removes what a dead host has left in the machine: its control groups.
func (h *Host) Clean(ctx context.Context) error {
	return RemoveCgroups(ctx, h.Spec.Cgroup)
}

// Alive says whether the host has power.
func (h *Host) Alive() bool {
	select {
	case <-h.done:
		return false
	default:
		return true
	}
}
