//go:build linux

package enclosure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/rsw"
	"github.com/orscore/ors/lab/enclosure"
	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/loop"
)

func TestMain(m *testing.M) {
	if host.IsInit(os.Args) {
		if err := host.Init(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "serve:") {
		if err := enclosure.Serve(context.Background(), testUnits(os.Args[1][len("serve:"):])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func testUnits(dir string) enclosure.Config {
	return enclosure.Config{Dir: dir, Units: []enclosure.UnitConfig{
		{Name: "storage2", Size: 64 << 20, Hosts: map[string]string{"1": "rocky", "3": "apollo"}},
	}}
}

// rig is two hosts at one unit. The enclosure runs in a process of its own, as it must: a process that serves a file
// system and uses it can lock itself up.
type rig struct {
	t   *testing.T
	cfg enclosure.Config
	c   *enclosure.Client
	dev map[string]string
	h   map[string]*host.Host
}

func newRig(t *testing.T, direct bool) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces, FUSE and loop devices need root")
	}
	dir, err := os.MkdirTemp("", "enc")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, cfg: testUnits(dir), dev: map[string]string{}, h: map[string]*host.Host{}}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	cmd := exec.Command("/proc/self/exe", "serve:"+dir)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() {
		if r.c != nil {
			check(t, r.c.Stop())
		} else {
			check(t, cmd.Process.Kill())
		}
		check(t, cmd.Wait())
	})
	if r.c, err = enclosure.Dial(bounded(t), r.cfg); err != nil {
		t.Fatal(err)
	}
	for name, port := range map[string]storage.Position{"rocky": 1, "apollo": 3} {
		file := r.cfg.PortPath("storage2", port)
		dev, err := loop.Attach(file, direct)
		check(t, err)
		r.dev[name] = dev
		t.Cleanup(func() { check(t, loop.Detach(dev, file, 10*time.Second)) })
	}
	for name, dev := range r.dev {
		spec := host.Spec{Name: name, Dir: dir + "/" + name, Devices: map[string]string{"storage2": dev}}
		h, err := host.Start(bounded(t), spec)
		check(t, err)
		r.h[name] = h
		t.Cleanup(func() { check(t, h.Kill(bounded(t))) })
	}
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (r *rig) run(name, script string) (string, error) {
	return r.h[name].Spec.Run(bounded(r.t), "sh", "-c", script)
}

func (r *rig) must(name, script string) string {
	r.t.Helper()
	out, err := r.run(name, script)
	check(r.t, err)
	return out
}

func (r *rig) sw(unit string, self failover.Server) (storage.Switch, error) {
	return rsw.New(rsw.Options{
		Endpoint: "unix:" + r.cfg.SocketPath(), Unit: unit, Self: self, Primary: failover.First,
	})
}

// claim moves the unit to a host by the driver that agents use.
func (r *rig) claim(s failover.Server) {
	r.t.Helper()
	sw, err := r.sw("storage2", s)
	check(r.t, err)
	defer sw.Close()
	st, err := sw.Inspect(bounded(r.t))
	check(r.t, err)
	st, err = sw.Swap(bounded(r.t), st.Key, st.Key.Claimed(s))
	check(r.t, err)
	if st.Key.Owner != s {
		r.t.Fatalf("the switch names %v", st.Key)
	}
}

const mount = "mkdir -p /e && mount -t ext4 /dev/ors/storage2 /e"

// A power cut, and the partner takes the unit: what was synced is there, what was not written at the port is not, and
// the partner replays the journal.
func TestPowerCutAndTakeover(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct=%v", direct), func(t *testing.T) {
			r := newRig(t, direct)
			r.must("rocky", "mkfs.ext4 -q -F -E nodiscard /dev/ors/storage2 && "+mount)
			r.must("rocky", "echo first > /e/synced && sync && for i in $(seq 200); do echo $i > /e/f$i; done && "+
				"echo synced > /e/last && sync /e/last && echo lost > /e/unsynced")
			check(t, r.c.SetHost("rocky", true)) // ports first: a mount namespace that ends writes what a power cut loses
			check(t, r.h["rocky"].Kill(bounded(t)))
			r.claim(failover.Second)
			begin := time.Now()
			r.must("apollo", mount)
			t.Logf("mount with replay, mount program included: %v", time.Since(begin))
			if out := r.must("apollo", "cat /e/synced /e/last"); out != "first\nsynced\n" {
				t.Errorf("synced files hold %q", out)
			}
			if out, err := r.run("apollo", "cat /e/unsynced"); err == nil && out == "lost\n" {
				t.Error("what was never written at the port is there: the power cut wrote it")
			}
			r.must("apollo", "echo more > /e/more && sync && umount /e && e2fsck -fn /dev/ors/storage2 >/dev/null 2>&1")
		})
	}
}

// The unit is taken from a host that lives: its mount gets errors, nothing of it lands, and after the unit has come
// back nothing stale is read.
func TestTakenFromALivingHost(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct=%v", direct), func(t *testing.T) {
			r := newRig(t, direct)
			r.must("rocky", "mkfs.ext4 -q -F -E nodiscard /dev/ors/storage2 && "+mount)
			r.must("rocky", "echo old > /e/file && sync && cat /e/file")
			r.claim(failover.Second)
			if out, err := r.run("rocky", "echo late > /e/late && sync /e/late"); err == nil {
				t.Errorf("the loser's write was accepted: %s", out)
			}
			r.must("apollo", mount+" && cat /e/file && echo new > /e/file && sync && umount /e")
			if out, err := r.run("rocky", "dd if=/dev/ors/storage2 of=/dev/null bs=4096 count=1 iflag=direct"); err == nil {
				t.Errorf("a port that is not connected was read: %s", out)
			}
			r.must("rocky", "umount /e")
			r.claim(failover.First)
			r.must("rocky", mount)
			if out := r.must("rocky", "cat /e/file; ls /e/late 2>/dev/null || true"); out != "new\n" {
				t.Errorf("after the unit came home: %q, want what the partner wrote", out)
			}
			r.must("rocky", "umount /e && e2fsck -fn /dev/ors/storage2 >/dev/null 2>&1")
		})
	}
}

func TestAnUnknownUnit(t *testing.T) {
	r := newRig(t, false)
	sw, err := r.sw("x", failover.First)
	check(t, err)
	defer sw.Close()
	if _, err := sw.Inspect(bounded(t)); !errors.Is(err, storage.ErrNoUnit) {
		t.Errorf("got %v, want ErrNoUnit", err)
	}
}
