// Package generic starts, checks and stops any program: a service that keeps running or a batch run that ends. What
// the program is and how its health shows is said by the configuration alone.
//
// It must never start a second copy of a program of which one may run, or call a program stopped without proof.
package generic

import (
	"fmt"
	"strings"
	"time"

	"github.com/orscore/ors/plugins/sdk"
)

// Version of the plugin. A build may set another one, as the lab does to exchange plugins.
var Version = "0.1.0"

const (
	modeService = "service"
	modeBatch   = "batch"
)

// config is the config block, as the core decodes it with schema.
type config struct {
	Command          []string          `json:"command"`
	PassDrives       bool              `json:"pass_drives"`
	PassStatus       bool              `json:"pass_status"`
	Mode             string            `json:"mode"`
	Environment      map[string]string `json:"environment"`
	User             string            `json:"user"`
	WorkingDirectory string            `json:"working_directory"`
	LogFile          string            `json:"log_file"`
	LogMaxMB         int64             `json:"log_max_mb"`
	Systemd          string            `json:"systemd"`
	SuccessCodes     []int             `json:"success_codes"`
	ExitCodes        map[string]string `json:"exit_codes"`
	BeforeStart      []beforeStart     `json:"before_start"`
	Check            []check           `json:"check"`
	Stop             []stop            `json:"stop"`
	Limits           []limits          `json:"limits"`
}

type beforeStart struct {
	Command []string `json:"command"`
	Timeout string   `json:"timeout"`
}

type check struct {
	Type     string   `json:"type"`
	Address  string   `json:"address"`
	URL      string   `json:"url"`
	Status   int      `json:"status"`
	Command  []string `json:"command"`
	Timeout  string   `json:"timeout"`
	Interval string   `json:"interval"`
	Rise     int      `json:"rise"`
}

type stop struct {
	Command   []string `json:"command"`
	Signal    string   `json:"signal"`
	Timeout   string   `json:"timeout"`
	KillAfter string   `json:"kill_after"`
}

// limits of -1 are those of the agent; those of memory and processor hold for all processes of the unit together.
type limits struct {
	OpenFiles  int64 `json:"open_files"`
	Processes  int64 `json:"processes"`
	CoreMB     int64 `json:"core_mb"`
	MemoryMB   int64 `json:"memory_mb"`
	CPUPercent int64 `json:"cpu_percent"`
}

const (
	systemdNone = "none"
	systemdUnit = "unit"
)

// defaultStop is what happens without a stop block; the same values are the block's defaults in schema.
var defaultStop = stop{Signal: "SIGTERM", Timeout: "30s", KillAfter: "10s"}

// Plugin is what the program serves.
func Plugin() sdk.Plugin {
	return sdk.Plugin{
		Kind: "generic", Version: Version,
		Description: "Protects any program: a service that keeps running, or a batch run that ends.",
		Schema:      schema,
		New:         newApplication,
	}
}

var schema = sdk.Schema{
	Description: "A program and how to tell that it is well. Every command is told of its group in the environment: " +
		"ORS_GROUP, ORS_APPLICATION, ORS_SERVER, ORS_PRIMARY, ORS_WORK_DIR; how the group came here: ORS_EVENT (takeover, " +
		"switchover, failback, returned, start, resumed), ORS_FROM (server that had it before), ORS_STATUS (0, or the sum " +
		"of 1: a drive has another letter, 2: a drive was mounted with a problem), ORS_ATTEMPT (1, 2, … since then; only " +
		"what a start runs has it, so not the stop command, and not the checks of later probes); " +
		"ORS_DRIVES (all letters), for the n-th drive ORS_Dn (its letter as mounted) and ORS_Dn_PATH (its folder), and " +
		"for the drive configured as E: also ORS_DRIVE_E (its folder, whatever letter it has now).",
	Attributes: []sdk.Attribute{
		{
			Name: "command", Type: "list(string)", Required: true,
			Description: "Program and arguments. The program is an absolute path, or a name looked up in PATH. It must stay " +
				"in the foreground, or leave a process behind when it ends with a success code. No shell is involved.",
		},
		{
			Name: "pass_drives", Type: "bool", Default: "false",
			Description: "Append the letters of the group's drives, as mounted now, as arguments: d1 … dn.",
		},
		{
			Name: "pass_status", Type: "bool", Default: "false",
			Description: "Append the status parameters as arguments, after the letters: status=N, event=…, group=…, " +
				"server=…, from=…, primary=…, attempt=N; what is not known is left out.",
		},
		{
			Name: "mode", Type: "string", Default: `"service"`,
			Description: "service: it runs for ever, its end is a failure. batch: it runs once, and is well while it runs " +
				"and after it has ended with a success code.",
		},
		{
			Name: "environment", Type: "map(string)", Default: "{}",
			Description: "Variables for all commands, besides PATH, the ORS_ ones and, with user, HOME, USER and LOGNAME.",
		},
		{
			Name: "user", Type: "string", Default: `""`,
			Description: "User, by name or number, whom all commands run as; empty: as the agent.",
		},
		{
			Name: "working_directory", Type: "string", Default: `"/"`,
			Description: "Absolute path of the folder in which all commands run.",
		},
		{
			Name: "log_file", Type: "string", Default: `""`,
			Description: "Absolute path of the file to which the program's output is appended; empty: GROUP/NAME.log in " +
				"the agent's log_dir. `orscore logs` shows it.",
		},
		{
			Name: "log_max_mb", Type: "number", Default: "10",
			Description: "Size in MiB at which the log file is moved to a copy named .1 and begun anew; 0: never.",
		},
		{
			Name: "systemd", Type: "string", Default: `"none"`,
			Description: "unit: where systemd is process 1, the program runs as a transient scope unit, " +
				"ors-GROUP.NAME-NUMBER, which does not end with the agent's unit. none: it runs in the control group of the agent.",
		},
		{
			Name: "success_codes", Type: "list(number)", Default: "[0]",
			Description: "Exit codes that mean success: of a batch run, or of a program that leaves its service behind.",
		},
		{
			Name: "exit_codes", Type: "map(string)", Default: "{}",
			Description: `What exit codes mean, such as { "3" = "licence expired" }; shown where the program has ended.`,
		},
	},
	Blocks: []sdk.Block{beforeBlock, checkBlock, stopBlock, limitsBlock},
}

