// Package supervise keeps an application's processes alive beyond the plugin and the core that started them, and
// knows for sure whether anything of them still runs.
//
// The plugin's own binary, executed again, is the supervisor: one small process for each application, in a session of
// its own, and the subreaper of everything below it, so that a descendant that daemonises stays known. It starts the
// prepare commands and the command, appends their output to a file that it keeps bounded, and records exit status and
// time. Each process is known by pid, start time and boot id, and none is signalled before these were compared.
//
// It must never signal a process by a bare pid, say that something has stopped without proof, write to a pipe of the
// core, or hold a file or working directory on switched storage.
package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Argument is the first argument of a program that was started as a supervisor.
const Argument = "ors-supervise"

// MarkerEnv is the environment variable that every process of a run inherits; its value is Run.ID. It tells the
// remains of a run whose supervisor was killed.
const MarkerEnv = "ORS_RUN_ID"

var (
	// ErrUnsupported is returned where this system has no supervisor.
	ErrUnsupported = errors.New("supervised processes are not supported on this operating system yet")
	// ErrRunning is returned by Start when something of an earlier run in the same folder may still live.
	ErrRunning = errors.New("an earlier run of this application may still be alive")
)

// Spec is what to run.
type Spec struct {
	Dir    string   // folder for the supervisor's records, made when missing; not on switched storage
	Name   string   // shown in process lists: "group/application"
	Before []Step   // prepare commands, run one after the other
	Argv   []string // the command; Argv[0] is looked up in the PATH of Env
	Env    []string // the whole environment: nothing is inherited
	Cwd    string   // working directory of the commands; "/" when empty
	User   *User    // nil: as the plugin
	Limits Limits   // of each process
	Unit   *Unit    // nil: none
	Log    string   // file to which output is appended
	// LogMaxBytes bounds Log: when it grows beyond, it is copied to Log.1 and cut to nothing. What is written between
	// the copy and the cut is lost. The file is not behind a pipe, because the command must not die with its
	// supervisor. 0: unbounded.
	LogMaxBytes int64
}

// Limits are what each process of the run may take (setrlimit(2)); nil: what the plugin may take.
type Limits struct {
	OpenFiles *uint64 `json:"open_files,omitempty"`
	Processes *uint64 `json:"processes,omitempty"` // that the user may have on this server; root may have any number
	CoreBytes *uint64 `json:"core_bytes,omitempty"`
}

// Unit makes a run a transient scope unit of systemd, with a control group of its own: it does not belong to the unit
// of the agent, whatever that does to its processes. Where systemd is not process 1, there is none.
type Unit struct {
	Name        string // see UnitName; each run has a number besides
	Description string
	MemoryBytes int64 // of all processes together; 0: unbounded
	CPUPercent  int   // of one CPU, for all processes together; 0: unbounded
}

// UnitName makes a name of systemd's of an application's.
func UnitName(group, application string) string {
	return "ors-" + strings.Map(func(r rune) rune {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.') {
			return r
		}
		return '_'
	}, group+"."+application)
}

// Step is one prepare command.
type Step struct {
	Argv    []string
	Timeout time.Duration
}

// User is whom a command runs as.
type User struct {
	Name   string
	Home   string
	UID    uint32
	GID    uint32
	Groups []uint32
}

// Identity names one process for good: a pid alone may be taken by another.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, from /proc/PID/stat
}

// Run is one run of a command: what the supervisor has on record. It can be kept as a handle.
type Run struct {
	ID         string    `json:"id"`
	Dir        string    `json:"dir"`
	BootID     string    `json:"boot_id"`
	Supervisor Identity  `json:"supervisor"`
	Main       Identity  `json:"main"` // zero until the command was started
	Cgroup     string    `json:"cgroup,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	Exit       *Exit     `json:"exit,omitempty"` // of the main process
	Ended      bool      `json:"ended"`          // main process and all descendants are gone
}

// Exit is how a process ended.
type Exit struct {
	Code   int       `json:"code"`             // -1 when it was ended by a signal
	Signal string    `json:"signal,omitempty"` // such as "SIGKILL"
	At     time.Time `json:"at"`
}

func (e Exit) String() string {
	if e.Signal != "" {
		return "ended by " + e.Signal
	}
	return fmt.Sprintf("ended with exit code %d", e.Code)
}

// State of a run.
type State int

// Stopped is only said with proof.
const (
	Unknown State = iota
	Running
	Stopped
)

// Status is what is known of a run now.
type Status struct {
	State      State
	Run        *Run   // nil when there never was one
	Main       bool   // the main process lives
	Others     int    // living processes of the run; only counted when the main one is gone
	Supervised bool   // its supervisor lives: what is not on record yet will be
	Before     bool   // the run is of before the last restart of the server
	Detail     string // a sentence with evidence
}

// StopHow says how to end a run: the command asks, the signal terminates, then everything is killed.
type StopHow struct {
	Command   []string      // run first, as Env, Cwd and User say; empty: none
	Env       []string      // whole environment of Command
	Cwd       string        // "/" when empty
	User      *User         // nil: as the plugin
	Signal    string        // to the main process, such as "SIGTERM"
	Timeout   time.Duration // from the beginning to the signal where there is a command
	KillAfter time.Duration // from the signal to the kill
}

const recordFile = "run.json"

// Load reads the record of the last run in dir; nil without an error when there is none.
func Load(dir string) (*Run, error) {
	path := filepath.Join(dir, recordFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("record of the supervisor: %w", err)
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("record of the supervisor: %s: %w", path, err)
	}
	return &r, nil
}

// save writes the record atomically. It is not synced: it must survive this process, not the power, since after a
// restart of the server nothing of the run lives and the boot id says so.
func (r *Run) save() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.Dir, recordFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("record of the supervisor: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record of the supervisor: %w", err)
	}
	return nil
}
