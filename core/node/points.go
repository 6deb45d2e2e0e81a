package node

import (
	"encoding/json"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/internal/faultpoint"
)

// The fault points of an agent: hard, ready, claim, release, mount, unmount, start and stop, each with .before and
// .after; verdict.lost; move.asked, move.ready and move.ended on the giver; tell.WORD before a word about a planned
// move is sent. lab/README.md lists them.

// around passes NAME.before, does f, and passes NAME.after when that has worked.
func around(name string, f func() error) error {
	faultpoint.At(name + ".before")
	err := f()
	if err == nil {
		faultpoint.At(name + ".after")
	}
	return err
}

// pointOfSwap names what a change of a key is.
func pointOfSwap(s failover.KeySwap) string {
	switch s.New.Owner {
	case s.Old.Owner:
		return "rekey"
	case failover.Nobody:
		return "release"
	}
	return "claim"
}

// pointOfRecord passes the points that the journal knows of.
func pointOfRecord(r store.Record) {
	switch {
	case !faultpoint.Enabled:
	case r.Kind == "verdict" && r.Data["verdict"] == failover.VerdictLost.String():
		faultpoint.At("verdict.lost")
	case r.Kind == "group" && (r.Step == "move-asked" || r.Step == "move-ready" || r.Step == "move-ended"):
		faultpoint.At("move." + r.Step[len("move-"):])
	}
}

// pointOfMessage passes the points of words about planned moves.
func pointOfMessage(m interconnect.Message) {
	if !faultpoint.Enabled {
		return
	}
	var word struct {
		Word failover.Word `json:"w"`
	}
	if json.Unmarshal(m.Body, &word) == nil && word.Word != failover.WordNone {
		faultpoint.At("tell." + word.Word.String())
	}
}
