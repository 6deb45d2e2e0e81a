package plugintest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocsExample builds the plugin that the documentation shows.
func TestDocsExample(t *testing.T) {
	b, err := os.ReadFile("../../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "```go\n")
	code, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/plugins.md shows no Go program")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "vet", filepath.Join(dir, "main.go")).CombinedOutput()
	if err != nil {
		t.Errorf("the program in docs/plugins.md: %v\n%s", err, out)
	}
	if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the program in docs/plugins.md is not formatted: %v %s", err, out)
	}
}

// TestDocsNameEveryCheck keeps the page on the kit complete.
func TestDocsNameEveryCheck(t *testing.T) {
	b, err := os.ReadFile("../../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Checks() {
		if row := "| `" + name + "` | " + Promise(name) + " |"; !strings.Contains(string(b), row) {
			t.Errorf("docs/plugins.md has no row %q", row)
		}
	}
}
