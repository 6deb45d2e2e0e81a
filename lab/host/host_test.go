//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if IsInit(os.Args) {
		if err := Init(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces, links and mounts need root")
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startHost(t *testing.T, spec Spec) *Host {
	t.Helper()
	if spec.Dir == "" {
		spec.Dir = t.TempDir()
	}
	if spec.Cgroup == "" {
		spec.Cgroup = fmt.Sprintf("orslab-test-%d-%s", os.Getpid(), spec.Name)
	}
	h, err := Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(h.Kill(ctx), h.Clean(ctx)); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestAHostHasItsOwnEverything(t *testing.T) {
	needRoot(t)
	state := t.TempDir()
	h := startHost(t, Spec{
		Name: "rocky", Mounts: []Mount{{From: state, To: "/var/lib/ors"}},
		Links: map[string]string{"/opt/link": "/usr/bin/true"},
	})
	ctx := bounded(t)
	for _, tt := range []struct{ name, script, want string }{
		{"name", "hostname; cat /etc/hostname", "rocky\nrocky\n"},
		{"process 1", "tr '\\0' ' ' < /proc/1/cmdline | cut -c1-11", "orslab-init\n"},
		{"network", "ls /sys/class/net; ip -br addr show dev lo | cut -c1-2", "lo\nlo\n"},
		{"private folders are empty", "ls -A /tmp /run /dev/shm /var/log | grep -v :", "\nlock\n\n\n"},
		{"programs are not writable", "touch /usr/x 2>/dev/null || echo refused", "refused\n"},
		{"the machine's devices are absent", "ls -d /dev/loop* /dev/vd* /dev/sd* 2>/dev/null | wc -l", "0\n"},
		{"link", "readlink /opt/link", "/usr/bin/true\n"},
		{"control group is the root of what it sees", "cat /proc/self/cgroup | grep ^0:", "0::/\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := h.Spec.Run(ctx, "sh", "-c", tt.script)
			if err != nil || got != tt.want {
				t.Errorf("%s: got %q, %v; want %q", tt.script, got, err, tt.want)
			}
		})
	}
	if _, err := h.Spec.Run(ctx, "sh", "-c", "echo kept > /var/lib/ors/x"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(state + "/x"); err != nil || string(b) != "kept\n" {
		t.Errorf("local disk: %q, %v", b, err)
	}
}

func TestCommands(t *testing.T) {
	needRoot(t)
	h := startHost(t, Spec{Name: "rocky"})
	ctx := bounded(t)
	if _, err := h.Spec.Run(ctx, "false"); err == nil || !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("false: %v", err)
	}
	if _, err := h.Spec.Run(ctx, "no-such-program"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("unknown program: %v", err)
	}
	p, err := h.Spec.Start(Cmd{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(ctx); code != 137 || err != nil {
		t.Errorf("killed command: %d, %v; want 137", code, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := h.Spec.Run(short, "sleep", "1000"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("command beyond its time: %v", err)
	}
	if out, err := h.Spec.Run(ctx, "sh", "-c", "ps -e | grep -c sleep || true"); err != nil || out != "0\n" {
		t.Errorf("commands left: %q, %v", out, err)
	}
}

func TestPowerCutKillsAllAndOrphansAreReaped(t *testing.T) {
	needRoot(t)
	h := startHost(t, Spec{Name: "rocky"})
	ctx := bounded(t)
	p, err := h.Spec.Start(Cmd{Args: []string{"sh", "-c", "setsid sleep 1000 & sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Spec.Run(ctx, "sh", "-c", "(true &) ; (sleep 0.01 &); sleep 0.1; ps -e -o stat= | grep -c Z || true")
	if err != nil || out != "0\n" {
		t.Errorf("zombies: %q, %v", out, err)
	}
	if err := h.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(ctx); err == nil || h.Alive() {
		t.Errorf("the command has not noticed the power cut: %v, host alive %v", err, h.Alive())
	}
	if _, err := h.Spec.Run(ctx, "true"); err == nil {
		t.Error("a dead host took a command")
	}
}

func TestNetwork(t *testing.T) {
	needRoot(t)
	ctx := bounded(t)
	before := rootLinks(t)
	n, err := NewNetwork("test", startHost(t, Spec{Name: "fabric"}), "client", "interconnect")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	a, b := startHost(t, Spec{Name: "rocky"}), startHost(t, Spec{Name: "apollo"})
	for _, c := range []struct {
		h          *Host
		card, addr string
	}{{a, "eth0", "172.25.36.40/24"}, {b, "eth0", "172.25.36.41/24"}} {
		if err := n.Attach(c.h, c.card, "client", c.addr); err != nil {
			t.Fatal(err)
		}
	}
	ping := func() error { // a host that is there refuses a connection to a port that nobody listens at
		out, _, err := b.Spec.Output(ctx, Cmd{Args: []string{"timeout", "1", "bash", "-c", "</dev/tcp/172.25.36.40/9"}})
		if err == nil && !strings.Contains(out, "refused") {
			err = fmt.Errorf("no answer: %s", out)
		}
		return err
	}
	if err := ping(); err != nil {
		t.Error(err)
	}
	if got := rootLinks(t); got != before {
		t.Errorf("the machine's links changed: %s, before %s", got, before)
	}
	if err := n.SetLink("rocky", "client", false); err != nil || ping() == nil {
		t.Errorf("a link that is down carries packets (%v)", err)
	}
	if err := n.SetLink("rocky", "client", true); err != nil || ping() != nil {
		t.Errorf("a link that is up again does not carry packets (%v)", err)
	}
	if err := n.SetLink("rocky", "nowhere", true); err == nil {
		t.Error("an unknown switch was accepted")
	}
	if err := errors.Join(n.Down("rocky"), a.Kill(ctx), n.Remove("rocky")); err != nil {
		t.Fatal(err)
	}
	if ping() == nil {
		t.Error("a dead host answers")
	}
	again := startHost(t, Spec{Name: "rocky"})
	if err := n.Attach(again, "eth0", "client", "172.25.36.40/24"); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err != nil {
		t.Errorf("after power on: %v", err)
	}
}

func rootLinks(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
