//go:build !linux

package control

import (
	"errors"
	"io/fs"
	"net"
	"syscall"
)

// kernelTellsPeer: this system has no peer credentials on unix sockets that Go can read. Who may open the socket's
// folder may use it, so that folder's access list must name the administrators and the agent's user only.
const kernelTellsPeer = false

func callerOf(net.Conn) (caller, error) { return caller{}, nil }

// isSocket: Windows shows a unix socket as a reparse point.
func isSocket(info fs.FileInfo) bool {
	return info.Mode().Type() == fs.ModeSocket || info.Mode().Type() == fs.ModeIrregular
}

// nobodyListens reports whether a dial failed because the socket's owner is gone.
func nobodyListens(err error) bool {
	const wsaeConnRefused = syscall.Errno(10061)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaeConnRefused)
}
