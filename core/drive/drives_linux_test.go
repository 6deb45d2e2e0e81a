package drive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that mounts.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting loop devices needs root")
	}
}

// newDrives returns drives below a fresh root, which are taken down at the end.
func newDrives(t testing.TB) *Drives {
	t.Helper()
	d := New(filepath.Join(t.TempDir(), "ors"), nil)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ls, err := d.Letters(ctx)
		if err != nil {
			t.Error(err)
		}
		for _, m := range ls {
			if err := d.ForceUnmount(ctx, m); err != nil {
				t.Error(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// image makes a filesystem in a file.
func image(t testing.TB, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 16<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], name)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	return name
}

func ext4(t testing.TB, args ...string) string {
	return image(t, append([]string{"mkfs.ext4", "-q", "-b", "1024"}, args...)...)
}

// attach gives a file a loop device until the test ends.
func attach(t testing.TB, image string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == nil { // with its last user it goes, also when this process is killed
		info.Flags |= unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopSetStatus64(int(f.Fd()), info)
	}
	if err != nil {
		t.Fatalf("loop device %s: %v", dev, err)
	}
	return dev
}

func volumeOf(t testing.TB, args ...string) string { return attach(t, ext4(t, args...)) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustMount(t testing.TB, d *Drives, s Spec) Mounted {
	t.Helper()
	m, err := d.Mount(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustUnmount(t testing.TB, d *Drives, m Mounted) {
	t.Helper()
	if err := d.Unmount(testContext(t), m); err != nil {
		t.Fatal(err)
	}
}

func code(err error) string {
	var c interface{ ErrorCode() string }
	if errors.As(err, &c) {
		return c.ErrorCode()
	}
	return fmt.Sprint(err)
}

func codes(ps []*Error) []string {
	var cs []string
	for _, p := range ps {
		cs = append(cs, p.Code)
	}
	return cs
}

func write(t testing.TB, m Mounted, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Path, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMountOnPrimaryWritesMapFile(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	s := Spec{Letter: "e", Volume: dev, Filesystem: "ext4", OnPrimary: true, Server: "rocky"}
	m := mustMount(t, d, s)
	want := Mounted{Letter: "E:", Path: d.LetterPath("E:"), Volume: dev}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	got, err := ReadMap(m.Path)
	if err != nil || got != (Map{Letter: "E:", Server: "rocky", Volume: dev}) {
		t.Errorf("map file: %+v, %v", got, err)
	}
	write(t, m, "kept", "row 1")

	again := mustMount(t, d, s)
	want.Reused = true
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("second mount: %s", diff)
	}
	found, ok, err := d.Find(testContext(t), s)
	if want.Reused = false; err != nil || !ok || cmp.Diff(want, found) != "" {
		t.Errorf("Find: %+v %v %v", found, ok, err)
	}
	ls, err := d.Letters(testContext(t))
	if err != nil || len(ls) != 1 || ls[0].Letter != "E:" {
		t.Errorf("Letters: %+v %v", ls, err)
	}
	if err := d.Alive(testContext(t), m); err != nil {
		t.Error(err)
	}

	mustUnmount(t, d, m)
	mustUnmount(t, d, m) // again is nothing
	if _, err := os.Lstat(m.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the letter's folder stays: %v", err)
	}
	if _, ok, err := d.Find(testContext(t), s); ok || err != nil {
		t.Errorf("Find after Unmount: %v %v", ok, err)
	}
	if err := d.Alive(testContext(t), m); code(err) != CodeDead {
		t.Errorf("Alive after Unmount: %v", err)
	}
	m = mustMount(t, d, s)
	if b, err := os.ReadFile(filepath.Join(m.Path, "kept")); err != nil || string(b) != "row 1" {
		t.Errorf("%q, %v", b, err)
	}
}

// The survivor's letter is that of the map file, unless it is taken (W-14).
func TestMountOnSurvivor(t *testing.T) {
	dev := volumeOf(t)
	for _, c := range []struct {
		name     string
		mapText  string // "": no map file
		taken    []string
		reserved []string
		want     string
		problems []string
	}{
		{"letter of the map file", "letter=I:\n", nil, nil, "I:", nil},
		{"no map file", "", nil, nil, "E:", nil},
		{"letter taken", "letter=I:\n", []string{"I:"}, nil, "J:", []string{CodeMoved}},
		{"next ones taken and reserved", "letter=I:\n", []string{"I:", "J:"}, []string{"K:"}, "L:", []string{CodeMoved}},
		{"round the end", "letter=Z:\n", []string{"Z:", "C:"}, nil, "D:", []string{CodeMoved}},
		{"own letter although reserved", "letter=I:\n", nil, []string{"I:"}, "I:", nil},
		{"damaged map file", "letter=\x00\n", nil, nil, "E:", []string{CodeMapRead}},
		{"map file with A:", "letter=A:\n", nil, nil, "E:", []string{CodeMapRead}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDrives(t)
			s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}
			m := mustMount(t, d, s)
			if err := os.Remove(filepath.Join(m.Path, MapFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if c.mapText != "" {
				write(t, m, MapFileName, c.mapText)
			}
			mustUnmount(t, d, m)
			for _, l := range c.taken {
				mustMount(t, d, Spec{Letter: l, Volume: t.TempDir(), Filesystem: "directory"})
			}
			if err := d.Reserve(c.reserved...); err != nil {
				t.Fatal(err)
			}
			m = mustMount(t, d, s)
			if m.Letter != c.want || m.Path != d.LetterPath(c.want) || !cmp.Equal(codes(m.Problems), c.problems,
				cmpopts.EquateEmpty()) {
				t.Errorf("got %+v, want %s with problems %v", m, c.want, c.problems)
			}
			mustUnmount(t, d, m)
		})
	}
}

func TestMapFileThatCannotBeWritten(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Options: []string{"ro", "noatime"},
		OnPrimary: true})
	if !cmp.Equal(codes(m.Problems), []string{CodeMapWrite}) || !errors.Is(m.Problems[0], unix.EROFS) {
		t.Errorf("problems %v", m.Problems)
	}
	if err := d.Alive(testContext(t), m); err != nil {
		t.Errorf("a drive that was asked to be read-only is not dead: %v", err)
	}
	mustUnmount(t, d, m)
	m = mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"})
	if err := d.WriteMap(m, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Server: "rocky"}); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMap(m.Path); err != nil || got.Server != "rocky" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestVolumeByLabelAndUUID(t *testing.T) {
	label := fmt.Sprintf("ors t/%d", os.Getpid()%10000)
	uuid := fmt.Sprintf("0b5e9f36-0c8e-4f3b-9d7f-%012x", uint64(os.Getpid())<<16|uint64(time.Now().UnixMilli()&0xffff))
	dev := volumeOf(t, "-L", label, "-U", uuid)
	d := newDrives(t)
	for _, v := range []string{"LABEL=" + label, "UUID=" + strings.ToUpper(uuid)} {
		m := mustMount(t, d, Spec{Letter: "E:", Volume: v, Filesystem: "ext4"})
		if m.Volume != dev {
			t.Errorf("%s is %s, want %s", v, m.Volume, dev)
		}
		mustUnmount(t, d, m)
	}
	volumeOf(t, "-L", label)
	_, err := d.Mount(testContext(t), Spec{Letter: "E:", Volume: "LABEL=" + label, Filesystem: "ext4"})
	if code(err) != CodeVolume || !strings.Contains(err.Error(), "2 volumes") {
		t.Errorf("two of one label: %v", err)
	}
}

func TestMountRefuses(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	empty := attach(t, func() string {
		name := filepath.Join(t.TempDir(), "empty")
		if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		spec Spec
		code string
	}{
		{"letter", Spec{Letter: "A:", Volume: dev, Filesystem: "ext4"}, CodeSpec},
		{"no volume", Spec{Letter: "E:", Filesystem: "ext4"}, CodeSpec},
		{"fsck policy", Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Fsck: "sometimes"}, CodeSpec},
		{"relative", Spec{Letter: "E:", Volume: "loop0", Filesystem: "ext4"}, CodeVolume},
		{"missing", Spec{Letter: "E:", Volume: "/dev/no-such", Filesystem: "ext4"}, CodeVolume},
		{"missing label", Spec{Letter: "E:", Volume: "LABEL=no-such-label", Filesystem: "ext4"}, CodeVolume},
		{"file", Spec{Letter: "E:", Volume: file, Filesystem: "ext4"}, CodeVolume},
		{"filesystem", Spec{Letter: "E:", Volume: dev, Filesystem: "nosuchfs", Fsck: "never"}, CodeMount},
		{"option", Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Options: []string{"no-such-option"}}, CodeMount},
		{"option value", Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Options: []string{"commit=soon"}}, CodeMount},
		{"not formatted", Spec{Letter: "E:", Volume: empty, Filesystem: "ext4", Fsck: "never"}, CodeMount},
		{"not formatted, checked", Spec{Letter: "E:", Volume: empty, Filesystem: "ext4", Fsck: "always"}, CodeFsck},
		{"folder", Spec{Letter: "E:", Volume: "/no/such/folder", Filesystem: "directory"}, CodeVolume},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := d.Mount(testContext(t), c.spec)
			if code(err) != c.code {
				t.Errorf("%+v, %v; want %s", m, err, c.code)
			}
		})
	}
	mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4", Fsck: "always", Options: []string{"nodev",
		"nosuid", "commit=30"}})
}

