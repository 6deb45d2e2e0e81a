package supervise

import (
	"os"
	"os/exec"
	"syscall"
)

const rootDir = "/"

// ownGroup makes the command the leader of a process group, which is killed as one. Its number is the command's until
// the command is reaped, and Cancel is only called before that.
func ownGroup(cmd *exec.Cmd, u *User) {
	// It ends with the plugin, which nobody asks for its result any more. The kernel counts the end of the thread that has
	// started it: the caller stays on it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: credential(u), Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// credential is nil for the plugin's own user: only root may set one.
func credential(u *User) *syscall.Credential {
	if u == nil || os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}
