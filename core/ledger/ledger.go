// Package ledger writes down on each server who owned which storage unit under which epoch, and proves from the ledgers
// of both servers that ownership never overlapped.
//
// A [Recorder] is told by the workers what was asked of a switch and what it answered; what it writes is for people
// and for [Audit], nothing is ever decided on it. The order of events is that of the epochs, which the switch gives:
// the clocks of two servers prove nothing. This package must never fill a hole by guessing, never wait for a disk,
// and never say "proven" of what it has not seen.
package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// Kind says what an entry tells.
type Kind string

// The kinds of entries. All but Started are about one unit.
const (
	Started      Kind = "started"       // the agent has begun
	Asked        Kind = "asked"         // the switch is being asked to swap Before for After: this server claims the unit
	Granted      Kind = "granted"       // it has done so: After was read back
	Renewed      Kind = "renewed"       // the owner's key was swapped for newer ones of its own, from Before to After
	ReleaseAsked Kind = "release-asked" // the switch is being asked to connect the unit to nobody
	Released     Kind = "released"      // it has done so: After was read back
	Refused      Kind = "refused"       // the key was not Before; After was found, nothing was changed
	Unanswered   Kind = "unanswered"    // no usable answer: the swap may have happened
	Seen         Kind = "seen"          // the switch shows After; Before is what was known until now
	Revoked      Kind = "revoked"       // the same, and Before was this server's
	Attach       Kind = "attach"        // the unit's volumes are about to be mounted under After
	Detached     Kind = "detached"      // they are unmounted
	Cleared      Kind = "cleared"       // nothing of the group is left: killed and unmounted by force
)

// Key is a unit's key with the names of servers.
type Key struct {
	Owner string `json:"owner,omitempty"` // empty: nobody
	Epoch uint32 `json:"epoch"`
	Round uint32 `json:"round,omitempty"` // last arbitration round won on the unit …
	By    string `json:"by,omitempty"`    // … and who won it
}

func (k Key) String() string {
	owner := k.Owner
	if owner == "" {
		owner = "nobody"
	}
	return fmt.Sprintf("%s at epoch %d", owner, k.Epoch)
}

// Entry is one line of a ledger. Keys that are not known are nil.
type Entry struct {
	store.Record `json:"-"`
	Kind         Kind   `json:"kind"`
	Unit         string `json:"unit,omitempty"`
	Before       *Key   `json:"before,omitempty"`
	After        *Key   `json:"after,omitempty"`
	Boot         string `json:"boot"`            // of the operating system
	Incarnation  int    `json:"incarnation"`     // of the agent
	Count        int    `json:"count,omitempty"` // Renewed: how many swaps
}

// Log takes records and never waits.
type Log interface{ Note(store.Record) }

// encode makes the record of an entry.
func (e *Entry) encode() store.Record {
	r := e.Record
	r.Kind, r.Step = store.KindStorage, string(e.Kind)
	body, err := json.Marshal(e)
	if err != nil {
		r.Text = err.Error() // cannot be: an entry holds only text and numbers
		return r
	}
	r.Body = body
	return r
}

// Decode reads an entry out of a ledger's record. Records without a body are the log's own.
func Decode(r store.Record) (Entry, error) {
	var e Entry
	if len(r.Body) == 0 {
		return e, fmt.Errorf("position %d is no entry of a ledger: %s", r.Pos, r.Text)
	}
	if err := json.Unmarshal(r.Body, &e); err != nil {
		return e, fmt.Errorf("position %d is no entry of a ledger: %w", r.Pos, err)
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("position %d: %w", r.Pos, err)
	}
	r.Body = nil
	e.Record = r
	return e, nil
}

// check says whether an entry has what its kind needs.
func (e *Entry) check() error {
	before, after := false, false
	switch e.Kind {
	case Started:
		return nil
	case Asked, Granted, Renewed, ReleaseAsked, Released, Refused, Revoked:
		before, after = true, true
	case Unanswered:
		before = true
	case Seen:
		after = true
	case Attach, Detached, Cleared:
	default:
		return fmt.Errorf("%q is no kind of entry that this version knows", e.Kind)
	}
	if e.Unit == "" || before && e.Before == nil || after && e.After == nil {
		return fmt.Errorf("an entry %q lacks its unit or a key", e.Kind)
	}
	return nil
}

// Unit names one unit of the pair.
type Unit struct{ Name, Group string }

// Options say whose ledger is written.
type Options struct {
	Log         Log
	Self        failover.Server
	Servers     [2]string // names of the first and second server
	Units       []Unit    // in the fixed order
	Boot        string
	Incarnation int
}

func (o *Options) name(s failover.Server) string {
	if s == failover.First || s == failover.Second {
		return o.Servers[s-1]
	}
	return ""
}

func (o *Options) key(k failover.Key) *Key {
	return &Key{Owner: o.name(k.Owner), Epoch: k.N, Round: k.Tag, By: o.name(k.By)}
}