func TestFsckOfFilesystemWithoutJournal(t *testing.T) {
	file := ext4(t, "-O", "^has_journal")
	// A wrong count of free blocks, and not marked clean: "auto" must let the checker repair what it may.
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("debugfs", "-w", "-R", "ssv state 0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	dev := attach(t, file)
	d := newDrives(t)
	mustUnmount(t, d, mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}))
	b, err := readBlock(dev)
	if err != nil {
		t.Fatal(err)
	}
	const clean = 1
	if state := binary.LittleEndian.Uint16(b[1024+0x3A:]); state != clean {
		t.Errorf("state %d after the check", state)
	}
}

func TestBusyUnmountListsUsers(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"})
	write(t, m, "data", "x")
	f, err := os.Open(filepath.Join(m.Path, "data"))
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "60")
	sleeper.Dir = m.Path
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	stopSleeper := func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}
	t.Cleanup(stopSleeper)

	var busy *BusyError
	if err := d.Unmount(testContext(t), m); !errors.As(err, &busy) {
		t.Fatalf("%v", err)
	}
	want := []Busy{
		{PID: os.Getpid(), Path: filepath.Join(m.Path, "data")},
		{PID: sleeper.Process.Pid, Command: "sleep", Path: m.Path},
	}
	if diff := cmp.Diff(want, busy.Who, cmpopts.SortSlices(func(a, b Busy) bool { return a.PID < b.PID }),
		cmp.Transformer("own", func(b Busy) Busy {
			if b.PID == os.Getpid() {
				b.Command = ""
			}
			return b
		})); diff != "" {
		t.Error(diff)
	}
	t.Log(busy)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stopSleeper()
	mustUnmount(t, d, m)
}

