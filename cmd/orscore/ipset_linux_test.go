package main

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/orscore/ors/internal/netnstest"
)

func TestMaskBits(t *testing.T) {
	for _, c := range []struct {
		mask, addr string
		bits       int // 0: refused
	}{
		{"255.255.255.0", "172.25.36.45", 24}, {"24", "172.25.36.45", 24}, {"/20", "172.25.36.45", 20},
		{"255.255.255.255", "172.25.36.45", 32}, {"128.0.0.0", "172.25.36.45", 1}, {"64", "2001:db8::45", 64},
		{"255.0.255.0", "172.25.36.45", 0}, {"0.0.0.0", "172.25.36.45", 0}, {"33", "172.25.36.45", 0},
		{"0", "172.25.36.45", 0}, {"255.255.255.0", "2001:db8::45", 0}, {"129", "2001:db8::45", 0}, {"wide", "10.0.0.1", 0},
	} {
		if bits, err := maskBits(c.mask, netip.MustParseAddr(c.addr)); bits != c.bits || (err != nil) != (c.bits == 0) {
			t.Errorf("%s of %s: %d, %v; want %d", c.mask, c.addr, bits, err, c.bits)
		}
	}
}

// ipsetHost is a host of a network with one other machine.
type ipsetHost struct {
	*testing.T
	ns, dir string
}

func newIPSetHost(t *testing.T) *ipsetHost {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	h := &ipsetHost{T: t, ns: netnstest.Prefix(t) + "a", dir: t.TempDir()}
	for _, args := range []string{
		"netns add NS", "netns add NSb", "-n NS link add eth0 type veth peer name eth0 netns NSb",
		"-n NS link set eth0 up", "-n NSb link set eth0 up", "-n NSb addr add 172.25.36.44/24 dev eth0",
		"-n NS addr add 172.25.36.48/24 brd + dev eth0", "-n NS addr add 172.25.36.46/24 brd + dev eth0",
	} {
		h.run("ip", strings.Fields(strings.ReplaceAll(args, "NS", h.ns))...)
	}
	return h
}

func (h *ipsetHost) run(name string, args ...string) {
	h.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		h.Errorf("%s %s: %v %s", name, strings.Join(args, " "), err, out)
	}
}

// install builds the plugin and writes a configuration that names its folder.
func (h *ipsetHost) install() {
	h.Helper()
	h.run("go", "build", "-o", filepath.Join(h.dir, "plugins", "ors-plugin-ipset"), "../../plugins/ipset")
	h.run("sh", "-c", `umask 077; printf '%064d\n' 7 >"$1/key"`, "sh", h.dir)
	config := strings.ReplaceAll(`
pair "cpqlab" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
agent {
  run_dir    = "DIR/run"
  plugin_dir = "DIR/plugins"
}
interconnect {
  key_file = "DIR/key"
  udp "lan" { address = { rocky = "127.0.0.1:7711", apollo = "127.0.0.2:7711" } }
}
group "rocky" {
  primary = "rocky"
  storage "storage2" {
    switch "directory" { path = "DIR/unit" }
  }
  application "ipset" "address" {
    config { addresses = ["172.25.36.60/24", "172.25.36.61/24"] }
  }
}
`, "DIR", h.dir)
	if err := os.WriteFile(filepath.Join(h.dir, "config.hcl"), []byte(config), 0o600); err != nil {
		h.Fatal(err)
	}
}

// orscore runs the command on the host, and wants an exit code and words.
func (h *ipsetHost) orscore(exit int, words string, args ...string) {
	h.Helper()
	argv := append([]string{"netns", "exec", h.ns, "orscore", "ipset", "--server", "rocky",
		"--config", filepath.Join(h.dir, "config.hcl")}, args...)
	c := exec.Command("ip", argv...)
	out, err := c.CombinedOutput()
	if c.ProcessState.ExitCode() != exit || !strings.Contains(string(out), words) {
		h.Errorf("orscore ipset %s: %v\n%s\nwant exit code %d and %q", strings.Join(args, " "), err, out, exit, words)
	}
}

