//go:build linux

// Package loop attaches files as block devices, as a host's adapter attaches a port of an enclosure.
//
// It must never detach a device that it cannot prove to be a lab's: the backing file's path is the proof.
package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const attachTries = 64

// Attach connects file to a free loop device and returns its path. Its I/O bypasses the page cache of file when
// direct is set. It needs the right to administer the machine.
func Attach(file string, direct bool) (string, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("loop device for %s: %w", file, err)
	}
	defer ctl.Close()
	back, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("loop device for %s: %w", file, err)
	}
	defer back.Close()
	for range attachTries {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("loop device for %s: no free one: %w", file, err)
		}
		dev := fmt.Sprintf("/dev/loop%d", n)
		err = configure(dev, int(back.Fd()), file, direct)
		if errors.Is(err, unix.EBUSY) { // another program took it in between
			continue
		}
		if err != nil {
			return "", fmt.Errorf("loop device %s for %s: %w", dev, file, err)
		}
		return dev, nil
	}
	return "", fmt.Errorf("loop device for %s: %d tries, each one was taken by others", file, attachTries)
}

func configure(dev string, back int, file string, direct bool) error {
	f, err := openDevice(dev)
	if err != nil {
		return err
	}
	defer f.Close()
	c := unix.LoopConfig{Fd: uint32(back), Size: 4096}
	if direct {
		c.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], file)
	return unix.IoctlLoopConfigure(int(f.Fd()), &c)
}

// openDevice waits a moment for the node of a device that the kernel has just made.
func openDevice(dev string) (*os.File, error) {
	for i := 0; ; i++ {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if !errors.Is(err, os.ErrNotExist) || i >= 100 {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Backing returns the file behind a loop device, "" when it has none.
func Backing(dev string) (string, error) {
	b, err := os.ReadFile("/sys/block/" + filepath.Base(dev) + "/loop/backing_file")
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSuffix(strings.TrimSpace(string(b)), " (deleted)"), err
}

// Below lists the loop devices whose files are below dir.
func Below(dir string) ([]string, error) {
	entries, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		return nil, err
	}
	var devs []string
	for _, e := range entries {
		dev := "/dev/" + filepath.Base(e)
		file, err := Backing(dev)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/") {
			devs = append(devs, dev)
		}
	}
	return devs, nil
}

// Detach disconnects a loop device from file, and waits until the kernel has let go of it or the time is over. A
// device that is still mounted somewhere goes with its last user. A device that has another file by now is left
// alone.
func Detach(dev, file string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		now, err := Backing(dev)
		if err != nil {
			return fmt.Errorf("detaching %s: %w", dev, err)
		}
		if now != file {
			return nil
		}
		if err := clear(dev); err != nil {
			return fmt.Errorf("detaching %s of %s: %w", dev, file, err)
		}
		if now, err = Backing(dev); err == nil && now != file {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("detaching %s of %s: it is still in use after %v", dev, file, wait)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func clear(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EBUSY) {
		return nil // nothing attached any more, or the detaching is under way: the caller looks again
	}
	return err
}
