package config

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/orscore/ors/core/failover"
)

// MaxFileSize is the largest configuration that is read, in bytes.
const MaxFileSize = 4 << 20

// Options say on whose behalf a configuration is read.
type Options struct {
	Server string // name of the server that one is; empty: the host name
	NoKey  bool   // leave the key file alone: for whoever only wants to know what the file says
}

// Load reads the file at path. See Parse for what is returned.
func Load(path string, o Options) (*Config, hcl.Diagnostics) {
	unreadable := func(err error) (*Config, hcl.Diagnostics) {
		return &Config{Path: path}, hcl.Diagnostics{mistake(codeUnreadable, hcl.Range{},
			fmt.Sprintf("configuration %s cannot be read: %v", path, err),
			"Give the path of the pair's configuration file; it is the same file on both servers.")}
	}
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(err)
	}
	if !info.Mode().IsRegular() || info.Size() > MaxFileSize {
		return unreadable(fmt.Errorf("it is not a regular file of at most %d bytes", MaxFileSize))
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return unreadable(err)
	}
	return Parse(path, src, o)
}

// Parse reads a configuration from src; filename is for messages. It reads the key file that src names, and nothing
// else.
//
// When the diagnostics have errors the returned Config holds no settings: it only serves to write the diagnostics.
// Otherwise it is complete, and the diagnostics are empty; what is worth a warning is in its Notes.
func Parse(filename string, src []byte, o Options) (*Config, hcl.Diagnostics) {
	parser := hclparse.NewParser()
	file, diags := parser.ParseHCL(src, filename)
	failed := &Config{Path: filename, files: parser.Files()}
	if diags.HasErrors() {
		return failed, tidied(stamped(diags, codeSyntax))
	}
	c := &Config{
		Path:   filename,
		Digest: sha256.Sum256(hclwrite.Format(src)),
		files:  parser.Files(),
	}
	d := &decoder{c: c, o: o}
	d.file(file.Body)
	if d.diags.HasErrors() {
		return failed, tidied(d.diags)
	}
	c.notes()
	return c, nil
}

// file decodes the whole file. Blocks are visited in the order in which they depend on each other: who the servers
// are decides what ${self} is, and a drive may be checked only when it is known which switch it hangs on.
func (d *decoder) file(body hcl.Body) {
	root := d.open(body, body.MissingItemRange(), &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "pair", LabelNames: []string{"name"}},
		{Type: "server", LabelNames: []string{"name"}},
		{Type: "agent"},
		{Type: "interconnect"},
		{Type: "arbitration"},
		{Type: "network_check"},
		{Type: "plugin", LabelNames: []string{"kind"}},
		{Type: "group", LabelNames: []string{"name"}},
	}})
	d.servers(root)
	d.pair(root)
	d.agent(root.only("agent", false))
	d.interconnect(root)
	d.arbitration(root.only("arbitration", false))
	d.networkCheck(root.only("network_check", false))
	d.plugins(root)
	d.groups(root)
	d.checkUnits()
}

// servers decodes the server blocks and finds out which of them one is.
func (d *decoder) servers(root *section) {
	d.paths = &hcl.EvalContext{Variables: map[string]cty.Value{"self": cty.UnknownVal(cty.String)}}
	blocks := root.all("server")
	seen := make(map[string]hcl.Range)
	for i, b := range blocks {
		d.open(b.Body, b.DefRange, &hcl.BodySchema{})
		d.checkName("server", b.Labels[0], b.LabelRanges[0])
		d.checkUnique("server", seen, b.Labels[0], b.LabelRanges[0])
		if i < len(d.c.Servers) {
			d.c.Servers[i] = Server{Name: b.Labels[0], Range: b.DefRange}
			if !slices.Contains(d.serverNames, b.Labels[0]) {
				d.serverNames = append(d.serverNames, b.Labels[0])
			}
		}
	}
	if len(blocks) != len(d.c.Servers) {
		at := root.at
		if len(blocks) > len(d.c.Servers) {
			at = blocks[len(d.c.Servers)].DefRange
		} else if len(blocks) > 0 {
			at = blocks[0].DefRange
		}
		d.report(codeServers, at, fmt.Sprintf("a pair has two servers, and this file names %d", len(blocks)),
			`Write two blocks: server "rocky" {} and server "apollo" {}, with the host names of the two.`)
		return
	}
	d.self(root.at)
}

// self finds out which server one is. A host name matches with or without its domain, in either case.
func (d *decoder) self(at hcl.Range) {
	name := d.o.Server
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			d.report(codeSelf, at, fmt.Sprintf("the name of this host cannot be read: %v", err),
				"Say which server this is with --server NAME.")
			return
		}
		name = host
	}
	short, _, _ := strings.Cut(name, ".")
	for _, candidate := range []string{name, short} {
		for i := range d.c.Servers {
			if d.o.Server == "" && strings.EqualFold(d.c.Servers[i].Name, candidate) || d.c.Servers[i].Name == candidate {
				d.c.Self = failover.Server(i + 1)
				d.paths.Variables["self"] = cty.StringVal(d.c.Servers[i].Name)
				return
			}
		}
	}
	d.report(codeSelf, d.c.Servers[0].Range,
		fmt.Sprintf("this host is %q, and the servers are %s", name, quoted(d.serverNames)),
		"Say which server this is with --server NAME, or name the server blocks after the two hosts.")
}

// notes collects what works and should be known.
func (c *Config) notes() {
	links := len(c.Interconnect.Serial) + len(c.Interconnect.UDP)
	if links == 1 {
		at := hcl.Range{Filename: c.Path}
		for _, l := range c.Interconnect.Serial {
			at = l.Range
		}
		for _, l := range c.Interconnect.UDP {
			at = l.Range
		}
		c.Notes = append(c.Notes, Note{codeNoteSingleLink, "the interconnect has one link only",
			"When it breaks, a dead partner and a broken cable look the same. Add a second link on another medium.", at})
	}
	used := make(map[string]bool)
	pinned := make(map[string]bool)
	for _, p := range c.Plugins {
		pinned[p.Kind] = p.SHA256 != ""
	}
	for _, g := range c.Groups {
		for _, a := range g.Applications {
			if !used[a.Kind] && !pinned[a.Kind] {
				c.Notes = append(c.Notes, Note{codeNoteUnpinned, fmt.Sprintf("plugin %q is not pinned", a.Kind),
					fmt.Sprintf("Whatever program is installed as ors-plugin-%[1]s is run. Pin it: plugin %[1]q { sha256 = \"…\" }.",
						a.Kind),
					a.Range})
			}
			used[a.Kind] = true
		}
	}
	for _, p := range c.Plugins {
		if !used[p.Kind] {
			c.Notes = append(c.Notes, Note{codeNoteUnused, fmt.Sprintf("no application uses plugin %q", p.Kind),
				"The block has no effect. Remove it, or name the kind in an application block.", p.Range})
		}
	}
}

// Kinds lists the kinds of plugins that the applications need, each once, in the order of the file.
func (c *Config) Kinds() []string {
	var kinds []string
	seen := make(map[string]bool)
	for _, g := range c.Groups {
		for _, a := range g.Applications {
			if !seen[a.Kind] {
				seen[a.Kind] = true
				kinds = append(kinds, a.Kind)
			}
		}
	}
	return kinds
}
