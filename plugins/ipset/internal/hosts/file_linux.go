package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockMost  = 5 * time.Second
	lockPause = 10 * time.Millisecond
)

// lock keeps other processes that do the same out. The lock is on the file itself, and leaves none behind; since the
// file is replaced, it counts only when it is on the file that has the name then.
func lock(path string) (unlock func(), err error) {
	for end := time.Now().Add(lockMost); ; time.Sleep(lockPause) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.Open(filepath.Dir(path))
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && current(f, path) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if time.Now().After(end) {
			return nil, errors.New("another program has locked it")
		}
	}
}

func current(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mine.IsDir()
	}
	return err == nil && os.SameFile(mine, now)
}

// own gives the new file the owner of the old one.
func own(f *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

// copyAttributes gives the new file the extended attributes of the old one, such as its label of SELinux and its access
// list. Without them others may not be able to read it.
func copyAttributes(f *os.File, path string) error {
	names := make([]byte, 64<<10)
	n, err := unix.Listxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		size, err := unix.Getxattr(path, name, value)
		if err == nil {
			err = unix.Fsetxattr(int(f.Fd()), name, value[:size], 0)
		}
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// mounted says whether the file is on another device than its folder, as in containers.
func mounted(path string) bool {
	var file, folder unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &file) != nil ||
		unix.Statx(unix.AT_FDCWD, filepath.Dir(path), 0, unix.STATX_BASIC_STATS, &folder) != nil {
		return false
	}
	return file.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
