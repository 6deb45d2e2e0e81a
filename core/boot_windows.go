package core

import (
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// systemProcess is the process "System", which is created with each start of Windows and never ends.
const systemProcess = 4

// bootID is the identity of this run of the operating system: when its first process was created, in units of 100 ns,
// which stays what it is when the clock is set. Where Windows does not tell that, it is the start by today's clock, to
// the second.
func bootID() (string, error) {
	if ft, err := created(systemProcess); err == nil && ft.HighDateTime != 0 {
		return strconv.FormatInt(int64(ft.HighDateTime)<<32|int64(ft.LowDateTime), 10), nil
	}
	up := windows.DurationSinceBoot()
	return strconv.FormatInt(time.Now().Add(-up).Unix(), 10), nil
}

// created is when a process was created: GetProcessTimes of Microsoft's documentation.
func created(pid uint32) (windows.Filetime, error) {
	var creation, exit, kernel, user windows.Filetime
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return creation, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	err = windows.GetProcessTimes(h, &creation, &exit, &kernel, &user)
	return creation, err
}
