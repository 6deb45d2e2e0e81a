//go:build orsfault

package faultpoint

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Enabled says whether this build has fault points.
const Enabled = true

// At carries out what is asked for the point, if anything is. After a kill or an exit it does not return.
func At(name string) {
	dir := os.Getenv(Env)
	if dir == "" {
		return
	}
	path := filepath.Join(dir, name)
	what, err := os.ReadFile(path)
	if err != nil || os.Rename(path, path+Done) != nil { // not armed, or another goroutine was here first
		return
	}
	switch strings.TrimSpace(string(what)) {
	case Kill:
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // some threads may live for another moment
	case Stop:
		runtime.LockOSThread() // a signal to this very thread is taken before the call returns
		defer runtime.UnlockOSThread()
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
	case Exit:
		os.Exit(3)
	}
}
