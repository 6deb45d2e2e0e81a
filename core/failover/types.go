package failover

// Tick is a moment or a span on a server's own monotonic clock, in milliseconds. It has no relation to the partner's.
type Tick int64

// Never is a moment that does not come.
const Never Tick = 1<<62 - 1

// Phase is where a group stands on one server.
type Phase uint8

// The phases of a group, as seen from one server.
const (
	Unknown   Phase = iota // nothing is known yet: the switch is being asked
	Standby                // not here; ready to take it
	Claiming               // a claim for a free unit is on its way
	Attaching              // ours: drives are being mounted
	Starting               // drives mounted: applications are being started or recovered
	Active                 // applications run here
	Stopping               // applications are being stopped
	Detaching              // applications stopped: drives are being unmounted
	Releasing              // unmounted: the units are being given back
	Fenced                 // the storage is not ours: left-overs are being killed
	Faulted                // something would not stop or unmount: an operator must look
	Parked                 // stopped in order for a shutdown; the storage stays with this server
	numPhases
)

var phaseNames = [...]string{
	"Unknown", "Standby", "Claiming", "Attaching", "Starting", "Active", "Stopping", "Detaching", "Releasing",
	"Fenced", "Faulted", "Parked",
}

func (p Phase) String() string { return phaseNames[p] }

// EventKind says what an Event tells.
type EventKind uint8

// The events of a group: what rows of the table wait for. Those up to Cleared answer an action and carry its
// operation id.
const (
	Granted       EventKind = iota // the claim was granted and read back
	Denied                         // the claim was refused: the key was not the one expected
	Attached                       // all drives of the group are mounted
	AttachFailed                   // a drive could not be mounted; Text says why
	AppsUp                         // all applications run and answer
	StartFailed                    // an application did not start; Text says why
	AppsStopped                    // surely none of them runs
	StopFailed                     // an application would not stop
	Detached                       // all drives are unmounted
	DetachFailed                   // a drive would not unmount
	Released                       // the units are nobody's, read back
	ReleaseFailed                  // the key was not the one expected
	Cleared                        // nothing of the group is left on this server
	OwnerSelf                      // the switch shows all units of the group with this server
	OwnerPeer                      // the switch shows a unit of the group with the partner
	OwnerNone                      // the switch shows a unit of the group with nobody, and none with the partner
	PeerOwns                       // a beat proves that the partner holds a unit under a newer epoch than ours
	PeerLost                       // the partner is lost
	AppsFailed                     // an application that operation Op brought up failed its checks
	Timeout                        // the phase's deadline has passed
	OpGive                         // a planned move away: the partner is ready
	OpClear                        // an operator has looked
	OpShutdown                     // this server is being shut down in order
	numGroupEvents
)

// The events of a server: Step turns them into events of groups.
const (
	Passed EventKind = iota + numGroupEvents // time has passed, nothing else
	// Evidence: the links and the checks changed, or a deadline of theirs passed
	Seen
	Heard // Beat: the partner's newest words
	// the partner's agent or operating system has been restarted (Text: which)
	PeerStarted
	WasLate      // this server did not run for a while: a pause or starvation
	UnitRead     // Unit, Op, Key: an answer to Inspect
	UnitMute     // Unit, Op: Inspect got no usable answer
	Swapped      // Unit, Op: a Swap ended, whichever way; it is read again
	DiskAnswered // Group, Op: the mounted drives can be read past all caches
	DiskSilent   // Group, Op: they cannot, or there are none
	OpMove       // Group, Move, Reason, Force: the group is to be moved to the partner
	PeerSaid     // Group, Move, Word, Auto, Text: the partner about a planned move
	ReadyYes     // Group, Op: the group could be started here now
	ReadyNo      // Group, Op, Text: it could not
	OpMode       // Mode, Left: an operator has switched the pair's mode on this server
	PeerMode     // Mode, Left: the partner's mode
	ModeLeft     // Left: so much of the maintenance on record is left by the wall clock; told once, after the start
	PeerCleared  // Group: an operator has cleared the group on the partner
	OpRestart    // Left: this agent ends, and another one takes its place within so long; the partner is told so
	OpStay       // it does not end: the restart that was asked for does not take place
	PeerWaits    // the partner has on record until when it waits for this agent
	PeerAway     // Left: the partner ends, and is back within so long
	Returned     // nothing here may be heard for longer than without an announced absence
	numEvents
)

