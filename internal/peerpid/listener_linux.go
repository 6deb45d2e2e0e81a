package peerpid

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// listener is the process that called listen on the other side's socket: unix(7), SO_PEERCRED.
func listener(c net.Conn) (int, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("a connection of %s has no process", c.RemoteAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, asked); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
