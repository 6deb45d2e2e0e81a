// Package drive gives volumes their letters: it reads and writes map files, assigns a letter on the server that takes
// a volume over, mounts and unmounts. On Linux a letter is a directory below the drive root.
//
// Whatever can hang on a dead device (resolving, checking, mounting, reading, unmounting) is done by a helper
// process: this same program, started again with [HelperEnv] in its environment, which this package's init serves. A
// helper that is not done in time is killed, or left behind when the kernel does not let it go; this process never
// waits in the kernel itself, so that it can always be ended and started again.
//
// It must never mount a volume by itself: the caller has proved that the unit is connected to this server. It never
// unmounts by killing whoever uses a volume; it lists them.
package drive

import "time"

// MapFileName is the map file in the root of a switchable volume (white paper, "Drive Letter Mapping").
const MapFileName = "cpqrsys.rso"

// Spec is one drive as configured.
type Spec struct {
	Letter     string // "E:" as configured
	Volume     string // device path, LABEL=…, UUID=…; for filesystem "directory" the folder itself
	Filesystem string // "ext4", …, or "directory": no mount, the letter becomes a symbolic link
	Options    []string
	Fsck       string // "auto", "always", "never"
	// this server is the group's primary: its letter is the configured one, and the map file is written
	OnPrimary    bool
	Server       string // name of this server, for the map file
	MountTimeout time.Duration
}

// Mounted is a drive at work.
type Mounted struct {
	Letter string // as assigned; may differ from the configured one when that was taken
	Path   string // folder of the letter: root of the volume
	Volume string // resolved device or folder
	Reused bool   // was mounted already, by an earlier agent
	// Problems are what an operator should know although the drive is at work: a damaged or unwritable map file, a letter
	// that was taken.
	Problems []*Error `json:",omitempty"`
}

// Busy is a process that keeps a volume from being unmounted.
type Busy struct {
	PID     int
	Command string
	Path    string // what it holds open
}