var eventNames = [...]string{
	"Granted", "Denied", "Attached", "AttachFailed", "AppsUp", "StartFailed", "AppsStopped", "StopFailed", "Detached",
	"DetachFailed", "Released", "ReleaseFailed", "Cleared", "OwnerSelf", "OwnerPeer", "OwnerNone", "PeerOwns",
	"PeerLost", "AppsFailed", "Timeout", "OpGive", "OpClear", "OpShutdown",
	"Passed", "Seen", "Heard", "PeerStarted", "WasLate", "UnitRead", "UnitMute", "Swapped", "DiskAnswered", "DiskSilent",
	"OpMove", "PeerSaid", "ReadyYes", "ReadyNo", "OpMode", "PeerMode", "ModeLeft", "PeerCleared",
	"OpRestart", "OpStay", "PeerWaits", "PeerAway", "Returned",
}

func (e EventKind) String() string { return eventNames[min(int(e), len(eventNames)-1)] }

// Event is one thing that happened.
type Event struct {
	Kind     EventKind
	At       Tick
	Uptime   Tick // of the operating system, suspensions included; of words that are kept beyond this agent's end
	Group    int
	Unit     int
	Op       uint64 // of the action that this answers or that it speaks of; 0 for what came by itself
	Key      Key
	Evidence Evidence
	Beat     Beat
	Move     uint64 // id of a planned move
	Word     Word
	Reason   Reason
	Auto     bool // the planned move was not asked for by an operator
	Force    bool // an operator wants it in spite of a maintenance
	Mode     Mode
	Left     Tick // of a maintenance or an announced absence, from now on
	Rebooted bool // the partner's operating system was started, not only its agent
	Text     string
}

// Reason says who wants a planned move.
type Reason uint8

// The reasons of planned moves.
const (
	Operator Reason = iota // an operator, or the orderly shutdown that one asked for
	Health                 // restarting in place did not help
	Failback               // the primary is back
)

var reasonNames = [...]string{"operator", "health", "failback"}

func (r Reason) String() string { return reasonNames[r] }

// Beat is what the decision needs of the partner's beat.
type Beat struct {
	HearsUs     bool
	Leaving     bool
	Restarting  Tick // announced absence from now on; 0: none
	Maintenance bool
	Losses      uint8
	Promised    uint32
	Common      uint32
	HeldUnit    int
	Held        uint32
}

// Word is what the two servers say to each other about a planned move.
type Word uint8

// The words of a planned move. The giver repeats its last word until it is answered; the taker answers with where it
// stands.
const (
	WordNone    Word = iota
	WordAsk          // giver: could you take the group? (and while it stops it: still at it)
	WordGiven        // giver: it is free, take it
	WordReady        // taker: yes
	WordRefused      // taker: no; Text says why
	WordDone         // taker: it runs here
	WordFailed       // taker: it did not work here, the units are free again; Text says why
	WordCancel       // giver: the move is off
)

var wordNames = [...]string{"", "ask", "given", "ready", "refused", "done", "failed", "cancel"}

func (w Word) String() string { return wordNames[w] }

// ActionKind says what is to be done.
type ActionKind uint8

// The actions. Each is idempotent and has a deadline; those of groups answer with an event that carries the operation
// id.
const (
	Inspect ActionKind = iota // read the key of Unit: UnitRead or UnitMute
	Swap                      // swap the key of Unit (arbitration, re-key): Swapped
	// swap the keys of a free group's units: Granted or Denied; no event when there was no answer
	Claim
	ReKey      // swap the keys of the group's units for newer ones of this server's: no answer is used
	Attach     // mount: Attached or AttachFailed
	StartApps  // recover or start the applications: AppsUp or StartFailed
	StopApps   // stop them: AppsStopped or StopFailed
	Detach     // unmount: Detached or DetachFailed
	Release    // give the units back: Released or ReleaseFailed
	KillAll    // kill what is left of the group and unmount by force: Cleared
	Witness    // read the group's mounted drives past all caches: DiskAnswered or DiskSilent
	CheckReady // prove that the group could be started here: ReadyYes or ReadyNo
	Tell       // say Word about the planned move Move to the partner
	MoveEnded  // the planned move Move has ended: Moved and Text say how
	// ask for a planned move of the group, because of Reason: to be answered by OpMove with a new id and that reason
	MoveWanted
	Note // write Text into the journal
	numActions
)

