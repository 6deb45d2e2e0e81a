// Package plugindoc writes the reference page of a plugin from what it says of itself.
//
// It must never know a plugin.
package plugindoc

import (
	"fmt"
	"strings"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Markdown is the page: what the plugin is, its attributes, and each nested block with its own.
func Markdown(info *pluginv1.InfoResponse, schema *pluginv1.Block) string {
	var b strings.Builder
	kind := info.GetKind()
	fmt.Fprintf(&b, "# %s\n\n%s Version %s.\n", kind, sentence(info.GetDescription()), info.GetVersion())
	var has []string
	if info.GetEvents() {
		has = append(has, "it is told what happens to the pair")
	}
	if info.GetLeases() {
		has = append(has, "what it protects is on a lease")
	}
	if len(has) > 0 {
		fmt.Fprintf(&b, "Besides, %s.\n", strings.Join(has, ", and "))
	}
	fmt.Fprintf(&b, "\n```hcl\napplication %q \"name\" {\n  config {\n%s  }\n}\n```\n", kind, required(schema, "    "))
	body(&b, schema, "")
	return b.String()
}

// required is a config block with nothing but what must be there.
func required(schema *pluginv1.Block, indent string) string {
	var b strings.Builder
	for _, a := range schema.GetAttributes() {
		if a.GetRequired() {
			fmt.Fprintf(&b, "%s%s = …\n", indent, a.GetName())
		}
	}
	for _, n := range schema.GetBlocks() {
		if n.GetMin() > 0 {
			fmt.Fprintf(&b, "%s%s {\n%s%s}\n", indent, heading(n), required(n.GetBlock(), indent+"  "), indent)
		}
	}
	return b.String()
}

func body(b *strings.Builder, schema *pluginv1.Block, path string) {
	if d := schema.GetDescription(); d != "" {
		fmt.Fprintf(b, "\n%s\n", sentence(d))
	}
	if len(schema.GetAttributes()) > 0 {
		b.WriteString("\n| attribute | type | default | meaning |\n|---|---|---|---|\n")
	}
	for _, a := range schema.GetAttributes() {
		byDefault := "—"
		switch {
		case a.GetRequired():
			byDefault = "required"
		case a.GetDefault() != "":
			byDefault = "`" + a.GetDefault() + "`"
		}
		meaning := sentence(a.GetDescription())
		if a.GetSensitive() {
			meaning += " It is never shown."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", a.GetName(), cell(a.GetType()), cell(byDefault), cell(meaning))
	}
	for _, n := range schema.GetBlocks() {
		name := strings.TrimSpace(path + " " + heading(n))
		fmt.Fprintf(b, "\n## %s\n\n%s\n", name, times(n))
		body(b, n.GetBlock(), name)
	}
}

// heading is how a block is written, such as check "TYPE".
func heading(n *pluginv1.NestedBlock) string {
	text := n.GetName()
	for _, l := range n.GetLabels() {
		text += fmt.Sprintf(" %q", strings.ToUpper(l))
	}
	return text
}

func times(n *pluginv1.NestedBlock) string {
	least, most := n.GetMin(), n.GetMax()
	switch {
	case least == 1 && most == 1:
		return "Exactly one."
	case least == 0 && most == 1:
		return "At most one."
	case least == 0 && most == 0:
		return "Any number."
	case most == 0:
		return fmt.Sprintf("At least %d.", least)
	}
	return fmt.Sprintf("%d to %d.", least, most)
}

// sentence begins with a capital letter and ends with a stop.
func sentence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if !strings.ContainsAny(text[len(text)-1:], ".!?:") {
		text += "."
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
