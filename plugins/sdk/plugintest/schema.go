package plugintest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/convert"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const deepest = 16 // how deep the core lets blocks be nested

// checkSchema says what the core could not decode a configuration with, or could not show to people.
func checkSchema(b *pluginv1.Block, path string, labels []string, depth int) error {
	if b == nil {
		return fmt.Errorf("%sis empty: a block without attributes is written as one", place(path))
	}
	if depth == 0 {
		return fmt.Errorf("blocks are nested deeper than %d", deepest)
	}
	seen := map[string]bool{}
	name := func(n string) error {
		if !hclsyntax.ValidIdentifier(n) {
			return fmt.Errorf("%s%q is no name in HCL", place(path), n)
		}
		if seen[n] {
			return fmt.Errorf("%s%q is there twice", place(path), n)
		}
		seen[n] = true
		return nil
	}
	for _, l := range labels {
		if err := name(l); err != nil {
			return err
		}
	}
	for _, a := range b.GetAttributes() {
		if err := name(a.GetName()); err != nil {
			return err
		}
		if err := checkAttribute(a); err != nil {
			return fmt.Errorf("%sattribute %q: %w", place(path), a.GetName(), err)
		}
	}
	for _, n := range b.GetBlocks() {
		if err := name(n.GetName()); err != nil {
			return err
		}
		if n.GetMin() < 0 || n.GetMax() < 0 || n.GetMax() > 0 && n.GetMin() > n.GetMax() {
			return fmt.Errorf("%sblock %q: there cannot be between %d and %d", place(path), n.GetName(), n.GetMin(), n.GetMax())
		}
		if err := checkSchema(n.GetBlock(), path+n.GetName()+".", n.GetLabels(), depth-1); err != nil {
			return err
		}
	}
	return nil
}

func place(path string) string {
	if path == "" {
		return ""
	}
	return "in " + strings.TrimSuffix(path, ".") + ": "
}

func checkAttribute(a *pluginv1.Attribute) error {
	if a.GetDescription() == "" {
		return fmt.Errorf("it has no description, which is all that its users will read of it")
	}
	expr, diags := hclsyntax.ParseExpression([]byte(a.GetType()), "type", hcl.InitialPos)
	if diags.HasErrors() {
		return fmt.Errorf("type %q: %s", a.GetType(), diags[0].Detail)
	}
	t, diags := typeexpr.TypeConstraint(expr)
	if diags.HasErrors() {
		return fmt.Errorf("type %q: %s", a.GetType(), diags[0].Detail)
	}
	if t.HasDynamicTypes() {
		return fmt.Errorf("type %q: any is not possible, say which type it is", a.GetType())
	}
	switch {
	case a.GetDefault() == "":
		return nil
	case a.GetRequired():
		return fmt.Errorf("it is required and has a default")
	}
	def, diags := hclsyntax.ParseExpression([]byte(a.GetDefault()), "default", hcl.InitialPos)
	if diags.HasErrors() {
		return fmt.Errorf("default %q: %s", a.GetDefault(), diags[0].Detail)
	}
	v, diags := def.Value(nil)
	if diags.HasErrors() {
		return fmt.Errorf("default %q: %s", a.GetDefault(), diags[0].Detail)
	}
	if _, err := convert.Convert(v, t); err != nil {
		return fmt.Errorf("default %q is no %s", a.GetDefault(), a.GetType())
	}
	return nil
}

// pathStep is one step of the path in a problem: a name and, for a block, which one.
var pathStep = regexp.MustCompile(`^([^.\[\]]+)(?:\[([0-9]+)\])?$`)

// knows says whether a path such as "check[0].interval" leads to an attribute, label or block of the schema.
func knows(b *pluginv1.Block, path string) bool {
	var labels []string
	for _, step := range strings.Split(path, ".") {
		m := pathStep.FindStringSubmatch(step)
		if m == nil {
			return false
		}
		attribute := func(a *pluginv1.Attribute) bool { return a.GetName() == m[1] }
		if slices.ContainsFunc(b.GetAttributes(), attribute) || slices.Contains(labels, m[1]) {
			return true // what follows is a place in its value
		}
		i := slices.IndexFunc(b.GetBlocks(), func(n *pluginv1.NestedBlock) bool { return n.GetName() == m[1] })
		if i < 0 {
			return false
		}
		labels, b = b.GetBlocks()[i].GetLabels(), b.GetBlocks()[i].GetBlock()
	}
	return true
}

// checkProblems says what is wrong with the findings of Validate and Ready themselves.
func checkProblems(name string, schema *pluginv1.Block, found []*pluginv1.Problem) error {
	for _, p := range found {
		switch {
		case p.GetSeverity() == pluginv1.Problem_SEVERITY_UNSPECIFIED:
			return fmt.Errorf("%s: the problem %q has no severity", name, p.GetSummary())
		case strings.TrimSpace(p.GetSummary()) == "" || strings.ContainsAny(p.GetSummary(), "\r\n"):
			return fmt.Errorf("%s: the summary %q has to be one line", name, p.GetSummary())
		case p.GetAttribute() != "" && !knows(schema, p.GetAttribute()):
			return fmt.Errorf("%s: the problem %q is about %q, which the schema does not know: the core would not find the line",
				name, p.GetSummary(), p.GetAttribute())
		}
	}
	return nil
}

func firstError(found []*pluginv1.Problem) *pluginv1.Problem {
	for _, p := range found {
		if p.GetSeverity() == pluginv1.Problem_SEVERITY_ERROR {
			return p
		}
	}
	return nil
}
