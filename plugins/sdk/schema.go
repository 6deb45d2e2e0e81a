package sdk

import (
	"fmt"
	"regexp"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Schema is the body of a block: what it may hold. The core decodes HCL with it, so that every mistake shows file,
// line and column, and makes the plugin's reference page out of it.
type Schema struct {
	Description string
	Attributes  []Attribute
	Blocks      []Block
}

// Attribute is one `name = value`.
type Attribute struct {
	Name        string
	Type        string // HCL type expression: string, number, bool, list(string), map(string), …
	Required    bool
	Default     string // HCL expression such as `"5s"` or `[]`; empty: null
	Description string
	Sensitive   bool // never shown
}

// Block is a nested block. It reaches the plugin as a list of objects, in order; its labels are attributes of these
// names.
type Block struct {
	Name     string
	Labels   []string
	Min, Max int // Max 0: no limit
	Body     Schema
}

// nameForm is that of an HCL identifier, in ASCII.
var nameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// check looks at what needs no HCL; the conformance kit looks at types and defaults, too.
func (s Schema) check(path string, labels []string) error {
	seen := map[string]bool{}
	name := func(n string) error {
		if !nameForm.MatchString(n) || seen[n] {
			return fmt.Errorf("sdk: schema: %s%q is not a name, or is there twice", path, n)
		}
		seen[n] = true
		return nil
	}
	for _, l := range labels {
		if err := name(l); err != nil {
			return err
		}
	}
	for _, a := range s.Attributes {
		if err := name(a.Name); err != nil {
			return err
		}
		if a.Type == "" || a.Required && a.Default != "" {
			return fmt.Errorf("sdk: schema: %s%s needs a type, and a default only if it is not required", path, a.Name)
		}
	}
	for _, b := range s.Blocks {
		if err := name(b.Name); err != nil {
			return err
		}
		if b.Min < 0 || b.Max < 0 || b.Max > 0 && b.Min > b.Max {
			return fmt.Errorf("sdk: schema: %s%s: there cannot be between %d and %d", path, b.Name, b.Min, b.Max)
		}
		if err := b.Body.check(path+b.Name+".", b.Labels); err != nil {
			return err
		}
	}
	return nil
}

func (s Schema) proto() *pluginv1.Block {
	out := &pluginv1.Block{Description: s.Description}
	for _, a := range s.Attributes {
		out.Attributes = append(out.Attributes, &pluginv1.Attribute{
			Name: a.Name, Type: a.Type, Required: a.Required, Default: a.Default,
			Description: a.Description, Sensitive: a.Sensitive,
		})
	}
	for _, b := range s.Blocks {
		out.Blocks = append(out.Blocks, &pluginv1.NestedBlock{
			Name: b.Name, Labels: b.Labels, Min: int32(b.Min), Max: int32(b.Max), Block: b.Body.proto(),
		})
	}
	return out
}
