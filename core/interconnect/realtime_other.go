//go:build !linux

package interconnect

// LockRealtime is not available on this system: it grants nothing, and says so.
func LockRealtime() (granted, refused []string) {
	return nil, []string{"locked memory: only on Linux", "real-time priority: only on Linux"}
}

func raiseThreads() error { return nil }
