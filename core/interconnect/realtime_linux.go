package interconnect

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// realtimePriority is the lowest: beats must come before ordinary work, not before the kernel's own threads.
const realtimePriority = 1

// LockRealtime keeps this process's memory from being paged out and asks for real-time priority (round robin, the
// lowest) for all its threads, because the Go runtime may run the beats on any of them. What it starts does not
// inherit either. It returns what was granted and what was not, with the reason; nothing of it is needed for the
// beats to work.
//
// Memory is locked as it is touched, so that what the runtime only reserves costs nothing.
func LockRealtime() (granted, refused []string) {
	note := func(what string, err error) {
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", what, err))
			return
		}
		granted = append(granted, what)
	}
	note("locked memory", lockMemory())
	err := raiseThreads()
	if err == nil {
		realtime.Store(true)
	}
	note("real-time priority", err)
	return granted, refused
}

// lockMemory refuses where a limit applies: the runtime dies when memory that it asks for later exceeds the limit.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("read the limit of locked memory: %w", err)
	}
	if !hasIPCLock() && limit.Cur != unix.RLIM_INFINITY {
		return fmt.Errorf("the limit is %d bytes: CAP_IPC_LOCK or no limit would be right (LimitMEMLOCK=infinity)", limit.Cur)
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

func hasIPCLock() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// raiseThreads gives every thread of this process real-time priority, and has what it starts begin without.
func raiseThreads() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		attr := unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: realtimePriority,
			Flags: unix.SCHED_FLAG_RESET_ON_FORK,
		}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
	}
	return nil
}
