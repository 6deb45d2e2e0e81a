package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/plugins/sdk/plugintest"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// PluginCheck says which plugin is put to the test, and with what.
type PluginCheck struct {
	Program  string   // path of the plugin
	Config   string   // file with what stands inside an application's config block; empty: nothing
	Previous string   // path of an older release; empty: none
	TLS      bool     // false: the plugin speaks none, as `tls = false` says
	Only     []string // names of checks; empty: all
	Start    time.Duration
	Stop     time.Duration
	Progress func(plugintest.Finding) // may be nil
}

// Run finds out whether the plugin keeps its contract. What is wrong in the configuration is a ConfigError.
func (p PluginCheck) Run(ctx context.Context) (plugintest.Report, error) {
	o := plugintest.Options{NoTLS: !p.TLS, Only: p.Only, StartWithin: p.Start, StopWithin: p.Stop, Progress: p.Progress}
	var err error
	if o.Command, err = command(p.Program); err != nil {
		return plugintest.Report{}, err
	}
	if p.Previous != "" {
		if o.Previous, err = command(p.Previous); err != nil {
			return plugintest.Report{}, err
		}
	}
	if p.Config != "" {
		src, err := os.ReadFile(p.Config)
		if err != nil {
			return plugintest.Report{}, fmt.Errorf("ORS-7008: the configuration for the check: %w", err)
		}
		o.Config = func(schema *pluginv1.Block, drives []*pluginv1.Drive) ([]byte, error) {
			return decodeBody(p.Config, src, schema, drives)
		}
	}
	return plugintest.Check(ctx, o)
}

// command is how to run a program that the operator names: a plugin runs in the root folder.
func command(program string) ([]string, error) {
	path, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("ORS-7008: there is no program %s", path)
	case err != nil:
		return nil, fmt.Errorf("ORS-7008: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("ORS-7008: %s is no program", path)
	}
	return []string{path}, nil
}

func decodeBody(path string, src []byte, schema *pluginv1.Block, drives []*pluginv1.Drive) ([]byte, error) {
	c, app, diags := config.ParseBody(path, src, "check")
	var body []byte
	if !diags.HasErrors() {
		var values []config.DriveValue
		for _, d := range drives {
			values = append(values, config.DriveValue{
				ConfiguredLetter: d.GetConfiguredLetter(), Letter: d.GetLetter(), Path: d.GetPath(),
			})
		}
		var found hcl.Diagnostics
		body, found = c.DecodeApplication(app, schema, values)
		diags = append(diags, found...)
	}
	if diags.HasErrors() {
		return nil, &ConfigError{Config: c, Diagnostics: diags}
	}
	return body, nil
}
