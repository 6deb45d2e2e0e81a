//go:build linux

// Package proc identifies processes of a lab beyond a reused pid, and ends them.
//
// It must never signal a process that it cannot prove to be the one that was recorded.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process that was recorded does not exist any more.
var ErrGone = errors.New("the process is gone")

// Identity names one run of one process: a pid alone is reused.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, field 22 of /proc/PID/stat
	Boot  string `json:"boot"`  // boot id of the kernel
}

// BootID reads the kernel's boot id.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Identify returns the identity of the process that has the pid now.
func Identify(pid int) (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	st, err := ReadStat("/proc", pid)
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: st.Start, Boot: boot}, nil
}

// Stat is what a lab wants to know out of /proc/PID/stat.
type Stat struct {
	PID, PPID int
	Comm      string
	State     byte
	Start     uint64
}

// ReadStat reads the stat file of a pid below root, which is a mounted proc file system.
func ReadStat(root string, pid int) (Stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", root, pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Stat{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return Stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return parseStat(pid, string(raw))
}

// parseStat splits after the last parenthesis, since a command's name may hold any character.
func parseStat(pid int, s string) (Stat, error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return Stat{}, fmt.Errorf("process %d: stat file without a command: %q", pid, s)
	}
	f := strings.Fields(s[end+1:])
	if len(f) < 20 {
		return Stat{}, fmt.Errorf("process %d: stat file of %d fields", pid, len(f)+2)
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return Stat{}, fmt.Errorf("process %d: parent %q: %w", pid, f[1], err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("process %d: start %q: %w", pid, f[19], err)
	}
	return Stat{PID: pid, PPID: ppid, Comm: s[open+1 : end], State: f[0][0], Start: start}, nil
}

// open returns a pidfd of exactly the process that was recorded.
func (id Identity) open() (int, error) {
	if id.PID <= 0 {
		return -1, fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: pidfd: %w", id.PID, err)
	}
	now, err := Identify(id.PID) // the pidfd holds the pid, so what is read here is what would be signalled
	if err == nil && now != id {
		err = fmt.Errorf("process %d: another process has its number: %w", id.PID, ErrGone)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Alive says whether the process runs; a zombie does not.
func (id Identity) Alive() bool {
	fd, err := id.open()
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	st, err := ReadStat("/proc", id.PID)
	return err == nil && st.State != 'Z' && st.State != 'X'
}

// Signal sends sig to exactly this process. ErrGone when there is none.
func (id Identity) Signal(sig unix.Signal) error {
	fd, err := id.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = ErrGone
		}
		return fmt.Errorf("process %d: signal %v: %w", id.PID, sig, err)
	}
	return nil
}

// WaitGone waits until the process has ended (a zombie has) or ctx ends.
func (id Identity) WaitGone(ctx context.Context) error {
	fd, err := id.open()
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("process %d: poll: %w", id.PID, err)
		}
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("process %d still runs: %w", id.PID, ctx.Err())
}

// End asks the process to terminate, kills it after grace, and waits for its end. A process that is gone is success.
func (id Identity) End(grace time.Duration) error {
	if grace > 0 {
		if err := id.Signal(unix.SIGTERM); err != nil {
			return ignoreGone(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if id.WaitGone(ctx) == nil {
			return nil
		}
	}
	if err := id.Signal(unix.SIGKILL); err != nil {
		return ignoreGone(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return id.WaitGone(ctx)
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// List reads all processes below root, a mounted proc file system; those that end meanwhile are left out.
func List(root string) ([]Stat, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var all []Stat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		st, err := ReadStat(root, pid)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}