func (h *ipsetHost) addresses() string {
	h.Helper()
	out, err := exec.Command("ip", "-n", h.ns, "-o", "-4", "addr", "show", "dev", "eth0").Output()
	if err != nil {
		h.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		all = append(all, strings.Fields(line)[3])
	}
	return strings.Join(all, " ")
}

func TestIPSet(t *testing.T) {
	h := newIPSetHost(t)
	h.install()
	before := h.addresses()
	h.orscore(0, "Ask on eth0 for 50ms whether another machine has 172.25.36.45; if one answers, change nothing.\n"+
		"Add 172.25.36.45/24 to eth0 and announce it 5 times.\nRemove the dummy 172.25.36.48/24 from eth0, and note in ",
		"-i", "172.25.36.45", "--replaces", "172.25.36.48", "-g", "172.25.36.1", "--dry-run")
	if got := h.addresses(); got != before {
		t.Errorf("a dry run has made %s of %s", got, before)
	}
	h.orscore(0, "172.25.36.45/24 is on eth0 and announced.\nThe dummy address 172.25.36.48 was removed from eth0.",
		"-i", "172.25.36.45", "-s", "255.255.255.0", "-g", "172.25.36.1", "-a", "eth0", "--replaces", "172.25.36.48")
	if got := h.addresses(); got != "172.25.36.46/24 172.25.36.45/24" {
		t.Errorf("the adapter has %s", got)
	}
	h.orscore(0, "172.25.36.45/24 is on eth0 already: announce it 5 times.", "-i", "172.25.36.45", "--dry-run")
	h.orscore(0, "Remove 172.25.36.45/24 from eth0.\nPut the dummy 172.25.36.48/24 back on eth0.\n",
		"-i", "172.25.36.45", "--release", "--dry-run")
	h.orscore(0, "The dummy 172.25.36.48/24 is on eth0 again.", "-i", "172.25.36.45", "--release")
	if got := h.addresses(); got != "172.25.36.46/24 172.25.36.48/24" {
		t.Errorf("afterwards the adapter has %s", got)
	}
	h.orscore(0, "nothing to do", "-i", "172.25.36.45", "--release")
}

