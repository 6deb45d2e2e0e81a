package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const programSuffix = ""

// systemEnvironment is what the operating system itself needs to find in an environment.
var systemEnvironment []string

// ownSession takes the plugin out of the agent's session: a Ctrl-C or a closed terminal is not meant for it.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// awaitEnd returns when a child has ended, and does not reap it.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// killSession kills the leader of a session that ownSession made, and those of it that have not left its process group.
func killSession(leader int) { _ = syscall.Kill(-leader, syscall.SIGKILL) }

// atOrdinaryPriority calls start so that a process which it makes runs with the ordinary scheduling policy. A thread
// of the agent may have real-time priority from the thread that made it, and a new process has its policy from the
// thread that forks.
func atOrdinaryPriority(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if a, err := unix.SchedGetAttr(0, 0); err == nil && (a.Policy != unix.SCHED_NORMAL || a.Nice < 0) {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_NORMAL}, 0); err != nil {
			return fmt.Errorf("give up real-time priority: %w", err)
		}
	}
	return start()
}

// socketFolder is a private folder for the sockets of one host's plugins. The lock that is held on a file in it tells
// others that its host is alive: what a dead agent has left behind is removed by the next one.
type socketFolder struct {
	path string
	lock *os.File
}

const socketFolderPrefix = "plugins-"

func newSocketFolder(runDir string) (*socketFolder, error) {
	removeLeftOvers(runDir)
	path, err := os.MkdirTemp(runDir, socketFolderPrefix) // mode 0700
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &socketFolder{path: path, lock: lock}, nil
}

func removeLeftOvers(runDir string) {
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), socketFolderPrefix) {
			continue
		}
		dir := filepath.Join(runDir, e.Name())
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // another host is just making it
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

func (s *socketFolder) remove() error {
	return errors.Join(os.RemoveAll(s.path), s.lock.Close())
}
