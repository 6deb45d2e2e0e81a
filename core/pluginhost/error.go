package pluginhost

import "fmt"

// Codes of the errors of this package.
const (
	CodeMissing   = "ORS-5001" // there is no such program
	CodeStart     = "ORS-5002" // died, printed nonsense or hung at start
	CodeMode      = "ORS-5003" // the program could be replaced by others
	CodeVersion   = "ORS-5004" // version is not as the configuration demands
	CodeHash      = "ORS-5005" // hash is not as pinned
	CodeBudget    = "ORS-5006" // died too often
	CodeWrongKind = "ORS-5007" // the program serves another kind
	CodeCall      = "ORS-5008" // a call failed
	CodeHung      = "ORS-5009" // a call was not answered in time
	CodeClosed    = "ORS-5010" // the host is closed
	CodeBusy      = "ORS-5011" // it cannot be upgraded at this moment
)

// Error is what keeps a plugin from doing what it was asked to.
type Error struct {
	Code string
	Kind string // of the plugin
	What string // what is wrong
	Next string // what to do about it
	Err  error  // cause; may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: plugin %q: %s", e.Code, e.Kind, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// refusal says whether the program as it is on disk must not be run: starting it again changes nothing.
func (e *Error) refusal() bool {
	switch e.Code {
	case CodeMissing, CodeMode, CodeVersion, CodeHash, CodeWrongKind:
		return true
	}
	return false
}

func (e *Error) state() State {
	switch {
	case e.Code == CodeMissing:
		return StateMissing
	case e.Code == CodeBudget:
		return StateBackoff
	case e.refusal():
		return StateRefused
	}
	return StateFailed
}
