//go:build unix

package core

import (
	"os/exec"
	"syscall"
)

// ownGroup lets a command that is killed take along what it has started.
func ownGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
