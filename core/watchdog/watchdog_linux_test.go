package watchdog

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// childEnv makes the test binary an agent that arms the device, says that it does, and hangs.
const childEnv = "ORS_TEST_WATCHDOG"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		w := New(Options{Device: path, Timeout: 2 * time.Second})
		go w.Run(context.Background())
		for {
			w.Well(true)
			time.Sleep(50 * time.Millisecond)
		}
	}
	goleak.VerifyTestMain(m)
}

// timer is a watchdog as drivers/watchdog/watchdog_dev.c makes one: a file, served by FUSE, with the calls and the
// rules of the device. It barks where the hardware would reboot.
type timer struct {
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
	_ fs.NodeOpener    = (*timer)(nil)
	_ fs.NodeWriter    = (*timer)(nil)
	_ fs.NodeReleaser  = (*timer)(nil)
	_ fs.NodeIoctler   = (*timer)(nil)
	_ fs.NodeGetattrer = (*timer)(nil)
)

func (d *timer) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o600
	return 0
}

func (d *timer) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened {
		return nil, 0, syscall.EBUSY
	}
	d.opened, d.running, d.expect, d.fed = true, true, false, time.Now()
	return d, fuse.FOPEN_DIRECT_IO, 0 // any handle: without one there is no release
}

func (d *timer) Write(_ context.Context, _ fs.FileHandle, b []byte, _ int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expect = false
	for _, c := range b {
		d.expect = d.expect || c == 'V'
	}
	d.fed = time.Now()
	return uint32(len(b)), 0
}

func (d *timer) Release(context.Context, fs.FileHandle) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened = false
	if d.expect {
		d.running = false
	}
	return 0
}

func (d *timer) Ioctl(_ context.Context, _ fs.FileHandle, cmd uint32, _ uint64, in, out []byte) (int32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch cmd {
	case unix.WDIOC_GETSUPPORT:
		binary.NativeEndian.PutUint32(out, magicClose|0x8000|0x80) // and keep-alive, and a time that can be set
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

// look says what a person beside the machine sees.
func (d *timer) look() (running, reboots bool, feeds int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running && d.timeout > 0 && time.Since(d.fed) > d.timeout {
		d.barks++
	}
	return d.running, d.barks > 0, d.feeds
}

type folder struct {
	fs.Inode
	d *timer
}

func (f *folder) OnAdd(ctx context.Context) {
	f.AddChild("watchdog0", f.NewPersistentInode(ctx, f.d, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

func newTimer(t *testing.T) (*timer, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting FUSE without fusermount needs root")
	}
	d, dir := &timer{}, t.TempDir()
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

// run drives a watchdog until the test ends, or end is called.
func run(t *testing.T, o Options) (w *Watchdog, end func()) {
	t.Helper()
	w = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	end = func() { cancel(); <-done }
	t.Cleanup(end)
	return w, end
}

// keep says so again and again until cond holds.
func keep(t *testing.T, say func(), cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that in time")
		}
		say()
	}
}

func TestArmedWhileGroupsAreHeld(t *testing.T) {
	d, path := newTimer(t)
	w, end := run(t, Options{Device: path, Timeout: 2 * time.Second})
	keep(t, func() { w.Well(false) }, func() bool { return len(w.words) == 0 })
	if running, _, _ := d.look(); running {
		t.Error("armed although no groups are held")
	}
	keep(t, func() { w.Well(true) }, func() bool { _, _, feeds := d.look(); return feeds > 15 }) // more than 2 s
	if running, reboots, _ := d.look(); !running || reboots {
		t.Errorf("fed: running %v, reboots %v", running, reboots)
	}
	if d.timeout != 2*time.Second {
		t.Errorf("its time is %v", d.timeout)
	}
	keep(t, func() { w.Well(false) }, func() bool { running, _, _ := d.look(); return !running })
	keep(t, func() { w.Well(true) }, func() bool { running, _, _ := d.look(); return running })
	end() // the kernel tells the server of the file a little later
	keep(t, func() {}, func() bool { running, _, _ := d.look(); return !running })
	if _, reboots, _ := d.look(); reboots {
		t.Error("it has rebooted a server that was well")
	}
}

// Nobody says that all is well: the loop hangs.
func TestBarksWhenTheLoopHangs(t *testing.T) {
	d, path := newTimer(t)
	w, _ := run(t, Options{Device: path, Timeout: time.Second})
	keep(t, func() { w.Well(true) }, func() bool { running, _, _ := d.look(); return running })
	keep(t, func() {}, func() bool { _, reboots, _ := d.look(); return reboots })
}

// A frozen or killed process closes nothing in order.
func TestBarksWhenTheAgentDies(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			d, path := newTimer(t)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			child := exec.Command(exe)
			child.Env = append(os.Environ(), childEnv+"="+path)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = child.Process.Kill()
				_ = child.Wait()
			}()
			keep(t, func() {}, func() bool { _, _, feeds := d.look(); return feeds > 3 })
			if err := child.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			keep(t, func() {}, func() bool { _, reboots, _ := d.look(); return reboots })
		})
	}
}

func TestWhatIsTold(t *testing.T) {
	d, path := newTimer(t)
	d.shortest = 5
	var mu sync.Mutex
	var told []string
	w, _ := run(t, Options{Device: path, Timeout: time.Second, Tell: func(_, text, _ string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	}})
	heard := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(told)
	}
	keep(t, func() { w.Well(true) }, func() bool { _, _, feeds := d.look(); return feeds > 1 })
	d.mu.Lock()
	d.refuse = syscall.EIO
	d.mu.Unlock()
	keep(t, func() { w.Well(true) }, func() bool { return heard() == 1 })
	d.mu.Lock()
	d.refuse = 0
	d.mu.Unlock()
	keep(t, func() { w.Well(true) }, func() bool { return heard() == 2 })
	if told[0] == "" || told[1] != "" {
		t.Errorf("told %q", told)
	}
	// Another program has it already.
	var other []string
	second, _ := run(t, Options{Device: path, Timeout: time.Second, Tell: func(_, text, _ string) {
		mu.Lock()
		defer mu.Unlock()
		other = append(other, text)
	}})
	keep(t, func() { second.Well(true); w.Well(true) }, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(other) > 0
	})
}
