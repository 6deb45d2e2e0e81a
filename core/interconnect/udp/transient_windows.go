package udp

import (
	"errors"

	"golang.org/x/sys/windows"
)

// transient says whether a read's error only tells of an earlier datagram, such as an answer that nobody listens
// there.
func transient(err error) bool {
	for _, e := range []error{
		windows.WSAECONNRESET, windows.WSAENETRESET, windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAENOBUFS,
		windows.WSAEMSGSIZE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
