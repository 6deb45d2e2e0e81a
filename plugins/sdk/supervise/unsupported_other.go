//go:build !linux

package supervise

import (
	"context"
	"os/exec"
)

const rootDir = ""

// Main does nothing here: no program is started as a supervisor.
func Main() {}

// SystemdRuns says no.
func SystemdRuns() bool { return false }

// Start returns ErrUnsupported.
func Start(context.Context, Spec, func(step, text string)) (*Run, error) { return nil, ErrUnsupported }

// Look says that nothing runs, because nothing can have been started.
func Look(string, *Run) Status { return Status{State: Stopped, Detail: ErrUnsupported.Error()} }

// Forget does nothing: there are no records.
func Forget(string) error { return nil }

// Status says that nothing runs, because nothing can have been started.
func (r *Run) Status() Status { return Look("", r) }

// Stop says that nothing runs, because nothing can have been started.
func (r *Run) Stop(context.Context, StopHow) Status { return Look("", r) }

// Kill says that nothing runs, because nothing can have been started.
func (r *Run) Kill(context.Context) Status { return Look("", r) }

// LookPath finds a program as the system does.
func LookPath(name string, _ []string) (string, error) { return exec.LookPath(name) }

func ownGroup(*exec.Cmd, *User) {}
