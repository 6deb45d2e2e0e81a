package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Options say what to check.
type Options struct {
	// Command is the plugin: a program and its arguments. Something such as `ip netns exec NAME` may stand in front.
	Command []string
	// Config makes the configuration of an application that can be started, stopped and killed here, again and again: the
	// JSON that the core would send for it. Body makes one. Where it is nil, what needs an application is skipped, unless
	// the schema requires nothing.
	Config func(schema *pluginv1.Block, drives []*pluginv1.Drive) ([]byte, error)
	// Previous is an older release of the plugin, whose handles the new one has to read; empty: that is skipped.
	Previous []string
	// Break makes a running application fail, where it has no process that the kit could kill.
	Break func(context.Context) error
	// NoTLS is for a plugin that speaks no TLS: `tls = false` of the configuration.
	NoTLS bool
	// Only names the checks to run; empty: all.
	Only []string
	// StartWithin and StopWithin are what the configuration would give to a start and a stop; 60 s when zero.
	StartWithin, StopWithin time.Duration
	// Progress, if set, is told of each finding as it is made.
	Progress func(Finding)
}

// Outcome of a check.
type Outcome string

// A check is skipped where it has nothing to look at; its evidence says why.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Finding is the result of one check.
type Finding struct {
	Check    string  `json:"check"`
	Outcome  Outcome `json:"outcome"`
	Evidence string  `json:"evidence"`
}

// Report is what was found out about a plugin.
type Report struct {
	Plugin   string    `json:"plugin"` // its kind; the name of its program when it has not said
	Version  string    `json:"version,omitempty"`
	Passed   bool      `json:"passed"` // no check has failed
	Findings []Finding `json:"findings"`
}

// Body makes the configuration of an application out of the attributes that differ from their defaults.
func Body(body map[string]any) func(*pluginv1.Block, []*pluginv1.Drive) ([]byte, error) {
	return func(schema *pluginv1.Block, _ []*pluginv1.Drive) ([]byte, error) { return Config(schema, body) }
}

// TB is what Conform needs of a *testing.T.
type TB interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Conform is the kit as a test: it fails where the plugin fails a check.
func Conform(t TB, o Options) Report {
	t.Helper()
	r, err := Check(t.Context(), o)
	if err != nil {
		t.Errorf("check the plugin %s: %v", strings.Join(o.Command, " "), err)
		return r
	}
	for _, f := range r.Findings {
		if f.Outcome == Failed {
			t.Errorf("%s: %s", f.Check, f.Evidence)
		} else {
			t.Logf("%s %s: %s", f.Check, f.Outcome, f.Evidence)
		}
	}
	return r
}

// skip is the error of a check that has nothing to look at.
type skip struct{ why string }

func (s *skip) Error() string { return s.why }

func skipped(format string, args ...any) error { return &skip{fmt.Sprintf(format, args...)} }

// kit is one run of the checks.
type kit struct {
	ctx    context.Context
	o      Options
	dir    string
	drives []*pluginv1.Drive
	seen   *family
	prints *output // what the plugin has printed on standard output, of all its processes
	log    *os.File

	plugin *program // nil when it has to be launched
	info   *pluginv1.InfoResponse
	schema *pluginv1.Block
	config []byte // of an application; nil when there is none
	why    string // why there is none
	broken error  // what was given as one is none

	applications int
	operations   atomic.Int64 // of calls, some of which are made beside others
}

// one keeps two runs of one process from taking each other's processes for their own.
var one sync.Mutex

// Check launches a plugin as the core does and finds out whether it keeps the contract. Everything that it starts has
// ended when it returns. An error says that the checks could not be made; what is wrong with the plugin is in the
// report.
//
// On Linux this process becomes the parent of what the plugin leaves behind, so it should start no other processes
// meanwhile.
func Check(ctx context.Context, o Options) (r Report, err error) {
	one.Lock()
	defer one.Unlock()
	k, err := newKit(ctx, o)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	r.Plugin = filepath.Base(programOf(o.Command))
	stopped := ""
	for _, c := range checks {
		if len(o.Only) > 0 && !slices.Contains(o.Only, c.name) && c.name != handshakeCheck {
			continue
		}
		f := Finding{Check: c.name, Outcome: Skipped, Evidence: stopped}
		if stopped == "" {
			f = k.judge(c)
		}
		if err := errors.Join(ctx.Err(), k.broken); err != nil {
			return r, err
		}
		if c.name == handshakeCheck && f.Outcome == Failed {
			stopped = "The plugin cannot be spoken to."
		}
		r.Findings = append(r.Findings, f)
		if o.Progress != nil {
			o.Progress(f)
		}
	}
	if k.info.GetKind() != "" {
		r.Plugin, r.Version = k.info.GetKind(), k.info.GetVersion()
	}
	r.Passed = !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Outcome == Failed })
	return r, nil
}

