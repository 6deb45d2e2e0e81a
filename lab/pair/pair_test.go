//go:build linux

package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/lab/enclosure"
	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/loop"
	"github.com/orscore/ors/lab/proc"
)

// TestMain lets this program be what a lab starts: a host's process 1, the enclosure, and a controller that dies.
func TestMain(m *testing.M) {
	if host.IsInit(os.Args) {
		fail(host.Init(os.Args[1:]))
	}
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case "enclosure":
			raw, err := os.ReadFile(os.Args[2])
			fail(err)
			var cfg enclosure.Config
			fail(json.Unmarshal(raw, &cfg))
			fail(enclosure.Serve(context.Background(), cfg))
			return
		case "controller":
			p, err := New(context.Background(), "", setup(os.Args[2]), func(string, ...any) {})
			fail(err)
			fmt.Println(p.Name())
			select {} // until it is killed
		}
	}
	os.Exit(m.Run())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func setup(dir string) Setup {
	program, err := os.Executable()
	fail(err)
	fail(os.WriteFile(filepath.Join(dir, "config.hcl"), []byte("# nobody reads it\n"), 0o600))
	fail(os.WriteFile(filepath.Join(dir, "fill.sh"), []byte("echo filled >$VOLUME/file\n"), 0o600))
	return Setup{
		Servers: [2]Server{
			{Name: "rocky", Client: "172.25.36.40/24", Interconnect: "10.36.0.1/24"},
			{Name: "apollo", Client: "172.25.36.41/24", Interconnect: "10.36.0.2/24", Dummy: "172.25.36.48/24"},
		},
		Client: "172.25.36.10/24", Config: filepath.Join(dir, "config.hcl"), Bin: dir, Program: program,
		Units: []Unit{{
			Name: "storage2", Home: "rocky", Size: 16 << 20, Label: "rocky_e", Prepare: filepath.Join(dir, "fill.sh"),
		}},
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPair(t *testing.T) *Pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces, FUSE and loop devices need root")
	}
	p, err := New(bounded(t), "", setup(t.TempDir()), t.Logf)
	check(t, err)
	t.Cleanup(func() {
		check(t, p.Close())
		check(t, p.Close()) // a second time does nothing
		expectNothingLeft(t, p.Path())
	})
	return p
}

// expectNothingLeft looks for everything that a lab makes in the machine.
func expectNothingLeft(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
	if devs, err := loop.Below(path); err != nil || len(devs) > 0 {
		t.Errorf("loop devices left: %v, %v", devs, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), path) {
		t.Errorf("mounts left: %s, %v", mounts, err)
	}
	all, err := proc.List("/proc")
	check(t, err)
	for _, s := range all {
		if s.State != 'Z' && s.PID != os.Getpid() && hasMark(s.PID, path) {
			t.Errorf("process %+v is left", s)
		}
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/orslab-" + filepath.Base(path) + "-*")
	if err != nil || len(left) > 0 {
		t.Errorf("control groups left: %v, %v", left, err)
	}
}

func run(t *testing.T, p *Pair, name, script string) string {
	t.Helper()
	out, code, err := p.Run(bounded(t), name, "sh", "-c", script)
	check(t, err)
	if code != 0 {
		t.Fatalf("%s: %s: exit code %d: %s", name, script, code, out)
	}
	return out
}

func TestPowerOffAndOn(t *testing.T) {
	p := newPair(t)
	ctx := bounded(t)
	const mount = "mkdir -p /e && mount -t ext4 /dev/ors/storage2 /e && "
	if out := run(t, p, "rocky", mount+"cat /e/file"); out != "filled\n" {
		t.Errorf("the volume holds %q", out)
	}
	run(t, p, "rocky", "echo state >/var/lib/ors/kept; echo gone >/run/gone; mkdir -p /sys/fs/cgroup/deep/er")
	const mac = "cat /sys/class/net/eth0/address"
	before := run(t, p, "rocky", mac)
	const refused = "timeout 1 bash -c '</dev/tcp/172.25.36.40/9' 2>&1 | grep -c refused"
	run(t, p, "client", refused)

	_, err := p.PowerOff(ctx, "rocky")
	check(t, err)
	if p.HasPower("rocky") {
		t.Error("rocky has power")
	}
	if _, err := p.PowerOff(ctx, "rocky"); err == nil {
		t.Error("powered off twice")
	}
	if out, code, err := p.Run(ctx, "client", "sh", "-c", refused); err != nil || code == 0 {
		t.Errorf("a dead host answers: %s, %v", out, err)
	}
	check(t, p.PowerOn(ctx, "rocky"))
	if p.PowerOn(ctx, "rocky") == nil {
		t.Error("powered on twice")
	}
	if out := run(t, p, "rocky", "cat /var/lib/ors/kept; ls /run/gone 2>/dev/null || true"); out != "state\n" {
		t.Errorf("after power on: %q", out)
	}
	if after := run(t, p, "rocky", mac); after != before {
		t.Errorf("the card's address was %s and is %s: neighbours would not find it", before, after)
	}
	run(t, p, "client", refused)
	run(t, p, "rocky", mount+"cat /e/file && umount /e")
	if p.AgentRuns("rocky") {
		t.Error("power on started an agent")
	}
}

func TestTwoLabsDoNotSeeEachOther(t *testing.T) {
	a, b := newPair(t), newPair(t)
	_, err := a.PowerOff(bounded(t), "rocky")
	check(t, err)
	run(t, b, "client", "timeout 1 bash -c '</dev/tcp/172.25.36.40/9' 2>&1 | grep -c refused")
	if err := Remove(bounded(t), b.Name()); !errors.Is(err, ErrAlive) {
		t.Errorf("removing a lab that is alive: %v", err)
	}
}

// The controller is killed at several moments of a lab's life; what it leaves is removed afterwards.
func TestRemainsOfADeadControllerAreRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("namespaces, FUSE and loop devices need root")
	}
	for _, after := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 0} {
		t.Run(after.String(), func(t *testing.T) {
			known := map[string]bool{}
			names, err := List()
			check(t, err)
			for _, n := range names {
				known[n] = true
			}
			cmd := exec.Command("/proc/self/exe", "controller", t.TempDir())
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			if after > 0 {
				time.Sleep(after) // a moment somewhere in the making: any will do
			} else if _, err := fmt.Fscanln(out, new(string)); err != nil {
				t.Fatal(err)
			}
			check(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			names, err = List()
			check(t, err)
			for _, n := range names {
				if known[n] {
					continue
				}
				check(t, Remove(bounded(t), n))
				expectNothingLeft(t, filepath.Join(Base, n))
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"../x", ".hidden", "a/b", "seventeen-letters"} {
		if _, err := claimFolder(name); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}
