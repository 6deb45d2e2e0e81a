package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// serveAgent answers at a socket until stop is called.
func serveAgent(t *testing.T, a *agent, socket string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, socket, control.Permission{}, a, hclog.NewNullLogger()) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestLaunchTellsTheNextAgent: a program that ends while the agent is away is in the journal once it is back, and a
// configuration that nobody can read meanwhile does not matter.
func TestLaunchTellsTheNextAgent(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("config.hcl"), "agent { run_dir = \""+dir+"\" }\n")
	write(t, at("job"), "#!/bin/sh\necho $$ >"+at("runs")+"\nwhile ! [ -e "+at("go")+" ]; do sleep 0.02; done\nexit 5\n")
	if err := os.Chmod(at("job"), 0o755); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(at("state"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	a := &agent{store: st}
	stop := serveAgent(t, a, at("control.sock"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs watched
	ended := make(chan error, 1)
	go func() {
		root := newRoot()
		root.SetArgs([]string{"launch", "--config", at("config.hcl"), at("job")})
		root.SetOut(&out)
		root.SetErr(&errs)
		ended <- root.ExecuteContext(ctx)
	}()
	errs.wait(t, "registered")
	r := arrival.Notice{Step: arrival.Arrived, Event: arrival.Takeover, Group: "rocky", Server: "apollo", From: "rocky",
		At: time.Now(), Drives: []arrival.Drive{{Letter: "E:", Path: "/ors/E", Configured: "E:"}}}.Record()
	if err := st.Append(&r); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(at("runs")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the program does not run")
		}
	}
	stop()
	write(t, at("config.hcl"), "agent { in the midst of a change")
	write(t, at("go"), "")
	errs.wait(t, "it has ended with exit code 5")
	defer serveAgent(t, a, at("control.sock"))()
	var exit *exitError
	if err := <-ended; !errors.As(err, &exit) || exit.code != 5 {
		t.Errorf("it ended with %v", err)
	}
	records, err := st.Read(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := arrival.Of(records[len(records)-1])
	if !ok || n.Step != arrival.Ran || n.Run.Exit != 5 || !strings.HasPrefix(n.Text, "it has ended with exit code 5") {
		t.Errorf("the journal ends with %+v", records[len(records)-1])
	}
}
