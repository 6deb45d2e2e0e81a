//go:build unix

package udp

import (
	"errors"
	"syscall"
)

// transient says whether a read's error only tells of an earlier datagram, such as an answer that nobody listens
// there.
func transient(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.ECONNREFUSED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
