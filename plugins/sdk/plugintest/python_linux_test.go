package plugintest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPython: the example in docs/examples/python, which has nothing of the SDK, keeps the contract.
func TestPython(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("../../../docs/examples/python/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build it, which needs what tools/install-test-deps.sh installs: %v\n%s", err, out)
	}
	Conform(t, Options{
		Command: []string{filepath.Join(dir, "ors-plugin-worker")},
		Config:  Body(map[string]any{"command": []string{"/bin/sleep", "3600"}, "stop_after": "1s"}),
	})
}
