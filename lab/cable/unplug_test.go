//go:build linux

package cable

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnplug takes an adapter away and brings it back as another device: what is open hangs up, and bytes pass again.
func TestUnplug(t *testing.T) {
	c, ports := run(t, 115200)
	before := c.Path(A)
	if _, err := c.Do("unplug a"); err != nil {
		t.Fatal(err)
	}
	if c.Path(A) != "" {
		t.Error("the end is still there")
	}
	if _, err := ports[A].Write([]byte("x")); err == nil {
		t.Error("a port that was unplugged has taken a byte")
	}
	holder, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0) // takes the number that became free
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := c.Do("plug a"); err != nil {
		t.Fatal(err)
	}
	if c.Path(A) == before {
		t.Errorf("the same device, %s", before)
	}
	_ = ports[A].Close()
	if ports[A], err = os.OpenFile(c.Path(A), os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0); err != nil {
		t.Fatal(err)
	}
	send(t, ports[A], []byte("new"))
	if got := read(t, ports[B], 3, 20*time.Second); string(got) != "new" {
		t.Errorf("%q arrived", got)
	}
	send(t, ports[B], []byte("too"))
	if got := read(t, ports[A], 3, 20*time.Second); string(got) != "too" {
		t.Errorf("%q arrived", got)
	}
}

// TestAgentsReopenTheirPorts runs two real agents over a cable and a network path, and takes the serial adapter of one
// away and brings it back: both tell of a cable fault, nothing else, and beats come over the cable again.
func TestAgentsReopenTheirPorts(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "orscore")
	command := func(args ...string) (string, error) {
		out, err := exec.Command(program, args...).CombinedOutput()
		return string(out), err
	}
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/orscore").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key, config := filepath.Join(dir, "key"), filepath.Join(dir, "config.hcl")
	if out, err := command("key", "generate", key); err != nil {
		t.Fatal(out)
	}
	cfg := Config{A: filepath.Join(dir, "a"), B: filepath.Join(dir, "b"), Baud: 115200, Control: filepath.Join(dir, "ctl")}
	text := fmt.Sprintf(`
pair "p" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
interconnect {
  interval = "200ms"
  timeout  = "5s"
  key_file = %q
  serial "cable" { device = { rocky = %q, apollo = %q } }
  udp "lan" { address = { rocky = "127.0.0.21:17711", apollo = "127.0.0.22:17711" } }
}
agent {
  realtime   = false
  plugin_dir = %q
  drive_root = %q
  log_dir    = %q
}
group "one" {
  primary = "rocky"
  storage "u1" {
    switch "directory" { path = "%s/units" }
    drive "E:" { filesystem = "directory" }
  }
}
`, key, cfg.A, cfg.B, dir, dir, dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, cfg) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	wait, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := Await(wait, cfg.Control); err != nil {
		t.Fatal(err)
	}
	servers := []string{"rocky", "apollo"}
	of := func(server string, args ...string) []string {
		run := filepath.Join(dir, server)
		return append(args, "--config", config, "--server", server, "--socket", filepath.Join(run, "control.sock"))
	}
	for _, s := range servers {
		run := filepath.Join(dir, s)
		agent := exec.Command(program, "agent", "--config", config, "--server", s, "--run-dir", run, "--state-dir", run+".state")
		var log strings.Builder
		agent.Stderr = &log
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = agent.Process.Signal(syscall.SIGTERM)
			if err := agent.Wait(); err != nil || t.Failed() {
				t.Logf("%s: %v\n%s", s, err, log.String())
			}
		}()
	}
	until := func(what string, ok func(server string) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if ok("rocky") && ok("apollo") {
				return
			}
			if time.Now().After(end) {
				for _, s := range servers {
					out, _ := command(of(s, "events")...)
					t.Log(out)
				}
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	state := func(server, link string) (state string, beat int64) {
		out, err := command(of(server, "status", "--json")...)
		var st struct {
			Links []struct {
				Name, State string
				Last        int64 `json:"last_beat_ms"`
			}
		}
		if err != nil || json.Unmarshal([]byte(out), &st) != nil {
			return "", -1
		}
		for _, l := range st.Links {
			if l.Name == link {
				return l.State, l.Last
			}
		}
		return "", -1
	}
	links := func(cable string) func(string) bool {
		return func(s string) bool {
			c, _ := state(s, "cable")
			n, _ := state(s, "lan")
			return n == "ok" && c == cable
		}
	}
	do := func(line string) {
		t.Helper()
		if _, err := Command(ctx, cfg.Control, line); err != nil {
			t.Fatal(err)
		}
	}
	until("both links work", links("ok"))
	do("unplug a")
	until("rocky's port is closed, apollo hears nothing", func(s string) bool {
		return links(map[string]string{"rocky": "closed", "apollo": "silent"}[s])(s)
	})
	do("plug a")
	until("both links work again", links("ok"))
	for _, s := range servers {
		out, err := command(of(s, "events")...)
		if err != nil {
			t.Fatal(out)
		}
		if strings.Contains(out, "is lost") || strings.Count(out, "ORS-13004") != 1 {
			t.Errorf("%s tells of something else than one cable fault:\n%s", s, out)
		}
		if s == "rocky" && (!strings.Contains(out, "no such file") && !strings.Contains(out, "hung up") &&
			!strings.Contains(out, "input/output error")) {
			t.Errorf("rocky does not tell why its port was closed:\n%s", out)
		}
	}
}
