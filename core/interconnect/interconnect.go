// Package interconnect joins the two recovery agents of a pair: beats over every link, each authenticated, each
// acknowledging the partner's last, and short messages behind them.
//
// It knows frames, sessions and links, and detects silence. It must never decide what silence means (core/failover
// does), never let a beat wait for anything but the frame in flight, and never trust a frame before its
// authentication tag.
package interconnect

import (
	"context"
	"time"
)

// Beat is what one server says of itself in each beat, and what is read out of the partner's.
type Beat struct {
	Boot        uint32        // hash of the boot id: changes when the operating system starts
	Incarnation uint16        // number of the agent's start, from its state directory
	HearsYou    bool          // the sender has heard the receiver within the time-out
	Leaving     bool          // goodbye: an orderly end; no failure
	Restarting  time.Duration // "back within": so long a silence is announced; 0 = none. Whole seconds, rounded up
	Maintenance bool          // the sender's side is in maintenance: nothing moves
	Losses      uint8         // how often the sender has lost the receiver, modulo 256
	Promised    uint32        // P: round number that the sender has promised (arbitration)
	Common      uint32        // C: round number that the sender knows both have promised
	HeldUnit    uint8         // index of the unit of which Held speaks; beats take the units in turn
	Held        uint32        // epoch under which the sender holds that unit; 0 = does not
	Config      uint32        // first four bytes of the configuration's digest
}

// EventKind says what an Event is about.
type EventKind uint8

// What the interconnect tells its user.
const (
	BeatHeard    EventKind = iota + 1 // Beat, Link
	SessionOpen                       // the partner was heard in a new session; PeerBoot, PeerIncarnation
	LinkDown                          // Link failed or was closed (reason in Text); it is being reopened
	LinkUp                            // Link is open again
	MessageIn                         // Message
	Refused                           // a frame was refused: Text says why. One a second and reason; counters have all
	LinesChanged                      // Lines of Link: what its modem lines tell now
	KeyChanged                        // another key is used for frames to the partner: Text
)

// Event is something that the interconnect saw.
type Event struct {
	Kind            EventKind
	At              time.Time // monotonic
	Link            string
	Beat            Beat
	Message         Message
	Lines           Lines
	PeerBoot        uint32
	PeerIncarnation uint16
	Text            string
	Code            string // of Refused: what an operator may look up
}

// Codes of refusals.
const (
	CodeRefused       = "ORS-3001"
	CodeSecondMachine = "ORS-3002" // the partner's name and key, used by another machine while the partner is heard
)

// Lines is what the modem lines of a serial link tell of the partner's port. They are held up by a server with power,
// whether its agent runs or not.
type Lines uint8

// What lines tell.
const (
	LinesUnknown Lines = iota // no lines were read: no serial link, or its port is not open
	LinesNone                 // the port has none, or none was ever up since the agent's start: no evidence
	LinesUp                   // some line is up: the partner's port has power, and the cable is whole
	LinesDropped              // all are down that were up: the partner is without power, or the cable is out
)

func (l Lines) String() string { return [...]string{"unknown", "none", "up", "dropped"}[l] }

// LineWatcher is what a Link with modem lines implements, too. The function is called from Run.
type LineWatcher interface{ WatchLines(func(Lines)) }

// Message is a short, unreliable message to the partner: it arrives once, or not at all. Its sender repeats it until
// it sees the effect. At most MaxMessage bytes; on a serial line it travels in frames of the beats' size, behind
// them.
type Message struct {
	Kind uint8 // chosen by the user; 0 is not used
	Body []byte
	// NetworkOnly keeps a message that is only for people (status) off slow links.
	NetworkOnly bool
}

// MaxMessage is the largest body of a Message, in bytes.
const MaxMessage = 32 << 10

// MaxBeatWire is the most bytes that a beat takes on a serial line, delimiters included (DESIGN §5).
const MaxBeatWire = 64

// Link carries frames between the two servers, unreliably. A link owns its device: it opens it, reopens it with
// backoff when it fails, and reports both.
type Link interface {
	// Name is the link's name in the configuration.
	Name() string
	// Kind is "serial" or "udp".
	Kind() string
	// Run opens the link and calls in for every frame received, until ctx ends. The bytes belong to the callee.
	Run(ctx context.Context, in func(frame []byte), state func(up bool, reason string)) error
	// Send queues one frame and never blocks; urgent frames (beats, handshake) overtake queued ones, and when two
	// urgent ones wait already, a new one replaces the older. False: the frame was dropped.
	Send(frame []byte, urgent bool) bool
	// MaxFrame is the largest frame that Send takes, in bytes.
	MaxFrame() int
	// Counters since the start.
	Counters() LinkCounters
}

// LinkCounters are a link's counts since the agent's start.
type LinkCounters struct {
	FramesOut, FramesIn, BytesOut, BytesIn uint64
	Dropped                                uint64 // queue full or line stalled
	Garbage                                uint64 // runs of bytes that were no frame
	Reopened                               uint64
	// Of a serial port since the agent's start, where its driver counts them; else 0.
	FrameErrors, Overruns, ParityErrors uint64
}

// LinkStatus is what people see of one link.
type LinkStatus struct {
	Name, Kind, Device string
	Open               bool
	Reason             string // why it is not open
	LastBeat           time.Time
	RoundTrip          time.Duration // from the beats' acknowledgements
	Counters           LinkCounters
	Garbled            uint64 // checksum or shape wrong: noise, another speed, another program
	RefusedTag         uint64 // wrong key, or of a session that is not open
	RefusedReplay      uint64
	RefusedReflected   uint64
	ModemLines         string // "", or such as "CTS DSR DCD"; "none" when the port has none
	Lines              Lines  // what they tell
}
