package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runLaunched runs a command to its end as the leader of a process group. When ctx ends, the group is asked to end, and
// what is left of it is killed once its leader has ended, or after launchedEnd. The group's number is its own until the
// leader is reaped.
func runLaunched(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for errors.Is(unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(launchedEnd):
		}
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		select {
		case <-ended:
		case <-time.After(launchedEnd): // it sits in the kernel, perhaps in a drive that has gone
			return fmt.Errorf("process %d could not be killed", cmd.Process.Pid)
		}
	}
	return cmd.Wait()
}
