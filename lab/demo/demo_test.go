//go:build linux

package demo

import (
	"bytes"
	"context"
	"errors"
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
	outcome := filepath.Join(t.TempDir(), "demo.json")
	out, err := Run(ctx, Options{Bin: programs, JSON: outcome, Screen: &Screen{Out: &screen, Unicode: true}})
	if err != nil {
		t.Fatalf("%v\n%s", err, screen.String())
	}
	if out.Lost != 0 || !out.FailedBack || out.Acknowledged == 0 || out.OutageMS <= 0 {
		t.Errorf("%+v", out)
	}
	if len(out.Steps) < 8 || out.DetectionMS <= 0 || out.ApplicationMS <= 0 || out.MoveOutageMS <= 0 {
		t.Errorf("not everything was measured: %+v", out)
	}
	if sum := out.OverheadMS + out.ApplicationMS; sum <= 0 || sum >= out.OutageMS {
		t.Errorf("the parts do not fit into the whole: %+v", out)
	}
	for _, want := range []string{
		"Normal State: Serial interconnect heartbeat is being received.", "The partner is lost.", "served again",
	} {
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

// A demo that is ended in the middle cleans up after itself and says so.
func TestEndedInTheMiddle(t *testing.T) {
	for _, word := range []string{"Two servers", "CUT OFF", "its storage is claimed", "Rocky is back"} {
		t.Run(word, func(t *testing.T) {
			t.Setenv("TMPDIR", shortTemp(t))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			_, err := Run(ctx, Options{Bin: programs, Screen: &Screen{Out: &stopAt{word: word, stop: cancel}}})
			if !errors.Is(err, context.Canceled) || !strings.HasSuffix(err.Error(), "everything is cleaned up") {
				t.Error(err)
			}
			nothingLeft(t)
		})
	}
}

var errNobody = errors.New("nobody reads this")

type nobody struct{}

func (nobody) Write([]byte) (int, error) { return 0, errNobody }

// A demo whose reader has gone ends, and leaves nothing running either; the outcome of an earlier one is gone.
func TestReaderGone(t *testing.T) {
	t.Setenv("TMPDIR", shortTemp(t))
	outcome := filepath.Join(t.TempDir(), "demo.json")
	if err := os.WriteFile(outcome, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Run(context.Background(), Options{Bin: programs, JSON: outcome, Screen: &Screen{Out: nobody{}}})
	if !errors.Is(err, errNobody) {
		t.Error(err)
	}
	if _, err := os.Stat(outcome); !errors.Is(err, os.ErrNotExist) {
		t.Error("there is an outcome of a demo that failed")
	}
	nothingLeft(t)
}

// A terminal without UTF-8 gets no sign that it does not have, and the same pictures.
func TestTimeline(t *testing.T) {
	o := &Outcome{OutageMS: 1000, OverheadMS: 100, ApplicationMS: 400, MoveOutageMS: 50}
	var plain, unicode bytes.Buffer
	(&Screen{Out: &plain}).Timeline(o)
	(&Screen{Out: &unicode, Unicode: true}).Timeline(o)
	if got := strings.NewReplacer("█", "#", "·", ".").Replace(unicode.String()); got != plain.String() {
		t.Errorf("they differ:\n%s\n%s", plain.String(), unicode.String())
	}
	for _, want := range []string{
		"     500 ms  until", "             " + strings.Repeat("#", 33) + strings.Repeat(".", 33) + "\n",
		"     100 ms  ORS", "     400 ms  the app", strings.Repeat(".", 39) + strings.Repeat("#", 26) + ".\n",
	} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("%q is not in\n%s", want, plain.String())
		}
	}
	for _, r := range plain.String() {
		if r > 126 {
			t.Errorf("not plain: %q", r)
		}
	}
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
