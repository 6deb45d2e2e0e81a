package drive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// users lists the processes that hold something of a volume: working folder, root, program, open and mapped files,
// or, failing all of these, a mount namespace in which it is mounted. Command lines are not read: reading one can
// hang on a hung process.
func users(m Mounted) []Busy {
	v := known(m)
	devs := []uint64{unix.Mkdev(v.major, v.minor)}
	var st unix.Stat_t
	if m.Path != "" && unix.Stat(m.Path, &st) == nil {
		if mi, err := mountAt(v, m.Path); err == nil && mi != nil && st.Dev != devs[0] {
			devs = append(devs, st.Dev) // btrfs
		}
	}
	var who []Busy
	spaces := map[string]Busy{}
	for _, pid := range pids() {
		if pid == os.Getpid() || len(who) >= maxBusy {
			continue
		}
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		if path, ok := holds(dir, devs); ok {
			who = append(who, Busy{PID: pid, Command: command(dir), Path: path})
		} else if ns, ok := sees(dir, v); ok {
			if _, dup := spaces[ns]; !dup {
				spaces[ns] = Busy{PID: pid, Command: command(dir), Path: "a mount in the namespace " + ns}
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
	slices.SortFunc(who, func(a, b Busy) int { return a.PID - b.PID })
	return who[:min(len(who), maxBusy)]
}

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

// holds returns the first thing that a process holds on one of the devices.
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
		var st unix.Stat_t
		if unix.Stat(link, &st) != nil || !slices.Contains(devs, st.Dev) {
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
