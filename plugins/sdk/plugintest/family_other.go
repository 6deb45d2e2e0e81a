//go:build !linux

package plugintest

import (
	"errors"
	"os"
	"os/exec"
)

// systemEnvironment is what the operating system itself needs to find in an environment.
var systemEnvironment = []string{"SYSTEMROOT", "SYSTEMDRIVE", "TEMP", "TMP"}

func ownSession(*exec.Cmd) {}

// family knows no processes here: the checks that look at them are skipped.
type family struct{}

type member struct{ pid int }

func (member) String() string { return "" }
func (member) alive() bool    { return false }
func (member) still() bool    { return true }
func (member) kill()          {}
func (member) freeze()        {}
func (member) thaw()          {}

type living struct {
	member
	parent int
}

func (living) describe() string         { return "" }
func (living) holds(...*os.File) string { return "" }

func newFamily() (*family, error) { return &family{}, nil }

func (*family) knows() bool                  { return false }
func (*family) close() error                 { return nil }
func (*family) own(pid int) int              { return pid }
func (*family) processes() ([]living, error) { return nil, nil }
func (*family) stranger(int) (func(), error) { return nil, errors.ErrUnsupported }

func look(int) (living, bool) { return living{}, false }

func programs(all []living, _ string) []living { return all }
