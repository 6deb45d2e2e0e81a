// Package core puts one server's recovery agent together: configuration, state directory, plugins, switches, drives,
// links, the node that decides, and the control socket. It decides nothing itself, and it must never start anything
// before the configuration has been found free of mistakes.
package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/interconnect/serial"
	"github.com/orscore/ors/core/interconnect/udp"
	"github.com/orscore/ors/core/pluginhost"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/directory"
	"github.com/orscore/ors/core/storage/rsw"
)

// Version is set by the program's main.
var Version = "dev"

// interconnectVersion is the newest version of the interconnect protocol that is spoken, where a build sets it: the lab
// does, to have an agent that speaks as the release before.
var interconnectVersion = ""

func maxInterconnect() uint8 {
	v, err := strconv.ParseUint(interconnectVersion, 10, 8)
	if err != nil {
		return 0 // the newest
	}
	return uint8(v)
}

// InterconnectVersions returns the oldest and the newest version of the interconnect protocol that this program speaks.
func InterconnectVersions() (from, to int) {
	from, to = interconnect.Versions()
	if v := int(maxInterconnect()); v != 0 {
		to = v
	}
	return from, to
}

// ownProcess is what status shows of this process.
func ownProcess() control.Server {
	program, err := os.Executable()
	if err != nil {
		program = ""
	}
	from, to := InterconnectVersions()
	return control.Server{PID: os.Getpid(), Program: program, Speaks: []int{from, to}}
}

// Options say which configuration an agent runs with, and where it logs.
type Options struct {
	ConfigPath string
	Server     string // name of this server; empty: the host name
	StateDir   string // overrides agent.state_dir
	RunDir     string // overrides agent.run_dir
	NoPlugins  bool   // of Check: no plugin is started
	LogLevel   string // trace, debug, info (default), warn, error
	LogJSON    bool
	Out        io.Writer // of the log; default standard error
}

func (o Options) logger() hclog.Logger {
	out := o.Out
	if out == nil {
		out = os.Stderr
	}
	level := hclog.LevelFromString(o.LogLevel)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{Name: "orscore", Level: level, Output: out, JSONFormat: o.LogJSON})
}

// load reads the configuration and applies the overrides.
func (o Options) load() (*config.Config, error) {
	c, diags := config.Load(o.ConfigPath, config.Options{Server: o.Server})
	if diags.HasErrors() {
		return nil, &ConfigError{Config: c, Diagnostics: diags}
	}
	if o.StateDir != "" {
		c.Agent.StateDir = o.StateDir
	}
	if o.RunDir != "" {
		c.Agent.RunDir = o.RunDir
	}
	return c, nil
}

// loadOrUsual is load, for what can be answered without a configuration, too: where there is none yet, its defaults
// count. One that was named is to be there.
func (o Options) loadOrUsual() (*config.Config, error) {
	if _, err := os.Stat(o.ConfigPath); o.ConfigPath == config.DefaultPath && errors.Is(err, fs.ErrNotExist) {
		return &config.Config{Agent: config.Agent{PluginDir: config.DefaultPluginDir, RunDir: config.DefaultRunDir}}, nil
	}
	return o.load()
}

// askPlugins lends ask a host of plugins that are only asked: their sockets and logs are in a folder that is removed
// afterwards.
func askPlugins(c *config.Config, log hclog.Logger, ask func(*pluginhost.Host) error) error {
	dir, err := os.MkdirTemp("", "ors-plugins-")
	if err != nil {
		return fmt.Errorf("ORS-1034: no temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	quiet := *c
	quiet.Agent.RunDir, quiet.Agent.LogDir = dir, dir
	o := pluginOptions(&quiet, "asked", log)
	o.Asked = true
	host := pluginhost.New(o)
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = host.Close(end)
	}()
	return ask(host)
}

// ControlSocket is where the agent of a configuration listens for its operators.
func ControlSocket(c *config.Config) string { return filepath.Join(c.Agent.RunDir, "control.sock") }

// switches opens the switch of every unit, in the fixed order.
func switches(c *config.Config, log hclog.Logger) ([]storage.Switch, error) {
	var out []storage.Switch
	for _, u := range c.Units() {
		sw, err := openSwitch(c, u, log)
		if err != nil {
			closeSwitches(out)
			return nil, err
		}
		out = append(out, sw)
	}
	return out, nil
}

func openSwitch(c *config.Config, u config.Unit, log hclog.Logger) (storage.Switch, error) {
	primary := c.Groups[u.Group].Primary
	if d := u.Storage.Switch.Directory; d != nil {
		return directory.New(directory.Options{Path: d.Path, Unit: u.Storage.Name, Self: c.Self, Primary: primary})
	}
	r := u.Storage.Switch.RSW
	return rsw.New(rsw.Options{
		Endpoint: r.Endpoint, Unit: r.Unit, Self: c.Self, Primary: primary, Timeout: r.Timeout, Log: log.Named("switch"),
	})
}

func closeSwitches(all []storage.Switch) {
	for _, sw := range all {
		_ = sw.Close()
	}
}

// links makes the links of the interconnect; nothing is opened yet.
func links(c *config.Config, log hclog.Logger) []interconnect.Link {
	me, peer := c.Self-1, c.Self.Other()-1
	var out []interconnect.Link
	for _, s := range c.Interconnect.Serial {
		out = append(out, serial.New(s.Name, s.Device[me], s.Baud, log.Named(s.Name)))
	}
	for _, u := range c.Interconnect.UDP {
		out = append(out, udp.New(u.Name, u.Address[me], u.Address[peer], log.Named(u.Name)))
	}
	return out
}

// newDrives makes the drives of this server and keeps the letters of both servers' groups from being given away.
func newDrives(c *config.Config, log hclog.Logger) (*drive.Drives, error) {
	d := drive.New(c.Agent.DriveRoot, log.Named("drive"))
	var letters []string
	for i := range c.Groups {
		for _, s := range c.Groups[i].Storage {
			for _, dr := range s.Drives {
				letters = append(letters, dr.Letter)
			}
		}
	}
	if err := d.Reserve(letters...); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// pluginOptions are those of a host of the configured plugins.
func pluginOptions(c *config.Config, bootID string, log hclog.Logger) pluginhost.Options {
	pins := map[string]pluginhost.Pin{}
	for _, p := range c.Plugins {
		pins[p.Kind] = pluginhost.Pin{Version: p.Version, SHA256: p.SHA256, Isolate: p.Isolate, NoTLS: !p.TLS}
	}
	return pluginhost.Options{
		Dir: c.Agent.PluginDir, KnownDir: knownDir(c), RunDir: c.Agent.RunDir, LogDir: c.Agent.LogDir,
		Server: c.ServerName(c.Self),
		BootID: bootID, Pins: pins, Log: log.Named("plugins"),
	}
}

const closeTimeout = 5 * time.Second

// partner is the other server's name.
func partner(c *config.Config) string { return c.ServerName(c.Self.Other()) }
