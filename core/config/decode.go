package config

import (
	"fmt"
	"math/big"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// decoder collects the settings and the mistakes of one file.
type decoder struct {
	c           *Config
	o           Options
	diags       hcl.Diagnostics
	serverNames []string
	paths       *hcl.EvalContext // for values that may differ between the servers: knows ${self}
}

func (d *decoder) report(code string, at hcl.Range, summary, detail string) {
	d.diags = append(d.diags, mistake(code, at, summary, detail))
}

// section is the content of one block, read attribute by attribute. A nil section reads as an empty one.
type section struct {
	d       *decoder
	at      hcl.Range // where to point when something is missing
	content *hcl.BodyContent
}

// open takes a body apart and reports what does not belong in it.
func (d *decoder) open(body hcl.Body, at hcl.Range, schema *hcl.BodySchema) *section {
	content, diags := body.Content(schema)
	for _, one := range diags {
		// The library points at the opening brace, or at the first byte of the file; the block's header says more.
		if one.Subject != nil && one.Subject.Empty() {
			one.Subject = at.Ptr()
		}
		if one.Summary == "Unsupported argument" || one.Summary == "Unsupported block type" {
			if !strings.Contains(one.Detail, "Did you mean") {
				one.Detail += possible(schema)
			}
		}
	}
	d.diags = append(d.diags, stamped(diags, codeValue)...)
	return &section{d: d, at: at, content: content}
}

// possible lists what a block may hold.
func possible(schema *hcl.BodySchema) string {
	var names []string
	for _, a := range schema.Attributes {
		names = append(names, a.Name)
	}
	for _, b := range schema.Blocks {
		names = append(names, b.Type)
	}
	if len(names) == 0 {
		return " This block holds nothing."
	}
	return " Possible: " + strings.Join(names, ", ") + "."
}

// all returns the blocks of one type.
func (s *section) all(blockType string) hcl.Blocks {
	if s == nil {
		return nil
	}
	return s.content.Blocks.OfType(blockType)
}

// only returns the block of a type of which there may be one, and reports a second one, or that a required one is
// missing.
func (s *section) only(blockType string, required bool) *hcl.Block {
	blocks := s.all(blockType)
	for _, more := range blocks[min(len(blocks), 1):] {
		s.d.report(codeDuplicate, more.DefRange, fmt.Sprintf("a second %s block", blockType),
			fmt.Sprintf("There is one at line %d already; put everything into one block.", blocks[0].DefRange.Start.Line))
	}
	if len(blocks) == 0 {
		if required {
			s.d.report(codeMissing, s.at, fmt.Sprintf("there is no %s block", blockType),
				fmt.Sprintf("Add one: %s.", example(blockType)))
		}
		return nil
	}
	return blocks[0]
}

func example(blockType string) string {
	switch blockType {
	case "pair":
		return `pair "cpqlab" {}`
	case "interconnect":
		return `interconnect { key_file = "/etc/ors/interconnect.key" … }`
	case "switch":
		return `switch "rsw" { endpoint = "unix:/run/enclosure.sock" }`
	}
	return blockType + " { … }"
}

// attribute returns an attribute; nil when it is not there.
func (s *section) attribute(name string) *hcl.Attribute {
	if s == nil {
		return nil
	}
	return s.content.Attributes[name]
}

// where returns the place of an attribute's value, or of the block when the attribute is not there.
func (s *section) where(name string) hcl.Range {
	if a := s.attribute(name); a != nil {
		return a.Expr.Range()
	}
	if s == nil {
		return hcl.Range{Filename: ""}
	}
	return s.at
}

// value evaluates an attribute as a type; ok is false when it is absent, null, unknown or wrong. What is wrong has
// been reported.
func (s *section) value(name string, want cty.Type, ctx *hcl.EvalContext) (cty.Value, bool) {
	a := s.attribute(name)
	if a == nil {
		return cty.NilVal, false
	}
	return s.d.evaluate(a.Expr, name, want, ctx)
}

func (d *decoder) evaluate(e hcl.Expression, name string, want cty.Type, ctx *hcl.EvalContext) (cty.Value, bool) {
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		d.diags = append(d.diags, stamped(diags, codeValue)...)
		return cty.NilVal, false
	}
	// Only a whole word of another kind is wrong: HCL would turn 115200 into "115200" and "true" into true.
	got := v.Type()
	if v, err := convert.Convert(v, want); err == nil && (!got.IsPrimitiveType() || got == want) {
		return v, !v.IsNull() && v.IsWhollyKnown()
	}
	if v.IsNull() || !v.IsWhollyKnown() {
		return cty.NilVal, false
	}
	d.report(codeValue, e.Range(), fmt.Sprintf("%s must be %s, not %s", name, article(want), article(got)), right(want))
	return cty.NilVal, false
}

