package core

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/pluginhost"
)

// AddressOrder is one address to be set on this server by hand, or given up again. The program of the plugin ipset
// carries it out; its field names are that program's.
type AddressOrder struct {
	Address  string `json:"address"`
	Bits     int    `json:"bits,omitempty"` // of its network; 0: as the adapter's other addresses have it
	Adapter  string `json:"adapter,omitempty"`
	Replaces string `json:"replaces,omitempty"`
	Gateway  string `json:"gateway,omitempty"`
	WorkDir  string `json:"work_dir"`
	Release  bool   `json:"release,omitempty"`
	DryRun   bool   `json:"dry_run,omitempty"`

	Applications []applicationAddresses `json:"applications,omitempty"` // filled in by SetAddress
}

// applicationAddresses is an application of the configuration that has addresses of its own.
type applicationAddresses struct {
	Group  string          `json:"group"`
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"`
}

const (
	addressPlugin = "ipset"
	orderMost     = time.Minute
)

// SetAddress has an order carried out, and writes each step to out. Without a configuration file it uses the folders
// that are usual; a configuration with mistakes is an error.
func SetAddress(ctx context.Context, o Options, order AddressOrder, out io.Writer) error {
	c, err := o.loadOrUsual()
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(order.Address)
	if err != nil {
		return fmt.Errorf("ORS-7041: %q is not an address", order.Address)
	}
	order.WorkDir = filepath.Join(c.Agent.RunDir, "by-hand", strings.ReplaceAll(addr.String(), ":", "_"))
	host := pluginhost.New(pluginOptions(c, "by-hand", o.logger()))
	program, err := host.Program(addressPlugin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, orderMost)
	defer cancel()
	if order.Applications, err = addressesOf(ctx, c, o); err != nil {
		return err
	}
	input, err := json.Marshal(order)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-order")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it undoes what is half done
	cmd.WaitDelay = closeTimeout
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, &said
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			return fmt.Errorf("ORS-7041: %s", strings.ReplaceAll(text, "\n", "; "))
		}
		return fmt.Errorf("ORS-7041: %s: %w", program, err)
	}
	return nil
}

// addressesOf lists the applications of the configuration that have addresses of their own, which nobody may take by
// hand: the partner may have them.
func addressesOf(ctx context.Context, c *config.Config, o Options) ([]applicationAddresses, error) {
	if !slices.Contains(c.Kinds(), addressPlugin) {
		return nil, nil
	}
	var out []applicationAddresses
	err := askPlugins(c, o.logger(), func(host *pluginhost.Host) error {
		_, schema, err := host.Describe(ctx, addressPlugin)
		if err != nil {
			return err
		}
		for i := range c.Groups {
			g := &c.Groups[i]
			for j := range g.Applications {
				app := &g.Applications[j]
				if app.Kind != addressPlugin {
					continue
				}
				body, diags := c.DecodeApplication(app, schema, c.ExpectedDrives(g))
				if diags.HasErrors() {
					return &ConfigError{Config: c, Diagnostics: diags}
				}
				out = append(out, applicationAddresses{g.Name, app.Name, body})
			}
		}
		return nil
	})
	return out, err
}
