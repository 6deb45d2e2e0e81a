//go:build !linux

package core

import "errors"

// canBecome: another program cannot take a process over here: the service manager starts it.
const canBecome = false

func become(string) error { return errors.ErrUnsupported }
