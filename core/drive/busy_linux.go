package drive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lookPatience bounds the look at one process, scanPatience the look at all of them: what a process holds may be on a
// filesystem whose server is gone, and that must not keep anybody from learning who uses this one.
const (
	lookPatience = time.Second
	scanPatience = 10 * time.Second
)

// users lists the processes that hold something of a volume: working folder, root, program, open and mapped files,
// or, failing all of these, a mount namespace in which it is mounted. Command lines are not read: reading one can
// hang on a hung process. Processes that could not be looked at are listed only when nobody else is found.
func users(m Mounted) []Busy {
	v := known(m)
	devs := []uint64{unix.Mkdev(v.major, v.minor)}
	var st unix.Stat_t
	if m.Path != "" && unix.Stat(m.Path, &st) == nil {
		if mi, err := mountAt(v, m.Path); err == nil && mi != nil && st.Dev != devs[0] {
			devs = append(devs, st.Dev) // btrfs
		}
	}
	var who, unseen []Busy
	spaces := map[string]Busy{}
	look := func(pid int) seen { return lookAt(pid, devs, v) }
	for deadline, all := time.Now().Add(scanPatience), pids(); len(all) > 0 && time.Now().Before(deadline); all = all[1:] {
		pid := all[0]
		if pid == os.Getpid() || len(who) >= maxBusy {
			continue
		}
		switch s, ok := within(lookPatience, func() seen { return look(pid) }); {
		case !ok:
			unseen = append(unseen, Busy{PID: pid, Command: command(procDir(pid)),
				Path: "not known: it uses a filesystem that does not answer"})
		case s.holds:
			who = append(who, Busy{PID: pid, Command: s.command, Path: s.path})
		case s.space != "":
			if _, dup := spaces[s.space]; !dup {
				spaces[s.space] = Busy{PID: pid, Command: s.command, Path: "a mount in the namespace " + s.space}
			}
		}
	}
	if ms, err := mountsOf(v); err == nil { // places other than the letter, such as bind mounts
		for _, b := range mountUsers(ms) {
			if b.Path != m.Path {
				who = append(who, b)
			}
		}
	}
	if own, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		delete(spaces, own)
	}
	for _, b := range spaces {
		who = append(who, b)
	}
	if len(who) == 0 {
		who = unseen
	}
	slices.SortFunc(who, func(a, b Busy) int { return a.PID - b.PID })
	return who[:min(len(who), maxBusy)]
}

// seen is what a look at one process found.
type seen struct {
	command string
	holds   bool
	path    string // what it holds
	space   string // else the mount namespace in which it sees the volume
}

func lookAt(pid int, devs []uint64, v volume) seen {
	dir := procDir(pid)
	if path, ok := holds(dir, devs); ok {
		return seen{command: command(dir), holds: true, path: path}
	}
	if ns, ok := sees(dir, v); ok {
		return seen{command: command(dir), space: ns}
	}
	return seen{}
}

// within runs f for no longer than d. A call that the kernel holds goes on by itself, in a process that does nothing
// but such calls, and ends with it.
func within[T any](d time.Duration, f func() T) (T, bool) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-done:
		return r, true
	case <-timer.C:
		var none T
		return none, false
	}
}

func procDir(pid int) string { return filepath.Join("/proc", strconv.Itoa(pid)) }

func pids() []int {
	f, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1) // what was read before an error is still worth showing
	var all []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// holds returns the first thing that a process holds on one of the devices. It asks no filesystem for news: whose file
// it is, is known without, and the server of another program's filesystem may be stopped or gone.
func holds(dir string, devs []uint64) (string, bool) {
	links := []string{"cwd", "root", "exe"}
	for _, sub := range []string{"fd", "map_files"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			continue // the process has ended, or is not ours to look into
		}
		for _, e := range entries {
			links = append(links, filepath.Join(sub, e.Name()))
		}
	}
	for _, l := range links {
		link := filepath.Join(dir, l)
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC, 0, &st) != nil ||
			!slices.Contains(devs, unix.Mkdev(st.Dev_major, st.Dev_minor)) {
			continue
		}
		if to, err := os.Readlink(link); err == nil {
			return to, true
		}
		return l, true
	}
	return "", false
}

// sees says whether a volume is mounted in a process's mount namespace, and names that.
func sees(dir string, v volume) (string, bool) {
	ns, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
	if err != nil {
		return "", false
	}
	b, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
	if err != nil {
		return "", false
	}
	return ns, strings.Contains(string(b), fmt.Sprintf(" %d:%d ", v.major, v.minor))
}

func command(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}
