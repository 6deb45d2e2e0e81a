//go:build !linux

package pluginhost

import (
	"os"
	"os/exec"
)

const programSuffix = ".exe"

var systemEnvironment = []string{"SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP"}

func ownSession(*exec.Cmd) {}

func atOrdinaryPriority(start func() error) error { return start() }

// checkSafe looks at nothing here: Windows keeps rights in access lists, and the folder of the plugins has those of
// Program Files.
func checkSafe(string) error { return nil }

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
