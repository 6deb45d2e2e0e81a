//go:build linux

package loop

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestAttachAndDetach(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	var devs []string
	for _, f := range files {
		if err := os.WriteFile(f, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		dev, err := Attach(f, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := Detach(dev, f, 5*time.Second); err != nil {
				t.Error(err)
			}
		})
		if got, err := Backing(dev); err != nil || got != f {
			t.Errorf("%s has %q, %v; want %q", dev, got, err, f)
		}
		devs = append(devs, dev)
	}
	below, err := Below(dir)
	slices.Sort(below)
	if want := slices.Sorted(slices.Values(devs)); err != nil || !slices.Equal(below, want) {
		t.Errorf("below the folder: %v, %v; want %v", below, err, want)
	}
	if below, err := Below(dir[:len(dir)-1]); err != nil || len(below) > 0 {
		t.Errorf("a folder whose name is only the beginning has %v, %v", below, err)
	}
	if err := Detach(devs[0], files[1], time.Second); err != nil {
		t.Error(err)
	}
	if got, err := Backing(devs[0]); err != nil || got != files[0] {
		t.Errorf("a device of another file was detached: %q, %v", got, err)
	}
}

// A device that somebody uses goes with its last user.
func TestDetachOfADeviceInUse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	file := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dev, err := Attach(file, true)
	if err != nil {
		t.Fatal(err)
	}
	user, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := Detach(dev, file, 20*time.Millisecond); err == nil {
		t.Error("a device in use was called detached")
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Detach(dev, file, 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNotThere(t *testing.T) {
	if _, err := Attach(filepath.Join(t.TempDir(), "none"), false); err == nil {
		t.Error("attached nothing")
	}
	if got, err := Backing("/dev/loop-none"); got != "" || err != nil {
		t.Errorf("a device that is not there has %q, %v", got, err)
	}
}
