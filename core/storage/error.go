package storage

// Error carries the stable code of a message that an operator can look up. It wraps what a caller branches on.
type Error struct {
	Code string // "ORS-40nn"
	Err  error
}

func (e *Error) Error() string { return e.Code + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ErrorCode returns Code; whoever shows errors asks for it by this method.
func (e *Error) ErrorCode() string { return e.Code }

// The codes of this package's drivers.
const (
	CodeConflict = "ORS-4001" // the unit's key was not the expected one
	CodeUnknown  = "ORS-4002" // no usable answer in time
	CodeNoUnit   = "ORS-4003" // the switch does not have this unit
	CodeRefused  = "ORS-4004" // the switch refused the request as malformed, or speaks another version
	CodeEndpoint = "ORS-4010" // an endpoint, unit name or path in the configuration cannot be right
	CodeContents = "ORS-4020" // the contents of a directory unit are missing, doubled or unreadable
)
