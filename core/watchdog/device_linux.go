package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// magicClose is an option of the device (WDIOF_MAGICCLOSE, linux/watchdog.h): only a close after a V ends its timer.
const magicClose = 0x0100

// file is an open device.
type file struct {
	f        *os.File
	noWayOut string // why its timer cannot be ended; empty: it can
}

func openDevice(path string) (device, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("another program has %s: it must not be fed by two: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	d := &file{f: f}
	if b, err := os.ReadFile(filepath.Join("/sys/class/watchdog", filepath.Base(path), "nowayout")); err == nil &&
		strings.TrimSpace(string(b)) == "1" {
		d.noWayOut = "its driver was loaded with nowayout"
	}
	if info, err := unix.IoctlGetWatchdogInfo(int(f.Fd())); err == nil && info.Options&magicClose == 0 {
		d.noWayOut = "" // a plain close ends its timer
	}
	return d, nil
}

func (d *file) setTimeout(t time.Duration) (time.Duration, error) {
	fd, seconds := int(d.f.Fd()), int(t/time.Second)
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, fmt.Errorf("set %s to %d s: %w", d.f.Name(), seconds, err)
	}
	got, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return 0, fmt.Errorf("read the time of %s: %w", d.f.Name(), err)
	}
	return time.Duration(got) * time.Second, nil
}

// feed passes a place for an answer, though the kernel's drivers give none.
func (d *file) feed() error {
	if _, err := unix.IoctlGetInt(int(d.f.Fd()), unix.WDIOC_KEEPALIVE); err != nil {
		return fmt.Errorf("feed %s: %w", d.f.Name(), err)
	}
	return nil
}

func (d *file) disarm() error {
	_, err := d.f.Write([]byte("V"))
	if err = errors.Join(err, d.f.Close()); err == nil && d.noWayOut != "" {
		err = errors.New(d.noWayOut)
	}
	return err
}
