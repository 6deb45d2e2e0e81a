// Package config reads the one HCL file of a pair into typed values, and says of every mistake in it where it is,
// what is wrong and what would be right, all mistakes at once.
//
// What is inside an application's `config` block belongs to its plugin: it is kept as a body and decoded with the
// schema that the plugin declares. This package must never start anything, open a device, or guess a value that the
// file leaves open.
package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/orscore/ors/core/failover"
)

// Config is a whole file, checked.
type Config struct {
	Path   string
	Digest [32]byte // SHA-256 of the file's formatted bytes: equal on both servers, or an alarm

	Pair         Pair
	Servers      [2]Server // in the order of the file: failover.First, failover.Second
	Self         failover.Server
	Agent        Agent
	Interconnect Interconnect
	Arbitration  Arbitration
	NetworkCheck NetworkCheck
	Plugins      []Plugin
	Groups       []Group // in the order of the file
	Notes        []Note

	files map[string]*hcl.File // for source lines in diagnostics
}

// Pair is the `pair` block.
type Pair struct {
	Name       string
	Mode       string // "online"
	OnShutdown string // "stay" (default) or "switchover": what an orderly shutdown of a server does to its groups
	UnsafeDemo bool   // permits the directory switch
}

// Server is a `server` block.
type Server struct {
	Name  string
	Range hcl.Range
}

// Folders that are usual.
const (
	DefaultRunDir    = "/run/ors"
	DefaultPath      = "/etc/ors/config.hcl"
	DefaultPluginDir = "/usr/lib/ors/plugins"
)

// Agent is the `agent` block: where this program keeps things. Each path may use ${self}, the name of the server that
// reads the file.
type Agent struct {
	StateDir  string // hard state, handles, journal; default /var/lib/ors
	RunDir    string // control socket, work folders of plugins; default /run/ors
	LogDir    string // output of plugins and applications; default /var/log/ors
	PluginDir string // default /usr/lib/ors/plugins
	DriveRoot string // folder of the drive letters; default /ors
	Realtime  bool   // ask for real-time priority and locked memory; default true
	Watchdog  *Watchdog
	Autostart []Autostart // in the order of the file
}

// Watchdog is a `watchdog` block: a device of the kernel that reboots a server which holds groups and whose agent is
// silent.
type Watchdog struct {
	Device  string
	Timeout time.Duration // whole seconds; default 10 s
}

// Autostart is an `autostart` block: a command that runs before the agent's first beat.
type Autostart struct {
	Command   []string      // program and arguments; may use ${self}
	Timeout   time.Duration // default 30 s
	OnFailure string        // "continue" (default), or "stop": the agent does not start
	// OncePerBoot leaves the command out when the agent was restarted and not the server; default false.
	OncePerBoot bool
	Range       hcl.Range
}

// Interconnect is the `interconnect` block.
type Interconnect struct {
	Interval       time.Duration // between beats; default 200 ms
	Timeout        time.Duration // silence on all links for so long is a loss; default 2 s
	StartupTimeout time.Duration // 0: wait for the partner for ever
	KeyFile        string
	Key            []byte // the first of KeyFile, decoded; at least 32 bytes
	OtherKey       []byte // accepted, too, while the key is changed: the second of KeyFile; nil when there is none
	Serial         []SerialLink
	UDP            []UDPLink
}

// SerialLink is a `serial` block. Device is indexed by server - 1.
type SerialLink struct {
	Name   string
	Baud   int
	Device [2]string
	Range  hcl.Range
}

// UDPLink is a `udp` block. Address (host:port) is indexed by server - 1.
type UDPLink struct {
	Name    string
	Address [2]string
	Range   hcl.Range
}

// Arbitration is the `arbitration` block.
type Arbitration struct {
	Survivor failover.Server // goes first when both are cut off and each owns something; default: the first server
	Delay    time.Duration   // how long the other waits; default: the beats' interval. A head start, not a safety measure
}

// NetworkCheck is the `network_check` block: hosts that answer a ping while this server is not isolated. Empty: no
// check.
type NetworkCheck struct {
	Targets []string // as netcheck.Parse reads them
	Timeout time.Duration
}

