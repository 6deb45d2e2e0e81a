package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/pluginhost"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// ConfigError is a configuration with mistakes.
type ConfigError struct {
	Config      *config.Config
	Diagnostics hcl.Diagnostics
}

func (e *ConfigError) Error() string {
	n := len(e.Diagnostics.Errs())
	if n == 1 {
		return "the configuration has a mistake"
	}
	return fmt.Sprintf("the configuration has %d mistakes", n)
}

// Write shows every mistake with its place and source line.
func (e *ConfigError) Write(w io.Writer, colour bool) {
	e.Config.WriteDiagnostics(w, e.Diagnostics, colour)
}

// Problem is one finding of Check.
type Problem struct {
	Code     string `json:"code"`
	Severity string `json:"severity"` // "error" or "warning"
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
}

// Report is the outcome of Check.
type Report struct {
	Server      string
	Groups      int
	Problems    []Problem
	Config      *config.Config // for source lines
	Diagnostics hcl.Diagnostics
}

// Failed reports whether an agent would refuse to start, or a group could not run.
func (r *Report) Failed() bool {
	for _, p := range r.Problems {
		if p.Severity == "error" {
			return true
		}
	}
	return false
}

// Check looks at everything that can be looked at without changing anything: the file, the plugins and what they say
// of their applications, the folders, the switches. It starts plugins, and ends them again; it starts no application.
func Check(ctx context.Context, o Options) (*Report, error) {
	c, diags := config.Load(o.ConfigPath, config.Options{Server: o.Server})
	r := &Report{Config: c}
	if diags.HasErrors() {
		r.add(diags)
		return r, nil
	}
	if o.StateDir != "" {
		c.Agent.StateDir = o.StateDir
	}
	r.Server, r.Groups = c.ServerName(c.Self), len(c.Groups)
	r.add(c.Diagnostics())
	r.folders(c)
	r.switches(ctx, c, o)
	return r, r.applications(ctx, c, o)
}

// add takes diagnostics of the configuration in.
func (r *Report) add(diags hcl.Diagnostics) {
	r.Diagnostics = append(r.Diagnostics, diags...)
	for _, d := range diags {
		p := Problem{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			p.Severity = "warning"
		}
		if code, rest, ok := cutCode(d.Summary); ok {
			p.Code, p.Summary = code, rest
		}
		if d.Subject != nil {
			p.File, p.Line, p.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		r.Problems = append(r.Problems, p)
	}
}

// cutCode takes the code off the front of a message such as "ORS-2004: …".
func cutCode(s string) (code, rest string, ok bool) {
	const prefix = "ORS-"
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return "", s, false
	}
	for i := len(prefix); i < len(s); i++ {
		if s[i] == ':' {
			return s[:i], s[min(i+2, len(s)):], true
		}
		if s[i] < '0' || s[i] > '9' {
			break
		}
	}
	return "", s, false
}

// problem takes a finding in that is not of the configuration's text; at is the place that would have to change, or
// that names what is not right.
func (r *Report) problem(code string, at hcl.Range, summary, detail string) {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: code + ": " + summary, Detail: detail}
	if at.Filename != "" {
		d.Subject = at.Ptr()
	}
	r.add(hcl.Diagnostics{d})
}

// folders looks whether the folders of the agent can be made and written.
func (r *Report) folders(c *config.Config) {
	for _, f := range []struct{ name, path string }{
		{"state_dir", c.Agent.StateDir}, {"run_dir", c.Agent.RunDir}, {"log_dir", c.Agent.LogDir}, {"drive_root",
			c.Agent.DriveRoot},
	} {
		if err := writable(f.path); err != nil {
			r.problem("ORS-1034", c.Place("agent", "", f.name), "agent."+f.name+" cannot be written: "+err.Error(),
				"Make the folder, or run as the user that the agent runs as.")
		}
	}
}

