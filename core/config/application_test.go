package config

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// evaluateAll evaluates every expression in an application's body, whatever its plugin would make of it.
func evaluateAll(c *Config, app *Application, drives []DriveValue) hcl.Diagnostics {
	var diags hcl.Diagnostics
	var walk func(b *hclsyntax.Body)
	walk = func(b *hclsyntax.Body) {
		for _, a := range b.Attributes {
			_, d := a.Expr.Value(c.bodyContext(drives))
			diags = append(diags, d...)
		}
		for _, n := range b.Blocks {
			walk(n.Body)
		}
	}
	walk(app.Body.(*hclsyntax.Body))
	return diags
}

// webSchema is a schema with one of everything.
func webSchema() *pluginv1.Block {
	return &pluginv1.Block{
		Attributes: []*pluginv1.Attribute{
			{Name: "command", Type: "list(string)", Required: true},
			{Name: "port", Type: "number", Default: "8080"},
			{Name: "user", Type: "string"},
			{Name: "quick", Type: "bool", Default: "true"},
			{Name: "environment", Type: "map(string)", Default: "{}"},
			{Name: "limit", Type: "object({ soft = number, hard = number })", Default: "{ soft = 1, hard = 2 }"},
		},
		Blocks: []*pluginv1.NestedBlock{
			{Name: "check", Labels: []string{"type"}, Block: &pluginv1.Block{
				Attributes: []*pluginv1.Attribute{
					{Name: "address", Type: "string", Required: true},
					{Name: "interval", Type: "string", Default: `"5s"`},
				},
				Blocks: []*pluginv1.NestedBlock{{Name: "expect", Max: 1, Block: &pluginv1.Block{
					Attributes: []*pluginv1.Attribute{{Name: "status", Type: "number"}},
				}}},
			}},
			{Name: "stop", Max: 1, Block: &pluginv1.Block{
				Attributes: []*pluginv1.Attribute{{Name: "signal", Type: "string", Default: `"SIGTERM"`}},
			}},
		},
	}
}

func web(t testing.TB, replace ...string) (*Config, *Group, *Application) {
	t.Helper()
	src, _ := good(t)
	src = strings.NewReplacer(replace...).Replace(src)
	c, diags := Parse("config.hcl", []byte(src), Options{Server: "rocky"})
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	g := &c.Groups[0]
	return c, g, &g.Applications[len(g.Applications)-1]
}

func TestDecodeApplication(t *testing.T) {
	c, g, app := web(t)
	raw, diags := c.DecodeApplication(app, webSchema(), c.ExpectedDrives(g))
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	var got, want any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"command": ["/ors/E/bin/web", "G:"], "port": 80, "user": null, "quick": true, "environment": {},
		"limit": {"soft": 1, "hard": 2}, "stop": [],
		"check": [
			{"type": "tcp", "address": "172.25.36.45:80", "interval": "5s", "expect": []},
			{"type": "http", "address": "172.25.36.45:8080", "interval": "1s", "expect": []}
		]
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// A letter that was taken: the configured one still names the drive.
	drives := []DriveValue{{"E:", "H:", "/ors/H"}, {"G:", "G:", "/ors/G"}}
	raw, _ = c.DecodeApplication(app, webSchema(), drives)
	if !strings.Contains(string(raw), `"/ors/H/bin/web"`) {
		t.Errorf("moved drive: %s", raw)
	}
}

func TestDecodeApplicationMistakes(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"unknown_attribute", "port    = 80", "prot = 80"},
		{"unknown_block", `check "tcp"`, `chekc "tcp"`},
		{"missing", `command = ["${drive["E:"].path}/bin/web", d2.letter]`, ""},
		{"wrong_type", "port    = 80", `port = "eighty"`},
		{"unknown_drive", `drive["E:"]`, `drive["X:"]`},
		{"unknown_variable", "d2.letter", "d3.letter"},
		{"unknown_property", "d2.letter", "d2.lettre"},
		{"label_missing", `check "tcp"`, `check`},
		{"too_many", "port    = 80", "stop {}\nstop {}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, g, app := web(t, tt.old, tt.new)
			raw, diags := c.DecodeApplication(app, webSchema(), c.ExpectedDrives(g))
			if !diags.HasErrors() || raw != nil {
				t.Fatalf("no mistake was found: %s", raw)
			}
			golden(t, "body/"+tt.name+".golden", text(c, diags))
		})
	}
}

