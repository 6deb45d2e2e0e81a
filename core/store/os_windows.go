package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// permissionsAreAdvisory: mode bits say nothing here; the folder inherits the access list of its parent.
const permissionsAreAdvisory = true

// acquire takes the lock file path for this process. The system lets it go when the process ends, however it ends.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ORS-6002: lock file cannot be opened: %w", err)
	}
	// The locked byte lies far behind the contents, which others could not read otherwise.
	at := &windows.Overlapped{OffsetHigh: 1}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at)
	if err == nil {
		err = stamp(f)
	}
	if err == nil {
		return f, nil
	}
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		err = held(path, f)
	} else {
		err = fmt.Errorf("ORS-6002: lock file %s cannot be taken: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}

// syncDir does nothing: NTFS keeps names in its own journal, and folders cannot be flushed.
func syncDir(string) error { return nil }
