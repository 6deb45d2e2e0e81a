package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procStat is what /proc/PID/stat says of a process.
type procStat struct {
	ppid  int
	state byte
	start uint64
}

// dead says that the process has ended and only its entry is left.
func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

var errNoProcess = errors.New("no such process")

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return procStat{}, errNoProcess
	}
	if err != nil {
		return procStat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return parseStat(b)
}

// parseStat reads the fields behind the program's name, which may itself hold blanks and parentheses. See proc(5).
func parseStat(b []byte) (procStat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return procStat{}, fmt.Errorf("stat of a process has no name: %q", b)
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return procStat{}, fmt.Errorf("stat of a process has too few fields: %q", b)
	}
	ppid, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return procStat{}, fmt.Errorf("stat of a process: parent: %w", err)
	}
	start, err := strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("stat of a process: start time: %w", err)
	}
	return procStat{ppid: ppid, state: f[0][0], start: start}, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func identify(pid int) (Identity, error) {
	st, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: st.start}, nil
}

// alive says whether this very process still runs. The boot id is the caller's to compare.
func (id Identity) alive() (bool, error) {
	if id.PID <= 0 {
		return false, nil
	}
	st, err := readStat(id.PID)
	if errors.Is(err, errNoProcess) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.start == id.Start && !st.dead(), nil
}

// open returns a descriptor of this very process: once it is open, the pid cannot come to mean another one.
func (id Identity) open() (int, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, errNoProcess
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd of process %d: %w", id.PID, err)
	}
	ok, err := id.alive()
	if err == nil && !ok {
		err = errNoProcess
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// signal sends sig to this very process; errNoProcess when it is gone.
func (id Identity) signal(sig unix.Signal) error {
	fd, err := id.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return errNoProcess
	}
	if err != nil {
		return fmt.Errorf("%s to process %d: %w", unix.SignalName(sig), id.PID, err)
	}
	return nil
}

// processes lists all processes of the system. One that comes or goes meanwhile may be missed.
func processes() (map[int]procStat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list of processes: %w", err)
	}
	all := make(map[int]procStat, len(names))
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		st, err := readStat(pid)
		if errors.Is(err, errNoProcess) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[pid] = st
	}
	return all, nil
}

// marked says whether the process inherited this run's marker. A process may have overwritten its environment, so
// only a yes means something.
func marked(pid int, marker []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(env, marker)
}

// family lists the living processes of the run besides its supervisor. With remains, processes that only the marker
// tells are among them: those of a run whose supervisor was killed, and its stop command.
func (r *Run) family(remains bool) ([]Identity, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{}
	if st, ok := all[r.Main.PID]; ok && r.Main.PID > 0 && st.start == r.Main.Start {
		in[r.Main.PID] = true
	}
	for _, pid := range cgroupMembers(r.group()) {
		in[pid] = true
	}
	supervised := false
	if st, ok := all[r.Supervisor.PID]; ok && st.start == r.Supervisor.Start && !st.dead() {
		in[r.Supervisor.PID], supervised = true, true
	}
	if r.ID != "" && (remains || !supervised) { // without an id the marker would be that of every run on this server
		marker := []byte(MarkerEnv + "=" + r.ID)
		for pid := range all {
			if !in[pid] && pid != os.Getpid() && marked(pid, marker) {
				in[pid] = true
			}
		}
	}
	children := map[int][]int{}
	for pid, st := range all {
		children[st.ppid] = append(children[st.ppid], pid)
	}
	var queue []int
	for pid := range in {
		queue = append(queue, pid)
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			if !in[c] && c != os.Getpid() {
				in[c] = true
				queue = append(queue, c)
			}
		}
	}
	var out []Identity
	for pid := range in {
		st, ok := all[pid]
		if ok && !st.dead() && pid != r.Supervisor.PID {
			out = append(out, Identity{PID: pid, Start: st.start})
		}
	}
	return out, nil
}
