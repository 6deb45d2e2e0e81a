package failover

// Verdict is what a server believes of its partner.
type Verdict uint8

// The verdicts.
const (
	VerdictUnknown    Verdict = iota // not known (yet, or any more)
	VerdictAlive                     // beats on every link
	VerdictCableFault                // beats, but not on every link
	VerdictLeft                      // it said goodbye
	VerdictRestarting                // it announced a short absence
	VerdictIsolated                  // silence, and this server's own network check fails
	VerdictLost                      // silence on all links without any such explanation
	numVerdicts
)

var verdictNames = [...]string{"unknown", "alive", "cable-fault", "left", "restarting", "isolated", "lost"}

func (v Verdict) String() string { return verdictNames[v] }

// Answer is a check's outcome where there may be none.
type Answer uint8

// The outcomes of a check.
const (
	NoAnswer Answer = iota // not configured, not possible, or not known yet
	Yes
	No
)

// Evidence is what is seen from this server besides the partner's own words.
type Evidence struct {
	Links   []LinkEvidence
	Network Answer // network check: are its targets reachable?
	Lines   Answer // modem lines: are they up? A line that dropped makes a loss surer
}

// LinkEvidence is one link of the interconnect.
type LinkEvidence struct {
	Silent bool // no beat for the time-out
	Ever   bool // a beat was heard since this agent's start
}

// Beats sums the links up.
type Beats uint8

// How many links have beats.
const (
	BeatsNone Beats = iota
	BeatsSome
	BeatsAll
	numBeats
)

// Beats says on how many links beats are heard.
func (e Evidence) Beats() Beats {
	heard := 0
	for _, l := range e.Links {
		if !l.Silent && l.Ever {
			heard++
		}
	}
	switch {
	case heard == 0:
		return BeatsNone
	case heard < len(e.Links):
		return BeatsSome
	}
	return BeatsAll
}

// JudgeFacts is one line of the verdict's truth table.
type JudgeFacts struct {
	Beats      Beats
	Left       bool   // the partner's last word was goodbye
	Restarting bool   // the absence that it announced is not over, or it has just been started
	Ever       bool   // it was heard since this agent's start
	StartupEnd bool   // the startup time-out is over
	Late       bool   // silence does not count yet: this server was late itself, or was restarted
	Network    Answer // network check
	Lines      Answer // modem lines
}

// Judge is the verdict's truth table (docs/failover/verdict.md is generated from it). The sentence is what an
// operator reads.
func Judge(f JudgeFacts) (Verdict, string) {
	switch {
	case f.Left:
		return VerdictLeft, "The partner said goodbye: an orderly shutdown is not a failure."
	case f.Beats == BeatsAll:
		return VerdictAlive, "Beats are heard on every link."
	case f.Beats == BeatsSome:
		return VerdictCableFault, "Beats are heard, but not on every link: a cable or port is at fault, not the partner."
	case f.Restarting:
		return VerdictRestarting, "The partner announced a short absence, or has just been started: its beats are waited for."
	case f.Late:
		return VerdictUnknown, "This server itself was late, or has just been restarted: silence does not count yet."
	case !f.Ever && !f.StartupEnd:
		return VerdictUnknown, "The partner has not been heard since this agent started: waiting for it."
	case f.Network == No:
		return VerdictIsolated, "No beats on any link, and this server's own network check fails: this server is cut off."
	case !f.Ever:
		return VerdictLost, "The partner was not heard before the startup time-out."
	}
	switch f.Lines {
	case No:
		return VerdictLost, "No beats on any link for the time-out, and the modem lines have dropped: it is down."
	case Yes:
		return VerdictLost, "No beats on any link for the time-out, but the modem lines are up: it hangs, or a cable is bad."
	}
	return VerdictLost, "No beats on any link for the time-out."
}
