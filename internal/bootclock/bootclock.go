// Package bootclock tells the time since the operating system was started, the sleep of the machine included: the same
// for all processes, so that one may tell another a moment, and one that was stopped meanwhile finds it past.
//
// It must never be used for a date, nor beyond one run of the operating system.
package bootclock

import "time"

// Now is the time since the system's start.
func Now() time.Duration { return now() }

// Until is how long a moment of this clock is away; negative when it has passed.
func Until(moment time.Duration) time.Duration { return moment - now() }
