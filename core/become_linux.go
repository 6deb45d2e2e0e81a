package core

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// canBecome: another program can take this process over.
const canBecome = true

// become makes this process another program, with the same pid, arguments and environment, so that whoever keeps the
// agent running notices nothing. It returns only when that failed. Locked memory ends with the old program; real-time
// priority would be the new one's before it has asked for it, and is given up first.
func become(program string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_NORMAL}, 0)
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}