func article(t cty.Type) string {
	switch {
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsListType(), t.IsTupleType(), t.IsSetType():
		return "a list of strings"
	case t.IsObjectType(), t.IsMapType():
		return "an object"
	}
	return "a " + t.FriendlyName()
}

func right(t cty.Type) string {
	switch t {
	case cty.String:
		return "Write the value in double quotes."
	case cty.Number:
		return "Write a number without quotes."
	case cty.Bool:
		return "Write true or false without quotes."
	}
	return `Write a list of strings in brackets, such as ["one", "two"].`
}

func (s *section) text(name, def string, ctx *hcl.EvalContext) string {
	v, ok := s.value(name, cty.String, ctx)
	if !ok {
		return def
	}
	return v.AsString()
}

func (s *section) boolean(name string, def bool) bool {
	v, ok := s.value(name, cty.Bool, nil)
	if !ok {
		return def
	}
	return v.True()
}

func (s *section) integer(name string, def, low, high int) int {
	v, ok := s.value(name, cty.Number, nil)
	if !ok {
		return def
	}
	i, accuracy := v.AsBigFloat().Int64()
	if accuracy != big.Exact || i < int64(low) || i > int64(high) {
		s.d.report(codeNumber, s.where(name), fmt.Sprintf("%s is %s", name, v.AsBigFloat().Text('g', 12)),
			fmt.Sprintf("Write a whole number between %d and %d.", low, high))
		return def
	}
	return int(i)
}

func (s *section) list(name string, ctx *hcl.EvalContext) []string {
	v, ok := s.value(name, cty.List(cty.String), ctx)
	if !ok {
		return nil
	}
	out := make([]string, 0, v.LengthInt())
	for _, e := range v.AsValueSlice() {
		if e.IsNull() {
			s.d.report(codeValue, s.where(name), name+" has an entry that is null", right(cty.List(cty.String)))
			return nil
		}
		out = append(out, e.AsString())
	}
	return out
}

// duration reads a duration such as "200ms" between low and high.
func (s *section) duration(name string, def, low, high time.Duration) time.Duration {
	v, ok := s.value(name, cty.String, nil)
	if !ok {
		return def
	}
	got, err := time.ParseDuration(v.AsString())
	switch {
	case err != nil:
		s.d.report(codeDuration, s.where(name), fmt.Sprintf("%s is %q, which is no duration", name, v.AsString()),
			`Write a number with its unit: "200ms", "2s", "10m" or "1h30m".`)
	case got < low || got > high:
		s.d.report(codeDuration, s.where(name), fmt.Sprintf("%s is %s", name, short(got)),
			fmt.Sprintf("Write a duration between %s and %s.", short(low), short(high)))
	default:
		return got
	}
	return def
}

// short prints a duration without the zero units that the standard form ends with: 10m, not 10m0s.
var zeroUnits = regexp.MustCompile(`([hm])(0m)?(0s)?$`)

func short(d time.Duration) string { return zeroUnits.ReplaceAllString(d.String(), "$1") }