var actionNames = [...]string{
	"Inspect", "Swap", "Claim", "ReKey", "Attach", "StartApps", "StopApps", "Detach", "Release", "KillAll", "Witness",
	"CheckReady", "Tell", "MoveEnded", "MoveWanted", "Note",
}

func (a ActionKind) String() string { return actionNames[a] }

// KeySwap is one compare-and-swap.
type KeySwap struct {
	Unit     int
	Old, New Key
}

// Action is one thing to be done, after the hard state has been written.
type Action struct {
	Kind     ActionKind
	Group    int
	Unit     int
	Op       uint64
	Epoch    uint32    // of the group: the newest of its units
	Deadline Tick      // the moment at which the action is given up
	Delay    Tick      // StartApps: wait so long first (a restart that failed before)
	Swaps    []KeySwap // Swap, Claim, ReKey, Release
	Move     uint64
	Word     Word
	Reason   Reason
	Auto     bool // Tell: the move was not asked for by an operator
	Moved    bool
	Kill     bool   // Note: an application may be killed because of this
	Step     string // Note: short stable name
	Code     string // Note: ORS-nnnn, when an operator should look
	Text     string
}

// Params is the pair as configured, seen from one server. It does not change while the agent runs.
type Params struct {
	Self     Server
	Survivor Server // goes first when both are alive and cut off
	Units    []UnitParams
	Groups   []GroupParams

	Timeout          Tick // silence that is a loss (the detector applies it; here for what is derived from it)
	StartupTimeout   Tick // 0: wait for the partner for ever
	ArbitrationDelay Tick // how long the server that is not to go first waits
	InspectQuiet     Tick // between reads of a unit while nothing happens
	InspectBusy      Tick // between reads while something does
	AskAgain         Tick // an unanswered read or swap is left alone for so long
	FinishWindow     Tick // a won round may be finished for so long after the links are back
	RenewInterval    Tick // the winner of a round re-keys the first unit so often while the partner is lost
	RenewTimeout     Tick // a first unit that has not been re-keyed for so long shows that the winner died
	Holdoff          Tick // after a release the partner goes first for so long
	OwnerWait        Tick // a free group whose primary does not come for it is taken after so long
	UnknownTimeout   Tick // how long the switch is waited for before the disk is the last witness
	ClaimTimeout     Tick
	DetachTimeout    Tick
	KillTimeout      Tick
	MoveTimeout      Tick // for each half of a planned move beyond the applications' own times
	BlockFirst       Tick // a group that could not be brought up here is left alone for so long, twice as long each time …
	BlockMax         Tick // … but never longer
	// of this run of the operating system, 0 when not known: what the hard state says of the partner holds only within
	Boot   uint32
	Uptime Tick // of the operating system, at the moment 0 of this agent's clock
}

// UnitParams is one storage unit; units are in the fixed order of arbitration.
type UnitParams struct{ Group int }

// GroupParams is one group.
type GroupParams struct {
	Primary       Server
	Units         []int
	AttachTimeout Tick
	StartTimeout  Tick
	StopTimeout   Tick
	RestartLimit  int
	RestartReset  Tick
	Failback      bool // it goes back to its primary by itself …
	FailbackDelay Tick // … when that has been alive and agreed for so long
	FlapLimit     int  // automatic moves within FlapWindow, at most 8; 0: any number
	FlapWindow    Tick
}

