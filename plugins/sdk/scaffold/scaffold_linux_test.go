package scaffold

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk/plugintest"
)

var update = flag.Bool("update", false, "write the example anew")

// example is the plugin of docs/examples, a module of its own.
var example = Plugin{Name: "keeper", Go: "1.26.0", Require: "v0.0.0", SDK: "../../.."}

const folder = "../../../docs/examples/keeper"

// TestExample: the plugin in docs/examples is what the scaffold writes.
func TestExample(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keeper")
	files, err := example.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, filepath.Base(f))
		if *update && filepath.Base(f) != "go.mod" {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		// `go mod tidy` adds to go.mod what the SDK requires itself
		if same := string(got) == string(want); !same && (filepath.Base(f) != "go.mod" || !contains(got, want)) {
			t.Errorf("%s is not what the scaffold writes; `go test ./plugins/sdk/scaffold -update` writes it anew", path)
		}
	}
}

func contains(got, want []byte) bool {
	for line := range strings.Lines(string(want)) {
		if !strings.Contains(string(got), strings.TrimPrefix(strings.TrimSpace(line), "require ")) {
			return false
		}
	}
	return true
}

// build builds the example as a vendor does: in its own module.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "ors-plugin-keeper")
	run(t, "go", "build", "-o", program, ".")
	return program
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir, c.Env = folder, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// TestVendorsBuild: of ORS a vendor's build has the SDK, the protocol and what these need; nothing of the core.
func TestVendorsBuild(t *testing.T) {
	sdk := 0
	for pkg := range strings.SplitSeq(run(t, "go", "list", "-deps", "."), "\n") {
		rest, ours := strings.CutPrefix(pkg, "github.com/orscore/ors/")
		if !ours {
			continue
		}
		sdk++
		if !strings.HasPrefix(rest, "plugins/sdk") && !strings.HasPrefix(rest, "proto/ors/plugin/") && rest != "internal/bootclock" {
			t.Errorf("a vendor's build has %s", pkg)
		}
	}
	if sdk < 4 {
		t.Errorf("%d packages of ORS in the example's build: it was not looked at", sdk)
	}
	if out := run(t, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted: %s", out)
	}
	run(t, "go", "vet", ".")
}

// TestExampleKeepsTheContract: what the scaffold writes builds outside of ORS and passes the conformance kit.
func TestExampleKeepsTheContract(t *testing.T) {
	plugintest.Conform(t, plugintest.Options{
		Command: []string{build(t)},
		Config:  plugintest.Body(map[string]any{"command": []string{"/bin/sleep", "3600"}, "kill_after": "1s"}),
	})
}

// TestRefused: nothing is written over, and no name that would be no kind.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := (Plugin{Name: "lamp"}).Write(dir); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("into a folder that is there: %v", err)
	}
	for _, name := range []string{"", "Lamp", "../lamp", "a b", "1st"} {
		if files, err := (Plugin{Name: name}).Write(filepath.Join(dir, "new")); err == nil {
			t.Errorf("%q: wrote %v", name, files)
		}
	}
}
