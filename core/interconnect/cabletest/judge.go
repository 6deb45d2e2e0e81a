// Package cabletest finds out what is wrong with a serial cable: both ends run it at the same time, send short probes,
// and tell each other what arrives.
//
// It works on an open port and knows neither configuration nor key. It must never be run on a port that an agent uses,
// and never call a cable good of which it has not seen both directions at work.
package cabletest

import "math"

// Verdict is what a cable is found to be.
type Verdict string

// The verdicts, in the order in which they are looked for.
const (
	Loopback   Verdict = "loopback"    // this end hears itself
	Silent     Verdict = "silent"      // nothing arrives
	WrongSpeed Verdict = "wrong-speed" // bytes arrive, and none of them makes sense
	OneWay     Verdict = "one-way"     // this end hears the other, the other does not hear this one
	Noise      Verdict = "noise"       // both directions work, with bit errors
	ThreeWire  Verdict = "three-wire"  // both directions work, and the ports' modem lines are not connected
	Good       Verdict = "good"
)

// Handshake is what was seen of the modem lines.
type Handshake string

// What may be seen of the modem lines.
const (
	LinesNone      Handshake = "none"       // a port of the two has none
	LinesUnknown   Handshake = "unknown"    // too little was seen
	LinesFull      Handshake = "full"       // they follow those of the far end
	LinesThreeWire Handshake = "three-wire" // none was ever on, although the far end raised its own
	LinesLooped    Handshake = "looped"     // they follow this end's own
	LinesHeld      Handshake = "held"       // always on, whatever either end does
)

// facts is what one end has seen.
type facts struct {
	bytes    uint64 // that arrived
	own      uint64 // probes of this end that came back
	heard    uint64 // probes of the far end
	bad      uint64 // runs of bytes that were no probe
	hearsUs  bool   // the far end has named this one
	farHeard uint64 // the same at the far end
	farBad   uint64
	farNoise bool // the far end hears something that is no probe
	lines    Handshake
}

// fewBytes is how many bytes that make no sense may be from plugging in.
const fewBytes = 32

// Errors of one direction count as noise from this many and this share on; a starved reader loses a probe now and then.
const (
	fewErrors  = 3
	errorShare = 0.002
)

func noisy(heard, bad uint64) bool {
	return bad >= fewErrors && float64(bad) >= errorShare*float64(heard+bad)
}

func (f *facts) verdict() Verdict {
	switch {
	case f.own > 0 && f.own >= f.heard:
		return Loopback
	case f.heard == 0 && f.bytes < fewBytes:
		return Silent
	case f.heard == 0:
		return WrongSpeed
	case !f.hearsUs && !f.farNoise:
		return OneWay
	case !f.hearsUs, noisy(f.heard, f.bad), noisy(f.farHeard, f.farBad):
		return Noise
	case f.lines == LinesThreeWire, f.lines == LinesLooped, f.lines == LinesHeld:
		return ThreeWire
	}
	return Good
}

// errorRate is the share of wrong bits that makes so many probes bad.
func errorRate(heard, bad uint64) float64 {
	if heard+bad == 0 || bad == 0 {
		return 0
	}
	whole := max(float64(heard)/float64(heard+bad), 1e-6)
	return 1 - math.Pow(whole, 1/float64(probeWire*8))
}

// text says what a verdict means and what to do.
func (v Verdict) text() (what, next string) {
	switch v {
	case Loopback:
		return "This end hears itself: a loopback plug, or a cable whose far end joins its lines.",
			"Take the plug out; test from the port to which the cable belongs."
	case Silent:
		return "Nothing arrives here. If the test at the far end says one-way, only the direction towards here is dead; if " +
				"it says silent, too, there is no cable, it is a straight one, or this is not its port.",
			"Check that both ends name the right port and that the cable is a null-modem cable."
	case WrongSpeed:
		return "Bytes arrive and none of them makes sense: the far end runs at another speed, or something else than this " +
				"test sends there, or the line is noise.",
			"Give both ends the same speed; see that no login or console uses the far port."
	case OneWay:
		return "The far end is heard here, and nothing of what this end sends arrives there.",
			"The wire from this end's TD (pin 3) to the far end's RD (pin 2) is broken, or this port's output is dead."
	case Noise:
		return "Both ends hear each other, with bit errors.",
			"Use a shorter or shielded cable, seat the plugs, or set a lower speed."
	case ThreeWire:
		return "Data passes both ways without errors, and the modem lines do not: a cable of three wires. The pair works; " +
				"a dead partner is told less surely from a broken cable.",
			"Use a null-modem cable with full handshake if the lines are to be evidence."
	}
	return "Data passes both ways without errors.", ""
}
