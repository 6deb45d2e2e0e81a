package generic

import "golang.org/x/sys/unix"

const supported = true

// openFilesAllowed is how many files this process may allow another one.
func openFilesAllowed() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return l.Max
}

func knownSignal(name string) bool { return unix.SignalNum(name) != 0 }
