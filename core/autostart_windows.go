package core

import "os/exec"

// ownGroup does nothing: a command that is killed leaves behind what it has started.
func ownGroup(*exec.Cmd) {}
