package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orscore/ors/internal/systemdtest"
)

const patience = 30 * time.Second

const configuration = `
pair "units" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
agent {
  state_dir  = "DIR/${self}/state"
  run_dir    = "DIR/${self}/run"
  log_dir    = "DIR/${self}/log"
  plugin_dir = "DIR/bin"
  drive_root = "DIR/${self}/drives"
}
interconnect {
  timeout  = "10s"
  key_file = "DIR/key"
  udp "lan" { address = { rocky = "127.0.0.1:PORT1", apollo = "127.0.0.1:PORT2" } }
}
group "rocky" {
  primary = "rocky"
  storage "two" {
    switch "directory" { path = "DIR/enclosure" }
    drive "E:" { filesystem = "directory" }
  }
  application "generic" "web" {
    config { command = ["DIR/bin/web"] }
  }
}
group "apollo" {
  primary = "apollo"
  storage "one" {
    switch "directory" { path = "DIR/enclosure" }
    drive "F:" { filesystem = "directory" }
  }
}
`

// web says when it begins, and when it is asked to end.
const web = `#!/bin/sh
echo begun $$ >>DIR/web
trap 'echo stopped >>DIR/web; exit 0' TERM
while :; do sleep 0.1; done
`

// server is rocky, whose agent is a service of the real systemd. Apollo's runs beside it.
type server struct {
	*testing.T
	*systemdtest.Machine
	dir string
}

func newServer(t *testing.T) *server {
	dir, err := os.MkdirTemp("", "ors") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{T: t, dir: dir}
	s.Machine = systemdtest.Boot(t) // ends before the folder is removed
	s.run(s.Command("hostname", "rocky"))
	s.run(exec.Command("go", "build", "-o", dir+"/bin/orscore", "../../cmd/orscore"))
	s.run(exec.Command("go", "build", "-o", dir+"/bin/ors-plugin-generic", "../../plugins/generic"))
	s.write("bin/web", web)
	s.write("config.hcl", configuration)
	s.run(exec.Command(dir+"/bin/orscore", "key", "generate", dir+"/key"))
	for _, name := range []string{"ors.service", "ors-shutdown.service"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "/usr/sbin/orscore", dir+"/bin/orscore")
		s.Write(t, name, text)
		s.write(name, text)
	}
	s.apollo()
	return s
}

// write writes a file whose folder and ports are filled in.
func (s *server) write(name, text string) {
	s.Helper()
	text = strings.ReplaceAll(text, "DIR", s.dir)
	for _, p := range []string{"PORT1", "PORT2"} {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			s.Fatal(err)
		}
		text = strings.ReplaceAll(text, p, fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port))
		defer c.Close()
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.Fatal(err)
	}
}

// apollo starts the partner's agent, which ends with the test.
func (s *server) apollo() {
	s.Helper()
	log, err := os.Create(s.dir + "/apollo.log")
	if err != nil {
		s.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(s.dir+"/bin/orscore", "agent", "--config", s.dir+"/config.hcl", "--server", "apollo")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		kill.Stop()
		if s.Failed() {
			raw, _ := os.ReadFile(log.Name())
			s.Logf("apollo said: %s", raw)
		}
	})
}

func (s *server) run(c *exec.Cmd) string {
	s.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		s.Fatalf("%v: %v %s", c.Args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *server) systemctl(args ...string) string {
	s.Helper()
	return s.run(s.Command(append([]string{"systemctl"}, args...)...))
}

// property is one of the agent's service.
func (s *server) property(name string) string {
	s.Helper()
	return s.systemctl("show", "ors.service", "-p", name, "--value")
}

// staysDown waits until the agent's service is in a state without an agent, and that it is not started again.
func (s *server) staysDown(state, after string) {
	s.Helper()
	s.await("the agent's end after "+after, func() bool { return s.property("ActiveState") == state })
	time.Sleep(time.Second) // twice RestartSec
	if got := s.property("ActiveState"); got != state {
		s.Errorf("after %s the agent is %s", after, got)
	}
}

func (s *server) orscore(args ...string) *exec.Cmd {
	return s.Command(append([]string{s.dir + "/bin/orscore", "--config", s.dir + "/config.hcl"}, args...)...)
}

func (s *server) await(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			status, _ := s.Command("systemctl", "status", "--no-pager", "ors.service").CombinedOutput()
			pair, _ := s.orscore("status").CombinedOutput()
			s.Fatalf("%s did not come within %v; %s\n%s", what, patience, status, pair)
		}
	}
}

