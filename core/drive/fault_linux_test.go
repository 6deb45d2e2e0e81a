package drive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// unit is a file in a FUSE filesystem over an image: a storage unit whose port can be cut (I/O fails) and that can
// hang.
type unit struct {
	fs.Inode
	image *os.File
	cut   atomic.Bool

	mu   sync.Mutex
	hang chan struct{} // I/O waits until it is closed
}

var (
	_ fs.NodeOpener    = (*unit)(nil)
	_ fs.NodeReader    = (*unit)(nil)
	_ fs.NodeWriter    = (*unit)(nil)
	_ fs.NodeFsyncer   = (*unit)(nil)
	_ fs.NodeGetattrer = (*unit)(nil)
)

func (u *unit) gate() syscall.Errno {
	u.mu.Lock()
	hang := u.hang
	u.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if u.cut.Load() {
		return syscall.EIO
	}
	return 0
}

func (u *unit) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	st, err := u.image.Stat()
	if err != nil {
		return fs.ToErrno(err)
	}
	out.Mode, out.Size = 0o600, uint64(st.Size())
	return 0
}

func (u *unit) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (u *unit) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := u.gate(); errno != 0 {
		return nil, errno
	}
	n, _ := u.image.ReadAt(b, off) // short at the end
	return fuse.ReadResultData(b[:n]), 0
}

func (u *unit) Write(_ context.Context, _ fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	if errno := u.gate(); errno != 0 {
		return 0, errno
	}
	n, err := u.image.WriteAt(b, off)
	return uint32(n), fs.ToErrno(err)
}

func (u *unit) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if errno := u.gate(); errno != 0 {
		return errno
	}
	return fs.ToErrno(u.image.Sync())
}

type unitRoot struct {
	fs.Inode
	u *unit
}

