package netcheck

import (
	"errors"

	"golang.org/x/sys/windows"
)

// refused tells a host that answers "nobody listens" from one that does not answer.
func refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }
