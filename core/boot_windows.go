package core

import (
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// bootID is the identity of this run of the operating system: its start, to the second.
func bootID() (string, error) {
	up := windows.DurationSinceBoot()
	return strconv.FormatInt(time.Now().Add(-up).Unix(), 10), nil
}
