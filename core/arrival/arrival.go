// Package arrival is what is told of a group that comes to a server and leaves it: to registered programs, in the
// journal, and on the page that an operator reads after a switchover.
//
// It must never decide anything, and never tell a start of a group's own server for a takeover.
package arrival

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/store"
)

// How a group has come to a server.
const (
	Takeover   = "takeover"   // its server was lost
	Switchover = "switchover" // moved in a planned way, away from its primary
	Failback   = "failback"   // moved in a planned way, home to its primary
	Returned   = "returned"   // a planned move did not work, and it is back
	Start      = "start"      // nobody had it
	Resumed    = "resumed"    // it was here before this agent
)

// Events lists the ways.
var Events = []string{Takeover, Switchover, Failback, Returned, Start, Resumed}

// Steps of an arrival and of what follows.
const (
	Coming  = "coming"  // the storage is this server's
	Arrived = "arrived" // its drives are mounted
	Up      = "up"      // its applications answer
	Leaving = "leaving" // it is about to be stopped
	Left    = "left"    // its drives are unmounted
	Ran     = "ran"     // a registered program says what it did
)

// Bits of Notice.Status, as plugins and programs see them.
const (
	OtherLetter uint32 = 1 << iota // a drive has another letter than it is configured with
	Problem                        // a drive was mounted with a problem
)

// Notice is one step.
type Notice struct {
	Pos     uint64    `json:"-"` // in the journal
	At      time.Time `json:"-"`
	Step    string    `json:"step"`
	Group   string    `json:"group"`
	Server  string    `json:"server"`
	Event   string    `json:"event"`
	From    string    `json:"from,omitempty"` // server that had it before; empty: nobody, or not known
	Primary string    `json:"primary"`
	Status  uint32    `json:"status"`
	Drives  []Drive   `json:"drives,omitempty"`
	Boot    string    `json:"boot,omitempty"` // run of the operating system
	Op      uint64    `json:"op,omitempty"`   // of the decision that let it come
	Text    string    `json:"-"`
	Run     *Run      `json:"run,omitempty"` // with Ran
}

// Drive is one drive of the group, as mounted.
type Drive struct {
	Letter     string `json:"letter"`
	Path       string `json:"path"`
	Configured string `json:"configured"`
}

// Run is what a registered program did.
type Run struct {
	Program string        `json:"program"`
	ID      string        `json:"id,omitempty"` // chosen by the program; empty: none
	Exit    int           `json:"exit"`
	Took    time.Duration `json:"took_ns"`
}

// Record is the notice as the journal keeps it.
func (n Notice) Record() store.Record {
	body, err := json.Marshal(n)
	if err != nil {
		body = nil // cannot be: strings and numbers
	}
	return store.Record{Kind: store.KindArrival, Group: n.Group, Step: n.Step, Server: n.Server, At: n.At, Op: n.Op,
		Text: n.Text, Body: body}
}

// Of takes a notice out of a record of the journal; false when it holds none.
func Of(r store.Record) (Notice, bool) {
	if r.Kind != store.KindArrival {
		return Notice{}, false
	}
	var n Notice
	if json.Unmarshal(r.Body, &n) != nil {
		return Notice{}, false
	}
	n.Pos, n.At, n.Text = r.Pos, r.At, r.Text
	return n, true
}

// Newest returns the newest notice of each group but those of programs, oldest first.
func Newest(records []store.Record) []Notice {
	at := map[string]int{}
	var out []Notice
	for _, r := range records {
		n, ok := Of(r)
		if !ok || n.Step == Ran {
			continue
		}
		if i, known := at[n.Group]; known {
			out[i] = n
			continue
		}
		at[n.Group] = len(out)
		out = append(out, n)
	}
	return out
}

// Journal is what is read of a server's journal.
type Journal interface {
	Newest() uint64                                      // position of its last record
	Read(after uint64, last int) ([]store.Record, error) // all behind a position; last 0: all
}

// tail is in how many records of a journal's end its groups are looked for.
const tail = 5000

// Last returns the newest notice of each group, oldest first, as far as the end of the journal goes, and the position
// up to which that is so: what is behind it is still to be followed.
func Last(j Journal) (all []Notice, upTo uint64, err error) {
	upTo = j.Newest()
	records, err := j.Read(upTo-min(upTo, tail), 0)
	records = slices.DeleteFunc(records, func(r store.Record) bool { return r.Pos > upTo })
	return Newest(records), upTo, err
}

// Reported says whether the end of the journal has the report of a run already; never of one without an ID.
func Reported(j Journal, run Run) (bool, error) {
	if run.ID == "" {
		return false, nil
	}
	newest := j.Newest()
	records, err := j.Read(newest-min(newest, tail), 0)
	return slices.ContainsFunc(records, func(r store.Record) bool {
		n, ok := Of(r)
		return ok && n.Run != nil && n.Run.ID == run.ID && n.Run.Program == run.Program
	}), err
}

// Here returns those of all notices whose group is on this server, or is coming or leaving.
func Here(all []Notice) []Notice {
	return slices.DeleteFunc(slices.Clone(all), func(n Notice) bool { return n.Step == Left })
}

// Letters are those of the drives as mounted, for a sentence.
func (n Notice) Letters() string {
	var out []string
	for _, d := range n.Drives {
		l := d.Letter
		if d.Configured != "" && d.Configured != d.Letter {
			l += " (configured as " + d.Configured + ")"
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return "no drives"
	}
	return strings.Join(out, ", ")
}

// Sentence says how the group came.
func (n Notice) Sentence() string {
	from := n.From
	if from == "" {
		from = "another server"
	}
	switch n.Event {
	case Takeover:
		return fmt.Sprintf("%s has taken over group %s from %s.", n.Server, n.Group, from)
	case Switchover:
		return fmt.Sprintf("Group %s was moved from %s to %s.", n.Group, from, n.Server)
	case Failback:
		return fmt.Sprintf("Group %s is back on its primary %s, from %s.", n.Group, n.Server, from)
	case Returned:
		return fmt.Sprintf("Group %s could not be moved and has stayed on %s.", n.Group, n.Server)
	case Resumed:
		return fmt.Sprintf("Group %s was on %s before its agent was restarted.", n.Group, n.Server)
	}
	return fmt.Sprintf("Group %s was started on %s; nobody had it.", n.Group, n.Server)
}
