// Package sdk is what a vendor imports to write a plugin: a program that knows one kind of application and starts,
// watches and stops it for the core of ORS. A plugin's main is one call of Serve.
//
// The package takes care of the protocol: epochs, repeated operations, one change at a time for each application,
// deadlines, logs, signals, and the end of the process when the core is gone. An application must outlive its plugin;
// package supervise keeps processes alive beyond it.
//
// It must never import the core, never write to standard output, and never touch an application by itself.
package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-version"

	"github.com/orscore/ors/internal/bootclock"
	"github.com/orscore/ors/plugins/sdk/environment"
	"github.com/orscore/ors/plugins/sdk/handshake"
)

// Plugin says what a plugin program is. All fields but OnEvent are required.
type Plugin struct {
	// Kind is the word of the configuration, as in `application "KIND" "name"`; the program is named ors-plugin-KIND.
	Kind string
	// Version is the semantic version of the plugin, without a leading v.
	Version string
	// Description is one sentence.
	Description string
	// Schema says what the config block of an application of this kind may hold.
	Schema Schema
	// New makes the value that serves one call about one application. It decodes Instance.Config and must do nothing
	// else: it is called for each call of the core, and what must last is kept in Instance.WorkDir or in the handle.
	// Its error is reported as a problem of the configuration.
	New func(Instance) (Application, error)
	// OnEvent, if set, is told what happens to the pair and its groups. Calls come one after the other.
	OnEvent func(Event)
	// Leases says that what New makes is a Leaser.
	Leases bool
}

// Leaser is an Application that others on the network hear, such as an address, and that can be made to fall silent by
// itself: the kernel's doing, so that it happens too when this process and the core are stopped or killed.
type Leaser interface {
	Application
	// Renew lets the application be heard until lease ends; it starts nothing. It never runs beside Start, Stop or
	// Kill; a start that is under way looks at Instance.Lease instead, again and again for as long as it goes on with
	// something that is heard already. The sentence that it returns says how the end is made sure.
	Renew(ctx context.Context, known *Handle, lease Lease) (string, error)
}

// Lease is how long an application may be heard. The zero value is a lease without end.
type Lease struct{ until time.Duration }

// Ends says whether the lease ends by itself.
func (l Lease) Ends() bool { return l.until != 0 }

// Left is the time until a lease that ends does so; negative when it has ended. Ask at the last moment: this process
// may be stopped at any time.
func (l Lease) Left() time.Duration { return bootclock.Until(l.until) }

// Application is one protected instance as configured. Start, Stop and Kill of one application never run at the same
// time; Ready, Recover and Probe may run beside them. Every context has a deadline and ends early when the core gives
// up; a method returns soon after.
//
// A known handle is nil when the core has none.
type Application interface {
	// Validate reports what the schema cannot express. It touches neither application, nor disk, nor network.
	Validate(ctx context.Context) []Problem
	// Ready reports what keeps this application from being started on this server now. It changes nothing. The drives
	// may be absent, because the partner owns them.
	Ready(ctx context.Context) []Problem
	// Start brings the application up and returns how to find it again. If it runs already, Start returns its handle
	// and starts nothing. An error means that nothing was left behind. Each step is told through progress.
	Start(ctx context.Context, known *Handle, progress Progress) (Handle, error)
	// Recover says whether the application still runs; only a sure answer may be Stopped. It starts and stops
	// nothing.
	Recover(ctx context.Context, known *Handle) Recovered
	// Probe says whether a running application is healthy.
	Probe(ctx context.Context, known *Handle) Probed
	// Stop ends the application: ask, terminate, kill. Stopped means that surely nothing of it runs.
	Stop(ctx context.Context, known *Handle) Ended
	// Kill ends the application at once, without asking. Stopped means that surely nothing of it runs.
	Kill(ctx context.Context, known *Handle) Ended
}

// Progress tells the core of one step of a start: step is short and stable ("exec", "check tcp"), text a sentence.
type Progress func(step, text string)

// ErrInUse is in an error of Start when another machine has what the application is about to take, such as an address
// that answers: if the partner was taken for lost, it may live, and the core says so.
var ErrInUse = errors.New("it is in use elsewhere")

// Instance is what the core says about one application, and what the SDK lends to it.
type Instance struct {
	Group, Name string
	// Config is the application's config block as JSON, decoded by the core with Schema: every attribute is present.
	Config json.RawMessage
	// Drives are the group's drives in the order of the configuration: d1 … dn.
	Drives []Drive
	// WorkDir is a folder of this application on this server, for the plugin's use. It is not on switched storage and
	// may be empty after a restart of the server. The SDK keeps the file epoch.json in it. The core makes it as GROUP/NAME
	// below one folder for all applications of the server.
	WorkDir string
	// Primary is the server where the application's group is at home; empty from a core that does not tell.
	Primary string
	// Arrival is how the group has come to this server; zero where it is not here.
	Arrival Arrival
	// LogFile is where the output of the application's processes belongs, in a folder that is there: `orscore logs` shows
	// it. Programs that need a file each have NAME.PART.log beside it, which it names. Where the config block has an
	// attribute log_file at its top that is not empty, it shows that file instead. Empty from a core that does not tell.
	LogFile string
	// All are all applications of this plugin's kind of both servers, in the order of the file and this one among them:
	// after a switchover one server runs them all. Only in Validate, and in Ready when it is `orscore check` that asks.
	All []Instance
	// Caller is the core that calls; zero in Validate.
	Caller Caller
	// Log goes to the core's log.
	Log hclog.Logger

	background func(func(context.Context))
	lease      func() Lease
}

