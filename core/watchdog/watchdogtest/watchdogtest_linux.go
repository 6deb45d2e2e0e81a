package watchdogtest

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Options of a device (linux/watchdog.h).
const (
	setTimeout = 0x0080
	magicClose = 0x0100
	keepAlive  = 0x8000
)

// Device is a watchdog as drivers/watchdog/watchdog_dev.c makes one: a file, served by FUSE, with the calls and the
// rules of the device. It barks where the hardware would reboot.
type Device struct {
	fs.Inode

	mu       sync.Mutex
	timeout  time.Duration
	fed      time.Time
	running  bool
	opened   bool
	expect   bool // the newest write had a V
	feeds    int
	barks    int
	refuse   syscall.Errno // of the next feeds
	shortest int           // seconds: a time-out below it is made so long
}

var (
	_ fs.NodeOpener    = (*Device)(nil)
	_ fs.NodeWriter    = (*Device)(nil)
	_ fs.NodeReleaser  = (*Device)(nil)
	_ fs.NodeIoctler   = (*Device)(nil)
	_ fs.NodeGetattrer = (*Device)(nil)
)

// Getattr implements fs.NodeGetattrer.
func (d *Device) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o600
	return 0
}

// Open implements fs.NodeOpener: the timer runs from now on.
func (d *Device) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened {
		return nil, 0, syscall.EBUSY
	}
	d.opened, d.running, d.expect, d.fed = true, true, false, time.Now()
	return d, fuse.FOPEN_DIRECT_IO, 0 // any handle: without one there is no release
}

// Write implements fs.NodeWriter: any write feeds, and a V permits the close.
func (d *Device) Write(_ context.Context, _ fs.FileHandle, b []byte, _ int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expect = false
	for _, c := range b {
		d.expect = d.expect || c == 'V'
	}
	d.fed = time.Now()
	return uint32(len(b)), 0
}

// Release implements fs.NodeReleaser: without a V the timer goes on.
func (d *Device) Release(context.Context, fs.FileHandle) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened = false
	if d.expect {
		d.running = false
	}
	return 0
}

// Ioctl implements fs.NodeIoctler.
func (d *Device) Ioctl(_ context.Context, _ fs.FileHandle, cmd uint32, _ uint64, in, out []byte) (int32,
	syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch cmd {
	case unix.WDIOC_GETSUPPORT:
		binary.NativeEndian.PutUint32(out, magicClose|keepAlive|setTimeout)
	case unix.WDIOC_SETTIMEOUT:
		d.timeout = time.Duration(max(int(binary.NativeEndian.Uint32(in)), d.shortest)) * time.Second
		d.fed = time.Now()
		binary.NativeEndian.PutUint32(out, uint32(d.timeout/time.Second))
	case unix.WDIOC_GETTIMEOUT:
		binary.NativeEndian.PutUint32(out, uint32(d.timeout/time.Second))
	case unix.WDIOC_KEEPALIVE:
		if d.refuse != 0 {
			return 0, d.refuse
		}
		d.feeds++
		d.fed = time.Now()
	default:
		return 0, syscall.ENOTTY
	}
	return 0, 0
}

// Look says what a person beside the machine sees.
func (d *Device) Look() (running, reboots bool, feeds int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running && d.timeout > 0 && time.Since(d.fed) > d.timeout {
		d.barks++
	}
	return d.running, d.barks > 0, d.feeds
}

// Timeout is what was set last.
func (d *Device) Timeout() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timeout
}

// Shortest makes the device take no shorter time than so many seconds.
func (d *Device) Shortest(seconds int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shortest = seconds
}

// Refuse makes the device refuse to be fed, or take it again with 0.
func (d *Device) Refuse(err syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

type folder struct {
	fs.Inode
	d *Device
}

func (f *folder) OnAdd(ctx context.Context) {
	f.AddChild("watchdog0", f.NewPersistentInode(ctx, f.d, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

// New makes a device until the test ends; path is where it is.
func New(t testing.TB) (d *Device, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting FUSE without fusermount needs root")
	}
	d = &Device{}
	dir := t.TempDir()
	server, err := fs.Mount(dir, &folder{d: d}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	return d, filepath.Join(dir, "watchdog0")
}
