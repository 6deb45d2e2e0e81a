package generic

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

const supported = true

// mostAllowed is how much of what a limit names (in files, processes, bytes) this process may allow another one.
func mostAllowed(limit string) uint64 {
	if os.Geteuid() == 0 {
		most := uint64(math.MaxUint64)
		if raw, err := os.ReadFile("/proc/sys/fs/nr_open"); err == nil && limit == "open_files" {
			_, _ = fmt.Sscan(string(raw), &most) // a kernel that says nothing refuses by itself
		}
		return most
	}
	var l unix.Rlimit
	resource := map[string]int{
		"open_files": unix.RLIMIT_NOFILE, "processes": unix.RLIMIT_NPROC, "core_mb": unix.RLIMIT_CORE,
	}[limit]
	if unix.Getrlimit(resource, &l) != nil {
		return math.MaxUint64 // the start says what the kernel says
	}
	return l.Max
}
