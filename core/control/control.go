// Package control is the agent's side of operators: the control API on a unix socket, and the status that people see.
//
// It must never decide or act by itself: it hands requests to core/node, and lets in only those whom the kernel says
// are permitted.
package control

import "time"

// Protocol is the version of the control protocol.
const Protocol = 1

// Status is the pair as one agent sees it; the JSON of `orscore status --json`.
type Status struct {
	Pair    string    `json:"pair"`
	Self    string    `json:"self"`
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	Normal  bool      `json:"normal"`
	// "Normal State: Serial interconnect heartbeat is being received." when it is so
	Sentence string `json:"sentence"`
	// of the partner: alive, left, restarting, cable-fault, lost, isolated, unknown
	Verdict    string `json:"verdict"`
	VerdictWhy string `json:"verdict_why"`
	// both servers have promised the next arbitration round: planned moves are possible
	Agreed        bool      `json:"agreed"`
	Mode          Mode      `json:"mode"`
	ConfigDigest  string    `json:"config_digest"`
	ConfigDiffers bool      `json:"config_differs"`
	Alarms        []Alarm   `json:"alarms"`
	Servers       []Server  `json:"servers"`
	Links         []Link    `json:"links"`
	Groups        []Group   `json:"groups"`
	Plugins       []Plugin  `json:"plugins"`
	Programs      []Program `json:"programs"` // registered here, to be told of groups that come and leave
}

// Program is one that is no plugin and is registered.
type Program struct {
	Name   string    `json:"name"`
	By     string    `json:"by"`     // as the kernel says
	Groups []string  `json:"groups"` // empty: all
	Since  time.Time `json:"since"`
}

// Mode is what operators have switched for the pair.
type Mode struct {
	Disabled    bool       `json:"disabled"`        // switchover: nothing is taken over or moved by itself
	Maintenance bool       `json:"maintenance"`     // and failed checks restart nothing
	Until       *time.Time `json:"until,omitempty"` // end of the maintenance
	By          string     `json:"by,omitempty"`    // server on which it was switched last
	// the partner has said that it has it, too
	PartnerHasIt bool `json:"partner_has_it"`
}

// Alarm is something that an operator should look at. It ends by itself when its cause does.
type Alarm struct {
	Code  string    `json:"code"` // ORS-nnnn
	Text  string    `json:"text"`
	Next  string    `json:"next"` // what to do
	Since time.Time `json:"since"`
	Group string    `json:"group,omitempty"`
}

// Server is one of the two.
type Server struct {
	Name        string    `json:"name"`
	Self        bool      `json:"self"`
	State       string    `json:"state"` // as a verdict; "alive" for oneself
	Version     string    `json:"version"`
	BootID      string    `json:"boot_id"`
	Incarnation int       `json:"incarnation"`
	Since       time.Time `json:"since"` // start of the agent
	// of the agent: its process and program, and the oldest and newest version of the interconnect protocol that it speaks
	PID     int    `json:"pid,omitempty"`
	Program string `json:"program,omitempty"`
	Speaks  []int  `json:"interconnect_protocol,omitempty"`
}

// Link is one link of the interconnect, as seen from Self.
type Link struct {
	Name         string `json:"name"`
	Kind         string `json:"kind"`
	Device       string `json:"device"`
	State        string `json:"state"` // "ok", "silent", "closed"
	Reason       string `json:"reason,omitempty"`
	LastBeatMS   int64  `json:"last_beat_ms"` // age of the newest beat; -1: none since the start
	RoundTripUS  int64  `json:"round_trip_us"`
	Received     uint64 `json:"received"`
	Sent         uint64 `json:"sent"`
	Dropped      uint64 `json:"dropped"`
	Garbage      uint64 `json:"garbage"`
	RefusedTag   uint64 `json:"refused_tag"`
	RefusedOther uint64 `json:"refused_other"`
	ModemLines   string `json:"modem_lines,omitempty"`
}

// Group is one group.
type Group struct {
	Name         string        `json:"name"`
	Primary      string        `json:"primary"`
	Owner        string        `json:"owner"` // by the switch: a server, "nobody", "unknown"
	Phase        string        `json:"phase"` // on Self
	PartnerPhase string        `json:"partner_phase"`
	Why          string        `json:"why"` // sentence of the last row
	Since        time.Time     `json:"since"`
	Blocked      string        `json:"blocked,omitempty"` // reason
	Next         string        `json:"next,omitempty"`    // next step when blocked or waiting: what, and until when
	Units        []Unit        `json:"units"`
	Drives       []Drive       `json:"drives"`
	Applications []Application `json:"applications"`
}

// Unit is one storage unit.
type Unit struct {
	Name     string `json:"name"`
	Driver   string `json:"driver"`
	Owner    string `json:"owner"`
	Epoch    uint32 `json:"epoch"`
	Held     uint32 `json:"held"`
	Position int    `json:"position"`
	LED      string `json:"led"`
	Error    string `json:"error,omitempty"`
}

// Drive is one drive letter.
type Drive struct {
	Configured string `json:"configured"`
	Letter     string `json:"letter"` // as mounted; "" when not mounted on Self or the partner
	Path       string `json:"path"`
	Volume     string `json:"volume"`
	Filesystem string `json:"filesystem"`
	Server     string `json:"server"` // where it is mounted
}

// Application is one protected application.
type Application struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Server string `json:"server"` // where it runs; "" when nowhere
	State  string `json:"state"`  // stopped, starting, running, stopping, failed, unknown, finished
	Health string `json:"health"` // ok, failed, unknown, ""
	Detail string `json:"detail"`
}

// Plugin is one plugin on Self.
type Plugin struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Pinned  bool   `json:"pinned"`
	State   string `json:"state"` // running, failed, missing, refused
	Detail  string `json:"detail"`
	PID     int    `json:"pid"`
}
