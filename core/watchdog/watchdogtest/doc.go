// Package watchdogtest is a watchdog device for tests: a file, served by FUSE, that takes the calls of the kernel's
// watchdog devices and follows their rules. It needs Linux and root.
//
// It must never be used by anything but tests.
package watchdogtest