// A unit must not be released while another mount namespace, or another place, still has the volume mounted.
func TestUnmountFindsMountsElsewhere(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}

	t.Run("namespace", func(t *testing.T) {
		m := mustMount(t, d, s)
		other := exec.Command("sleep", "60")
		other.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		stop := func() {
			_ = other.Process.Kill()
			_ = other.Wait()
		}
		t.Cleanup(stop)
		var busy *BusyError
		if err := d.Unmount(testContext(t), m); !errors.As(err, &busy) || len(busy.Who) != 1 ||
			busy.Who[0].PID != other.Process.Pid || !strings.Contains(busy.Who[0].Path, "namespace") {
			t.Fatalf("%v", err)
		}
		if _, err := d.Mount(testContext(t), s); !errors.As(err, &busy) {
			t.Errorf("mounting what another namespace still holds: %v", err)
		}
		stop()
		mustUnmount(t, d, m)
	})
	t.Run("place", func(t *testing.T) {
		m := mustMount(t, d, s)
		place := t.TempDir()
		if err := unix.Mount(m.Path, place, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		var busy *BusyError
		err := d.Unmount(testContext(t), m)
		if !errors.As(err, &busy) || len(busy.Who) != 1 || busy.Who[0].Path != place {
			t.Errorf("%v", err)
		}
		if _, err := d.Mount(testContext(t), s); code(err) != CodeInUse {
			t.Errorf("%v", err)
		}
		if err := unix.Unmount(place, 0); err != nil {
			t.Fatal(err)
		}
		mustUnmount(t, d, m)
	})
}

