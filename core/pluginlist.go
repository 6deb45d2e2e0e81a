package core

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/pluginhost"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// InstalledPlugin is one program of the plugin folder.
type InstalledPlugin struct {
	Kind     string   `json:"kind"`
	Version  string   `json:"version,omitempty"`  // as it says itself; absent: not known
	Protocol int      `json:"protocol,omitempty"` // version of the plugin protocol; absent: not known
	SHA256   string   `json:"sha256,omitempty"`   // absent: it could not be read
	Pinned   bool     `json:"pinned"`             // the configuration pins this hash
	Serves   bool     `json:"serves"`             // it is the one that serves its kind when it is started next
	Problem  string   `json:"problem,omitempty"`  // why it is not run
	Path     string   `json:"path"`
	Uses     []string `json:"uses"` // applications of its kind, "group/name"
}

// InstalledPlugins lists the programs of a plugin folder and what uses them. Programs that are not known yet are run to
// ask what they are. An empty dir is the configured folder, or where there is no configuration the usual one.
func InstalledPlugins(ctx context.Context, o Options, dir string) ([]InstalledPlugin, error) {
	all := []InstalledPlugin{}
	err := withPluginFolder(o, dir, func(c *config.Config, host *pluginhost.Host) error {
		programs, err := host.Programs(ctx)
		for _, p := range programs {
			all = append(all, InstalledPlugin{Kind: p.Kind, Version: p.Version, Protocol: p.Protocol, SHA256: p.SHA256,
				Pinned: p.Pinned, Serves: p.Chosen, Problem: p.Problem, Path: p.Path, Uses: usersOf(c, p.Kind)})
		}
		return err
	})
	return all, err
}

// usersOf names the applications of a kind.
func usersOf(c *config.Config, kind string) []string {
	uses := []string{}
	for g := range c.Groups {
		for _, a := range c.Groups[g].Applications {
			if a.Kind == kind {
				uses = append(uses, c.Groups[g].Name+"/"+a.Name)
			}
		}
	}
	return uses
}

// DescribePlugin is what the program that would serve a kind says of itself.
func DescribePlugin(ctx context.Context, o Options, dir, kind string) (info *pluginv1.InfoResponse,
	schema *pluginv1.Block, err error) {
	err = withPluginFolder(o, dir, func(_ *config.Config, host *pluginhost.Host) error {
		info, schema, err = host.Describe(ctx, kind)
		return err
	})
	return info, schema, err
}

// withPluginFolder lends ask the plugins of a folder.
func withPluginFolder(o Options, dir string, ask func(*config.Config, *pluginhost.Host) error) error {
	c, err := o.loadOrUsual()
	if err != nil {
		return err
	}
	if dir != "" {
		if c.Agent.PluginDir, err = filepath.Abs(dir); err != nil { // a plugin runs in the root folder
			return err
		}
		if _, err := os.Stat(c.Agent.PluginDir); err != nil {
			return fmt.Errorf("ORS-7008: the folder with the plugins: %w", err)
		}
	}
	return askPlugins(c, o.logger(), func(host *pluginhost.Host) error { return ask(c, host) })
}
