//go:build unix

package core

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

const patience = 30 * time.Second

// lone is an agent of a pair whose partner is the test: it hears what the agent sends.
type lone struct {
	testing.TB
	dir     string
	partner net.PacketConn
	options Options
}

func newLone(t testing.TB, agent string) *lone {
	t.Helper()
	l := &lone{TB: t, dir: t.TempDir()}
	var err error
	if l.partner, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.partner.Close() })
	own, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	if err := config.KeyGenerate(filepath.Join(l.dir, "key")); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
pair "p" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
agent {
  state_dir  = "%[1]s/state"
  run_dir    = "%[1]s/run"
  log_dir    = "%[1]s/log"
  plugin_dir = "%[1]s"
  drive_root = "%[1]s/drives"
  realtime   = false
  %[4]s
}
interconnect {
  interval = "100ms"
  timeout  = "2s"
  startup_timeout = "2s"
  key_file = "%[1]s/key"
  udp "lan" { address = { rocky = %[2]q, apollo = %[3]q } }
}
group "one" {
  primary = "rocky"
  storage "u1" {
    switch "directory" { path = "%[1]s/units" }
    drive "E:" { filesystem = "directory" }
  }
}
`, l.dir, own.LocalAddr(), l.partner.LocalAddr(), strings.ReplaceAll(agent, "DIR", l.dir))
	l.options = Options{ConfigPath: filepath.Join(l.dir, "config.hcl"), Server: "rocky", LogLevel: "off"}
	if err := os.WriteFile(l.options.ConfigPath, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// run runs the agent until the test ends, or end is called, which returns how it ended.
func (l *lone) run() (ended <-chan error, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done, gone := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(gone)
		done <- Run(ctx, l.options)
	}()
	end = func() { cancel(); <-gone }
	l.Cleanup(end)
	return done, end
}

func (l *lone) exists(name string) bool {
	_, err := os.Stat(filepath.Join(l.dir, name))
	return err == nil
}

func (l *lone) await(what string, cond func() bool) {
	l.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			l.Fatalf("not in time: %s", what)
		}
	}
}

// heard says whether a frame of the agent arrives within d.
func (l *lone) heard(d time.Duration) bool {
	l.Helper()
	if err := l.partner.SetReadDeadline(time.Now().Add(d)); err != nil {
		l.Fatal(err)
	}
	_, _, err := l.partner.ReadFrom(make([]byte, 2048))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.Fatal(err)
	}
	return err == nil
}

// events are what the journal says of autostart.
func (l *lone) events() string {
	l.Helper()
	st, err := store.Open(filepath.Join(l.dir, "state"))
	if err != nil {
		l.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	records, err := st.Read(0, 0)
	if err != nil {
		l.Fatal(err)
	}
	text := ""
	for _, r := range records {
		if r.Step == "autostart" {
			text += r.Code + " " + r.Text + "\n"
		}
	}
	return text
}

// No beat leaves before the commands have ended, and they run in their order.
func TestAutostartIsBeforeTheFirstBeat(t *testing.T) {
	l := newLone(t, `
  autostart { command = ["/bin/sh", "-c", "echo $ORS_SERVER $1 > DIR/first; while ! [ -e DIR/go ]; do sleep 0.02; done", "-", "${self}"] }
  autostart { command = ["/bin/sh", "-c", "cp DIR/first DIR/second; echo printed"] }
`)
	_, end := l.run()
	l.await("the first command runs", func() bool { return l.exists("first") })
	if l.heard(time.Second) { // ten beats
		t.Error("a frame left while the first command was running")
	}
	if l.exists("second") {
		t.Error("the second command did not wait for the first one")
	}
	if err := os.WriteFile(filepath.Join(l.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !l.heard(patience) {
		t.Error("no beat after the commands")
	}
	if b, err := os.ReadFile(filepath.Join(l.dir, "second")); err != nil || string(b) != "rocky rocky\n" {
		t.Errorf("at the first beat the second command had made %q, %v", b, err)
	}
	end()
	if b, err := os.ReadFile(filepath.Join(l.dir, "log", "autostart.log")); err != nil || string(b) != "printed\n" {
		t.Errorf("autostart.log: %q, %v", b, err)
	}
	if got := l.events(); strings.Count(got, "has ended well") != 2 {
		t.Errorf("events:\n%s", got)
	}
}

func TestAutostartAbsent(t *testing.T) {
	l := newLone(t, "")
	_, end := l.run()
	if !l.heard(patience) {
		t.Error("no beat")
	}
	end()
	if got := l.events(); got != " No autostart command is configured.\n" {
		t.Errorf("events: %q", got)
	}
}

// A command that fails, or does not end, keeps no server from its work unless that is wanted.
func TestAutostartFails(t *testing.T) {
	l := newLone(t, `
  autostart { command = ["/bin/sh", "-c", "exit 7"] }
  autostart {
    command = ["/bin/sh", "-c", "sleep 600 & echo $! > DIR/pid; wait"]
    timeout = "500ms"
  }
  autostart { command = ["DIR/nowhere"] }
`)
	_, end := l.run()
	if !l.heard(patience) {
		t.Error("no beat")
	}
	l.await("an alarm", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := control.Dial(ctx, filepath.Join(l.dir, "run", "control.sock"))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		st, err := c.Status(ctx)
		return err == nil && slices.ContainsFunc(st.Alarms, func(a control.Alarm) bool { return a.Code == "ORS-1061" })
	})
	end()
	got := l.events()
	for _, want := range []string{"exit status 7", "was killed", "no such file"} {
		if !strings.Contains(got, want) {
			t.Errorf("events do not say %q:\n%s", want, got)
		}
	}
	b, err := os.ReadFile(filepath.Join(l.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	l.await("what the killed command had started is gone", func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(b)), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// TestAutostartOncePerBoot: what goes on in the background is not started beside itself when the agent is restarted.
func TestAutostartOncePerBoot(t *testing.T) {
	l := newLone(t, `
  autostart {
    command       = ["/bin/sh", "-c", "echo once >> DIR/ran"]
    once_per_boot = true
  }
  autostart { command = ["/bin/sh", "-c", "echo each >> DIR/ran"] }
  autostart {
    command       = ["/bin/sh", "-c", "echo failing >> DIR/ran; exit 1"]
    once_per_boot = true
  }
`)
	// Not the first beat is waited for: one of the agent before may still be in the socket.
	run := func(what, want string) {
		t.Helper()
		_, end := l.run()
		l.await(what+", the last command has ended", func() bool {
			b, err := os.ReadFile(filepath.Join(l.dir, "ran"))
			return err == nil && string(b) == want
		})
		end()
	}
	const first, again = "once\neach\nfailing\n", "each\nfailing\n"
	run("first start", first)
	run("restart", first+again)
	marks, err := filepath.Glob(filepath.Join(l.dir, "state", "autostart-*"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("marks: %q, %v", marks, err)
	}
	if err := os.WriteFile(marks[0], []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("after a reboot", first+again+first)
	if got := l.events(); strings.Count(got, "has run since this server was started") != 1 {
		t.Errorf("events:\n%s", got)
	}
}

func TestAutostartStopsTheAgent(t *testing.T) {
	l := newLone(t, `
  autostart {
    command    = ["/bin/false"]
    on_failure = "stop"
  }
`)
	ended, _ := l.run()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "ORS-1061") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the agent goes on")
	}
	if l.heard(500 * time.Millisecond) {
		t.Error("a frame left")
	}
}
