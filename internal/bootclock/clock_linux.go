package bootclock

import (
	"time"

	"golang.org/x/sys/unix"
)

func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("CLOCK_BOOTTIME, which Linux has since 2.6.39, cannot be read: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
