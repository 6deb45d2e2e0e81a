package domino

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// common are folders that hold more than Domino.
var common = []string{"/", "/usr", "/usr/local", "/opt"}

// whoWorksIn finds a process that works in a data directory; nil: none. uid is the server's user, 0 where it is not
// known: no server runs as root. Whose process it is does not matter: a server that somebody has started by hand may
// run as anybody. Only who looks around there is none.
func whoWorksIn(dir string, uid uint32, program string) (*worker, error) {
	want, err := filepath.EvalSymlinks(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil, nil // the storage is elsewhere
	case err != nil:
		want = filepath.Clean(dir) // of a storage unit with errors: what the kernel says of processes needs none of it
	}
	domino := program
	if real, err := filepath.EvalSymlinks(program); err == nil {
		if up := filepath.Dir(filepath.Dir(real)); !slices.Contains(common, up) {
			domino = up // /opt/hcl/domino of /opt/hcl/domino/bin/server
		}
	}
	named, written := namedPIDs(filepath.Join(want, "pid.nbf"))
	var found *worker
	err = eachProcess(func(pid int) bool {
		owner, living := processUser(pid)
		if !living || pid == os.Getpid() {
			return false
		}
		own := uid != 0 && owner == uid
		exe := programOf(pid)
		how := ""
		switch {
		case inDir(want, fmt.Sprintf("/proc/%d/cwd", pid)) &&
			(own || exe == program || below(domino, exe) || !looksAround(pid, exe)):
			how = "works in " + dir
		case writesBelow(want, pid):
			how = "writes to files in " + dir
		// The file comes with the storage, and on this server its numbers may be anybody's, also of another partition.
		case own && slices.Contains(named, pid) && !bornAfter(pid, written):
			how = "is named by pid.nbf in " + dir
		default:
			return false
		}
		found = &worker{pid: pid, program: exe, user: userName(owner), how: how}
		return true
	})
	return found, err
}

// inDir says whether a link of /proc leads to dir or below it.
func inDir(dir, link string) bool {
	at, err := os.Readlink(link)
	return err == nil && filepath.IsAbs(at) && below(dir, at)
}

func programOf(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "a program that cannot be seen"
	}
	return exe
}

var shells = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh", "csh", "tcsh", "fish", "busybox"}

// looksAround says whether a process with none of Domino's programs, of somebody else than the server's user, is that
// of somebody at a terminal. A shell with a script is none: it may be about to start a server.
func looksAround(pid int, exe string) bool {
	const terminal = 4 // tty_nr (proc(5))
	if stat := statOf(pid); len(stat) <= terminal || stat[terminal] == "0" {
		return false
	}
	if !slices.Contains(shells, filepath.Base(exe)) {
		return true
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	for _, arg := range strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")[1:] {
		if !strings.HasPrefix(arg, "-") || arg == "-c" {
			return false
		}
	}
	return true
}

// statOf are the fields of a process behind its name: state, parent, group, session, terminal and so on.
func statOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// writesBelow says whether a process has a file below dir open for writing. One that only reads, as a backup, is no
// server.
func writesBelow(dir string, pid int) bool {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	for _, f := range files {
		if !inDir(dir, fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name())) {
			continue
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, f.Name()))
		_, rest, _ := strings.Cut(string(info), "flags:")
		if words := strings.Fields(rest); len(words) > 0 {
			flags, err := strconv.ParseUint(words[0], 8, 64)
			if err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY {
				return true
			}
		}
	}
	return false
}

// namedPIDs are the numbers of processes in the file that a server keeps of them, and when it was written. The file
// is the server's user's: it may be anything.
func namedPIDs(path string) (pids []int, written time.Time) {
	const most = 64 << 10
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, time.Time{}
	}
	lines := bufio.NewScanner(io.LimitReader(f, most))
	for lines.Scan() {
		for _, word := range strings.Fields(lines.Text()) {
			if n, err := strconv.Atoi(word); err == nil && n > 1 {
				pids = append(pids, n)
			}
		}
	}
	return pids, fi.ModTime()
}

// bornAfter says whether a process was born after a time: then a file of that time does not name it.
func bornAfter(pid int, t time.Time) bool {
	const ticks, startAt, slack = 100, 19, 2 * time.Second
	stat := statOf(pid)
	if len(stat) <= startAt {
		return false
	}
	start, err := strconv.ParseInt(stat[startAt], 10, 64)
	var now unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return false
	}
	age := time.Duration(now.Nano()) - time.Duration(start)*(time.Second/ticks)
	return time.Now().Add(-age).After(t.Add(slack))
}