// Hard is the part of the state that must be on disk before an action or a beat that depends on it leaves.
type Hard struct {
	Promised uint32     `json:"promised"` // P: number of the newest round that this server has promised
	Common   uint32     `json:"common"`   // C: number that both are known to have promised
	Units    []HardUnit `json:"units"`
	Mode     Mode       `json:"mode"`

	// What follows is worth keeping, but no decision waits for it: Equal does not compare it, Same does.
	Lost  bool   `json:"lost,omitempty"`  // the partner was lost, and not heard since
	Boot  uint32 `json:"boot,omitempty"`  // of the run of the operating system that wrote this
	Flaps []int  `json:"flaps,omitempty"` // automatic moves of each group within its window
	// BackBy is when the absence is over that this agent has announced and that the partner has on record, in milliseconds
	// since the start of the operating system (Boot). Nothing here may be heard beyond it while no agent runs, and the
	// partner takes nothing over before it; 0: there is none
	BackBy Tick `json:"back_by,omitempty"`
	// PeerBackBy is when the absence is over that the partner has announced, by the same clock, and PeerAway is how long
	// it was when that was written. They are rounded up; 0: none
	PeerBackBy Tick `json:"peer_back_by,omitempty"`
	PeerAway   Tick `json:"peer_away,omitempty"`
	PeerLeft   bool `json:"peer_left,omitempty"` // the partner's last word was goodbye
}

// forget drops what holds only within one run of the operating system. How much of the partner's absence is left is not
// known then: all of it is waited for.
func (h *Hard) forget(boot uint32, uptime Tick) {
	h.Boot, h.Lost, h.BackBy, h.PeerLeft = boot, false, 0, false
	if h.PeerBackBy != 0 {
		h.PeerBackBy = uptime + h.PeerAway
	}
}

// HardUnit is the hard state of one unit.
type HardUnit struct {
	Asked    uint32 `json:"asked"`    // newest epoch that this server has asked for; written before the claim leaves
	Held     uint32 `json:"held"`     // epoch under which the switch has shown it to us; 0: not ours
	Released uint32 `json:"released"` // epoch of the key for which a release was last asked
}

// Equal reports whether nothing would have to be written before what was decided is done.
func (h Hard) Equal(o Hard) bool {
	if h.Promised != o.Promised || h.Common != o.Common || h.Mode != o.Mode || len(h.Units) != len(o.Units) {
		return false
	}
	for i := range h.Units {
		if h.Units[i] != o.Units[i] {
			return false
		}
	}
	return true
}

// Same reports whether nothing at all would have to be written.
func (h Hard) Same(o Hard) bool {
	if !h.Equal(o) || h.Lost != o.Lost || h.Boot != o.Boot || h.BackBy != o.BackBy || h.PeerBackBy != o.PeerBackBy ||
		h.PeerAway != o.PeerAway || h.PeerLeft != o.PeerLeft || len(h.Flaps) != len(o.Flaps) {
		return false
	}
	for i := range h.Flaps {
		if h.Flaps[i] != o.Flaps[i] {
			return false
		}
	}
	return true
}

// State is everything that one server's decision remembers. A copy made by Clone shares nothing.
type State struct {
	Now       Tick
	Started   Tick
	Op        uint64 // newest operation id
	Leaving   bool   // an orderly shutdown is under way
	LateUntil Tick   // silence does not count before this moment: after a pause, or a restart
	Ending    bool   // this agent is about to end, and another one takes its place
	BackAt    Tick   // until when the partner is told to wait, by this agent or the one before; 0: it is not
	Hard      Hard
	Partner   Partner
	Units     []Unit
	Groups    []Group
	AgreedAt  Tick // since when both servers agree; Never: they do not
	// of the mode
	ModeEnd    Tick // of the maintenance; Never: not known yet
	ModeByWall bool // ModeEnd is not known, or only by the wall clock at the start
	ModeOver   bool // its end is on record
	// of the arbitration
	FinishFrom Tick // since when the links are back with a round still open; Never: none
	RenewAt    Tick // when the first unit is re-keyed next while the partner is lost
}

