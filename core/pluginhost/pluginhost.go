// Package pluginhost finds, checks, starts and watches plugins, and calls them for the core. Each plugin is a process
// of its own over hashicorp/go-plugin with mutual TLS, or without where the configuration says so.
//
// It must never run a plugin whose hash or version is not as pinned, never wait for one without a deadline, and never
// take a missing answer for "stopped": it reports unknown.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Options say where plugins are and on whose behalf they run.
type Options struct {
	Dir      string         // folder of the programs ors-plugin-KIND and ors-plugin-KIND_VERSION
	KnownDir string         // keeps what programs have said of themselves, by their hash; empty: nothing is kept
	RunDir   string         // for sockets; a private folder is made in it, and removed by Close
	LogDir   string         // for the output of plugins: plugin-KIND.log
	Asked    bool           // plugins are only asked what they are, and LogDir goes afterwards
	Server   string         // name of this server: filled into a Caller that names none
	BootID   string         // identity of this run of the core: filled into a Caller that has none
	Pins     map[string]Pin // what is known of a kind; a kind that is not in it runs unpinned
	Log      hclog.Logger   // nil: no log
	// Replaced, when set, is called when another process has begun to serve a kind, or an application "group/name" of an
	// isolated one: what the one before has known of its applications is gone. It must not wait.
	Replaced func(kind, application string)
	Events   EventFeed // nil: no plugin is told of events
}

// Pin is what the configuration demands of a plugin.
type Pin struct {
	Version string // constraint such as ">= 1.2"; empty: any
	SHA256  string // hex sum of the program; empty: any
	Isolate bool   // a process for each application
	NoTLS   bool   // it speaks no TLS: the socket in its private folder must be of the process that was started
}

// State is what a plugin's process is doing.
type State string

// States of a plugin.
const (
	StateStarting State = "starting" // being launched, for the first time or again
	StateRunning  State = "running"
	StateFailed   State = "failed"  // died at start; it is tried again soon
	StateMissing  State = "missing" // there is no such program
	StateRefused  State = "refused" // wrong hash, version, kind or file mode: it is not run
	StateBackoff  State = "backoff" // died too often; it is tried again when the budget recovers
)

// PluginStatus is what people see of one plugin process.
type PluginStatus struct {
	Kind        string
	Application string // "group/name" of an isolated plugin's application; otherwise empty
	Version     string // as the plugin says; empty before it has run
	SHA256      string // of the program that runs, or that was looked at last
	Pinned      bool   // the configuration names a hash
	State       State
	Detail      string // why it is not running, and what to do; empty when it runs
	PID         int    // 0 when it does not run
	Launches    int    // how often it was started since the host was made
}

// limits are the times and counts that the host lives by. Tests shorten them; there is no other user.
type limits struct {
	start        time.Duration // of a whole launch: process, handshake, Info, Schema
	stop         time.Duration // an asked-to-end plugin has so long before it is killed
	dead         time.Duration // a killed process is given up after so long (it sits in the kernel)
	healthEvery  time.Duration // between health checks
	health       time.Duration // of one health check
	recheck      time.Duration // between looks at a missing or refused program
	budget       int           // launches ...
	window       time.Duration // ... in so long
	backoffFirst time.Duration // wait after the second failure in a row; it doubles
	backoffMost  time.Duration
}

var defaultLimits = limits{
	start: 10 * time.Second, stop: 3 * time.Second, dead: 3 * time.Second,
	healthEvery: 5 * time.Second, health: 2 * time.Second, recheck: 10 * time.Second,
	budget: 5, window: time.Minute, backoffFirst: 100 * time.Millisecond, backoffMost: 5 * time.Second,
}

// Host runs the plugins of one agent. Its methods may be called from many goroutines.
type Host struct {
	o      Options
	lim    limits
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	instances map[string]*instance
	sockets   *socketFolder
	closed    bool
	failed    map[string]int    // by hash: programs that could not say what they are, and how often in a row
	refused   map[string]string // by hash: programs that an upgrade has refused, and why
}

// New makes a host. It starts nothing.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Host{o: o, lim: defaultLimits, ctx: ctx, cancel: cancel, instances: make(map[string]*instance),
		failed: make(map[string]int), refused: make(map[string]string)}
}