func (r *unitRoot) OnAdd(ctx context.Context) {
	r.AddChild("unit", r.NewPersistentInode(ctx, r.u, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

// faulty returns an ext4 whose storage can fail, and its loop device.
func faulty(t *testing.T) (*unit, string) {
	t.Helper()
	image, err := os.OpenFile(ext4(t), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{image: image}
	dir := t.TempDir()
	server, err := fs.Mount(dir, &unitRoot{u: u}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true,
		FsName: "orsunit"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	})
	return u, attach(t, filepath.Join(dir, "unit"))
}

// The storage is taken away under a mounted drive, and given back later: what was durably written is there, and
// nothing of what was only cached.
func TestStorageTakenAway(t *testing.T) {
	u, dev := faulty(t)
	d := newDrives(t)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", OnPrimary: true, Server: "rocky"}
	m := mustMount(t, d, s)
	f, err := os.Create(filepath.Join(m.Path, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("durable"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" and cached"); err != nil {
		t.Fatal(err)
	}
	if err := d.Alive(testContext(t), m); err != nil {
		t.Error(err)
	}
	u.cut.Store(true)
	if err := d.Alive(testContext(t), m); code(err) != CodeIO || !errors.Is(err, unix.EIO) {
		t.Errorf("cut: %v", err)
	}
	if _, err := d.Mount(testContext(t), s); code(err) != CodeIO {
		t.Errorf("a drive whose storage is cut is used again: %v", err)
	}
	if err := d.ForceUnmount(testContext(t), m); err != nil {
		t.Error(err)
	}
	_ = f.Close() // reports what could not be written
	if _, err := d.Mount(testContext(t), s); err == nil {
		t.Error("mounted although cut")
	}
	u.cut.Store(false)
	m = mustMount(t, d, s)
	if b, err := os.ReadFile(filepath.Join(m.Path, "data")); err != nil || string(b) != "durable" {
		t.Errorf("%q %v", b, err)
	}
	mustUnmount(t, d, m)
}

// Unmounting must say so when not everything could be written.
func TestUnmountThatCannotWrite(t *testing.T) {
	u, dev := faulty(t)
	d := newDrives(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"})
	write(t, m, "data", "cached")
	u.cut.Store(true)
	if err := d.Unmount(testContext(t), m); code(err) != CodeIO {
		t.Errorf("%v", err)
	}
	if err := d.ForceUnmount(testContext(t), m); err != nil {
		t.Error(err)
	}
}

// stall makes the storage hang until release is called, or the test ends.
func (u *unit) stall(t *testing.T) (release func()) {
	hang := make(chan struct{})
	u.mu.Lock()
	u.hang = hang
	u.mu.Unlock()
	release = sync.OnceFunc(func() {
		u.mu.Lock()
		u.hang = nil
		u.mu.Unlock()
		close(hang)
	})
	t.Cleanup(release)
	return release
}

// While the storage hangs, every call ends in time, and Close tells of the helper that the kernel holds.
func TestStorageHangs(t *testing.T) {
	u, dev := faulty(t)
	d := newDrives(t)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}
	m := mustMount(t, d, s)
	write(t, m, "data", "cached")
	release := u.stall(t)
	bounded := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if err := d.Alive(bounded(), m); code(err) != CodeTimeout {
		t.Errorf("Alive: %v", err)
	}
	if _, err := d.Mount(bounded(), s); code(err) != CodeTimeout {
		t.Errorf("Mount: %v", err)
	}
	if err := d.Unmount(bounded(), m); code(err) != CodeTimeout {
		t.Errorf("Unmount: %v", err)
	}
	if ls, err := d.Letters(testContext(t)); err != nil || len(ls) > 1 {
		t.Errorf("Letters: %v %v", ls, err)
	}
	release()
}

func benchmarkMount(b *testing.B, crash bool) {
	dev := volumeOf(b)
	d := newDrives(b)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", OnPrimary: true, Server: "rocky"}
	times := make([]time.Duration, 0, b.N)
	m := mustMount(b, d, s)
	for b.Loop() {
		f, err := os.OpenFile(filepath.Join(m.Path, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			b.Fatal(err)
		}
		if crash {
			err = d.ForceUnmount(context.Background(), m)
		} else {
			err = d.Unmount(context.Background(), m)
		}
		if err != nil {
			b.Fatal(err)
		}
		d.mu.Lock() // a takeover starts its helper first
		h := d.idle
		d.mu.Unlock()
		d.endIdle(h)
		start := time.Now()
		m = mustMount(b, d, s)
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(times[len(times)*9/10].Microseconds())/1000, "ms-p90")
}

func BenchmarkMountClean(b *testing.B)  { benchmarkMount(b, false) }
func BenchmarkMountReplay(b *testing.B) { benchmarkMount(b, true) }

// hungRoot is a filesystem whose server can stop answering, as that of another program may at any time.
type hungRoot struct {
	fs.Inode
	hang chan struct{} // closed when it is to answer again
	hung atomic.Bool
}

var _ fs.NodeGetattrer = (*hungRoot)(nil)

func (r *hungRoot) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if r.hung.Load() {
		<-r.hang
	}
	out.Mode = 0o755 | fuse.S_IFDIR
	return 0
}

// Whoever looks for the users of a volume must not wait for the filesystem that somebody else's process is in.
func TestUsersAreFoundBesideAHungFilesystem(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"})
	root, dir := &hungRoot{hang: make(chan struct{})}, t.TempDir()
	server, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}})
	if err != nil {
		t.Fatal(err)
	}
	// Not by exec.Cmd.Dir: between fork and exec this process cannot stop for its garbage collector, so it could not
	// answer what the change of directory asks of the filesystem that it serves itself.
	sleepIn := func(dir string) *exec.Cmd {
		c := exec.Command("sh", "-c", `cd "$0" && echo in && exec sleep 600`, dir)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "in\n" {
			t.Fatalf("a process in %s: %q, %v", dir, line, err)
		}
		return c
	}
	end := func(c *exec.Cmd) {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	elsewhere := sleepIn(dir)
	user := sleepIn(m.Path)
	t.Cleanup(func() {
		close(root.hang)
		end(user)
		end(elsewhere)
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	root.hung.Store(true)
	var busy *BusyError
	if err := d.Unmount(testContext(t), m); !errors.As(err, &busy) || len(busy.Who) != 1 ||
		busy.Who[0].PID != user.Process.Pid {
		t.Errorf("%v", err)
	}
}

// A volume is found by its label although another device of this server hangs.
func TestLabelIsFoundBesideAHungDevice(t *testing.T) {
	u, hung := faulty(t)
	label := fmt.Sprintf("ors h/%d", os.Getpid()%10000)
	dev := volumeOf(t, "-L", label)
	d := newDrives(t)
	u.stall(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: "LABEL=" + label, Filesystem: "ext4"})
	if m.Volume != dev {
		t.Errorf("%s is %s, want %s", label, m.Volume, dev)
	}
	_, err := d.Mount(testContext(t), Spec{Letter: "F:", Volume: "LABEL=nowhere", Filesystem: "ext4"})
	if code(err) != CodeVolume || !strings.Contains(err.Error(), hung) {
		t.Errorf("%v; want a word about %s, which did not answer", err, hung)
	}
}