// path reads an absolute path, which may use ${self}.
func (s *section) path(name, def string) string {
	p := s.text(name, def, s.pathContext())
	if p != def && !filepath.IsAbs(p) {
		s.d.report(codePath, s.where(name), fmt.Sprintf("%s is %q, which is no absolute path", name, p),
			"Write the whole path from the root: the agent's working folder is not the same everywhere.")
	}
	return p
}

func (s *section) pathContext() *hcl.EvalContext {
	if s == nil {
		return nil
	}
	return s.d.paths
}

// perServer reads an object with one string for each server, and the place of each.
func (s *section) perServer(name string) (values [2]string, at [2]hcl.Range) {
	a := s.attribute(name)
	if a == nil {
		return values, at
	}
	pairs, diags := hcl.ExprMap(a.Expr)
	if diags.HasErrors() {
		s.d.report(codePerServer, a.Expr.Range(), name+" needs a value for each server", s.perServerExample(name))
		return values, at
	}
	for _, p := range pairs {
		key, ok := s.d.evaluate(p.Key, "the name of a server", cty.String, nil)
		if !ok {
			continue
		}
		i := s.d.c.ServerByName(key.AsString())
		if i == 0 {
			if len(s.d.serverNames) == len(s.d.c.Servers) {
				s.d.report(codePerServer, p.Key.Range(),
					fmt.Sprintf("%s names %q, which is no server of this pair", name, key.AsString()),
					fmt.Sprintf("The servers are %s.%s", quoted(s.d.serverNames), meant(key.AsString(), s.d.serverNames)))
			}
			continue
		}
		if at[i-1].Filename != "" {
			s.d.report(codeDuplicate, p.Key.Range(), fmt.Sprintf("%s has a second value for %q", name, key.AsString()),
				"Write one value for each server.")
			continue
		}
		at[i-1] = p.Value.Range()
		if v, ok := s.d.evaluate(p.Value, name, cty.String, nil); ok {
			values[i-1] = v.AsString()
		}
	}
	for i, n := range s.d.serverNames {
		if at[i].Filename == "" && len(s.d.serverNames) == len(s.d.c.Servers) {
			s.d.report(codePerServer, a.Expr.Range(), fmt.Sprintf("%s has no value for server %q", name, n),
				s.perServerExample(name))
		}
	}
	return values, at
}

func (s *section) perServerExample(name string) string {
	one, other := "rocky", "apollo"
	if len(s.d.serverNames) == 2 {
		one, other = s.d.serverNames[0], s.d.serverNames[1]
	}
	return fmt.Sprintf(`Write %s = { %s = "…", %s = "…" }.`, name, one, other)
}

// choice reads one of a few words.
func (s *section) choice(code, name, def string, allowed []string, why string) string {
	got := s.text(name, def, nil)
	for _, w := range allowed {
		if got == w {
			return got
		}
	}
	s.d.report(code, s.where(name), fmt.Sprintf("%s is %q", name, got),
		fmt.Sprintf("Possible: %s.%s%s", quoted(allowed), meant(got, allowed), why))
	return def
}

// Names become parts of file names, of log lines and of handles, so they keep to letters that are harmless in all of
// them.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (d *decoder) checkName(what, name string, at hcl.Range) {
	if !nameForm.MatchString(name) {
		d.report(codeName, at, fmt.Sprintf("%q is no name for a %s", name, what),
			"A name has 1 to 63 letters, digits, dots, hyphens and underscores, and begins with a letter or digit.")
	}
}

// checkUnique reports a name that seen has already, and adds it.
func (d *decoder) checkUnique(what string, seen map[string]hcl.Range, name string, at hcl.Range) {
	if first, ok := seen[name]; ok {
		d.report(codeDuplicate, at, fmt.Sprintf("a second %s has the name %q", what, name),
			fmt.Sprintf("The first is at line %d. Names are identities: give each %s its own.", first.Start.Line, what))
		return
	}
	seen[name] = at
}
