//go:build linux

package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programs is the folder of what the demo runs.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programs)
		os.Exit(code)
	}))
}

func build() (string, error) {
	bin, err := os.MkdirTemp("", "ors-demo-test-")
	if err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{
		"orscore": "cmd/orscore", "orslab": "cmd/orslab", "ors-plugin-generic": "plugins/generic",
	} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), "github.com/orscore/ors/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, said)
		}
	}
	return bin, nil
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	var screen bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := Run(ctx, Options{Bin: programs, JSON: filepath.Join(t.TempDir(), "demo.json"), Screen: &Screen{Out: &screen}})
	if err != nil {
		t.Fatalf("%v\n%s", err, screen.String())
	}
	if out.Lost != 0 || !out.FailedBack || out.Acknowledged == 0 || out.OutageMS <= 0 {
		t.Errorf("%+v", out)
	}
	for _, want := range []string{"Normal State: Serial interconnect heartbeat is being received.", "The partner is lost.", "served again"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("not on the screen: %q\n%s", want, screen.String())
		}
	}
	for _, l := range strings.Split(screen.String(), "\n") {
		if len([]rune(l)) > 80 {
			t.Errorf("wider than 80 columns: %s", l)
		}
	}
	nothingLeft(t)
}

// A demo that is ended in the middle cleans up after itself.
func TestEndedInTheMiddle(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	ctx, cancel := context.WithCancel(context.Background())
	screen := &stopAt{word: "CUT OFF", stop: cancel}
	if _, err := Run(ctx, Options{Bin: programs, Screen: &Screen{Out: screen}}); err == nil {
		t.Error("a demo that was ended called itself good")
	}
	cancel()
	nothingLeft(t)
}

// shortTemp is a folder with a short name: those of sockets below it are bounded.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "o")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// nothingLeft fails when a process of a demo runs, or a file of one is there.
func nothingLeft(t *testing.T) {
	t.Helper()
	dir := os.Getenv("TMPDIR")
	if left, _ := filepath.Glob(filepath.Join(dir, "ors-*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		if raw, err := os.ReadFile(l); err == nil && strings.Contains(string(raw), dir+"/ors-") {
			t.Errorf("left running: %s %q", l, raw)
		}
	}
}

type stopAt struct {
	word string
	stop func()
}

func (s *stopAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.word) {
		s.stop()
	}
	return len(b), nil
}
