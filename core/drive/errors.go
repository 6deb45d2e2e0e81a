package drive

import (
	"fmt"
	"strings"
)

// The codes of this package's errors.
const (
	CodeSpec     = "ORS-4101" // a drive's configuration cannot be right
	CodeVolume   = "ORS-4102" // the volume is not there, not unique, or not a block device
	CodeInUse    = "ORS-4103" // the volume is in use outside the drive root
	CodeFsck     = "ORS-4104" // the filesystem check found what it does not repair by itself
	CodeMount    = "ORS-4105" // the kernel refused to mount
	CodeDead     = "ORS-4106" // mounted, but the filesystem has shut itself down
	CodeBusy     = "ORS-4107" // in use, cannot be unmounted
	CodeUnmount  = "ORS-4108" // cannot be unmounted for another reason than use
	CodeLetter   = "ORS-4109" // no letter is free, or the letter's folder is something else
	CodeMapRead  = "ORS-4110" // the map file is damaged or unreadable
	CodeMapWrite = "ORS-4111" // the map file cannot be written
	CodeTimeout  = "ORS-4112" // not done in time
	CodeIO       = "ORS-4113" // the device does not answer reads or writes
	CodeHelper   = "ORS-4114" // the helper process failed
	CodeMoved    = "ORS-4115" // the drive has another letter than on its primary
)

// Error says what is wrong with a drive, and what to look at next.
type Error struct {
	Code string // ORS-41nn
	Text string
	Next string // a command or an action that shows more; may be empty
	Err  error  `json:"-"` // cause, such as a syscall.Errno; may be nil
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Text
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Next != "" {
		s += " (" + e.Next + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// ErrorCode returns Code; whoever shows errors asks for it by this method.
func (e *Error) ErrorCode() string { return e.Code }

// BusyError says who keeps a volume from being unmounted.
type BusyError struct {
	Volume string
	Path   string
	Who    []Busy // at most maxBusy; may be empty when nobody could be found
}

// maxBusy bounds the list of a BusyError.
const maxBusy = 64

// shownBusy is how many users an error's text names.
const shownBusy = 5

func (e *BusyError) Error() string {
	var who []string
	for _, b := range e.Who[:min(len(e.Who), shownBusy)] {
		who = append(who, fmt.Sprintf("%s (pid %d) holds %s", b.Command, b.PID, b.Path))
	}
	if n := len(e.Who) - shownBusy; n > 0 {
		who = append(who, fmt.Sprintf("and %d more", n))
	}
	if len(who) == 0 {
		who = []string{"by whom could not be found: see lsof +f -- " + e.Path}
	}
	return fmt.Sprintf("%s: %s at %s is in use: %s", CodeBusy, e.Volume, e.Path, strings.Join(who, "; "))
}

// ErrorCode returns CodeBusy.
func (e *BusyError) ErrorCode() string { return CodeBusy }
