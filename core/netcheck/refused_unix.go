//go:build unix

package netcheck

import (
	"errors"
	"syscall"
)

// refused tells a host that answers "nobody listens" from one that does not answer.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