func TestNoConfigBlock(t *testing.T) {
	c, _, _ := web(t)
	app := &Application{Kind: "generic", Name: "x", Body: hcl.EmptyBody(), Range: c.Groups[0].Range}
	_, diags := c.DecodeApplication(app, webSchema(), nil)
	if len(diags) != 1 || diags[0].Subject.Start != app.Range.Start || !strings.HasPrefix(diags[0].Summary, codeMissing) {
		t.Errorf("diagnostics: %s", text(c, diags))
	}
	if raw, diags := c.DecodeApplication(app, &pluginv1.Block{}, nil); len(diags) > 0 || string(raw) != "{}" {
		t.Errorf("an application that needs no configuration: %s %s", raw, text(c, diags))
	}
}

func TestBrokenSchema(t *testing.T) {
	attr := func(a ...*pluginv1.Attribute) *pluginv1.Block { return &pluginv1.Block{Attributes: a} }
	endless := &pluginv1.Block{}
	endless.Blocks = []*pluginv1.NestedBlock{{Name: "again", Block: endless}}
	tests := []struct {
		name   string
		schema *pluginv1.Block
		want   string
	}{
		{"nil", nil, "it is empty"},
		{"type", attr(&pluginv1.Attribute{Name: "a", Type: "strnig"}), `type "strnig"`},
		{"no type", attr(&pluginv1.Attribute{Name: "a"}), `type ""`},
		{"any", attr(&pluginv1.Attribute{Name: "a", Type: "any"}), "any is not possible"},
		{"default", attr(&pluginv1.Attribute{Name: "a", Type: "number", Default: `"x"`}), `default "\"x\"" is no number`},
		{"default syntax", attr(&pluginv1.Attribute{Name: "a", Type: "number", Default: `[`}), `default "["`},
		{"default and required", attr(&pluginv1.Attribute{Name: "a", Type: "bool", Required: true, Default: "true"}),
			"required"},
		{"name", attr(&pluginv1.Attribute{Name: "a b", Type: "bool"}), `"a b" is no name`},
		{"twice", attr(&pluginv1.Attribute{Name: "a", Type: "bool"}, &pluginv1.Attribute{Name: "a", Type: "bool"}),
			"declared twice"},
		{"label", &pluginv1.Block{Blocks: []*pluginv1.NestedBlock{{Name: "b", Labels: []string{"a"},
			Block: attr(&pluginv1.Attribute{Name: "a", Type: "bool"})}}}, "declared twice"},
		{"count", &pluginv1.Block{Blocks: []*pluginv1.NestedBlock{{Name: "b", Min: 3, Max: 2, Block: &pluginv1.Block{}}}},
			"between 3 and 2"},
		{"endless", endless, "nested deeper"},
	}
	c, g, app := web(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckSchema(tt.schema); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CheckSchema: %v", err)
			}
			_, diags := c.DecodeApplication(app, tt.schema, c.ExpectedDrives(g))
			if len(diags) != 1 || !strings.HasPrefix(diags[0].Summary, codeSchema) {
				t.Errorf("DecodeApplication: %v", diags)
			}
		})
	}
	_, diags := c.DecodeApplication(app, tests[1].schema, nil)
	golden(t, "body/schema.golden", text(c, diags))
}

