//go:build !linux

package peerpid

import (
	"errors"
	"net"
)

func listener(net.Conn) (int, error) { return 0, errors.ErrUnsupported }