// Start launches the plugins of these kinds in parallel and returns when each has been tried once, or ctx ends. A
// plugin that cannot be started is no error here: Status and the calls say what is wrong, and the others run.
//
// From then on a plugin that ends is started again at once, so that a takeover need not wait for it.
func (h *Host) Start(ctx context.Context, kinds []string) {
	var all []*instance
	for _, k := range kinds {
		if in, err := h.instance(k, ""); err == nil {
			all = append(all, in)
		}
	}
	for _, in := range all {
		in.settle(ctx)
	}
}

// Status lists the plugins, ordered by kind and application.
func (h *Host) Status() []PluginStatus {
	var out []PluginStatus
	for _, in := range h.all() {
		out = append(out, in.status())
	}
	slices.SortFunc(out, func(a, b PluginStatus) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Application, b.Application)
	})
	return out
}

// Info returns what a plugin says of itself. It waits for a launch that is under way, at most as long as one may take.
func (h *Host) Info(kind string) (*pluginv1.InfoResponse, error) {
	d, err := h.described(kind)
	if err != nil {
		return nil, err
	}
	return d.info, nil
}

// Schema returns what the configuration of an application of this kind may hold. It waits like Info.
func (h *Host) Schema(kind string) (*pluginv1.Block, error) {
	d, err := h.described(kind)
	if err != nil {
		return nil, err
	}
	return d.schema, nil
}

func (h *Host) described(kind string) (*description, error) {
	in, err := h.instance(kind, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.lim.start+h.lim.backoffMost)
	defer cancel()
	p, err := in.acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	defer in.release(p, false)
	return p.description, nil
}

// Close ends all plugins, asking first, and returns when they have ended or ctx is over; then it kills them without
// waiting. Applications keep running: they are not children of their plugins. Calls after Close fail.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	var errs []error
	for _, in := range h.all() {
		select {
		case <-in.done:
		case <-ctx.Done():
			in.kill("the host is closed")
			errs = append(errs, fmt.Errorf("plugin %q did not end in time and was killed: %w", in.name(), ctx.Err()))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets != nil {
		errs = append(errs, h.sockets.remove())
		h.sockets = nil
	}
	return errors.Join(errs...)
}

func (h *Host) all() []*instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*instance, 0, len(h.instances))
	for _, in := range h.instances {
		out = append(out, in)
	}
	return out
}

// instance returns the plugin process that serves a kind, or one application of an isolated kind, and starts its
// supervision when there is none yet.
func (h *Host) instance(kind, application string) (*instance, error) {
	if !h.o.Pins[kind].Isolate {
		application = ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, &Error{Code: CodeClosed, Kind: kind, What: "the plugin host is closed", Next: "start the agent"}
	}
	key := kind + "/" + application
	if in, ok := h.instances[key]; ok {
		return in, nil
	}
	in := h.newInstance(kind, application)
	h.instances[key] = in
	go in.supervise(h.ctx)
	return in, nil
}

func (h *Host) newInstance(kind, application string) *instance {
	return &instance{
		h: h, kind: kind, application: application, state: StateStarting, changed: make(chan struct{}),
		done: make(chan struct{}), nudged: make(chan struct{}, 1), replace: make(chan *replacement),
	}
}

// socketDir makes the private folder of the sockets when it is first needed.
func (h *Host) socketDir() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets == nil {
		if err := os.MkdirAll(h.o.RunDir, 0o755); err != nil {
			return "", fmt.Errorf("make the folder of the sockets: %w", err)
		}
		s, err := newSocketFolder(h.o.RunDir)
		if err != nil {
			return "", fmt.Errorf("make the folder of the sockets: %w", err)
		}
		h.sockets = s
	}
	return h.sockets.path, nil
}

// Program is the path of the program that is to serve a kind, chosen as before each launch: it is there, nobody else
// can replace it, and it is as pinned. It is for what a program does besides serving.
func (h *Host) Program(kind string) (string, error) {
	c, err := h.choose(h.ctx, kind)
	if err != nil {
		return "", err
	}
	return c.path, nil
}