// Environment is what the application's programs are told of the group, as variables and as arguments.
func (i Instance) Environment() environment.Values {
	v := environment.Values{
		Group: i.Group, Application: i.Name, Server: i.Caller.Server, Primary: i.Primary, Event: i.Arrival.Event,
		From: i.Arrival.From, Status: i.Arrival.Status, Attempt: i.Arrival.Attempt,
	}
	for _, d := range i.Drives {
		v.Drives = append(v.Drives, environment.Drive(d))
	}
	return v
}

// Lease is the newest lease that the core has given this application.
func (i Instance) Lease() Lease {
	if i.lease == nil {
		return Lease{}
	}
	return i.lease()
}

// Decode fills v, a pointer to a struct with json tags, from the configuration. A name that v does not know is an
// error, because it means that schema and struct have come apart.
func (i Instance) Decode(v any) error {
	dec := json.NewDecoder(bytes.NewReader(i.Config))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if n := asNumber(i.Config, err); n != nil {
			return n
		}
		return fmt.Errorf("configuration of application %q does not fit the plugin's schema: %w", i.Name, err)
	}
	return nil
}

// Background runs job beside the calls, for as long as the application runs: its context ends when the next Start,
// Stop or Kill of the application begins, or the plugin ends. That operation waits for job to return. It ends with
// the plugin, so it is for work that may be lost, such as announcements. In Renew, it starts the job only where none
// was begun before: a plugin that was killed takes up its work again with its first renewal.
func (i Instance) Background(job func(context.Context)) {
	if i.background != nil {
		i.background(job)
	}
}

// Drive is one drive of the group.
type Drive struct {
	Letter     string // as mounted now, such as "E:"
	Path       string // folder below which the volume is mounted
	Configured string // letter as configured; differs from Letter when that was taken
}

// Arrival says how a group has come to the server where it is.
type Arrival struct {
	Event   string // takeover, switchover, failback, returned, start, resumed
	From    string // server that had it before; empty when nobody had, or it is not known
	Status  uint32 // sum of environment.OtherLetter and environment.Problem
	Attempt uint32 // in Start: 1 for the first start since the group came, 2 for the first restart; otherwise 0
}

// Caller names the core that calls.
type Caller struct {
	Server      string // name of the server
	BootID      string // changes with each restart of the core
	Epoch       uint64 // of the group; it only grows
	OperationID string // the same for repeats of one operation
}

// Handle is how a plugin finds its application again. The core keeps it and never looks inside. A plugin reads the
// handles of its own older versions.
type Handle struct {
	Version uint32
	State   []byte
}

// Severity of a Problem.
type Severity int

// A Warning lets the application be started; an Error does not.
const (
	Error Severity = iota + 1
	Warning
)

// Problem is one finding about a configuration or the state of a server.
type Problem struct {
	Severity  Severity // zero means Error
	Attribute string   // path such as "check[0].interval"; the core finds the line. May be empty
	Summary   string   // what is wrong, one line
	Detail    string   // what would be right, what to do next
}

// RunState says whether anything of an application runs.
type RunState int

// Stopped is only said when it is sure; Unknown is the answer of doubt.
const (
	Running RunState = iota + 1
	Stopped
	Unknown
)

// Health is the result of a probe.
type Health int

// HealthUnknown is the answer when the probe could not tell, such as a time-out on a starved server.
const (
	Healthy Health = iota + 1
	Failed
	HealthUnknown
)

// Recovered is the answer of Recover.
type Recovered struct {
	State  RunState
	Detail string  // a sentence with evidence: "pid 4711 started 12:03 is alive"
	Handle *Handle // when Running: the handle to keep from now on
}

// Probed is the answer of Probe.
type Probed struct {
	Health   Health
	Detail   string // a sentence
	Finished bool   // a batch run that has ended as it should: healthy, nothing to restart
	Ended    bool   // with Failed: surely nothing of it runs, so that more probes would say nothing new
}

// Ended is the answer of Stop and Kill. Anything but Stopped keeps the core from unmounting.
type Ended struct {
	State  RunState
	Detail string
}

// Event is something that happened to the pair or to a group.
type Event struct {
	Kind   string // "pair", "link", "group"; a later core may know more, which are nothing to do
	Group  string
	Text   string  // a sentence
	Drives []Drive // of the group, from the step "arrived" on
	Step   string  // of a group: coming, arrived, up, leaving, left
	Event  string  // how the group came: takeover, switchover, failback, returned, start, resumed
}

func (p Plugin) check() error {
	if why := handshake.CheckKind(p.Kind); why != "" {
		return fmt.Errorf("sdk: Plugin.Kind %q %s", p.Kind, why)
	}
	if _, err := version.NewSemver(p.Version); err != nil {
		return fmt.Errorf("sdk: Plugin.Version %q is no semantic version: 1.0.0 would be one", p.Version)
	}
	if p.New == nil {
		return errors.New("sdk: Plugin.New is nil")
	}
	return p.Schema.check("", nil)
}
