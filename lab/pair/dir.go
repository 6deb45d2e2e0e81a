//go:build linux

// Package pair puts a lab together out of hosts, an enclosure, a cable and agents, takes power from parts of it, and
// takes it apart.
//
// It must never touch what is not a lab's: its processes carry a mark in their environment, its loop devices and
// mounts lie below the lab's folder, its control groups have its name.
package pair

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/loop"
	"github.com/orscore/ors/lab/proc"
)

// Base is the folder of all labs of this machine.
const Base = "/var/tmp/orslab"

// mark is the name of the environment variable that every process of a lab carries outside of hosts; its value is the
// lab's folder.
const mark = "ORSLAB"

// ErrAlive says that the lab has a controller that works.
var ErrAlive = errors.New("the lab is alive")

// folder is a lab's folder, held by a lock for as long as its controller lives.
type folder struct {
	id   string
	path string
	lock *os.File
}

// claimFolder makes the folder of a new lab. With an empty name it takes one that nobody has.
func claimFolder(name string) (*folder, error) {
	if name == "" {
		raw := make([]byte, 3)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		name = hex.EncodeToString(raw)
	}
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") || len(name) > 16 {
		return nil, fmt.Errorf("lab %q: a name has at most 16 characters, no slash, no leading dot", name)
	}
	base, err := lockBase()
	if err != nil {
		return nil, err
	}
	defer base.Close()
	f := &folder{id: name, path: filepath.Join(Base, name)}
	if err := os.Mkdir(f.path, 0o755); err != nil {
		return nil, fmt.Errorf("lab %q: %w", name, err)
	}
	if f.lock, err = lockFile(f.lockPath(), true); err != nil {
		return nil, fmt.Errorf("lab %q: %w", name, err)
	}
	return f, nil
}

func (f *folder) lockPath() string { return filepath.Join(f.path, "lock") }

func (f *folder) cgroups() string { return "orslab-" + f.id + "-" }

// lockBase keeps labs from being made and removed at the same moment.
func lockBase() (*os.File, error) {
	if err := os.MkdirAll(Base, 0o755); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(Base, ".lock"), true)
}

func lockFile(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for range 500 {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || !wait {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrAlive
	}
	return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
}

// List names the labs of this machine, dead ones included.
func List() ([]string, error) {
	entries, err := os.ReadDir(Base)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// SweepDead removes what labs without a controller have left. It returns their names.
func SweepDead(ctx context.Context) ([]string, error) {
	names, err := List()
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, name := range names {
		err := Remove(ctx, name)
		if errors.Is(err, ErrAlive) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, name)
	}
	return swept, errors.Join(errs...)
}

// Remove removes what a lab without a controller has left. ErrAlive: it has one.
func Remove(ctx context.Context, name string) error {
	base, err := lockBase()
	if err != nil {
		return err
	}
	defer base.Close()
	f := &folder{id: name, path: filepath.Join(Base, name)}
	if _, err := os.Stat(f.path); err != nil {
		return fmt.Errorf("lab %q: %w", name, err)
	}
	if f.lock, err = lockFile(f.lockPath(), false); err != nil {
		return fmt.Errorf("lab %q: %w", name, err)
	}
	return f.remove(ctx)
}

// remove ends whatever is left of the lab and removes the folder. The order matters: no host may write to a unit
// whose enclosure has gone, and a loop device hangs on files of a dead file system until that is aborted.
func (f *folder) remove(ctx context.Context) error {
	defer f.lock.Close()
	errs := []error{f.endProcesses(isHost), f.detachLoops(), f.endProcesses(isAny)}
	errs = append(errs, f.abortFUSE(), f.detachLoops(), f.unmount(), host.RemoveCgroups(ctx, f.cgroups()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %q: removing it: %w", f.id, err)
	}
	if err := os.RemoveAll(f.path); err != nil {
		return fmt.Errorf("lab %q: removing it: %w", f.id, err)
	}
	return nil
}

func isHost(args []string) bool { return host.IsInit(args) }
func isAny([]string) bool       { return true }

// endProcesses kills all processes that carry the lab's mark and whose arguments are as asked for, except this one.
func (f *folder) endProcesses(which func(args []string) bool) error {
	all, err := proc.List("/proc")
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		if p.PID == os.Getpid() || p.State == 'Z' || !hasMark(p.PID, f.path) {
			continue
		}
		id, err := proc.Identify(p.PID)
		if errors.Is(err, proc.ErrGone) || err == nil && id.Start != p.Start {
			continue
		}
		if err == nil && which(arguments(p.PID)) {
			err = id.End(0)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func hasMark(pid int, path string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && strings.Contains("\x00"+string(env), "\x00"+mark+"="+path+"\x00")
}

func arguments(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

func (f *folder) detachLoops() error {
	devs, err := loop.Below(f.path)
	if err != nil {
		return err
	}
	var errs []error
	for _, dev := range devs {
		file, err := loop.Backing(dev)
		if err == nil && file != "" {
			err = loop.Detach(dev, file, 10*time.Second)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *folder) mounts() ([]*mountinfo.Info, error) {
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(f.path))
	sort.Slice(all, func(i, j int) bool { return len(all[i].Mountpoint) > len(all[j].Mountpoint) })
	return all, err
}

// abortFUSE ends the connections of file systems whose server has died or hangs: whoever waits for them gets an error.
func (f *folder) abortFUSE() error {
	all, err := f.mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		if !strings.HasPrefix(m.FSType, "fuse") {
			continue
		}
		err := os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", m.Minor), []byte("1"), 0)
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (f *folder) unmount() error {
	all, err := f.mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