func TestFindings(t *testing.T) {
	c, _, app := web(t)
	tests := []struct {
		path string
		line int
	}{
		{"port", 85}, {"check[0].address", 87}, {"check[1].interval", 91}, {"check[1]", 89}, {"check", 86},
		{"check[1].expect[0].status", 89}, {"check[7].interval", 74}, {"absent", 74}, {"", 74}, {"a..b[", 74},
	}
	for _, tt := range tests {
		if got := c.AttributeRange(app, webSchema(), tt.path); got.Start.Line != tt.line {
			t.Errorf("%q is at line %d, want %d", tt.path, got.Start.Line, tt.line)
		}
	}
	columns := map[string]int{"command": 17, "command[0]": 18, "command[1]": 49, "command[2]": 17, "port[0]": 17}
	for path, column := range columns {
		if got := c.AttributeRange(app, webSchema(), path); got.Start.Column != column {
			t.Errorf("%q is at column %d, want %d", path, got.Start.Column, column)
		}
	}
	golden(t, "body/finding.golden", text(c, hcl.Diagnostics{
		c.Finding(app, webSchema(), &pluginv1.Problem{
			Severity: pluginv1.Problem_SEVERITY_ERROR, Attribute: "check[1].interval",
			Summary: "the interval is shorter than the check takes", Detail: "Write at least 2s."}),
		c.Finding(app, webSchema(), &pluginv1.Problem{
			Severity: pluginv1.Problem_SEVERITY_WARNING, Summary: "port 80 needs root"}),
		c.NotReady(app, webSchema(), &pluginv1.Problem{
			Severity: pluginv1.Problem_SEVERITY_ERROR, Attribute: "port", Summary: "port 80 is taken"}),
	}))
}

// FuzzParse feeds configurations and, with key, key files.
func FuzzParse(f *testing.F) {
	src, _ := good(f)
	add := func(text string) { f.Add([]byte(text), false) }
	add(src)
	add(minimal)
	for _, b := range broken {
		if b.old == "" {
			add(b.new)
		} else {
			add(strings.Replace(src, b.old, b.new, 1))
		}
	}
	add("\xef\xbb\xbfpair \"\xff\" {\x00}")
	add("group \"g\" {\n application \"a\" \"b\" {\n config {\n x = drive[\"E:\"][d1]\n}\n}\n}")
	f.Add([]byte(strings.Repeat("0f", KeySize)+"\n"), true)
	f.Add([]byte(strings.Repeat("F0", KeySize-1)), true)
	f.Add([]byte("no key at all"), true)
	f.Fuzz(func(t *testing.T, src []byte, key bool) {
		if key {
			fuzzKey(t, src)
			return
		}
		c, diags := Parse("fuzz.hcl", src, Options{Server: "rocky"})
		out := text(c, diags)
		for _, d := range diags {
			if !strings.HasPrefix(d.Summary, "ORS-2") || d.Detail == "" || d.Subject == nil {
				t.Errorf("a diagnostic without code, advice or place: %+v", d)
			}
		}
		if diags.HasErrors() != (out != "") {
			t.Errorf("mistakes without text, or text without mistakes: %q", out)
		}
		if diags.HasErrors() {
			return
		}
		if c.Self == 0 || c.Interconnect.Timeout < minIntervals*c.Interconnect.Interval || len(c.Interconnect.Key) < KeySize {
			t.Errorf("accepted: %+v", c)
		}
		for i := range c.Groups {
			for j := range c.Groups[i].Applications {
				raw, diags := c.DecodeApplication(&c.Groups[i].Applications[j], webSchema(), c.ExpectedDrives(&c.Groups[i]))
				if (raw == nil) != diags.HasErrors() {
					t.Errorf("body: %s, %v", raw, diags)
				}
			}
		}
	})
}

// fuzzKey: keys are what their digits say, or are refused, and a refusal never shows any of it.
func fuzzKey(t *testing.T, raw []byte) {
	keys, bad := decodeKeys("fuzz.key", raw, hcl.Range{})
	digits := strings.TrimSpace(string(raw))
	if (keys == nil) == (bad == nil) {
		t.Fatalf("%q: %x and %v", raw, keys, bad)
	}
	var back strings.Builder
	for _, key := range keys {
		if len(key) < KeySize {
			t.Fatalf("%q is taken for %x", raw, key)
		}
		back.WriteString(hex.EncodeToString(key))
	}
	if bad == nil && !strings.EqualFold(back.String(), strings.Join(strings.Fields(digits), "")) {
		t.Fatalf("%q is taken for %x", raw, keys)
	}
	if bad != nil && len(digits) >= 8 && strings.Contains(bad.Summary+bad.Detail, digits) {
		t.Fatalf("the refusal shows the key: %v", bad)
	}
}
