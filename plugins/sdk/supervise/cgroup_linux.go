package supervise

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroupPrefix = "ors-"

// A control group of version 2 is used where one can be made: it kills a whole family at once and knows its members
// whatever they do. Everything works without it.

// makeCgroup makes a group for one run below the group of this process; "" where that is not possible.
func makeCgroup(id string) string {
	own := ownCgroup()
	if own == "" {
		return ""
	}
	sweepCgroups(own)
	dir := filepath.Join(own, cgroupPrefix+id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
		_ = os.Remove(dir)
		return ""
	}
	return dir
}

// sweepCgroups removes empty groups of runs whose supervisor was killed. The kernel refuses to remove one with a
// process in it; a young one may be about to get its first.
func sweepCgroups(own string) {
	old, _ := filepath.Glob(filepath.Join(own, cgroupPrefix+"*"))
	for _, dir := range old {
		if fi, err := os.Stat(dir); err == nil && time.Since(fi.ModTime()) > 10*time.Minute {
			_ = os.Remove(dir)
		}
	}
}

func ownCgroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok || strings.HasPrefix(path, "/..") {
			continue
		}
		if mount := cgroupMount(); mount != "" {
			return filepath.Join(mount, path)
		}
	}
	return ""
}

// cgroupMount finds where the hierarchy of version 2 is mounted, as a whole.
func cgroupMount() string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		f := strings.Fields(before)
		if ok && len(f) > 4 && strings.HasPrefix(after, "cgroup2 ") && f[3] == "/" {
			return f[4]
		}
	}
	return ""
}

// cgroupAttr makes a child be born inside dir.
func cgroupAttr(dir string, attr *syscall.SysProcAttr) (done func(), ok bool) {
	fd, err := syscall.Open(dir, syscall.O_DIRECTORY|syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return func() {}, false
	}
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return func() { _ = syscall.Close(fd) }, true
}

func cgroupMembers(dir string) []int {
	if dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killCgroup(dir string) {
	if dir != "" {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	}
}

// group is the run's control group; "" when the record names one that cannot be this run's.
func (r *Run) group() string {
	if filepath.Base(r.Cgroup) != cgroupPrefix+r.ID {
		return ""
	}
	return r.Cgroup
}

// removeCgroup removes a group of which all processes are gone. The last one may still be on its way out of it.
func removeCgroup(dir string) {
	if dir == "" {
		return
	}
	for end := time.Now().Add(200 * time.Millisecond); ; time.Sleep(2 * time.Millisecond) {
		if err := os.Remove(dir); !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return
		}
	}
}
