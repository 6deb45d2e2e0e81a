package store

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// stamp writes this process into its lock file, for people and for the next one who finds it held.
func stamp(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// held says who holds the lock file.
func held(path string, f *os.File) error {
	who, err := io.ReadAll(io.LimitReader(f, 32))
	pid := strings.TrimSpace(string(who))
	if err != nil || pid == "" {
		pid = "unknown"
	}
	return fmt.Errorf("ORS-6001: %w by another agent, pid %s (lock file %s)", ErrHeld, pid, path)
}
