package plugintest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func pythonExample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("../../../docs/examples/python/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build it, which needs what tools/install-test-deps.sh installs: %v\n%s", err, out)
	}
	return filepath.Join(dir, "ors-plugin-worker")
}

// TestPython: the example in docs/examples/python, which has nothing of the SDK, keeps the contract. It protects a program
// that gives itself a long title, as many servers do: what had marked it in its environment is overwritten by that.
func TestPython(t *testing.T) {
	const titled = "$0 = 'x' x 3000; sleep 3600"
	Conform(t, Options{
		Command: []string{pythonExample(t)},
		Config:  Body(map[string]any{"command": []string{"/usr/bin/perl", "-e", titled}, "stop_after": "1s"}),
	})
}

// TestPythonWithoutRecord: a Kill ends what the handle names when the record of the application is damaged, is not sure
// that this was all, and leaves the record as it is.
func TestPythonWithoutRecord(t *testing.T) {
	p, err := Start(io.Discard, pythonExample(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	app := &pluginv1.Application{Group: "g", Name: "a", WorkDir: t.TempDir(),
		Config: []byte(`{"command":["/bin/sleep","3600"],"check":"","stop_after":"1s"}`)}
	caller := func(epoch uint64, id string) *pluginv1.Caller {
		return &pluginv1.Caller{Server: "apollo", BootId: "b", Epoch: epoch, OperationId: id}
	}
	stream, err := p.Start(t.Context(), &pluginv1.StartRequest{Caller: caller(1, "start"), Application: app})
	if err != nil {
		t.Fatal(err)
	}
	var handle *pluginv1.Handle
	for handle == nil {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		handle = m.GetStarted()
	}
	record := filepath.Join(app.GetWorkDir(), "worker.json")
	good, err := os.ReadFile(record)
	if err == nil {
		err = os.WriteFile(record, []byte("{"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := func(id string, h *pluginv1.Handle, want pluginv1.RunState) {
		t.Helper()
		r, err := p.Kill(t.Context(), &pluginv1.KillRequest{Caller: caller(2, id), Application: app, Handle: h})
		if err != nil || r.GetState() != want {
			t.Errorf("%v, %v; want %v", r, err, want)
		}
	}
	kill("one", nil, pluginv1.RunState_RUN_STATE_UNKNOWN)
	kill("two", handle, pluginv1.RunState_RUN_STATE_UNKNOWN)
	if b, err := os.ReadFile(record); err != nil || string(b) != "{" {
		t.Errorf("the record is %q, %v", b, err)
	}
	if err := os.WriteFile(record, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := p.Recover(t.Context(), &pluginv1.RecoverRequest{Caller: caller(2, ""), Application: app, Handle: handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Errorf("what the handle names is %v, %v", r, err)
	}
	kill("three", handle, pluginv1.RunState_RUN_STATE_STOPPED)
}
