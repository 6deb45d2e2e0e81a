// Package storage speaks to the switches of storage units: who owns a unit, under which epoch, and how to change
// that.
//
// A switch connects a unit to exactly one server. It holds one [failover.Key] a unit and changes it only by
// compare-and-swap, so that a stale claim is refused at the storage and not only by the agent that sends it. Each
// driver lives in a folder of its own. This package must never decide who should own a unit, and never retries by
// itself: a driver says what it saw, and [ErrUnknown] when it does not know.
package storage

import (
	"context"
	"errors"

	"github.com/orscore/ors/core/failover"
)

// Errors that a caller branches on. Everything else is a defect of the driver or of its configuration.
var (
	// ErrConflict: the key was not the expected one; nothing was changed. The State beside it holds the key found.
	ErrConflict = errors.New("storage: the unit's key is not the expected one")
	// ErrUnknown: no answer in time, or one that cannot be understood. A swap may or may not have happened: read again.
	ErrUnknown = errors.New("storage: the switch gave no usable answer")
	// ErrNoUnit: the switch does not know the unit.
	ErrNoUnit = errors.New("storage: the switch does not have this unit")
)

// Position is the port to which a unit is connected. The paper's switch has a primary port 1 and a recovery port 3.
type Position uint8

// The positions of a Recovery Server Switch.
const (
	Disconnected Position = 0
	Port1        Position = 1
	Port3        Position = 3
)

// LED is the colour of a unit's light: green at home (port 1), amber when switched (port 3), off when disconnected.
type LED string

// The colours of a unit's light.
const (
	LEDOff   LED = "off"
	LEDGreen LED = "green"
	LEDAmber LED = "amber"
)

// State is what a switch says of one unit at one moment.
type State struct {
	Key      failover.Key
	Position Position
	LED      LED
}

// Switch is one unit's switch as seen from this server. All calls are bounded by their context and may be made from
// several goroutines; each is one exchange with the switch.
type Switch interface {
	// Inspect reads the key, fresh from the switch.
	Inspect(ctx context.Context) (State, error)
	// Swap replaces the key old by the key next if the switch still holds old, then reads it back. Errors: ErrConflict,
	// ErrUnknown, ErrNoUnit, or the context's.
	Swap(ctx context.Context, old, next failover.Key) (State, error)
	// Capabilities says what this driver can do; it asks nobody.
	Capabilities() Capabilities
	// Close ends the connection. Calls under way return an error.
	Close() error
}

// Capabilities of a driver.
type Capabilities struct {
	Driver   string // "rsw", "directory", …
	Fences   bool   // I/O of a server that is not connected is refused by the unit itself
	Endpoint string // where the switch is, for people: "unix:/run/enclosure.sock"
	// Volume is set by drivers whose unit is a directory tree: the folder at which this server finds its contents while
	// it is connected. Empty for drivers of block devices.
	Volume string
}
