//go:build !linux

package upgrade

import (
	"context"
	"errors"
)

// process is not used here: another program cannot take a process over, so the service manager starts the new one.
type process struct{}

func hold(int) (*process, error) {
	return nil, errors.New("on this system put the new program in place and say `orscore restart`")
}

func lock(string) (func(), error) { return nil, errors.ErrUnsupported }

func (p *process) release()                   {}
func (p *process) program() string            { return "" }
func (p *process) runs(string) bool           { return false }
func (p *process) ended() bool                { return false }
func (p *process) kill(context.Context) error { return errors.ErrUnsupported }
func (p *process) startAgain(string) error    { return errors.ErrUnsupported }
