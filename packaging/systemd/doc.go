// Package systemd holds the units with which systemd runs ORS, and their test.
//
// They must never let a restart of the agent end an application.
package systemd
