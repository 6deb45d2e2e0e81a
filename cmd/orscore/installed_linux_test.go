package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// orscore runs a command of this program and returns what it prints.
func orscore(t *testing.T, args ...string) string {
	t.Helper()
	var out, logs bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&logs)
	if err := root.ExecuteContext(context.Background()); err != nil {
		t.Fatalf("orscore %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), logs.String())
	}
	return out.String()
}

// TestPluginPages keeps the reference pages in docs/reference equal to what the plugins say of themselves.
func TestPluginPages(t *testing.T) {
	dir, err := buildPlugins(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"generic", "ipset", "domino"} {
		page := orscore(t, "plugin", "docs", kind, "--plugin-dir", dir)
		path := filepath.Join("..", "..", "docs", "reference", kind+".md")
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != page {
			t.Errorf("%s is not what `orscore plugin docs %s` prints (%v); `go test ./cmd/orscore -update` writes it anew",
				path, kind, err)
		}
	}
}

// TestPluginList: several versions of a plugin side by side, a pin, and a program that others could replace.
func TestPluginList(t *testing.T) {
	dir, err := buildPlugins(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	copyFile := func(from, to string, mode os.FileMode) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), raw, 0o755)
		}
		if err == nil {
			err = os.Chmod(filepath.Join(dir, to), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var listed struct {
		Plugins []struct {
			Kind, Version, SHA256, Problem, Path string
			Protocol                             int
			Pinned, Serves                       bool
			Uses                                 []string
		}
	}
	list := func() {
		t.Helper()
		out := orscore(t, "plugin", "list", "--json", "--plugin-dir", dir)
		if err := json.Unmarshal([]byte(out), &listed); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	list()
	if len(listed.Plugins) != 3 {
		t.Fatalf("%+v", listed.Plugins)
	}
	version := ""
	for _, p := range listed.Plugins {
		if !p.Serves || p.Protocol != 1 || len(p.SHA256) != 64 || p.Version == "" || p.Problem != "" {
			t.Errorf("%+v", p)
		}
		if p.Kind == "ipset" {
			version = p.Version
		}
	}
	copyFile("ors-plugin-ipset", "ors-plugin-ipset_"+version, 0o755)
	copyFile("ors-plugin-ipset", "ors-plugin-ipset_9.9.9", 0o755)
	copyFile("ors-plugin-ipset", "ors-plugin-ipset_0.0.1", 0o777)
	list()
	got := map[string]string{}
	for _, p := range listed.Plugins {
		if p.Kind == "ipset" {
			got[filepath.Base(p.Path)] = map[bool]string{true: "serves "}[p.Serves] + p.Problem
		}
	}
	if got["ors-plugin-ipset_"+version] != "serves " || got["ors-plugin-ipset"] != "" ||
		!strings.HasPrefix(got["ors-plugin-ipset_9.9.9"], "ORS-5004") || !strings.HasPrefix(got["ors-plugin-ipset_0.0.1"], "ORS-5003") {
		t.Errorf("%q", got)
	}
	text := orscore(t, "plugin", "list", "--plugin-dir", dir)
	for _, want := range []string{"KIND", "USED BY", version, "nothing", "ORS-5004", "ORS-5003"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestPluginNew: what the command writes builds and says what it is.
func TestPluginNew(t *testing.T) {
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if out := orscore(t, "plugin", "new", "lamp", "--sdk", source); !strings.Contains(out, "make check") {
		t.Errorf("what next? %s", out)
	}
	for _, argv := range [][]string{{"go", "mod", "tidy"}, {"go", "build", "-o", "ors-plugin-lamp", "."}} {
		c := exec.Command(argv[0], argv[1:]...)
		c.Dir, c.Env = "ors-plugin-lamp", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	page := orscore(t, "plugin", "docs", "lamp", "--plugin-dir", "ors-plugin-lamp")
	if !strings.HasPrefix(page, "# lamp\n") || !strings.Contains(page, "| `command` | list(string) | required |") {
		t.Error(page)
	}
}

// TestPluginMistakes: what the command line names is not there, or is not what it should be.
func TestPluginMistakes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("go.mod", []byte("module example.org/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv []string
		says string
	}{
		{[]string{"new", "lamp"}, "--sdk"},
		{[]string{"new", "lamp", "--sdk", "/nonexistent"}, "no such file"},
		{[]string{"new", "lamp", "--sdk", dir}, "its go.mod is not that of"},
		{[]string{"new", "ipset", "--sdk", dir}, "a plugin of ORS itself"},
		{[]string{"check", "ors-plugin-none"}, "there is no program"},
		{[]string{"check", dir}, "is no program"},
		{[]string{"check", program, "--previous", "none"}, "the older release: there is no program"},
		{[]string{"check", program, "--config", "none.hcl"}, "the configuration for the check"},
		{[]string{"list", "--config", "none.hcl"}, "the configuration has a mistake"},
		{[]string{"docs", "generic", "--config", "none.hcl"}, "the configuration has a mistake"},
		{[]string{"docs", ""}, "the kind is empty"},
		{[]string{"docs", "beam_0.1.0"}, "`orscore plugin docs beam`"},
	} {
		t.Run(strings.Join(c.argv, " "), func(t *testing.T) {
			root := newRoot()
			root.SetArgs(append([]string{"plugin"}, c.argv...))
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			err := root.ExecuteContext(t.Context())
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.says) {
				t.Errorf("exit code %d, %v; want a mistake that says %q", exitCode(err), err, c.says)
			}
		})
	}
	if left, err := filepath.Glob("ors-plugin-*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, argv := range [][]string{{"list"}, {"docs", "generic"}} {
		root := newRoot()
		root.SetArgs(append(append([]string{"plugin"}, argv...), "--plugin-dir", "/nonexistent"))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
			t.Errorf("%v of a folder that is not there: %v", argv, err)
		}
	}
}
