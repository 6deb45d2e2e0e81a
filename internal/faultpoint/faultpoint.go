// Package faultpoint names the moments of a takeover and of a planned move at which a test wants an agent to die.
//
// Without the build tag orsfault, which no program for use has, [At] is empty. With it, the environment variable
// [Env] names a folder; a file in it that has the name of a point says what happens when that point is passed the
// next time: kill, stop or exit. The file is renamed to NAME.done before that, so a point is met once, also over
// restarts.
//
// It must never do anything in a program that was built without the tag, and never without the variable.
package faultpoint

// Env is the environment variable with the folder of the points that are armed.
const Env = "ORS_FAULTS"

// Done is what a point's file gets behind its name when the point is passed.
const Done = ".done"

// What a point's file may hold.
const (
	Kill = "kill" // SIGKILL to the process itself
	Stop = "stop" // SIGSTOP, until somebody continues it
	Exit = "exit" // an end without any of the program's own cleaning up
)