// programOf is the plugin's program in a command, behind what may stand in front of it.
func programOf(command []string) string {
	for _, c := range command {
		if strings.HasPrefix(filepath.Base(c), "ors-plugin-") {
			return c
		}
	}
	return command[0]
}

func newKit(ctx context.Context, o Options) (*kit, error) {
	if len(o.Command) == 0 {
		return nil, errors.New("there is no plugin to check: name its program")
	}
	for _, name := range o.Only {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) {
			return nil, fmt.Errorf("there is no check %q: the checks are %s", name, strings.Join(Checks(), ", "))
		}
	}
	if o.StartWithin == 0 {
		o.StartWithin = time.Minute
	}
	if o.StopWithin == 0 {
		o.StopWithin = time.Minute
	}
	dir, err := os.MkdirTemp("", "orskit") // short: the path of a socket has at most 107 bytes
	if err != nil {
		return nil, err
	}
	k := &kit{ctx: ctx, o: o, dir: dir, prints: &output{}}
	drive := filepath.Join(dir, "E")
	k.drives = []*pluginv1.Drive{{Letter: "E:", ConfiguredLetter: "E:", Path: drive}}
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(drive, 0o755), os.Mkdir(k.socketDir(), 0o700))
	if err == nil {
		k.log, err = os.OpenFile(filepath.Join(dir, "plugin.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	}
	if err == nil {
		k.seen, err = newFamily()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return k, nil
}

func (k *kit) close() error {
	k.end()
	err := k.seen.close()
	return errors.Join(err, k.log.Close(), os.RemoveAll(k.dir))
}

// judge runs one check.
func (k *kit) judge(c check) Finding {
	f := Finding{Check: c.name, Outcome: Passed}
	evidence, err := "", error(nil)
	if c.name != handshakeCheck {
		err = k.ready(c.needs)
	}
	if err == nil {
		evidence, err = c.run(k)
	}
	var s *skip
	switch {
	case errors.As(err, &s):
		f.Outcome, f.Evidence = Skipped, s.why
	case err != nil:
		f.Outcome, f.Evidence = Failed, err.Error()
		k.end() // the next check begins with a fresh process
	default:
		f.Evidence = evidence
	}
	return f
}

// ready has a plugin running, and an application's configuration where one is needed.
func (k *kit) ready(n need) error {
	if k.plugin == nil || k.plugin.ended() {
		if err := k.launch(); err != nil {
			return err
		}
	}
	if n < application {
		return nil
	}
	if k.config == nil && k.why == "" {
		k.configure()
	}
	if k.config == nil {
		return skipped("%s", k.why)
	}
	if n == process && !k.seen.knows() {
		return skipped("Which processes an application has is only looked at on Linux.")
	}
	return nil
}

func (k *kit) configure() {
	schema, err := call(k, "Schema", shortCall, k.plugin.service.Schema, &pluginv1.SchemaRequest{})
	if err != nil {
		k.why = fmt.Sprintf("There is no schema: %v.", err)
		return
	}
	k.schema = schema.GetSchema()
	if k.o.Config == nil {
		if k.config, err = Config(k.schema, nil); err != nil {
			k.why = fmt.Sprintf("No configuration of an application was given (%v).", err)
		}
		return
	}
	if k.config, err = k.o.Config(k.schema, k.drives); err != nil {
		k.why, k.broken = "The configuration cannot be used.", fmt.Errorf("the configuration given: %w", err)
	}
}

// end ends the plugin's process, if there is one.
func (k *kit) end() {
	if k.plugin != nil {
		k.plugin.end()
		k.plugin = nil
	}
}

// output keeps what is printed.
type output struct {
	mu sync.Mutex
	b  []byte
}

const outputMost = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, p[:min(len(p), outputMost-len(o.b))]...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b)
}

var _ io.Writer = (*output)(nil)