// Partner is what is believed of the other server.
type Partner struct {
	Verdict  Verdict
	Why      string
	Evidence Evidence
	// Ever: a beat was heard since this agent's start, or before it in this run of the system, until a loss or the
	// announced end of the agent before
	Ever            bool
	HeardAt         Tick // newest beat
	BothAt          Tick // newest beat that says that the partner hears us
	Up              bool // heard, and it says that it hears us
	Lost            bool
	LostAt          Tick
	Losses          uint8 // how often it was lost, this agent's start included
	Left            bool  // it has said goodbye
	RestartingUntil Tick  // it has announced to be back by then, or was just started; 0: neither
	Beat            Beat
	Spoke           bool // Beat is of this session
	Held            []uint32
}

// Unit is what is known of one storage unit.
type Unit struct {
	Known   bool // Key was read, and nothing has happened since that puts it in doubt
	Key     Key
	Mute    bool   // the newest read got no answer
	ReadSeq uint64 // operation id of the read that gave Key; 0: none since Key was changed
	ReadAt  Tick   // when that was asked
	After   Tick   // the switch has had Key only since after this moment; 0: not known

	ReadOp   uint64 // outstanding read; 0: none
	AskedAt  Tick
	NextRead Tick

	SwapOp   uint64 // outstanding swap; 0: none
	SwapSeq  uint64 // newest operation id when the last swap ended: only reads asked after it say what became of it
	SwapAt   Tick
	ReKey    bool   // an owner's key must be changed once, so that swaps still on their way fail
	ReKeyed  bool   // ReKeyFrom is set
	KeyFrom  uint32 // epoch that must be passed
	SeenKey  Key    // of the first unit while lost: what was seen …
	SeenFrom Tick   // … and since when
}

// Group is one group on this server.
type Group struct {
	Phase        Phase
	Since        Tick
	SinceSeq     uint64 // newest operation id when the phase began: reads with a greater one are fresh
	Op           uint64 // of the newest action; answers to others are dropped
	Deadline     Tick
	Row          int // last row taken, in Table; -1: none
	Fails        int
	LastFail     Tick
	Fault        string // what failed last, until the applications are up
	HoldoffUntil Tick
	FreeSince    Tick // since when the switch shows it with nobody; Never: it does not
	BlockedUntil Tick // not brought up here before
	BlockFor     Tick
	Blocked      string // why
	Disk         bool   // the disk has answered since the phase became Unknown
	DiskOp       uint64
	LastOwner    Server // the newest server to which the switch was seen to connect all its units …
	LastTag      uint32 // … and the round under which
	Flaps        int    // automatic moves within the window …
	FlapAt       [MaxFlaps]Tick
	AutoAt       Tick // no automatic move is asked for before this moment …
	AutoWait     Tick // … which is so long after the last one
	Move         Move
	LastMove     Move // how the newest move that this server took part in as taker ended
}

// Role is this server's part in a planned move.
type Role uint8

// The parts of a planned move.
const (
	NoMove   Role = iota
	Asking        // giver: waiting for the partner's readiness
	Giving        // giver: stopping, unmounting, releasing
	Given         // giver: waiting for the partner to have it running
	Return        // giver: it did not work there; taking it back
	Checking      // taker: proving that it could start here
	Taking        // taker: waiting for the units, then bringing it up
)

// Move is a planned move of a group.
type Move struct {
	ID       uint64
	Role     Role
	Op       uint64 // of CheckReady; of a giver that takes back: reads with a greater one are fresh
	Deadline Tick
	TellAt   Tick
	Word     Word // answer that a taker gives when asked again
	Reason   Reason
	Text     string
}

// MaxAway is the longest absence that may be announced: the partner takes nothing over before it is over.
const MaxAway Tick = 10 * 60_000

// awayRound is what the partner's absence is rounded up to on disk, so that beats which count it down, in whole
// seconds, do not have it written again and again.
const awayRound Tick = 1_000

