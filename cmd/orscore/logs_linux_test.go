package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logsConfig is a pair with one application name in two groups, and a log file of its own; it returns its path and the
// folder of the logs.
func logsConfig(t *testing.T) (path, logs string) {
	t.Helper()
	dir := t.TempDir()
	logs = filepath.Join(dir, "log")
	text := fmt.Sprintf(`
pair "test" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
agent { log_dir = %[1]q }
interconnect {
  key_file = "%[2]s/key"
  udp "lan" { address = { rocky = "127.0.0.1:7711", apollo = "127.0.0.1:7712" } }
}
`, logs, dir)
	for i, g := range []struct{ name, apps string }{
		{"one", fmt.Sprintf(`
  application "generic" "web" {
    config { command = ["x"] }
  }
  application "generic" "own" {
    config {
      command  = ["x"]
      log_file = "%s/own.log"
    }
  }`, dir)},
		{"two", `
  application "generic" "web" {
    config { command = ["x"] }
  }
  application "generic" "mail" {
    config { command = ["x"] }
  }
  application "generic" "web.mail" {
    config { command = ["x"] }
  }`},
	} {
		text += fmt.Sprintf("group %q {\n  primary = \"rocky\"\n  storage \"u%d\" {\n    switch \"directory\" { path = %q }\n"+
			"    drive \"%c:\" { filesystem = \"directory\" }\n  }%s\n}\n", g.name, i, dir, 'E'+i, g.apps)
	}
	path = filepath.Join(dir, "config.hcl")
	write(t, path, text)
	write(t, filepath.Join(logs, "one", "web.log"), "one\ntwo\nthree\n")
	write(t, filepath.Join(logs, "two", "mail.log"), "post\n")
	write(t, filepath.Join(dir, "own.log"), "of its own\n")
	return path, logs
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLogs: the output of an application by its name or with its group, the newest lines or all, and its own file.
func TestLogs(t *testing.T) {
	path, _ := logsConfig(t)
	for _, c := range []struct{ args, want string }{
		{"one/web", "one\ntwo\nthree\n"},
		{"one/web -n 2", "two\nthree\n"},
		{"one/web -n 0", "one\ntwo\nthree\n"},
		{"mail", "post\n"},
		{"own", "of its own\n"},
	} {
		args := append([]string{"logs", "--config", path, "--server", "rocky"}, strings.Fields(c.args)...)
		if got := orscore(t, args...); got != c.want {
			t.Errorf("logs %s: %q, want %q", c.args, got, c.want)
		}
	}
	for args, want := range map[string]string{
		"nothing": `there is no application "nothing", only one/web, one/own, two/web, two/mail, two/web.mail`,
		"web":     "in several groups, say which",
		"two/web": "ORS-7043",
	} {
		root := newRoot()
		root.SetArgs([]string{"logs", "--config", path, "--server", "rocky", args})
		root.SetOut(&bytes.Buffer{})
		root.SetErr(&bytes.Buffer{})
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("logs %s: %v, want %q", args, err, want)
		}
	}
}

// TestLogsOfSeveralPrograms: an application that writes one file for each of its programs has them named, and another
// application's file is none of them. What is to be followed is not waited for in the one file that never comes.
func TestLogsOfSeveralPrograms(t *testing.T) {
	path, logs := logsConfig(t)
	parts := []string{filepath.Join(logs, "two", "web.a.log"), filepath.Join(logs, "two", "web.b.log")}
	for _, p := range append(parts, filepath.Join(logs, "two", "web.mail.log"), filepath.Join(logs, "two", "web.a.log.1")) {
		write(t, p, "x\n")
	}
	for _, args := range [][]string{{"two/web"}, {"two/web", "-f"}} {
		root := newRoot()
		root.SetArgs(append([]string{"logs", "--config", path, "--server", "rocky"}, args...))
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := root.ExecuteContext(ctx)
		cancel()
		if want := "ORS-7043: each of its programs has a file of its own: " + strings.Join(parts, ", "); err == nil ||
			!strings.HasPrefix(err.Error(), want) || out.Len() > 0 {
			t.Errorf("logs %q: %v, want %q; shown %q", args, err, want, out.String())
		}
	}
	write(t, filepath.Join(logs, "two", "web.log"), "all\n")
	if got := orscore(t, "logs", "--config", path, "--server", "rocky", "two/web"); got != "all\n" {
		t.Errorf("with a file for all: %q", got)
	}
}

// watched is what a command has printed so far.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *watched) wait(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		got := w.text.String()
		w.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
	}
	t.Fatalf("%q was not shown", want)
}

// TestLogsAreFollowed: also from before the file is there, through a file that is begun anew, and through another one in
// its place.
func TestLogsAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.log")
	ctx, cancel := context.WithCancel(t.Context())
	var out watched
	noParts := func() error { return nil }
	open, done := 0, make(chan error, 1)
	go func() { done <- showLog(ctx, &out, path, 50, true, noParts) }()
	write(t, path, "first\n")
	out.wait(t, "first\n")
	write(t, path, "anew\n") // shorter: it was cut
	out.wait(t, "anew\n")
	for range 20 { // it would keep a drive from being unmounted
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == path {
				open++
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if open > 10 {
		t.Errorf("the file was open in %d of 20 looks", open)
	}
	write(t, path+".new", "another file\n")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "another file\n")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