// defaults lists the host's default routes.
func (h *ipsetHost) defaults() string {
	h.Helper()
	var all []string
	for _, family := range []string{"-4", "-6"} {
		out, err := exec.Command("ip", "-n", h.ns, family, "route", "show", "default").Output()
		if err != nil {
			h.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return strings.Join(all, "\n")
}

// leaves says by which router the host's packets to an address that no network of it has leave; empty: by none.
func (h *ipsetHost) leaves(to string) string {
	out, _ := exec.Command("ip", "-n", h.ns, "route", "get", to).Output() // an error where there is none
	f := strings.Fields(string(out))
	if i := slices.Index(f, "via"); i >= 0 {
		return f[i+1]
	}
	return ""
}

// TestIPSetGateway: the route by the router that was named by hand is there while the address is, and used only where the
// server has no other one.
func TestIPSetGateway(t *testing.T) {
	for name, c := range map[string]struct{ addr, router, own, remote string }{
		"IPv4": {"172.25.36.45", "172.25.36.1", "172.25.36.44", "192.0.2.1"},
		"IPv6": {"2001:db8:36::45", "fe80::1", "2001:db8:36::44", "2001:db8:ffff::1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newIPSetHost(t)
			h.install()
			h.run("ip", "-n", h.ns, "addr", "add", "2001:db8:36::46/64", "dev", "eth0", "nodad")
			if got := h.defaults(); got != "" {
				t.Fatalf("default routes before: %s", got)
			}
			h.orscore(0, "Add a default route by "+c.router+" on eth0 with the metric ", "-i", c.addr, "-g", c.router, "--dry-run")
			if got := h.defaults(); got != "" {
				t.Errorf("a dry run has made %s", got)
			}
			h.orscore(0, "Without another default route, packets leave by "+c.router+".", "-i", c.addr, "-g", c.router)
			if got := h.leaves(c.remote); got != c.router {
				t.Errorf("%s is reached by %q, want %s; default routes:\n%s", c.remote, got, c.router, h.defaults())
			}
			h.run("ip", "-n", h.ns, "route", "add", "default", "via", c.own)
			if got := h.leaves(c.remote); got != c.own {
				t.Errorf("%s is reached by %q, want the server's own %s; default routes:\n%s", c.remote, got, c.own, h.defaults())
			}
			h.orscore(0, "Remove the default route by "+c.router+".", "-i", c.addr, "--release", "--dry-run")
			h.orscore(0, c.addr+" is on no adapter.", "-i", c.addr, "--release")
			if got := h.defaults(); strings.Count(got, "default") != 1 || !strings.Contains(got, "via "+c.own+" ") {
				t.Errorf("afterwards the default routes are\n%s", got)
			}
		})
	}
}

func TestIPSetRefuses(t *testing.T) {
	h := newIPSetHost(t)
	h.install()
	before := h.addresses()
	h.orscore(1, "orscore: ORS-7041: another machine (", "-i", "172.25.36.44")
	h.orscore(1, "172.25.36.46 is on eth0 already, and not by ORS", "-i", "172.25.36.46")
	h.orscore(1, "172.25.36.46 is on eth0 already, and not by ORS", "-i", "172.25.36.46", "--release")
	h.orscore(1, "no adapter has another address in the network of 10.1.1.1", "-i", "10.1.1.1")
	h.orscore(1, "224.0.0.1 is a multicast address: use an address that a host can have", "-i", "224.0.0.1")
	h.orscore(1, "0.0.0.0 is no address: use an address that a host can have", "-i", "0.0.0.0")
	h.orscore(1, "127.0.0.1 is a loopback address, which never moves: use ", "-i", "127.0.0.1")
	h.orscore(1, `there is no adapter "eth7"; there are: eth0`, "-i", "10.1.1.1", "-s", "24", "-a", "eth7")
	h.orscore(1, "gateway 10.0.0.1 is in no network of 172.25.36.45/24", "-i", "172.25.36.45", "-g", "10.0.0.1")
	h.orscore(2, "ORS-7008: \"172.25.36.45/24\" is not an address", "-i", "172.25.36.45/24")
	h.orscore(2, "ORS-7008: \"255.0.255.0\" is no mask", "-i", "172.25.36.45", "-s", "255.0.255.0")
	h.orscore(2, "ORS-7008: say which address")
	const ofGroup = `172.25.36.61 is the address of application "address" of group "rocky": it comes and goes with its group`
	h.orscore(1, ofGroup, "-i", "172.25.36.61")
	h.orscore(1, ofGroup, "-i", "172.25.36.61", "--release")
	h.orscore(1, ofGroup, "-i", "172.25.36.45", "--replaces", "172.25.36.61")
	if got := h.addresses(); got != before {
		t.Errorf("the adapter has %s, had %s", got, before)
	}
	h.orscore(0, "is on eth0 and announced", "-i", "172.25.36.45")
	h.orscore(1, "is on eth0 already, with the prefix /24, not /16: release it first", "-i", "172.25.36.45", "-s", "16")
	h.orscore(1, `there is no adapter "eth9"`, "-i", "172.25.36.45", "-a", "eth9")
	h.orscore(1, "is on eth0 already, not on lo: release it first", "-i", "172.25.36.45", "-a", "lo")
	h.orscore(1, "172.25.36.45 is no dummy: ORS itself has put it on eth0", "-i", "172.25.36.47", "--replaces", "172.25.36.45")
	h.orscore(0, "172.25.36.45 is on no adapter.", "-i", "172.25.36.45", "--release")
	if got := h.addresses(); got != before {
		t.Errorf("the adapter has %s, had %s", got, before)
	}
}