// New returns the state of an agent that has just been started: everything is still to be asked.
func New(p *Params, hard Hard, now Tick) State {
	s := State{Now: now, Started: now, Hard: hard, FinishFrom: Never, RenewAt: now, AgreedAt: Never}
	for len(s.Hard.Units) < len(p.Units) {
		s.Hard.Units = append(s.Hard.Units, HardUnit{})
	}
	s.Hard.Units = append([]HardUnit(nil), s.Hard.Units[:len(p.Units)]...)
	s.Hard.Flaps = make([]int, len(p.Groups))
	copy(s.Hard.Flaps, hard.Flaps)
	s.Partner = Partner{Losses: 1, Held: make([]uint32, len(p.Units)), HeardAt: now, BothAt: -Never}
	s.LateUntil = now
	if hard.Boot != p.Boot {
		s.Hard.forget(p.Boot, p.Uptime+now)
	}
	ahead := func(uptime Tick) Tick { // on this agent's clock; 0: it has passed, or cannot be
		if at := uptime - p.Uptime; uptime != 0 && now < at && at-now <= MaxAway+awayRound {
			return at
		}
		return 0
	}
	s.BackAt = ahead(s.Hard.BackBy)
	if s.BackAt == 0 {
		s.Hard.BackBy = 0
	}
	s.Partner.RestartingUntil = max(s.Partner.RestartingUntil, ahead(s.Hard.PeerBackBy))
	// Only the agent was restarted, and the partner was lost before: a whole time-out of silence is a loss again. The same
	// when the partner was heard until an announced end, but not before this agent was to be back: if it is deaf, whoever
	// restarts it has so long to see that, and the partner is not taken for dead.
	if s.Hard.Lost || s.BackAt > 0 && !s.Hard.PeerLeft {
		s.Partner.Ever, s.LateUntil = true, max(s.BackAt, now+p.Timeout)
	}
	if hard.Mode.Until != 0 { // until the loop has looked at the wall clock, a maintenance goes on
		s.ModeEnd, s.ModeByWall = Never, true
	}
	s.Partner.Verdict, s.Partner.Why = Judge(JudgeFacts{})
	for range p.Units {
		s.Units = append(s.Units, Unit{NextRead: now, ReKey: true})
	}
	for g := range p.Groups {
		gr := Group{
			Phase: Unknown, Since: now, Row: -1, Deadline: now + p.UnknownTimeout, FreeSince: Never,
			HoldoffUntil: now, BlockedUntil: now, AutoAt: now,
		}
		// their times are not known any more: they count as if they had been just now, for one more window at most
		for gr.Flaps < min(s.Hard.Flaps[g], MaxFlaps) {
			gr.FlapAt[gr.Flaps] = now
			gr.Flaps++
		}
		s.Groups = append(s.Groups, gr)
	}
	return s
}

// WonUntil is until when the round is surely this server's that it has won since it lost its partner, as it has seen
// itself: the partner bids for the next one only when it has seen for RenewTimeout that the first unit was not renewed.
// It is 0 where there is none.
func (s *State) WonUntil(p *Params) Tick {
	if !s.Partner.Lost || len(s.Units) == 0 || !s.Units[0].settled() || s.Units[0].Key.Owner != p.Self ||
		s.Units[0].After == 0 || Decide(p.Self, s.Hard.Promised, s.Hard.Common, s.Units[0].Key) != HasWon {
		return 0
	}
	return s.Units[0].After + p.RenewTimeout
}

// NoRound says whether no round of the arbitration is open, as this server has seen itself: nobody waits for the winner
// of one to die.
func (s *State) NoRound() bool {
	return len(s.Units) > 0 && s.Units[0].settled() && s.Hard.Common > s.Units[0].Key.Tag
}

// Found says whether this agent has found everything that the one before has left, and partner and agent hear each
// other: no time is needed any more that was announced.
func (s *State) Found() bool {
	for g := range s.Groups {
		switch s.Groups[g].Phase {
		case Standby, Active, Parked, Faulted:
		default:
			return false
		}
	}
	return !s.Ending && s.Partner.Up
}

// Clone returns a copy that shares nothing with s.
func (s State) Clone() State {
	s.Hard.Units = append([]HardUnit(nil), s.Hard.Units...)
	s.Hard.Flaps = append([]int(nil), s.Hard.Flaps...)
	s.Partner.Held = append([]uint32(nil), s.Partner.Held...)
	s.Partner.Evidence.Links = append([]LinkEvidence(nil), s.Partner.Evidence.Links...)
	s.Units = append([]Unit(nil), s.Units...)
	s.Groups = append([]Group(nil), s.Groups...)
	return s
}
