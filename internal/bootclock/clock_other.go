//go:build !linux && !windows

package bootclock

import "time"

var started = time.Now()

// now is a clock of this process alone: on these systems nothing hands moments to another one.
func now() time.Duration { return time.Since(started) }
