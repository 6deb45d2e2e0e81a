//go:build unix

package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKilledWriter kills a writing process at arbitrary instants, again and again, and opens what it leaves:
// everything that it was told to be on the disk must be there.
func TestKilledWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for round := range 12 {
		epoch, pos := killWriter(t, dir, 1+round*3)
		s := reopen(t, dir)
		var h hard
		found, err := s.LoadHard(&h)
		if err != nil || !found || h.Epoch < epoch {
			t.Fatalf("round %d: LoadHard = %v, %v, epoch %d; acknowledged was %d", round, found, err, h.Epoch, epoch)
		}
		handle, found, err := s.Handle("db")
		if err != nil || !found || handle.Version < epoch {
			t.Fatalf("round %d: Handle = %v, %v, %d; acknowledged was %d", round, found, err, handle.Version, epoch)
		}
		rs, err := s.Read(pos-1, 0)
		if err != nil || len(rs) == 0 || rs[0].Pos != pos || rs[0].Op != uint64(epoch) {
			t.Fatalf("round %d: Read = %+v, %v; acknowledged was position %d", round, rs, err, pos)
		}
		if s.Incarnation() != 2*round+2 {
			t.Fatalf("round %d: incarnation %d", round, s.Incarnation())
		}
		for _, w := range s.Warnings() {
			if !strings.Contains(w, "torn tail") {
				t.Errorf("round %d: %s", round, w)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killWriter runs a writer until it has acknowledged n states, kills it, and returns the last ones it acknowledged.
func killWriter(t *testing.T, dir string, n int) (epoch uint32, pos uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ORS_TEST_WRITE="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if _, err := fmt.Sscanf(lines.Text(), "saved %d %d", &epoch, &pos); err != nil {
			t.Errorf("writer says %q", lines.Text())
		}
		if i == n {
			_, err := Open(dir)
			if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d ", cmd.Process.Pid)) {
				t.Errorf("while the writer runs: Open = %v", err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || pos == 0 {
		t.Fatalf("writer: %v, last position %d", err, pos)
	}
	return epoch, pos
}

// TestFullDisk fills a small filesystem: writes must fail, what was there must stay, and all must go on when there is
// room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small filesystem")
	}
	mount := t.TempDir()
	if err := unix.Mount("ors-test", mount, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs a kernel and rights to mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "state")
	s := reopen(t, dir)
	first := Record{Text: "before"}
	if err := errors.Join(s.SaveHard(hard{Epoch: 1}), s.SaveHandle("db", 1, nil), s.Append(&first)); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(mount, "filler")
	fill(t, filler)
	big := strings.Repeat("x", 8192)
	err := s.SaveHard(hard{Epoch: 2, Text: big})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "ORS-6005") {
		t.Errorf("SaveHard on a full disk = %v", err)
	}
	if err := s.SaveHandle("db", 2, []byte(big)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("SaveHandle on a full disk = %v", err)
	}
	lost := Record{Text: big}
	err = s.Append(&lost)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "ORS-6004") || lost.Pos != 0 {
		t.Errorf("Append on a full disk = %v, position %d", err, lost.Pos)
	}
	for range 3 {
		s.Note(Record{Text: big})
	}
	if err := s.Append(&Record{Text: big}); err == nil || s.JournalError() == nil {
		t.Error("a full disk went unnoticed")
	}
	if _, err := Open(filepath.Join(mount, "other")); err == nil {
		t.Log("another state directory still had room")
	}
	checkOld(t, s)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(s.SaveHard(hard{Epoch: 3}), s.SaveHandle("db", 3, nil), s.Append(&Record{Text: "after"}))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := s.Read(0, 0)
	if err != nil || len(rs) != 3 || rs[1].Code != "ORS-6009" || rs[1].Data["lost"] != 3.0 ||
		rs[2].Text != "after" || rs[2].Pos != 3 {
		t.Errorf("journal after a full disk: %+v, %v", rs, err)
	}
	if err := s.JournalError(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, dir)
	var h hard
	if _, err := s.LoadHard(&h); err != nil || h.Epoch != 3 || len(s.Warnings()) != 0 {
		t.Errorf("reopened: %v, %+v, %q", err, h, s.Warnings())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkOld checks on the disk, not in memory, that what was saved before is intact.
func checkOld(t *testing.T, s *Store) {
	t.Helper()
	onDisk, err := openSlots(s.dir, "hard", func(w string) { t.Error(w) })
	if err != nil {
		t.Fatal(err)
	}
	var h hard
	if found, err := onDisk.load(&h); !found || err != nil || h.Epoch != 1 {
		t.Errorf("hard state after a full disk: %v, %v, %+v", found, err, h)
	}
	if handle, found, err := s.Handle("db"); err != nil || !found || handle.Version != 1 {
		t.Errorf("handle after a full disk: %+v, %v, %v", handle, found, err)
	}
	if rs, err := s.Read(0, 0); err != nil || len(rs) != 1 {
		t.Errorf("journal after a full disk: %+v, %v", rs, err)
	}
}

// fill writes until the filesystem is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for block := 4096; block > 0; {
		if _, err := f.Write(make([]byte, block)); errors.Is(err, unix.ENOSPC) {
			block /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
