package plugintest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var systemEnvironment []string

func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// family knows which processes came from the plugin: this process takes in the orphans below it, so that all that a
// plugin has ever started stays its descendant, whatever becomes of the plugin.
type family struct {
	mu      sync.Mutex
	others  map[member]bool // there before, and nothing to do with the plugin
	ours    map[member]bool // children of this process that it waits for itself
	helpers map[member]bool // processes that are part of the plugin
}

// member is one process: a pid alone may be taken by another.
type member struct {
	pid   int
	start uint64
}

func (m member) String() string { return strconv.Itoa(m.pid) }

// living is a process that lives.
type living struct {
	member
	parent int
	state  byte
	exe    string
}

func newFamily() (*family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("take in orphans: %w", err)
	}
	f := &family{others: map[member]bool{}, ours: map[member]bool{}, helpers: map[member]bool{}}
	below, err := f.below(os.Getpid())
	if err != nil {
		return nil, err
	}
	for _, p := range below {
		f.others[p.member] = true
	}
	return f, nil
}

func (f *family) knows() bool { return true }

// close ends what is left, and gives back the duty of a parent.
func (f *family) close() error {
	left, err := f.processes()
	if err != nil {
		return err
	}
	for _, p := range left {
		p.kill()
	}
	for end := time.Now().Add(endWhenTold); len(left) > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if left, err = f.processes(); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
}

// own notes a process that this one has started and waits for, and returns the pid of the plugin: its own, or that of
// its child where something else was told to start the plugin.
func (f *family) own(pid int) int {
	f.mine(pid)
	children, err := f.below(pid)
	if err != nil {
		return pid
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range children {
		f.helpers[c.member] = true
		if c.parent == pid && isShell(pid) {
			return c.pid
		}
	}
	return pid
}

func (f *family) mine(pid int) {
	if p, ok := look(pid); ok {
		f.mu.Lock()
		f.ours[p.member] = true
		f.mu.Unlock()
	}
}

func isShell(pid int) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return false
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	return err == nil && exe == shell
}

// processes lists what an application may consist of: all that came from the plugin besides the plugin itself.
func (f *family) processes() ([]living, error) {
	below, err := f.below(os.Getpid())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []living
	for _, p := range below {
		if !f.others[p.member] && !f.ours[p.member] && !f.helpers[p.member] {
			out = append(out, p)
		}
	}
	return out, nil
}

// below lists the living processes below one, and reaps the orphans among the dead.
func (f *family) below(root int) ([]living, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]living{}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := look(pid); ok {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var out []living
	queue := []int{root}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			queue = append(queue, p.pid)
			if p.state != 'Z' && p.state != 'X' {
				out = append(out, p)
			} else if p.parent == os.Getpid() {
				f.reap(p)
			}
		}
	}
	return out, nil
}

func (f *family) reap(p living) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ours[p.member] && !f.others[p.member] {
		_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
	}
}

// look reads /proc/PID/stat, see proc(5): the name of the program may hold blanks and parentheses.
func look(pid int) (living, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return living{}, false
	}
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return living{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	start, serr := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil || serr != nil {
		return living{}, false
	}
	exe, _ := os.Readlink(dir + "/exe")
	return living{member: member{pid, start}, parent: parent, state: fields[0][0], exe: exe}, true
}

func (p living) describe() string {
	if p.exe == "" {
		return "process " + p.String()
	}
	return fmt.Sprintf("process %d (%s)", p.pid, filepath.Base(p.exe))
}

// alive says whether this very process lives.
func (m member) alive() bool {
	p, ok := look(m.pid)
	return ok && p.start == m.start && p.state != 'Z' && p.state != 'X'
}

// still says whether the process is stopped, or has ended.
func (m member) still() bool {
	p, ok := look(m.pid)
	return !ok || p.start != m.start || p.state != 'R' && p.state != 'S' && p.state != 'D'
}

// signal sends sig to this very process: once the descriptor is open, the pid cannot come to mean another one.
func (m member) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(m.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !m.alive() {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// What is signalled may just have ended, which the caller sees when it looks for it.
func (m member) kill()   { _ = m.signal(unix.SIGKILL) }
func (m member) freeze() { _ = m.signal(unix.SIGSTOP) }
func (m member) thaw()   { _ = m.signal(unix.SIGCONT) }

// programs are those of an application's processes that are not the plugin's own binary, which may be executed again as
// a guard; all of them where that leaves none.
func programs(all []living, plugin string) []living {
	own, _ := filepath.EvalSymlinks(plugin)
	out := slices.DeleteFunc(slices.Clone(all), func(p living) bool { return p.exe == own })
	if len(out) == 0 {
		return all
	}
	return out
}

// holds names an open descriptor of the process that is one of files; empty when it has none of them.
func (p living) holds(files ...*os.File) string {
	for _, f := range files {
		want, err := f.Stat()
		if err != nil {
			continue
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
		for _, fd := range fds {
			if got, err := os.Stat(fd); err == nil && os.SameFile(got, want) {
				return filepath.Base(fd)
			}
		}
	}
	return ""
}

// stranger starts a process, none of the application's, with the pid of one that has ended. It ends with the returned
// function.
func (f *family) stranger(pid int) (end func(), err error) {
	const tries = 300
	for range tries {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			return nil, skipped("The pid of another process can only be chosen as root: %v.", err)
		}
		cmd := exec.Command("cat")
		in, err := cmd.StdinPipe() // it ends with this process
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		f.mine(cmd.Process.Pid)
		end := func() {
			_ = in.Close()
			_ = cmd.Wait()
		}
		if cmd.Process.Pid == pid {
			return end, nil
		}
		end()
	}
	return nil, skipped("No process could be given the pid %d in %d tries: this system is too busy.", pid, tries)
}
