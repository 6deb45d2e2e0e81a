package control

import (
	"errors"
	"io/fs"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelTellsPeer: no caller is let in without the kernel's word.
const kernelTellsPeer = true

// callerOf asks the kernel who connected. These are the credentials at the time of the connect call; nobody can forge
// them.
func callerOf(conn net.Conn) (caller, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return caller{}, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	c := caller{known: true}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		c.pid, c.uid, c.groups = int(cred.Pid), int(cred.Uid), []int{int(cred.Gid)}
		var more []uint32
		if more, inner = peerGroups(int(fd)); inner != nil {
			return
		}
		for _, g := range more {
			c.groups = append(c.groups, int(g))
		}
	})
	return c, errors.Join(err, inner)
}

// maxGroups is the kernel's NGROUPS_MAX: no process has more supplementary groups.
const maxGroups = 65536

// peerGroups reads the supplementary groups, for which golang.org/x/sys has no call.
func peerGroups(fd int) ([]uint32, error) {
	for n := 64; ; n = maxGroups {
		groups := make([]uint32, n)
		size := uint32(n) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno != unix.ERANGE || n == maxGroups:
			return nil, errno
		}
	}
}

func isSocket(info fs.FileInfo) bool { return info.Mode().Type() == fs.ModeSocket }

// nobodyListens reports whether a dial failed because the socket's owner is gone.
func nobodyListens(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
