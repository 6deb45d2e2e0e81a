package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/spf13/cobra"
	"github.com/zclconf/go-cty/cty"

	"github.com/orscore/ors/core/control"
)

// dial finds the agent.
func (a *app) dial(ctx context.Context) (*control.Client, error) {
	socket, err := a.socketPath()
	if err != nil {
		return nil, err
	}
	return control.Dial(ctx, socket)
}

// with calls fn with a connection to the agent.
func (a *app) with(ctx context.Context, fn func(*control.Client) error) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(c), c.Close())
}

// socketPath is --socket, else what the configuration says. Of the configuration only agent.run_dir is read: a
// running agent must be reachable although somebody has since made a mistake in the file, or may not read the key
// that it names.
func (a *app) socketPath() (string, error) {
	if a.socket != "" {
		return a.socket, nil
	}
	src, err := os.ReadFile(a.config)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("ORS-7007: where the agent listens is not known: %w", err)}
	}
	dir, err := agentFolder(a.config, src, a.server, "run_dir", "/run/ors")
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("ORS-7007: where the agent listens is not known: %w", err)}
	}
	return filepath.Join(dir, "control.sock"), nil
}

// stateDir is asked, else what the configuration says, of which only agent.state_dir is read.
func (a *app) stateDir(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	src, err := os.ReadFile(a.config)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("ORS-7007: where the state is kept is not known: %w", err)}
	}
	dir, err := agentFolder(a.config, src, a.server, "state_dir", "/var/lib/ors")
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("ORS-7007: where the state is kept is not known: %w", err)}
	}
	return dir, nil
}

// agentFolder reads one folder of the agent block out of a configuration, and nothing else.
func agentFolder(name string, src []byte, server, what, otherwise string) (string, error) {
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return "", diags
	}
	top, _, diags := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "agent"}, {Type: "server", LabelNames: []string{"name"}},
	}})
	if diags.HasErrors() {
		return "", diags
	}
	self := selfName(top.Blocks.OfType("server"), server)
	for _, b := range top.Blocks.OfType("agent") {
		body, _, diags := b.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: what}}})
		attr := body.Attributes[what]
		if diags.HasErrors() || attr == nil {
			continue
		}
		v, diags := attr.Expr.Value(&hcl.EvalContext{Variables: map[string]cty.Value{"self": cty.StringVal(self)}})
		if diags.HasErrors() {
			return "", diags
		}
		if v.IsNull() || !v.IsWhollyKnown() || v.Type() != cty.String {
			return "", fmt.Errorf("%s: agent.%s is not a string", attr.Range, what)
		}
		return v.AsString(), nil
	}
	return otherwise, nil
}

// selfName is the server that this is: the one asked for, else the one that bears the host's name.
func selfName(servers hcl.Blocks, asked string) string {
	if asked != "" {
		return asked
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	short, _, _ := strings.Cut(host, ".")
	for _, s := range servers {
		if strings.EqualFold(s.Labels[0], host) || strings.EqualFold(s.Labels[0], short) {
			return s.Labels[0]
		}
	}
	return host
}

// completeGroups offers the groups of the running agent; without one it offers nothing.
func (a *app) completeGroups(c *cobra.Command, taken []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	var names []string
	err := a.with(ctx, func(cl *control.Client) error {
		st, err := cl.Status(ctx)
		for _, g := range st.Groups {
			if !slices.Contains(taken, g.Name) {
				names = append(names, g.Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