// normal waits until the agent is another than the one before, and sees everything as it should be.
func (s *server) normal(before string) (agent string) {
	s.Helper()
	s.await("another agent that sees a normal pair", func() bool {
		agent = s.property("MainPID")
		return agent != before && agent != "0" && s.orscore("status", "--exit-code").Run() == nil
	})
	return agent
}

// wantSaid waits until the application has said these words and no others, since it was started first.
func (s *server) wantSaid(after, want string) {
	s.Helper()
	s.await(fmt.Sprintf("%q of the application, after %s,", want, after), func() bool {
		raw, err := os.ReadFile(s.dir + "/web")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.Fatal(err)
		}
		var words []string
		for line := range bytes.Lines(raw) {
			words = append(words, strings.Fields(string(line))[0])
		}
		return strings.Join(words, " ") == want
	})
}

// TestUnits: an agent that systemd keeps running is restarted, announced or not, is upgraded, and comes back when it is
// killed, and its application goes on; after a shutdown of ORS it stays down, and a shutdown of the server stops the application as it
// wants to be stopped.
func TestUnits(t *testing.T) {
	s := newServer(t)
	s.systemctl("set-environment", "ORS_CONFIG="+s.dir+"/config.hcl")
	s.systemctl("daemon-reload")
	verify := exec.Command("systemd-analyze", "verify", s.dir+"/ors.service", s.dir+"/ors-shutdown.service")
	if out := s.run(verify); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	s.systemctl("start", "ors.service", "ors-shutdown.service")
	agent := s.normal("")
	s.wantSaid("the start", "begun")

	s.systemctl("restart", "ors.service")
	agent = s.normal(agent)
	s.wantSaid("a restart", "begun")

	s.run(s.orscore("restart", "--within", "60s"))
	agent = s.normal(agent)
	s.wantSaid("an announced restart", "begun")
	if got := s.property("NRestarts"); got != "1" {
		t.Errorf("after an announced restart systemd has started it again %s times", got)
	}

	s.run(exec.Command("go", "build", "-ldflags", "-X main.version=next", "-o", s.dir+"/next", "../../cmd/orscore"))
	s.run(s.orscore("upgrade", "--to", s.dir+"/next"))
	if got := s.property("MainPID") + " " + s.property("NRestarts"); got != agent+" 1" {
		t.Errorf("after an upgrade of the agent %s its process, and how often it was started again, are %s", agent, got)
	}
	s.wantSaid("an upgrade", "begun")

	s.run(s.Command("kill", "-9", agent))
	agent = s.normal(agent)
	s.wantSaid("a kill of the agent", "begun")

	s.run(s.orscore("shutdown"))
	s.staysDown("inactive", "a shutdown of ORS")
	s.wantSaid("a shutdown of ORS", "begun stopped")
	s.systemctl("restart", "ors-shutdown.service")
	if got := s.systemctl("show", "ors-shutdown.service", "-p", "Result", "--value"); got != "success" {
		t.Errorf("where no agent was to be shut down the result is %s", got)
	}

	path := s.dir + "/config.hcl"
	good, err := os.ReadFile(path)
	if err = errors.Join(err, os.WriteFile(path, []byte("pair {"), 0o644)); err != nil {
		t.Fatal(err)
	}
	s.systemctl("start", "ors.service")
	s.staysDown("failed", "a mistake in the configuration")
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}

	s.systemctl("start", "ors.service")
	s.normal(agent)
	s.wantSaid("the next start", "begun stopped begun")
	s.run(s.Command(systemdtest.ShutDown()...))
	s.wantSaid("a shutdown of the server", "begun stopped begun stopped")
	if got := s.property("Result") + " " + s.property("ExecMainStatus"); got != "success 0" {
		t.Errorf("at the shutdown of the server the agent's end was %s", got)
	}
	var out bytes.Buffer
	c := exec.Command(s.dir+"/bin/orscore", "--config", s.dir+"/config.hcl", "--server", "apollo", "status", "--json")
	c.Stdout = &out
	if err := c.Run(); err != nil || strings.Contains(out.String(), "takeover") {
		t.Errorf("the partner: %v %s", err, out.String())
	}
}
