package core

import (
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

// Options are what plugintest.Check needs to find out whether the plugin keeps its contract; an error is about what
// the fields name. What is wrong in the configuration is the check's error, a ConfigError.
func (p PluginCheck) Options() (plugintest.Options, error) {
	o := plugintest.Options{NoTLS: !p.TLS, Only: p.Only, StartWithin: p.Start, StopWithin: p.Stop, Progress: p.Progress}
	var err error
	if o.Command, err = command(p.Program); err != nil {
		return o, fmt.Errorf("ORS-7008: %w", err)
	}
	if p.Previous != "" {
		if o.Previous, err = command(p.Previous); err != nil {
			return o, fmt.Errorf("ORS-7008: the older release: %w", err)
		}
	}
	if p.Config != "" {
		src, err := os.ReadFile(p.Config)
		if err != nil {
			return o, fmt.Errorf("ORS-7008: the configuration for the check: %w", err)
		}
		o.Config = func(schema *pluginv1.Block, drives []*pluginv1.Drive) ([]byte, error) {
			return decodeBody(p.Config, src, schema, drives)
		}
	}
	return o, nil
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
		return nil, fmt.Errorf("there is no program %s", path)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no program", path)
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
