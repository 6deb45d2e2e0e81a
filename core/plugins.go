package core

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/node"
	"github.com/orscore/ors/core/pluginhost"
	"github.com/orscore/ors/core/store"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// knownDir is where it is kept what plugins have said of themselves; empty without a state folder: nowhere.
func knownDir(c *config.Config) string {
	if c.Agent.StateDir == "" {
		return ""
	}
	return filepath.Join(c.Agent.StateDir, "plugins")
}

// pluginUpgradeWait bounds an upgrade of a plugin: less than its operator's client waits.
const pluginUpgradeWait = 90 * time.Second

// UpgradePlugin lets the newest program that fits serve a kind, and says what serves it now. A program that does not
// accept the configuration of the kind's applications, or that does not come up, changes nothing.
func (b *backend) UpgradePlugin(ctx context.Context, kind string) (string, error) {
	a := b.agent
	ctx, cancel := context.WithTimeout(ctx, pluginUpgradeWait)
	defer cancel()
	note := func(text string) {
		a.store.Note(store.Record{At: time.Now(), Server: a.cfg.ServerName(a.cfg.Self), Kind: "operator",
			Step: "plugin-upgrade", Text: text})
	}
	note("An operator asked for an upgrade of plugin " + kind + ".")
	err := a.plugins.Upgrade(ctx, kind, func(ctx context.Context, p *pluginhost.Candidate) error {
		return acceptPlugin(ctx, a.cfg, kind, p)
	})
	if err != nil {
		note("Plugin " + kind + " was not upgraded: " + err.Error())
		if errors.Is(err, pluginhost.ErrPartly) {
			return "", err
		}
		return "", fmt.Errorf("%w: %w", err, control.ErrRefused)
	}
	var text []string
	for _, s := range a.plugins.Status() {
		if s.Kind == kind {
			text = append(text, fmt.Sprintf("plugin %s %s is at work, SHA-256 %.12s…, pid %d", kind, s.Version, s.SHA256, s.PID))
		}
	}
	said := strings.Join(text, "; ")
	note(said)
	return said, nil
}

// events tells a plugin of the groups that are here, then what the journal tells from now on (pluginhost.EventFeed).
func (a *agent) events(ctx context.Context, send func(*pluginv1.EventsRequest) error) error {
	last, upTo, err := arrival.Last(a.store)
	if err != nil {
		return err
	}
	for _, n := range arrival.Here(last) {
		if err := send(pluginEvent(n.Record())); err != nil {
			return err
		}
	}
	return a.store.Follow(ctx, upTo, func(r store.Record) error {
		if e := pluginEvent(r); e != nil {
			return send(e)
		}
		return nil
	})
}

// pluginEvent is a record of the journal as plugins are told it; nil for what is none of their business.
func pluginEvent(r store.Record) *pluginv1.EventsRequest {
	switch r.Kind {
	case store.KindVerdict:
		return &pluginv1.EventsRequest{Kind: "pair", Text: r.Text}
	case store.KindLink:
		return &pluginv1.EventsRequest{Kind: "link", Text: r.Text}
	case store.KindArrival:
		n, ok := arrival.Of(r)
		if !ok || n.Step == arrival.Ran {
			return nil
		}
		e := &pluginv1.EventsRequest{Kind: "group", Group: n.Group, Text: n.Text, Step: n.Step, Event: n.Event}
		for _, d := range n.Drives {
			e.Drives = append(e.Drives, &pluginv1.Drive{Letter: d.Letter, Path: d.Path, ConfiguredLetter: d.Configured})
		}
		return e
	}
	return nil
}

// acceptPlugin lets a plugin look at the applications of its kind that the agent has.
func acceptPlugin(ctx context.Context, c *config.Config, kind string, p *pluginhost.Candidate) error {
	var all []*pluginv1.Application
	for g := range c.Groups {
		group := &c.Groups[g]
		drives := c.ExpectedDrives(group)
		for i := range group.Applications {
			app := &group.Applications[i]
			if app.Kind != kind {
				continue
			}
			body, diags := c.DecodeApplication(app, p.Schema(), drives)
			if diags.HasErrors() {
				return notAccepted(p, group.Name, app.Name, diags[0])
			}
			all = append(all, tellApplication(c, group, app, body, drives))
		}
	}
	for _, app := range all {
		v, err := p.Validate(ctx, &pluginv1.ValidateRequest{Application: app, All: all})
		if err != nil {
			return fmt.Errorf("ORS-5012: plugin %q %s does not judge the configuration of %s/%s: %w",
				kind, p.Info().GetVersion(), app.GetGroup(), app.GetName(), err)
		}
		for _, f := range v.GetProblems() {
			if f.GetSeverity() == pluginv1.Problem_SEVERITY_ERROR {
				d := &hcl.Diagnostic{Summary: f.GetSummary(), Detail: f.GetDetail()}
				return notAccepted(p, app.GetGroup(), app.GetName(), d)
			}
		}
	}
	return nil
}

func notAccepted(p *pluginhost.Candidate, group, app string, d *hcl.Diagnostic) error {
	at := ""
	if d.Subject != nil {
		at = d.Subject.String() + ": "
	}
	return fmt.Errorf("ORS-5012: plugin %q %s does not accept the configuration of %s/%s: %s%s: %s",
		p.Info().GetKind(), p.Info().GetVersion(), group, app, at, withoutCode(d.Summary), d.Detail)
}

func withoutCode(summary string) string {
	_, text, _ := cutCode(summary)
	return text
}

// tellApplication is what a plugin is told of an application whose drives are not looked at.
func tellApplication(c *config.Config, g *config.Group, a *config.Application, body []byte,
	drives []config.DriveValue) *pluginv1.Application {
	app := &pluginv1.Application{Group: g.Name, Name: a.Name, Config: body, Primary: c.ServerName(g.Primary),
		WorkDir: filepath.Join(c.Agent.RunDir, "apps", g.Name, a.Name), LogFile: node.LogFile(c.Agent.LogDir, g.Name, a.Name)}
	for _, d := range drives {
		app.Drives = append(app.Drives,
			&pluginv1.Drive{Letter: d.Letter, Path: d.Path, ConfiguredLetter: d.ConfiguredLetter})
	}
	return app
}
