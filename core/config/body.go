package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// ParseBody reads what stands inside the `config` block of one application: what a plugin is tried out with, without a
// pair around it. DecodeApplication of the returned Config decodes it. After an error the Config only serves to write
// the diagnostics.
func ParseBody(filename string, src []byte, kind string) (*Config, *Application, hcl.Diagnostics) {
	parser := hclparse.NewParser()
	file, diags := parser.ParseHCL(src, filename)
	c := &Config{Path: filename, files: parser.Files()}
	if diags.HasErrors() {
		return c, nil, tidied(stamped(diags, codeSyntax))
	}
	return c, &Application{Kind: kind, Name: kind, Body: file.Body, Range: file.Body.MissingItemRange()}, nil
}
