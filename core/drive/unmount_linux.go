package drive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ours refuses a path that is no letter's folder below the drive root.
func ours(root string, m Mounted) error {
	l, err := letter(m.Letter)
	if err == nil && m.Volume != "" {
		if real, rerr := filepath.EvalSymlinks(root); rerr == nil && m.Path == letterPath(real, l) ||
			m.Path == letterPath(root, l) {
			return nil
		}
	}
	return &Error{Code: CodeSpec, Text: fmt.Sprintf("%q at %q is no drive below %s", m.Letter, m.Path, root), Err: err}
}

// unmount writes everything out, takes all mounts of the volume at the letter away, and proves that none is left
// anywhere.
func unmount(root string, m Mounted) error {
	if err := ours(root, m); err != nil {
		return err
	}
	if isLink(m) {
		return unlink(m)
	}
	v := known(m)
	for {
		mi, err := mountAt(v, m.Path)
		if err != nil {
			return err
		}
		if mi == nil {
			break
		}
		if err := syncVolume(m); err != nil {
			return err
		}
		err = unix.Unmount(m.Path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			return &BusyError{Volume: m.Volume, Path: m.Path}
		}
		if err != nil {
			return &Error{Code: CodeUnmount, Text: fmt.Sprintf("unmounting %s from %s", m.Volume, m.Path),
				Next: "dmesg | tail", Err: err}
		}
	}
	if err := released(v, m); err != nil {
		return err
	}
	return removeFolder(m.Path)
}

// syncVolume writes everything out and reports what could not be written.
func syncVolume(m Mounted) error {
	fd, err := unix.Open(m.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err == nil {
		err = errors.Join(unix.Syncfs(fd), unix.Close(fd))
	}
	if err != nil {
		return &Error{Code: CodeIO, Text: fmt.Sprintf("%s at %s cannot be written out", m.Volume, m.Path),
			Next: "dmesg | tail", Err: err}
	}
	return nil
}

// released waits until the kernel has let go of the device. A mount in another namespace, or at another place, keeps
// it.
func released(v volume, m Mounted) error {
	ms, err := mountsOf(v)
	if err != nil {
		return err
	}
	if len(ms) > 0 {
		return &BusyError{Volume: m.Volume, Path: m.Path, Who: mountUsers(ms)}
	}
	for deadline := time.Now().Add(releasePatience); ; time.Sleep(5 * time.Millisecond) {
		busy, err := held(v)
		if err != nil || !busy { // a device that cannot be opened has no mount: that was seen above
			return nil
		}
		if time.Now().After(deadline) {
			return &BusyError{Volume: m.Volume, Path: m.Path}
		}
	}
}

func mountUsers(ms []*mountinfo.Info) []Busy {
	var who []Busy
	for _, mi := range ms {
		who = append(who, Busy{Command: "mount", Path: mi.Mountpoint})
	}
	return who
}

// unlink takes the letter from a folder.
func unlink(m Mounted) error {
	if err := os.Remove(m.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{Code: CodeUnmount, Text: "removing the link " + m.Path, Err: err}
	}
	return nil
}

// removeFolder removes an empty letter's folder, so that who still writes there fails instead of filling the disk
// below.
func removeFolder(path string) error {
	err := unix.Rmdir(path)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, unix.EBUSY) { // EBUSY: another volume has the letter by now
		return nil
	}
	return &Error{Code: CodeUnmount, Text: "removing the letter's folder " + path, Err: err}
}

// shutdown makes the filesystem refuse all I/O from now on and forget what it has not written.
func shutdown(root string, m Mounted) error {
	if err := ours(root, m); err != nil {
		return err
	}
	if isLink(m) {
		return nil
	}
	mi, err := mountAt(known(m), m.Path)
	if err != nil || mi == nil {
		return err
	}
	fd, err := unix.Open(m.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &Error{Code: CodeUnmount, Text: "opening " + m.Path, Err: err}
	}
	defer unix.Close(fd)
	how := uint32(noLogFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsShutdown, uintptr(unsafe.Pointer(&how)))
	if errno != 0 {
		return &Error{Code: CodeUnmount, Text: "shutting down the filesystem at " + m.Path, Err: errno}
	}
	return nil
}

// detach takes a volume from its letter, whoever uses it; its users keep a filesystem that no path leads to.
func detach(root string, m Mounted) error {
	if err := ours(root, m); err != nil {
		return err
	}
	if isLink(m) {
		return unlink(m)
	}
	v := known(m)
	for {
		mi, err := mountAt(v, m.Path)
		if err != nil {
			return err
		}
		if mi == nil {
			return removeFolder(m.Path)
		}
		if err := unix.Unmount(m.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &Error{Code: CodeUnmount, Text: fmt.Sprintf("detaching %s from %s", m.Volume, m.Path), Err: err}
		}
	}
}