// A mount over the letter's folder is somebody else's: it stays, and so does the drive below it.
func TestMountOverALetter(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	m := mustMount(t, d, Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"})
	if err := unix.Mount("over", m.Path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Unmount(testContext(t), m); code(err) != CodeInUse {
		t.Errorf("Unmount: %v", err)
	}
	if err := d.ForceUnmount(testContext(t), m); code(err) != CodeInUse {
		t.Errorf("ForceUnmount: %v", err)
	}
	if err := unix.Unmount(m.Path, 0); err != nil {
		t.Fatal(err)
	}
	mustUnmount(t, d, m)
}

func TestForceUnmount(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}
	m := mustMount(t, d, s)
	write(t, m, "synced", "x")
	unix.Sync()
	f, err := os.Create(filepath.Join(m.Path, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.ForceUnmount(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	if err := d.ForceUnmount(testContext(t), m); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := os.Lstat(m.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the letter's folder stays: %v", err)
	}
	if _, err := f.WriteString("late"); err == nil {
		t.Error("a process that still holds a file could write")
	}
	var busy *BusyError
	if _, err := d.Mount(testContext(t), s); !errors.As(err, &busy) || len(busy.Who) != 1 ||
		busy.Who[0].PID != os.Getpid() {
		t.Errorf("mounting again while the dead filesystem is held: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m = mustMount(t, d, s)
	if b, err := os.ReadFile(filepath.Join(m.Path, "synced")); err != nil || string(b) != "x" {
		t.Errorf("after the journal's replay: %q %v", b, err)
	}
}

func TestDeadFilesystemIsNotReused(t *testing.T) {
	dev := volumeOf(t)
	d := newDrives(t)
	s := Spec{Letter: "E:", Volume: dev, Filesystem: "ext4"}
	m := mustMount(t, d, s)
	if _, err := d.ask(testContext(t), request{Op: opShutdown, Mounted: m}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Mount(testContext(t), s); code(err) != CodeDead {
		t.Errorf("%v", err)
	}
	if err := d.Alive(testContext(t), m); code(err) != CodeDead {
		t.Errorf("%v", err)
	}
	if found, ok, err := d.Find(testContext(t), s); !ok || err != nil || found.Letter != "E:" {
		t.Errorf("Find: %+v %v %v", found, ok, err)
	}
	if err := d.ForceUnmount(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	mustMount(t, d, s)
}

// What another server has written in the meantime must be seen: here through a second loop device of the same image.
func TestMountSeesWhatAnotherServerWrote(t *testing.T) {
	file := ext4(t)
	one, two := attach(t, file), attach(t, file)
	d := newDrives(t)
	specs := []Spec{{Letter: "E:", Volume: one, Filesystem: "ext4"}, {Letter: "F:", Volume: two, Filesystem: "ext4"}}
	for i := range 4 {
		m := mustMount(t, d, specs[i%2])
		for j := range i {
			if b, err := os.ReadFile(filepath.Join(m.Path, fmt.Sprint(j))); err != nil || string(b) != fmt.Sprint("row ", j) {
				t.Fatalf("turn %d, row %d: %q %v", i, j, b, err)
			}
		}
		write(t, m, fmt.Sprint(i), fmt.Sprint("row ", i))
		mustUnmount(t, d, m)
	}
}

func TestFolders(t *testing.T) {
	d := newDrives(t)
	one, two := t.TempDir(), t.TempDir()
	s := Spec{Letter: "E:", Volume: one, Filesystem: "directory", OnPrimary: true, Server: "rocky"}
	m := mustMount(t, d, s)
	if m.Letter != "E:" || m.Volume != one || m.Reused {
		t.Errorf("%+v", m)
	}
	if m = mustMount(t, d, s); !m.Reused || m.Letter != "E:" {
		t.Errorf("%+v", m)
	}
	other := mustMount(t, d, Spec{Letter: "E:", Volume: two, Filesystem: "directory"})
	if other.Letter != "F:" || !cmp.Equal(codes(other.Problems), []string{CodeMoved}) {
		t.Errorf("%+v", other)
	}
	if err := d.Alive(testContext(t), m); err != nil {
		t.Error(err)
	}
	if err := os.Rename(one, one+".away"); err != nil { // the unit is connected to the partner
		t.Fatal(err)
	}
	if err := d.Alive(testContext(t), m); code(err) != CodeIO || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := d.Mount(testContext(t), s); code(err) != CodeVolume {
		t.Errorf("%v", err)
	}
	third := mustMount(t, d, Spec{Letter: "E:", Volume: t.TempDir(), Filesystem: "directory"})
	if third.Letter != "E:" {
		t.Errorf("a link to a folder that is gone keeps its letter: %+v", third)
	}
	for _, m := range []Mounted{m, other} {
		if err := d.Unmount(testContext(t), m); err != nil {
			t.Error(err)
		}
	}
	if ls, err := d.Letters(testContext(t)); err != nil || len(ls) != 1 || ls[0].Letter != "E:" ||
		ls[0].Volume != third.Volume {
		// m's letter is third's by now: unmounting m must not take it away
		t.Errorf("%+v %v", ls, err)
	}
	mustUnmount(t, d, third)
}

func TestCallsAreBounded(t *testing.T) {
	d := newDrives(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Mount(ctx, Spec{Letter: "E:", Volume: t.TempDir(), Filesystem: "directory"}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("%v", err)
	}
	h, err := d.take(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Process.Signal(unix.SIGSTOP); err != nil { // as good as state D for whoever waits
		t.Fatal(err)
	}
	d.give(h)
	short, cancelShort := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancelShort()
	if _, err := d.Letters(short); code(err) != CodeTimeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := d.Letters(testContext(t)); err != nil {
		t.Errorf("after a hung helper: %v", err)
	}
}

func TestHelperThatDiesIsReplaced(t *testing.T) {
	d := newDrives(t)
	h, err := d.take(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Process.Kill()
	if _, err := h.call(testContext(t), request{Op: opLetters, Root: d.root}); code(err) != CodeHelper {
		t.Errorf("%v", err)
	}
	d.give(h)
	if _, err := d.Letters(testContext(t)); err != nil {
		t.Error(err)
	}
	d.mu.Lock()
	idle := d.idle
	d.mu.Unlock()
	_ = idle.cmd.Process.Kill()
	<-idle.exited
	if _, err := d.Letters(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestUnmountTouchesNothingElse(t *testing.T) {
	d := newDrives(t)
	for _, m := range []Mounted{
		{},
		{Letter: "E:", Path: "/", Volume: "/dev/loop0"},
		{Letter: "E:", Path: d.LetterPath("F:"), Volume: "/dev/loop0"},
		{Letter: "E:", Path: d.LetterPath("E:")},
	} {
		if err := d.Unmount(testContext(t), m); code(err) != CodeSpec {
			t.Errorf("Unmount(%+v): %v", m, err)
		}
		if err := d.ForceUnmount(testContext(t), m); code(err) != CodeSpec {
			t.Errorf("ForceUnmount(%+v): %v", m, err)
		}
	}
}

func TestUdevName(t *testing.T) {
	for in, want := range map[string]string{"rocky_e": "rocky_e", "a b/c": `a\x20b\x2fc`, "é": "é", "\xff": `\xff`,
		`a\b`: `a\x5cb`} {
		if got := udevName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestProbeOfNothing(t *testing.T) {
	for _, b := range [][]byte{nil, bytes.Repeat([]byte{0}, blockSize), bytes.Repeat([]byte{0xFF}, 100)} {
		if p := probe(b); p != (probed{}) {
			t.Errorf("%+v", p)
		}
	}
}
