package failover

import (
	"fmt"
	"strings"
)

// Facts is a set of guard facts of one group at one moment.
type Facts uint16

// The guard facts.
const (
	Agreed       Facts = 1 << iota // both hear each other and have promised a round number that is not used up
	MayClaim                       // the group is free, agreed, and it is this server's turn
	RestartsLeft                   // the applications may be restarted in place
	DiskAnswers                    // the group's mounted drives can be read past all caches
	ReleaseOpen                    // the switch still shows the key for which a release was asked: it may yet land
	Leaving                        // this server is being shut down in order
	IsBlocked                      // the group could not be brought up here lately
	Split                          // the switch shows only a part of the group's units with this server
	MayLeave                       // the partner may be asked to take the group, which does not run well here
	HandsOff                       // maintenance: a failed check restarts nothing
	Undo                           // this server is taking the group in a planned move: what fails here goes back
	Giveaway                       // this server is giving the group away in a planned move: it goes on here if that fails
	numFacts     = 12
)

var factNames = [numFacts]string{"agreed", "our turn", "restarts left", "disk answers", "release open", "leaving",
	"blocked", "split", "may leave", "maintenance", "taking", "giving"}

// Guard holds when all of Need and none of Not are facts.
type Guard struct{ Need, Not Facts }

// Holds reports whether the guard lets a row through.
func (g Guard) Holds(f Facts) bool { return f&g.Need == g.Need && f&g.Not == 0 }

