package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk/plugintest"
)

// TestPluginCheck runs the command itself, as vendors do: whole, and with a reader that goes away.
func TestPluginCheck(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "check.hcl")
	for name, pkg := range map[string]string{"orscore": ".", "ors-plugin-generic": "../../plugins/generic"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	if err := os.WriteFile(config, []byte("command = [\"sleep\", \"300\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func() *exec.Cmd {
		c := exec.Command(filepath.Join(dir, "orscore"), "plugin", "check", filepath.Join(dir, "ors-plugin-generic"),
			"--config", config)
		c.Env = append(os.Environ(), "TMPDIR="+dir)
		return c
	}
	out, err := check().CombinedOutput()
	if err != nil || !strings.Contains(string(out), "generic 0.1.0 keeps the contract") ||
		!strings.Contains(string(out), "ok    log ") {
		t.Errorf("%v\n%s", err, out)
	}

	c := check()
	read, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(read).ReadString('\n'); err != nil {
		t.Error(err)
	}
	_ = read.Close()
	if err := c.Wait(); err == nil {
		t.Error("it ends well, though nobody has read what it found")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "orskit*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v; it said %s", left, err, said.String())
	}
}

// TestVerdict: "keeps the contract" is said of a plugin only when all of it was looked at.
func TestVerdict(t *testing.T) {
	report := func(start plugintest.Outcome, passed bool, only ...string) plugintest.Report {
		r := plugintest.Report{Plugin: "p", Version: "1.0.0", Passed: passed}
		names := plugintest.Checks()
		if len(only) > 0 {
			names = only
		}
		for _, name := range names {
			f := plugintest.Finding{Check: name, Outcome: plugintest.Passed}
			if name == "start" {
				f.Outcome = start
			}
			r.Findings = append(r.Findings, f)
		}
		return r
	}
	for want, r := range map[string]plugintest.Report{
		"p 1.0.0 keeps the contract:":                            report(plugintest.Passed, true),
		"p 1.0.0 does not keep the contract:":                    report(plugintest.Failed, false),
		"p 1.0.0 keeps the part of the contract that was looked": report(plugintest.Skipped, true),
	} {
		var out strings.Builder
		if err := printVerdict(&out, r); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%q, %v; want %q", out.String(), err, want)
		}
	}
	var out strings.Builder
	if err := printVerdict(&out, report(plugintest.Passed, true, "handshake", "start")); err != nil ||
		!strings.Contains(out.String(), "the part of the contract") {
		t.Errorf("two checks: %q, %v", out.String(), err)
	}
}