// Plugin is a `plugin` block: what is known of one kind.
type Plugin struct {
	Kind    string
	Version string // constraint such as ">= 1.2"; empty: any
	SHA256  string // hex; empty: unpinned, with a warning
	Isolate bool   // a process for each application
	TLS     bool   // false: it speaks none, and is known by its process
	Range   hcl.Range
}

// Group is a `group` block.
type Group struct {
	Name         string
	Primary      failover.Server
	Storage      []StorageUnit
	Applications []Application
	RestartLimit int           // restarts in place of failed applications before the group moves; default 2
	RestartReset time.Duration // after so long without a failure the count starts again; default 10 min
	// automatic failback to the primary, after that has been alive and agreed for the delay
	Failback      bool          // default false: an operator brings it home
	FailbackDelay time.Duration // default 10 min
	FlapLimit     int           // automatic moves within FlapWindow; beyond them the group stays put; default 3
	FlapWindow    time.Duration // default 1 h
	Range         hcl.Range
}

// StorageUnit is a `storage` block. Units of a pair have one fixed order: groups in the order of the file, units in
// the order of the group.
type StorageUnit struct {
	Name   string
	Switch Switch
	Drives []Drive
	Range  hcl.Range
}

// Switch is a `switch` block. Its attributes depend on the driver: exactly one of the pointers is set.
type Switch struct {
	Driver    string
	RSW       *RSWSwitch
	Directory *DirectorySwitch
	Range     hcl.Range
}

// RSWSwitch is a Recovery Server Switch reached over a unix socket, TCP or a serial port.
type RSWSwitch struct {
	Endpoint string // "unix:/path", "tcp:host:port", "serial:/dev/ttyS1?baud=19200"; may use ${self}
	Unit     string // name of the unit at the switch; default: the storage block's name
	Timeout  time.Duration
}

// DirectorySwitch is a directory tree, for trying things out without root.
type DirectorySwitch struct {
	Path string
}

// Drive is a `drive` block.
type Drive struct {
	Letter     string // "E:"
	Volume     string // device, LABEL=… or UUID=…; empty where the switch has a volume of its own
	Filesystem string // "ext4", "xfs", …; "directory" with a directory switch
	Options    []string
	// "auto" (default: a journalling filesystem replays its journal, others are checked), "always", "never"
	Fsck         string
	MountTimeout time.Duration
	Range        hcl.Range
}

// Application is an `application` block.
type Application struct {
	Kind, Name   string
	After        []string
	StartTimeout time.Duration // default 60 s
	StopTimeout  time.Duration // default 60 s
	Probe        Probe
	Body         hcl.Body // of the `config` block
	Range        hcl.Range
}

// Probe is an application's `probe` block.
type Probe struct {
	Interval time.Duration // default 5 s
	Timeout  time.Duration // default 5 s, at most the interval
	Fall     int           // failures in a row that count as failed; default 3
}

// Note is a warning: the configuration works, and something about it should be known.
type Note struct {
	Code, Summary, Detail string
	Range                 hcl.Range
}

// Unit is one storage unit in the fixed order of the pair.
type Unit struct {
	Index   int
	Group   int // index into Groups
	Storage *StorageUnit
}

// Units lists all storage units in their fixed order, the order of arbitration.
func (c *Config) Units() []Unit {
	var us []Unit
	for g := range c.Groups {
		for s := range c.Groups[g].Storage {
			us = append(us, Unit{Index: len(us), Group: g, Storage: &c.Groups[g].Storage[s]})
		}
	}
	return us
}

// ServerName returns the name of s; "nobody" for failover.Nobody.
func (c *Config) ServerName(s failover.Server) string {
	if s == failover.Nobody || int(s) > len(c.Servers) {
		return "nobody"
	}
	return c.Servers[s-1].Name
}

// ServerByName finds a server; failover.Nobody when there is none of that name.
func (c *Config) ServerByName(name string) failover.Server {
	for i := range c.Servers {
		if c.Servers[i].Name == name {
			return failover.Server(i + 1)
		}
	}
	return failover.Nobody
}
