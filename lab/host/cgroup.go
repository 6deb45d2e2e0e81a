//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// cgroupRoot finds where the machine has control groups of version 2; "" where it has none.
func cgroupRoot() string {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup2" || m.Root != "/", m.FSType == "cgroup2" && m.Root == "/"
	})
	if err != nil || len(mounts) == 0 {
		return ""
	}
	return mounts[0].Mountpoint
}

// enterCgroup makes the child be born in a control group of its own; without control groups it does nothing.
func enterCgroup(name string, attr *syscall.SysProcAttr) (leave func(), err error) {
	root := cgroupRoot()
	if name == "" || root == "" {
		return func() {}, nil
	}
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("control group: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control group %s: %w", dir, err)
	}
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return func() { _ = unix.Close(fd) }, nil
}

// RemoveCgroups removes the control groups whose names start with prefix, with all below. They must have no processes
// any more; those of a host that has just died may take a moment to leave.
func RemoveCgroups(ctx context.Context, prefix string) error {
	root := cgroupRoot()
	if prefix == "" || root == "" {
		return nil
	}
	tops, err := filepath.Glob(filepath.Join(root, prefix+"*"))
	if err != nil {
		return err
	}
	for _, top := range tops {
		for {
			err := removeTree(top)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("control group %s: %w", strings.TrimPrefix(top, root), errors.Join(err, ctx.Err()))
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