func (g Guard) String() string {
	var parts []string
	for i, name := range factNames {
		switch bit := Facts(1) << i; {
		case g.Need&bit != 0:
			parts = append(parts, name)
		case g.Not&bit != 0:
			parts = append(parts, "not "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// Row is one transition of a group. Rows are disjoint: at most one matches any phase, event and facts.
type Row struct {
	From []Phase
	On   []EventKind
	If   Guard
	To   Phase
	Do   []ActionKind
	Code string // ORS-nnnn when an operator should look
	Why  string // the sentence that the operator reads
}

// phases in which the group's units are, or may still be, this server's
var held = []Phase{Attaching, Starting, Active, Stopping, Detaching, Faulted}

// Table is the decision for one group on one server. While a server leaves, Step parks what is Unknown or Standby
// before anything else, so the rows that take something up need not ask for that.
var Table = []Row{
	{From: []Phase{Unknown, Standby}, On: []EventKind{OwnerSelf}, If: Guard{Need: ReleaseOpen}, To: Unknown,
		Do:  []ActionKind{ReKey, Witness},
		Why: "A release may still be under way: the key is changed first, so that it fails."},
	{From: []Phase{Unknown}, On: []EventKind{OwnerSelf}, If: Guard{Not: ReleaseOpen}, To: Attaching,
		Do:  []ActionKind{Attach},
		Why: "The switch shows the storage with this server: what runs is recovered, nothing is stopped."},
	{From: []Phase{Unknown}, On: []EventKind{OwnerPeer, OwnerNone}, To: Fenced, Do: []ActionKind{KillAll},
		Why: "The storage is not with this server: left-overs are cleared before anything else."},
	{From: []Phase{Unknown}, On: []EventKind{Timeout}, If: Guard{Need: DiskAnswers, Not: ReleaseOpen}, To: Attaching,
		Do: []ActionKind{Attach}, Code: "ORS-1003",
		Why: "The switch does not answer, but the mounted disk does: what runs goes on."},
	{From: []Phase{Unknown}, On: []EventKind{Timeout}, If: Guard{Not: DiskAnswers}, To: Fenced, Do: []ActionKind{KillAll},
		Code: "ORS-1004",
		Why:  "Neither the switch nor the disk answers: nothing of the group may run here."},
	{From: []Phase{Unknown}, On: []EventKind{Timeout}, If: Guard{Need: DiskAnswers | ReleaseOpen}, To: Fenced,
		Do: []ActionKind{KillAll}, Code: "ORS-1004",
		Why: "The switch does not answer and a release was asked for: the storage may be gone at any moment."},

	{From: []Phase{Standby}, On: []EventKind{OwnerNone}, If: Guard{Need: MayClaim, Not: IsBlocked}, To: Claiming,
		Do:  []ActionKind{Claim},
		Why: "The group is free and it is this server's turn."},
	{From: []Phase{Standby}, On: []EventKind{OwnerSelf}, If: Guard{Not: ReleaseOpen | IsBlocked}, To: Attaching,
		Do:  []ActionKind{Attach},
		Why: "The switch has granted the storage to this server."},
	{From: []Phase{Standby}, On: []EventKind{OwnerSelf}, If: Guard{Need: IsBlocked | Agreed, Not: ReleaseOpen},
		To: Releasing, Do: []ActionKind{Release},
		Why: "The group could not be brought up here lately: its storage is given back."},
	{From: []Phase{Standby}, On: []EventKind{OwnerPeer}, If: Guard{Need: Agreed | Split}, To: Releasing,
		Do:  []ActionKind{Release},
		Why: "Each server has a part of the group, so neither can run it: this server's part is given back."},
	{From: []Phase{Standby}, On: []EventKind{OwnerNone},
		If: Guard{Need: Agreed | Split | IsBlocked}, To: Releasing, Do: []ActionKind{Release},
		Why: "The group could not be brought up here lately: the part of its storage that is here is given back."},

	{From: []Phase{Claiming}, On: []EventKind{Granted}, To: Attaching, Do: []ActionKind{Attach},
		Why: "The claim was granted and read back."},
	{From: []Phase{Claiming}, On: []EventKind{Denied}, To: Standby, Code: "ORS-1005",
		Why: "The claim was refused: somebody else changed the key first."},
	{From: []Phase{Claiming}, On: []EventKind{Timeout}, To: Unknown, Do: []ActionKind{Witness}, Code: "ORS-1006",
		Why: "No answer is not a grant: the switch is asked who owns the storage."},

	{From: []Phase{Attaching}, On: []EventKind{Attached}, To: Starting, Do: []ActionKind{StartApps},
		Why: "The drives are mounted: applications are recovered or started."},
	{From: []Phase{Attaching}, On: []EventKind{AttachFailed, Timeout}, To: Detaching, Do: []ActionKind{Detach},
		Code: "ORS-1007",
		Why:  "A drive could not be mounted: what was mounted is undone, and the partner may try."},
	{From: []Phase{Starting}, On: []EventKind{AppsUp}, To: Active,
		Why: "All applications run and answer."},
	{From: []Phase{Starting}, On: []EventKind{StartFailed, AppsFailed}, If: Guard{Need: RestartsLeft, Not: Undo},
		To: Starting, Do: []ActionKind{StartApps}, Code: "ORS-1008",
		Why: "An application did not start: it is tried again in place first."},
	{From: []Phase{Starting}, On: []EventKind{StartFailed, AppsFailed},
		If: Guard{Need: MayLeave, Not: RestartsLeft | Undo}, To: Starting,
		Do: []ActionKind{StartApps, MoveWanted}, Code: "ORS-1009",
		Why: "Restarting in place did not help: the partner is asked if it is ready, while it is tried again here."},
	{From: []Phase{Starting}, On: []EventKind{StartFailed, AppsFailed},
		If: Guard{Not: MayLeave | RestartsLeft | Undo}, To: Starting,
		Do: []ActionKind{StartApps}, Code: "ORS-1010",
		Why: "Restarting in place did not help, and the partner cannot be asked now: it is tried again here."},
	{From: []Phase{Starting}, On: []EventKind{StartFailed, AppsFailed}, If: Guard{Need: Undo}, To: Stopping,
		Do: []ActionKind{StopApps}, Code: "ORS-1019",
		Why: "The group could not be brought up here for the planned move: it goes back."},
	{From: []Phase{Active}, On: []EventKind{AppsFailed}, If: Guard{Need: RestartsLeft, Not: HandsOff}, To: Starting,
		Do: []ActionKind{StartApps}, Code: "ORS-1008",
		Why: "An application failed: it is restarted in place first."},
	{From: []Phase{Active}, On: []EventKind{AppsFailed}, If: Guard{Need: MayLeave, Not: RestartsLeft | HandsOff},
		To: Starting, Do: []ActionKind{StartApps, MoveWanted}, Code: "ORS-1009",
		Why: "An application fails again and again: the partner is asked if it is ready, while it is restarted here."},
	{From: []Phase{Active}, On: []EventKind{AppsFailed}, If: Guard{Not: MayLeave | RestartsLeft | HandsOff},
		To: Starting, Do: []ActionKind{StartApps}, Code: "ORS-1010",
		Why: "An application fails again and again, and the partner cannot be asked now: it is restarted here."},
	{From: []Phase{Active}, On: []EventKind{AppsFailed}, If: Guard{Need: HandsOff}, To: Active, Code: "ORS-1047",
		Why: "An application failed its checks: in maintenance nothing is restarted."},
	{From: []Phase{Starting}, On: []EventKind{Timeout}, To: Stopping, Do: []ActionKind{StopApps}, Code: "ORS-1011",
		Why: "The applications were not up in time: what was started is stopped."},
	{From: []Phase{Active}, On: []EventKind{PeerLost}, To: Active,
		Why: "The partner is lost: silence never makes an owner let go."},

	{From: []Phase{Starting, Active}, On: []EventKind{OpGive}, If: Guard{Need: Agreed}, To: Stopping,
		Do:  []ActionKind{StopApps},
		Why: "A planned move: the partner is ready to take the group."},
	{From: []Phase{Unknown, Starting, Active}, On: []EventKind{OpShutdown}, To: Stopping, Do: []ActionKind{StopApps},
		Why: "This server is being shut down in order: applications are stopped, the storage stays."},
	{From: []Phase{Attaching}, On: []EventKind{OpShutdown}, To: Detaching, Do: []ActionKind{Detach},
		Why: "This server is being shut down in order: drives are unmounted, the storage stays."},
	{From: []Phase{Standby, Claiming}, On: []EventKind{OpShutdown}, To: Parked,
		Why: "This server is being shut down in order: nothing of the group runs here."},

	{From: []Phase{Stopping}, On: []EventKind{AppsStopped}, To: Detaching, Do: []ActionKind{Detach},
		Why: "The applications have stopped: the drives are unmounted."},
	{From: []Phase{Stopping}, On: []EventKind{StopFailed, Timeout}, If: Guard{Not: Giveaway}, To: Faulted,
		Code: "ORS-1012",
		Why:  "An application would not stop: no storage is given away under a live application."},
	{From: []Phase{Stopping}, On: []EventKind{StopFailed, Timeout}, If: Guard{Need: Giveaway}, To: Starting,
		Do: []ActionKind{StartApps}, Code: "ORS-1012",
		Why: "An application would not stop: the planned move is off, and the group goes on here."},
	{From: []Phase{Detaching}, On: []EventKind{Detached}, If: Guard{Not: Leaving}, To: Releasing,
		Do:  []ActionKind{Release},
		Why: "The drives are unmounted: the storage is given back."},
	{From: []Phase{Detaching}, On: []EventKind{Detached}, If: Guard{Need: Leaving}, To: Parked,
		Why: "The drives are unmounted; the storage stays with this server."},
	{From: []Phase{Detaching}, On: []EventKind{DetachFailed, Timeout}, If: Guard{Not: Giveaway}, To: Faulted,
		Code: "ORS-1013",
		Why:  "A drive would not unmount: storage in use is not given away."},
	{From: []Phase{Detaching}, On: []EventKind{DetachFailed, Timeout}, If: Guard{Need: Giveaway}, To: Attaching,
		Do: []ActionKind{Attach}, Code: "ORS-1013",
		Why: "A drive would not unmount: the planned move is off, and the group goes on here."},
	{From: []Phase{Releasing}, On: []EventKind{Released}, To: Standby,
		Why: "The storage is given back; the partner goes first."},
	{From: []Phase{Releasing}, On: []EventKind{ReleaseFailed, Timeout}, To: Unknown, Do: []ActionKind{Witness},
		Code: "ORS-1014",
		Why:  "The release was not confirmed: the switch is asked who owns the storage."},

	{From: held, On: []EventKind{OwnerPeer, OwnerNone}, To: Fenced, Do: []ActionKind{KillAll}, Code: "ORS-1015",
		Why: "The switch no longer shows the storage with this server: what is left is killed, no clean stop is possible."},
	{From: []Phase{Releasing}, On: []EventKind{OwnerPeer}, If: Guard{Not: Split}, To: Fenced, Do: []ActionKind{KillAll},
		Why: "The partner has the storage already: left-overs are cleared."},
	{From: append([]Phase{Unknown, Releasing}, held...), On: []EventKind{PeerOwns}, To: Fenced, Do: []ActionKind{KillAll},
		Code: "ORS-1016",
		Why:  "The partner's beat proves that it holds the storage under a newer epoch."},
	{From: []Phase{Fenced}, On: []EventKind{Cleared}, To: Standby,
		Why: "Nothing of the group is left here."},
	{From: []Phase{Fenced}, On: []EventKind{Timeout}, To: Fenced, Do: []ActionKind{KillAll}, Code: "ORS-1017",
		Why: "Something of the group is still here: it is killed again until it is gone."},
	{From: []Phase{Faulted}, On: []EventKind{OpClear}, To: Unknown, Do: []ActionKind{Witness},
		Why: "An operator has looked: the switch is asked who owns the storage."},
}

// Match returns the index of the row that a group takes in phase on event with facts; -1 when there is none.
func Match(phase Phase, on EventKind, f Facts) int {
	for i := range Table {
		if hasPhase(Table[i].From, phase) && hasEvent(Table[i].On, on) && Table[i].If.Holds(f) {
			return i
		}
	}
	return -1
}

func hasPhase(ps []Phase, p Phase) bool {
	for _, q := range ps {
		if q == p {
			return true
		}
	}
	return false
}

func hasEvent(es []EventKind, e EventKind) bool {
	for _, q := range es {
		if q == e {
			return true
		}
	}
	return false
}

// Dump writes the table as text, a line a row; its golden copy shows every change in review.
func Dump() string {
	var b strings.Builder
	for i, r := range Table {
		fmt.Fprintf(&b, "%02d %v on %v if [%v] -> %v do %v %s\n   %s\n", i, r.From, r.On, r.If, r.To, r.Do, r.Code, r.Why)
	}
	return b.String()
}

// Diagram writes the table as a Mermaid state diagram; docs/ has it.
func Diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> Unknown\n")
	for _, r := range Table {
		for _, from := range r.From {
			label := strings.Trim(fmt.Sprint(r.On), "[]")
			if g := r.If.String(); g != "" {
				label += " (" + g + ")"
			}
			fmt.Fprintf(&b, "    %v --> %v: %s\n", from, r.To, label)
		}
	}
	return b.String()
}
