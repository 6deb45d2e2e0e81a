//go:build !linux

package pluginhost

import (
	"os"
	"os/exec"
)

const programSuffix = ".exe"

var systemEnvironment = []string{"SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP"}

func ownSession(*exec.Cmd) {}

func awaitEnd(int) {}

func killSession(int) {}

func atOrdinaryPriority(start func() error) error { return start() }

// socketFolder is not used for sockets here: go-plugin listens on the loopback interface, behind mutual TLS.
type socketFolder struct{ path string }

func newSocketFolder(runDir string) (*socketFolder, error) {
	path, err := os.MkdirTemp(runDir, "plugins-")
	if err != nil {
		return nil, err
	}
	return &socketFolder{path: path}, nil
}

func (s *socketFolder) remove() error { return os.RemoveAll(s.path) }
