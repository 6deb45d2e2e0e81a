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

	"golang.org/x/sys/unix"

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
		StateSize: 1 << 20,
		Client:    "172.25.36.10/24", Config: filepath.Join(dir, "config.hcl"), Bin: dir, Program: program,
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

// What can be done to a server, and what is really on it, whatever runs there.
func TestFaultsAndTheirEnd(t *testing.T) {
	p := newPair(t)
	ctx := bounded(t)
	run(t, p, "rocky", "mkdir -p /e && mount -t ext4 /dev/ors/storage2 /e")
	on, err := p.Only("volume", func(s string) (bool, error) {
		units, err := p.Mounted(s)
		return len(units) == 1 && units[0] == "storage2", err
	})
	if err != nil || on != "rocky" {
		t.Errorf("the volume is mounted on %q, %v", on, err)
	}
	answers := func(address string) (string, error) {
		return p.Only(address, func(s string) (bool, error) { return p.Answers(s, address) })
	}
	if on, err := answers("172.25.36.48"); err != nil || on != "apollo" {
		t.Errorf("the dummy address is on %q, %v", on, err)
	}
	if on, err := answers("172.25.36.4"); err == nil {
		t.Errorf("an address that nobody has is on %q", on)
	}
	if _, err := answers("127.0.0.1"); !errors.Is(err, ErrTwice) {
		t.Errorf("what is on both: %v", err)
	}

	check(t, p.FillState("rocky"))
	const write = "head -c 5000 /dev/zero >/var/lib/ors/file"
	if out, code, err := p.Run(ctx, "rocky", "sh", "-c", write); err != nil || code == 0 {
		t.Errorf("a full folder takes more: %s, %v", out, err)
	}
	run(t, p, "apollo", write)

	const spoken = "timeout 1 bash -c '</dev/tcp/10.36.0.%d/9' 2>&1 | grep -c refused"
	run(t, p, "rocky", fmt.Sprintf(spoken, 2))
	check(t, p.Deafen("rocky", false))
	if out, code, err := p.Run(ctx, "rocky", "sh", "-c", fmt.Sprintf(spoken, 2)); err != nil || code == 0 {
		t.Errorf("what rocky sends arrives: %s, %v", out, err)
	}

	check(t, p.Arm("rocky", "point", "kill"))
	if passed, err := p.Passed("rocky", "point"); err != nil || passed {
		t.Errorf("nobody has passed the point: %v, %v", passed, err)
	}
	run(t, p, "rocky", "mv "+faultsInHost+"/point "+faultsInHost+"/point.done")
	if passed, err := p.Passed("rocky", "point"); err != nil || !passed {
		t.Errorf("the point was passed: %v, %v", passed, err)
	}
	_, err = p.PowerOff(ctx, "apollo")
	check(t, err)

	check(t, p.Mend(ctx))
	run(t, p, "rocky", write)
	run(t, p, "rocky", fmt.Sprintf(spoken, 2)) // apollo has power, and is reached
	if passed, err := p.Passed("rocky", "point"); err != nil || passed {
		t.Errorf("a point is still known: %v, %v", passed, err)
	}
}

// A server that is paused does nothing, and goes on where it was.
func TestPause(t *testing.T) {
	p := newPair(t)
	ctx := bounded(t)
	spec, err := p.Spec("rocky")
	check(t, err)
	const beats = "while :; do echo >>/tmp/beats; sleep 0.01; done"
	counter, err := spec.Start(host.Cmd{Args: []string{"sh", "-c", beats, "172.25.36.45:1"}})
	check(t, err)
	size := func() int64 {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/beats", p.nodes["rocky"].host.ID.PID))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	grows := func(from int64) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); size() <= from; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing runs")
			}
		}
	}
	grows(0)
	serves := func(s string) (bool, error) { return p.Serves(s, "172.25.36.45") }
	if on, err := p.Only("program", serves); err != nil || on != "rocky" {
		t.Errorf("the program runs on %q, %v", on, err)
	}
	check(t, p.Pause(ctx, "rocky"))
	before := size()
	time.Sleep(300 * time.Millisecond) // thirty beats
	if now := size(); now != before {
		t.Errorf("a paused server went on: %d, then %d", before, now)
	}
	check(t, p.Resume(ctx, "rocky"))
	grows(before)
	check(t, counter.Signal(unix.SIGKILL, true))
}

func TestNames(t *testing.T) {
	for _, name := range []string{"../x", ".hidden", "a/b", "seventeen-letters"} {
		if _, err := claimFolder(name); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}
