package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
