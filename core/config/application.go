package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// DriveValue is what an application's configuration may know of one drive of its group.
type DriveValue struct {
	ConfiguredLetter string // "E:", as the configuration names it
	Letter           string // as mounted; differs when the configured letter was taken
	Path             string // folder below which the volume is mounted
}

// ExpectedDrives are the drives of a group as they are when every letter is free: for looking at an application's
// configuration before anything is mounted.
func (c *Config) ExpectedDrives(g *Group) []DriveValue {
	var out []DriveValue
	for _, u := range g.Storage {
		for _, dr := range u.Drives {
			out = append(out, DriveValue{ConfiguredLetter: dr.Letter, Letter: dr.Letter, Path: c.DriveFolder(dr.Letter)})
		}
	}
	return out
}

// DecodeApplication decodes an application's `config` block with the schema of its plugin and returns it as JSON:
// every attribute is present, with its default or null where it was left out, and every nested block is a list of
// objects in which the labels are attributes. The body may use drive["E:"].path and .letter, the same of d1 … dn, and
// self.
//
// The diagnostics say what is wrong in the configuration; a schema that is broken itself is reported there, too. json
// is nil then.
func (c *Config) DecodeApplication(app *Application, schema *pluginv1.Block, drives []DriveValue) (
	json []byte, diags hcl.Diagnostics) {
	spec, err := blockSpec(schema)
	if err != nil {
		return nil, hcl.Diagnostics{mistake(codeSchema, app.Range,
			fmt.Sprintf("the schema of plugin %q is broken: %v", app.Kind, err),
			"This is a fault of the plugin, not of the configuration: install a version of it that works and tell its maker.")}
	}
	value, found := hcldec.Decode(app.Body, spec, c.bodyContext(drives))
	for _, d := range stamped(found, codeValue) {
		if d.Subject == nil || d.Subject.Filename == "" {
			d.Subject = app.Range.Ptr() // there is no config block to point at
		}
		switch {
		case strings.Contains(d.Summary, "Invalid index"):
			d.Detail += driveNames(drives)
		case strings.Contains(d.Summary, "Unknown variable"):
			d.Detail = "Possible here: self, drive[\"LETTER\"], and d1 … dn for the drives of this group." + driveNames(drives)
		}
		diags = append(diags, d)
	}
	if diags.HasErrors() {
		return nil, tidied(diags)
	}
	json, err = ctyjson.Marshal(value, hcldec.ImpliedType(spec))
	if err != nil {
		return nil, hcl.Diagnostics{mistake(codeValue, app.Range,
			fmt.Sprintf("the configuration of %q cannot be passed to its plugin: %v", app.Name, err),
			"Every value must be known when the configuration is read.")}
	}
	return json, nil
}

// TextIn is a text attribute at the top of an application's `config` block, without knowing its plugin's schema; empty
// where it is left out.
func (c *Config) TextIn(app *Application, name string, drives []DriveValue) (string, error) {
	content, _, _ := app.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: name}}})
	if content == nil || content.Attributes[name] == nil {
		return "", nil
	}
	v, diags := content.Attributes[name].Expr.Value(c.bodyContext(drives))
	if diags.HasErrors() {
		return "", diags
	}
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return "", fmt.Errorf("it is not a text")
	}
	return v.AsString(), nil
}

func driveNames(drives []DriveValue) string {
	if len(drives) == 0 {
		return " This group has no drives."
	}
	var names []string
	for _, d := range drives {
		names = append(names, d.ConfiguredLetter)
	}
	return fmt.Sprintf(" The drives of this group are %s.", quoted(names))
}

func (c *Config) bodyContext(drives []DriveValue) *hcl.EvalContext {
	vars := map[string]cty.Value{"self": cty.StringVal(c.ServerName(c.Self))}
	byLetter := make(map[string]cty.Value)
	for i, d := range drives {
		v := cty.ObjectVal(map[string]cty.Value{"letter": cty.StringVal(d.Letter), "path": cty.StringVal(d.Path)})
		byLetter[d.ConfiguredLetter] = v
		vars["d"+strconv.Itoa(i+1)] = v
	}
	vars["drive"] = cty.ObjectVal(byLetter)
	return &hcl.EvalContext{Variables: vars}
}