var limitsBlock = sdk.Block{
	Name: "limits", Max: 1,
	Body: sdk.Schema{
		Description: "What the program and the commands before it may take; -1: what the agent may.",
		Attributes: []sdk.Attribute{
			{Name: "open_files", Type: "number", Default: "-1", Description: "Files that a process may have open at once."},
			{
				Name: "processes", Type: "number", Default: "-1",
				Description: "Processes and threads that the user may have on the server, so it needs user.",
			},
			{Name: "core_mb", Type: "number", Default: "-1", Description: "Size of a core dump in MiB; 0: none is written."},
			{
				Name: "memory_mb", Type: "number", Default: "-1",
				Description: `Memory of all its processes together, in MiB; needs systemd = "unit".`,
			},
			{
				Name: "cpu_percent", Type: "number", Default: "-1",
				Description: "Time of one processor for all its processes together, in percent: 200 is two processors; needs " +
					`systemd = "unit".`,
			},
		},
	},
}

var beforeBlock = sdk.Block{
	Name: "before_start",
	Body: sdk.Schema{
		Description: "A command that is run to its end before the program is started, such as one that removes a stale " +
			"lock file. Several are run in their order. One that fails or takes too long fails the start.",
		Attributes: []sdk.Attribute{
			{Name: "command", Type: "list(string)", Required: true, Description: "Program and arguments."},
			{Name: "timeout", Type: "string", Default: `"10s"`, Description: "It is killed after so long."},
		},
	},
}

var checkBlock = sdk.Block{
	Name: "check", Labels: []string{"type"},
	Body: sdk.Schema{
		Description: `A sign of health; all must be there. "tcp" connects to address, "http" gets url, "command" runs ` +
			"command and wants exit code 0. The start is over when every check has passed; later " +
			"each probe runs all of them once.",
		Attributes: []sdk.Attribute{
			{Name: "address", Type: "string", Default: `""`, Description: "tcp: HOST:PORT."},
			{Name: "url", Type: "string", Default: `""`, Description: "http: an http or https address."},
			{
				Name: "status", Type: "number", Default: "0",
				Description: "http: the status code that is wanted; 0: any from 200 to 399.",
			},
			{Name: "command", Type: "list(string)", Default: "[]", Description: "command: program and arguments."},
			{Name: "timeout", Type: "string", Default: `"2s"`, Description: "For one attempt."},
			{
				Name: "interval", Type: "string", Default: `"100ms"`,
				Description: "Longest pause between two attempts during a start. The first pauses are shorter, because " +
					"the clients are waiting.",
			},
			{Name: "rise", Type: "number", Default: "1", Description: "Successes in a row that a start wants."},
		},
	},
}

var stopBlock = sdk.Block{
	Name: "stop", Max: 1,
	Body: sdk.Schema{
		Description: "How the program is ended. All processes of it that are left are killed at the end, in any case " +
			"before the application's stop_timeout.",
		Attributes: []sdk.Attribute{
			{Name: "command", Type: "list(string)", Default: "[]", Description: "Run first, to ask it to end. Empty: none."},
			{
				Name: "signal", Type: "string", Default: `"` + defaultStop.Signal + `"`,
				Description: "Sent to the program, after the command where there is one: " +
					strings.Join(stopSignals, ", ") + ".",
			},
			{
				Name: "timeout", Type: "string", Default: `"` + defaultStop.Timeout + `"`,
				Description: "How long the command and the end it asks for may take before the signal is sent.",
			},
			{
				Name: "kill_after", Type: "string", Default: `"` + defaultStop.KillAfter + `"`,
				Description: "How long after the signal everything is killed.",
			},
		},
	},
}

func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time such as \"500ms\" or \"10s\"", s)
	}
	return d, nil
}

// lasting is a duration that Validate has accepted; one that it would not have accepted becomes a harmless second.
func lasting(s string) time.Duration {
	d, err := duration(s)
	if err != nil {
		return time.Second
	}
	return d
}