// writable reports whether a file can be made in the nearest folder of path that exists; it leaves nothing behind.
func writable(path string) error {
	for {
		st, err := os.Stat(path)
		if err == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(path) == path {
			return err
		}
		path = filepath.Dir(path)
	}
	f, err := os.CreateTemp(path, ".ors-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// switches asks every switch who owns its unit.
func (r *Report) switches(ctx context.Context, c *config.Config, o Options) {
	for _, u := range c.Units() {
		if u.Storage.Switch.Directory != nil {
			continue // an unsafe demo's: made when it is first used
		}
		sw, err := openSwitch(c, u, o.logger())
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err = sw.Inspect(ctx)
			cancel()
			err = errors.Join(err, sw.Close())
		}
		if err != nil {
			r.problem("ORS-4002", u.Storage.Switch.Range, "storage "+u.Storage.Name+": "+err.Error(),
				"Check the switch and the way to it.")
		}
	}
}

// applications lets every plugin look at the configuration of its applications.
func (r *Report) applications(ctx context.Context, c *config.Config, o Options) error {
	log := o.logger()
	if o.LogLevel == "" {
		log = log.Named("check")
		log.SetLevel(log.GetLevel() + 2) // plugins that fail are findings, not log lines
	}
	return askPlugins(c, log, func(host *pluginhost.Host) error {
		schemas := r.schemas(ctx, c, host, o.NoPlugins)
		decoded := r.decode(c, schemas)
		if o.NoPlugins {
			return nil
		}
		host.Start(ctx, kindsOf(decoded))
		for _, d := range decoded {
			r.application(ctx, c, host, d, ofKind(decoded, d.cfg.Kind))
		}
		return nil
	})
}

// decodedApplication is an application whose config block fits the schema of its plugin.
type decodedApplication struct {
	cfg    *config.Application
	schema *pluginv1.Block
	told   *pluginv1.Application
}

// schemas finds the schemas of all kinds. Plugins whose programs are known by their hash need not be started for that.
func (r *Report) schemas(ctx context.Context, c *config.Config, host *pluginhost.Host,
	startNone bool) map[string]*pluginv1.Block {
	found := map[string]*pluginv1.Block{}
	var unknown []string
	for _, kind := range c.Kinds() {
		if _, schema, ok := host.Known(kind); ok {
			found[kind] = schema
		} else {
			unknown = append(unknown, kind)
		}
	}
	if startNone {
		for _, kind := range unknown {
			r.add(hcl.Diagnostics{{Severity: hcl.DiagWarning,
				Summary: fmt.Sprintf("ORS-5013: the schema of plugin %q is not known, so its applications are not checked", kind),
				Detail:  "Run `orscore check` once without --no-plugins: it keeps what the plugin says of itself."}})
		}
		return found
	}
	host.Start(ctx, unknown)
	for _, kind := range unknown {
		schema, err := host.Schema(kind)
		if err != nil {
			r.unusable(c, kind, err)
			continue
		}
		found[kind] = schema
	}
	return found
}

func kindsOf(all []decodedApplication) []string {
	var kinds []string
	for _, d := range all {
		if !slices.Contains(kinds, d.cfg.Kind) {
			kinds = append(kinds, d.cfg.Kind)
		}
	}
	return kinds
}

// decode decodes the config blocks of all applications whose schema is known, in the order of the file.
func (r *Report) decode(c *config.Config, schemas map[string]*pluginv1.Block) []decodedApplication {
	var all []decodedApplication
	for i := range c.Groups {
		g := &c.Groups[i]
		for j := range g.Applications {
			a := &g.Applications[j]
			schema, ok := schemas[a.Kind]
			if !ok {
				continue
			}
			drives := c.ExpectedDrives(g)
			body, diags := c.DecodeApplication(a, schema, drives)
			r.add(diags)
			if diags.HasErrors() {
				continue
			}
			all = append(all, decodedApplication{cfg: a, schema: schema, told: tellApplication(c, g, a, body, drives)})
		}
	}
	return all
}

func ofKind(all []decodedApplication, kind string) []*pluginv1.Application {
	var out []*pluginv1.Application
	for _, d := range all {
		if d.cfg.Kind == kind {
			out = append(out, d.told)
		}
	}
	return out
}

// application lets the plugin look at one application.
func (r *Report) application(ctx context.Context, c *config.Config, host *pluginhost.Host, d decodedApplication,
	all []*pluginv1.Application) {
	failed := func(err error) {
		r.problem(pluginCode(err), d.cfg.Range,
			fmt.Sprintf("group %s, application %s: %s", d.told.GetGroup(), d.cfg.Name, uncoded(err)), "See the plugin's log.")
	}
	v, err := host.Validate(ctx, d.cfg.Kind, &pluginv1.ValidateRequest{Application: d.told, All: all})
	if err != nil {
		failed(err)
		return
	}
	var found hcl.Diagnostics
	for _, p := range v.GetProblems() {
		found = append(found, c.Finding(d.cfg, d.schema, p))
	}
	r.add(found)
	if found.HasErrors() {
		return // what such a configuration needs of the server says nothing
	}
	ready, err := host.Ready(ctx, d.cfg.Kind, &pluginv1.ReadyRequest{
		Caller: &pluginv1.Caller{Server: c.ServerName(c.Self), BootId: "check"}, Application: d.told, All: all})
	if err != nil {
		failed(err)
		return
	}
	for _, p := range ready.GetProblems() {
		r.add(hcl.Diagnostics{c.NotReady(d.cfg, d.schema, p)})
	}
}

// unusable takes in that a plugin cannot be used, once for all its applications.
func (r *Report) unusable(c *config.Config, kind string, err error) {
	var at hcl.Range
	var names []string
	for g := range c.Groups {
		for _, a := range c.Groups[g].Applications {
			if a.Kind != kind {
				continue
			}
			if len(names) == 0 {
				at = a.Range
			}
			names = append(names, c.Groups[g].Name+"/"+a.Name)
		}
	}
	code := pluginCode(err)
	switch code {
	case pluginhost.CodeHash:
		at = c.Place("plugin", kind, "sha256")
	case pluginhost.CodeVersion:
		at = c.Place("plugin", kind, "version")
	}
	r.problem(code, at, uncoded(err), "Without it these applications and their groups cannot run on this server: "+
		strings.Join(names, ", ")+".")
}

// pluginCode is the code of why a plugin does not serve.
func pluginCode(err error) string {
	var e *pluginhost.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "ORS-5000"
}

func uncoded(err error) string {
	_, text, _ := cutCode(err.Error())
	return text
}
