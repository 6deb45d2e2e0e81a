package netnstest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const killedEnv = "NETNSTEST_KILLED"

func left(t *testing.T, prefix string) []string {
	t.Helper()
	all, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func add(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
}

func TestRemoved(t *testing.T) {
	needsRoot(t)
	other := Prefix(t)
	add(t, other+"x")
	var prefix string
	t.Run("inner", func(t *testing.T) {
		prefix = Prefix(t)
		add(t, prefix+"one")
		add(t, prefix+"two")
	})
	if l := left(t, prefix); len(l) > 0 {
		t.Errorf("left: %q", l)
	}
	if l := left(t, other); len(l) != 1 {
		t.Errorf("of another test: %q", l)
	}
}

// TestKilled: what a test has made is removed also when nothing of it can run any more.
func TestKilled(t *testing.T) {
	needsRoot(t)
	if os.Getenv(killedEnv) != "" {
		prefix := Prefix(t)
		add(t, prefix+"one")
		_, _ = os.Stdout.WriteString("prefix " + prefix + "\n")
		time.Sleep(time.Minute)
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	c.Env = append(os.Environ(), killedEnv+"=yes")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var prefix string
	for s := bufio.NewScanner(out); prefix == "" && s.Scan(); {
		prefix, _ = strings.CutPrefix(s.Text(), "prefix ")
		if prefix == s.Text() {
			prefix = ""
		}
	}
	if l := left(t, prefix); prefix == "" || len(l) != 1 {
		t.Errorf("before: prefix %q, %q", prefix, l)
	}
	if err := c.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = c.Wait()
	for end := time.Now().Add(endWithin); len(left(t, prefix)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %q", left(t, prefix))
		}
	}
}