// maxDepth is how deep blocks of a schema may be nested; it stops a plugin from sending one without end.
const maxDepth = 16

// blockSpec turns a plugin's schema into what decodes a body.
func blockSpec(b *pluginv1.Block) (hcldec.ObjectSpec, error) {
	if b == nil {
		return nil, fmt.Errorf("it is empty")
	}
	return nestedSpec(b, nil, maxDepth)
}

func nestedSpec(b *pluginv1.Block, labels []string, depth int) (hcldec.ObjectSpec, error) {
	if depth == 0 {
		return nil, fmt.Errorf("blocks are nested deeper than %d", maxDepth)
	}
	spec := make(hcldec.ObjectSpec)
	add := func(name string, s hcldec.Spec) error {
		if !hclsyntax.ValidIdentifier(name) {
			return fmt.Errorf("%q is no name", name)
		}
		if _, ok := spec[name]; ok {
			return fmt.Errorf("%q is declared twice", name)
		}
		spec[name] = s
		return nil
	}
	for i, l := range labels {
		if err := add(l, &hcldec.BlockLabelSpec{Index: i, Name: l}); err != nil {
			return nil, err
		}
	}
	for _, a := range b.GetAttributes() {
		s, err := attributeSpec(a)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", a.GetName(), err)
		}
		if err := add(a.GetName(), s); err != nil {
			return nil, err
		}
	}
	for _, n := range b.GetBlocks() {
		if n.GetMin() < 0 || n.GetMax() < 0 || n.GetMax() > 0 && n.GetMin() > n.GetMax() {
			return nil, fmt.Errorf("block %q: between %d and %d of them cannot be", n.GetName(), n.GetMin(), n.GetMax())
		}
		inner, err := nestedSpec(n.GetBlock(), n.GetLabels(), depth-1)
		if err != nil {
			return nil, fmt.Errorf("block %q: %w", n.GetName(), err)
		}
		s := &hcldec.BlockListSpec{TypeName: n.GetName(), Nested: inner, MinItems: int(n.GetMin()), MaxItems: int(n.GetMax())}
		if err := add(n.GetName(), s); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

func attributeSpec(a *pluginv1.Attribute) (hcldec.Spec, error) {
	expr, diags := hclsyntax.ParseExpression([]byte(a.GetType()), "type", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, fmt.Errorf("type %q: %s", a.GetType(), diags[0].Detail)
	}
	t, diags := typeexpr.TypeConstraint(expr)
	if diags.HasErrors() {
		return nil, fmt.Errorf("type %q: %s", a.GetType(), diags[0].Detail)
	}
	if t.HasDynamicTypes() {
		return nil, fmt.Errorf("type %q: any is not possible, say which type it is", a.GetType())
	}
	attr := &hcldec.AttrSpec{Name: a.GetName(), Type: t, Required: a.GetRequired()}
	if a.GetDefault() == "" {
		return attr, nil
	}
	if a.GetRequired() {
		return nil, fmt.Errorf("it is required and has a default")
	}
	def, diags := hclsyntax.ParseExpression([]byte(a.GetDefault()), "default", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, fmt.Errorf("default %q: %s", a.GetDefault(), diags[0].Detail)
	}
	v, diags := def.Value(nil)
	if diags.HasErrors() {
		return nil, fmt.Errorf("default %q: %s", a.GetDefault(), diags[0].Detail)
	}
	v, err := convert.Convert(v, t)
	if err != nil {
		return nil, fmt.Errorf("default %q is no %s", a.GetDefault(), a.GetType())
	}
	return &hcldec.DefaultSpec{Primary: attr, Default: &hcldec.LiteralSpec{Value: v}}, nil
}

// CheckSchema reports what is wrong with a plugin's schema; nil when it can be used.
func CheckSchema(b *pluginv1.Block) error {
	_, err := blockSpec(b)
	return err
}

var pathStep = regexp.MustCompile(`^([^.\[\]]+)(?:\[(\d+)\])?$`)

// AttributeRange finds the place of an attribute that a plugin has named in a finding, such as "check[0].interval"
// or "command[1]", which is an element of a list.
// Where the path leads nowhere, it is the innermost block that was found; at least the application's.
func (c *Config) AttributeRange(app *Application, schema *pluginv1.Block, path string) hcl.Range {
	at, body := app.Range, app.Body
	for _, step := range strings.Split(path, ".") {
		m := pathStep.FindStringSubmatch(step)
		if m == nil || schema == nil {
			return at
		}
		content, _, _ := body.PartialContent(bodySchema(schema))
		if a, ok := content.Attributes[m[1]]; ok {
			return elementRange(a.Expr, m[2])
		}
		index, _ := strconv.Atoi(m[2])
		blocks := content.Blocks.OfType(m[1])
		if index >= len(blocks) {
			return at
		}
		at, body = blocks[index].DefRange, blocks[index].Body
		for _, n := range schema.GetBlocks() {
			if n.GetName() == m[1] {
				schema = n.GetBlock()
				break
			}
		}
	}
	return at
}

// elementRange is where an element of a list is written, or the whole expression where it is no list with that many.
func elementRange(e hcl.Expression, index string) hcl.Range {
	if i, err := strconv.Atoi(index); err == nil {
		if all, diags := hcl.ExprList(e); !diags.HasErrors() && i < len(all) {
			return all[i].Range()
		}
	}
	return e.Range()
}

// Place is where an attribute is written in the first block of a type and, unless label is empty, of that label; the
// block's header where it is left out, and nowhere (a zero Range) where there is no such block.
func (c *Config) Place(blockType, label, attribute string) hcl.Range {
	file := c.files[c.Path]
	if file == nil {
		return hcl.Range{}
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return hcl.Range{}
	}
	for _, b := range body.Blocks {
		if b.Type != blockType || label != "" && !slices.Contains(b.Labels, label) {
			continue
		}
		if a := b.Body.Attributes[attribute]; a != nil {
			return a.Expr.Range()
		}
		return b.DefRange()
	}
	return hcl.Range{}
}

func bodySchema(b *pluginv1.Block) *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, a := range b.GetAttributes() {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: a.GetName()})
	}
	for _, n := range b.GetBlocks() {
		s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: n.GetName(), LabelNames: n.GetLabels()})
	}
	return s
}

// Finding turns a plugin's finding about an application's configuration into a diagnostic at the line that it is about.
func (c *Config) Finding(app *Application, schema *pluginv1.Block, p *pluginv1.Problem) *hcl.Diagnostic {
	return c.finding(codeFinding, app, schema, p)
}

// NotReady turns what an application lacks on this server into a diagnostic at the line that asks for it.
func (c *Config) NotReady(app *Application, schema *pluginv1.Block, p *pluginv1.Problem) *hcl.Diagnostic {
	return c.finding(codeNotReady, app, schema, p)
}

func (c *Config) finding(code string, app *Application, schema *pluginv1.Block, p *pluginv1.Problem) *hcl.Diagnostic {
	severity := hcl.DiagError
	if p.GetSeverity() == pluginv1.Problem_SEVERITY_WARNING {
		severity = hcl.DiagWarning
	}
	at := c.AttributeRange(app, schema, p.GetAttribute())
	return &hcl.Diagnostic{
		Severity: severity,
		Summary:  fmt.Sprintf("%s: %s %q: %s", code, app.Kind, app.Name, p.GetSummary()),
		Detail:   p.GetDetail(),
		Subject:  at.Ptr(),
	}
}
