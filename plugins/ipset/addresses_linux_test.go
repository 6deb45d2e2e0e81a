package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const groupAddress6 = "2001:db8:36::45"

var both = []string{groupAddress + "/24", groupAddress6 + "/64"}

// addresses6 lists the global IPv6 addresses of apollo's adapter with what `ip` says of them, sorted.
func (n *network) addresses6() []string {
	n.Helper()
	var out []string
	for line := range strings.Lines(n.ip("-n", n.ns("apollo"), "-o", "-6", "addr", "show", "dev", "eth0", "scope", "global")) {
		f := strings.Fields(strings.Split(line, "\\")[0])
		out = append(out, strings.TrimSpace(strings.Join(f[3:], " ")))
	}
	slices.Sort(out)
	return out
}

func TestTakeoverIPv6(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress6 + "/64", "replaces": "2001:db8:36::48"})
	before := f.addresses6()
	start, answer := f.takeOver(groupAddress6)
	t.Logf("start %v, next answer after %v", start, answer)
	want := []string{"2001:db8:36::45/64 scope global nodad deprecated noprefixroute", "2001:db8:36::46/64 scope global nodad"}
	if got := f.addresses6(); !slices.Equal(got, want) {
		t.Errorf("apollo has %q, want %q", got, want)
	}
	if out := f.ip("-n", f.ns("apollo"), "route", "get", "2001:db8:36::100"); !strings.Contains(out, "src 2001:db8:36::46") {
		t.Errorf("the server's own traffic leaves with another address than its own: %s", out)
	}
	f.health(pluginv1.Health_HEALTH_OK)
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.stop()
	if got := f.addresses6(); !slices.Equal(got, before) {
		t.Errorf("apollo has %q afterwards, had %q", got, before)
	}
}

func TestSeveralAddresses(t *testing.T) {
	f := protect(t, map[string]any{"addresses": append(both, "172.25.36.47/24"), "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	before, before6 := f.addresses(), f.addresses6()
	s := f.mustStart()
	if got := strings.Join(s.Steps, " "); got != "probe probe probe address address address dummy" {
		t.Errorf("steps are %q", got)
	}
	p := f.pinger()
	for _, addr := range []string{groupAddress, groupAddress6, "172.25.36.47"} {
		p.await(t, addr)
	}
	f.wantAddresses("172.25.36.45/24 eth0:ors", "172.25.36.46/24 eth0", "172.25.36.47/24 eth0:ors")
	f.health(pluginv1.Health_HEALTH_OK)

	f.ip("-n", f.ns("apollo"), "addr", "del", "172.25.36.47/24", "dev", "eth0")
	f.health(pluginv1.Health_HEALTH_FAILED)
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING) // some of it is here: it has to be stopped before the partner starts it
	f.mustStart()
	p.await(t, "172.25.36.47")
	f.health(pluginv1.Health_HEALTH_OK)

	f.stop()
	f.wantAddresses(before...)
	if got := f.addresses6(); !slices.Equal(got, before6) {
		t.Errorf("apollo has %q afterwards, had %q", got, before6)
	}
}

// One of several that is not to be had keeps the others from being taken.
func TestPartnerAnswersForOne(t *testing.T) {
	f := protect(t, map[string]any{"addresses": []string{"172.25.36.47/24", groupAddress6 + "/64"}, "probe": "10s"})
	before, before6 := f.addresses(), f.addresses6()
	_, err := f.start()
	if err == nil || !strings.Contains(err.Error(), f.mac("rocky")) || !strings.Contains(err.Error(), groupAddress6) {
		t.Fatalf("start while the partner has an address: %v", err)
	}
	f.wantAddresses(before...)
	if got := f.addresses6(); !slices.Equal(got, before6) {
		t.Errorf("apollo has %q afterwards, had %q", got, before6)
	}
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
}

// What was taken is recognised without a record: by label or mark.
func TestLeftOversAreRecognised(t *testing.T) {
	f := protect(t, map[string]any{"addresses": both})
	f.powerOff("rocky")
	f.mustStart()
	f.killPlugin()
	f.app.WorkDir, f.handle = t.TempDir(), nil // as after the loss of /run and of the core's store
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
	if err != nil || len(r.GetProblems()) > 0 {
		t.Errorf("ready: %v, %v; want no problem", r.GetProblems(), err)
	}
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.stop()
	f.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
}

// An address that was configured before is given up with the others.
func TestAddressIsConfiguredNoMore(t *testing.T) {
	f := protect(t, map[string]any{"addresses": both})
	f.powerOff("rocky")
	before, before6 := f.addresses(), f.addresses6()
	f.mustStart()
	f.configure(map[string]any{"address": "172.25.36.47/24"})
	f.mustStart()
	f.stop()
	f.wantAddresses(before...)
	if got := f.addresses6(); !slices.Equal(got, before6) {
		t.Errorf("apollo has %q afterwards, had %q", got, before6)
	}
}

func TestAdapterByHardwareAddress(t *testing.T) {
	f := protect(t, map[string]any{"address": "10.1.1.1/24"})
	f.configure(map[string]any{"address": "10.1.1.1/24", "adapter": strings.ToUpper(f.mac("apollo"))})
	f.mustStart()
	f.wantAddresses("10.1.1.1/24 eth0:ors", "172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
	f.stop()
	f.configure(map[string]any{"address": "10.1.1.1/24", "adapter": f.mac("rocky")})
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), f.mac("rocky")) {
		t.Errorf("start on an adapter of another machine: %v", err)
	}
}

func TestGateway(t *testing.T) {
	defaults := func(f *fixture) string {
		return f.ip("-n", f.ns("apollo"), "-4", "route", "show", "default") +
			f.ip("-n", f.ns("apollo"), "-6", "route", "show", "default")
	}
	for name, c := range map[string]struct {
		body   map[string]any
		remote string // an address that no network is known for
		via    string
	}{
		"IPv4": {map[string]any{"address": groupAddress + "/24", "replaces": "172.25.36.48", "gateway": "172.25.36.1"},
			"192.0.2.1", "172.25.36.1"},
		"IPv6": {map[string]any{"address": groupAddress6 + "/64", "gateway": "fe80::1"}, "2001:db8:ffff::1", "fe80::1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, c.body)
			f.powerOff("rocky")
			f.ip("-n", f.ns("apollo"), "route", "del", "default")
			f.mustStart()
			f.mustStart()
			if out := f.ip("-n", f.ns("apollo"), "route", "get", c.remote); !strings.Contains(out, "via "+c.via+" ") {
				t.Errorf("without another default route, %s is reached so: %s", c.remote, out)
			}
			// The server's own is never pushed aside.
			own := map[string]string{"IPv4": "172.25.36.100", "IPv6": "2001:db8:36::100"}[name]
			f.ip("-n", f.ns("apollo"), "route", "add", "default", "via", own)
			if out := f.ip("-n", f.ns("apollo"), "route", "get", c.remote); !strings.Contains(out, "via "+own+" ") {
				t.Errorf("with a default route of the server, %s is reached so: %s", c.remote, out)
			}
			f.stop()
			if got := strings.TrimSpace(defaults(f)); strings.Count(got, "default") != 1 || !strings.Contains(got, own) {
				t.Errorf("afterwards the default routes are %q", got)
			}
		})
	}
}

// A client that heeds no gratuitous ARP, or no unsolicited advertisement, learns the new server when it is asked itself.
func TestClientIgnoresAnnouncements(t *testing.T) {
	for name, c := range map[string]struct{ addr, own, rules string }{
		"ARP": {groupAddress, "172.25.36.46", `table arp deaf { chain in { type filter hook input priority 0;
			arp saddr ip 172.25.36.45 arp daddr ip 172.25.36.45 drop; }; }`},
		"NDP": {groupAddress6, "2001:db8:36::46", `table ip6 deaf { chain in { type filter hook input priority 0;
			ip6 daddr ff02::1 icmpv6 type nd-neighbor-advert drop; }; }`},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"addresses": both, "replaces": "172.25.36.48"})
			f.nft("client", c.rules)
			f.pinger().await(t, c.own) // the client is a client of apollo, too, so apollo knows it
			start, answer := f.takeOver(c.addr)
			t.Logf("start %v, next answer after %v", start, answer)
			if answer > start+4*time.Second {
				t.Error("the client has found the new server by itself only")
			}
		})
	}
}

// A plugin that was killed announces again, once it is asked to renew.
func TestAnnouncesAgainAfterAKill(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "announce": 4})
	f.powerOff("rocky")
	f.mustStart()
	f.killPlugin()
	heard := f.listen(groupAddress)
	if _, err := f.renew(1, 0); err != nil {
		t.Fatal(err)
	}
	heard()
	heard()
}

// The hardware address of an adapter changes, as that of a bond does when the port in use fails: what is announced
// from then on is the new one.
func TestRefreshKnowsTheAdapterAsItIs(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "announce": 1, "refresh": "1s"})
	f.powerOff("rocky")
	f.mustStart()
	f.listen(groupAddress)()
	f.ip("-n", f.ns("apollo"), "link", "set", "eth0", "address", "02:00:00:00:36:45")
	heard := f.listenFrom(groupAddress, []byte{2, 0, 0, 0, 0x36, 0x45})
	heard()
	heard()
	f.pinger().await(t, groupAddress)
	if got := f.neighbour(groupAddress); got != "02:00:00:00:36:45" {
		t.Errorf("the client has %q in its cache", got)
	}
}

// listen returns a function that waits for one more gratuitous reply of an address.
func (n *network) listen(addr string) func() { return n.listenFrom(addr, nil) }

// listenFrom is listen for those that name a hardware address; nil: any.
func (n *network) listenFrom(addr string, mac []byte) func() {
	n.Helper()
	var fd int
	n.within("client", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0x0608)
		return err
	})
	n.Cleanup(func() { _ = unix.Close(fd) })
	want := netip.MustParseAddr(addr).AsSlice()
	buf := make([]byte, 256)
	return func() {
		n.Helper()
		for end := time.Now().Add(patience); time.Now().Before(end); {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
			if got, _, err := unix.Recvfrom(fd, buf, 0); err == nil && got >= 28 && buf[7] == 2 &&
				slices.Equal(buf[14:18], want) && slices.Equal(buf[24:28], want) &&
				(mac == nil || slices.Equal(buf[8:14], mac)) {
				return
			}
		}
		n.Fatalf("%s was not announced within %v", addr, patience)
	}
}

// etc gives apollo's plugin a folder /etc of its own, and the host name apollo.
func (f *fixture) etc(hosts string) (folder string) {
	f.Helper()
	folder = f.TempDir()
	for name, content := range map[string]string{"hosts": hosts, "nsswitch.conf": "hosts: files\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	if err := f.plugin.Close(); err != nil {
		f.Fatal(err)
	}
	f.wrap = []string{"unshare", "--mount", "--uts", "sh", "-c", `mount --bind "$1" /etc && hostname apollo && exec "$2"`,
		"sh", folder}
	f.launch()
	return folder
}

// inside runs a command as the plugin's host sees the world.
func (f *fixture) inside(args ...string) string {
	f.Helper()
	all := append([]string{"-t", fmt.Sprint(f.plugin.PID), "-m", "-u", "-n"}, args...)
	out, err := exec.Command("nsenter", all...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// The failed server's name leads to its address, on the survivor; the survivor keeps its own name (W-27).
func TestHosts(t *testing.T) {
	for name, before := range map[string]string{
		"LF":   "127.0.0.1\tlocalhost\n# caf\xe9\n172.25.36.46 apollo",
		"CRLF": "127.0.0.1\tlocalhost\r\n172.25.36.46 apollo\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"addresses": both, "hosts": []map[string]any{
				{"names": []string{"rocky.testlab.com", "rocky"}}}})
			f.powerOff("rocky")
			file := filepath.Join(f.etc(before), "hosts")
			f.mustStart()
			if got := f.inside("getent", "hosts", "rocky"); !strings.Contains(got, groupAddress6) {
				t.Errorf("rocky is %q", got)
			}
			if got := f.inside("getent", "ahostsv4", "ROCKY.testlab.com"); !strings.Contains(got, groupAddress) {
				t.Errorf("rocky.testlab.com is %q", got)
			}
			if got := f.inside("hostname"); got != "apollo" {
				t.Errorf("the host's own name is %q", got)
			}
			f.healthy("")
			if err := os.WriteFile(file, []byte(before), 0o644); err != nil { // by whatever manages the file
				t.Fatal(err)
			}
			f.healthy("does not have the names")
			f.mustStart()
			f.healthy("")
			f.killPlugin()
			f.stop()
			if b, err := os.ReadFile(file); err != nil || string(b) != before {
				t.Errorf("afterwards the file is %q, %v; it was %q", b, err, before)
			}
			if got := f.inside("getent", "hosts", "rocky"); !strings.Contains(got, "exit status 2") {
				t.Errorf("rocky is still %q", got)
			}
		})
	}
}

// A hosts file that cannot be written is told beforehand, and costs nobody the address.
func TestHostsFileIsAMount(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "hosts": []map[string]any{{"names": []string{"rocky"}}}})
	f.powerOff("rocky")
	file := filepath.Join(f.etc("127.0.0.1 localhost\n172.25.36.99 rocky\n"), "hosts")
	f.wantProblem("hosts[0]", "line 2 of /etc/hosts")
	f.inside("mount", "--bind", file, "/etc/hosts")
	f.wantProblem("hosts[0]", "mount of its own")
	s := f.mustStart()
	if last := s.Texts[len(s.Texts)-1]; !strings.Contains(last, "mount of its own") {
		t.Errorf("the last step is %q", last)
	}
	f.pinger().await(t, groupAddress)
	f.healthy("does not have the names")
}

// healthy wants a good health, with words about what is amiss beside.
func (f *fixture) healthy(words string) {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Probe(ctx, &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetHealth() != pluginv1.Health_HEALTH_OK || !strings.Contains(r.GetDetail(), words) ||
		words == "" && strings.Contains(r.GetDetail(), "But") {
		f.Errorf("probe: %v, %v; want ok and %q", r, err, words)
	}
}

// wantProblem wants one that Ready reports.
func (f *fixture) wantProblem(attribute, words string) {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
	if err != nil || len(r.GetProblems()) != 1 || r.GetProblems()[0].GetAttribute() != attribute ||
		!strings.Contains(r.GetProblems()[0].GetSummary(), words) {
		f.Errorf("ready: %v, %v; want %q about %q", r.GetProblems(), err, words, attribute)
	}
}

// TestOneOfTwoAdaptersIsDown: where two adapters are in the network, the one that others can reach is taken.
func TestOneOfTwoAdaptersIsDown(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24"})
	f.powerOff("rocky")
	a := f.ns("apollo")
	f.ip("-n", f.ns("switch"), "link", "add", "spare", "type", "veth", "peer", "name", "eth1", "netns", a)
	f.ip("-n", f.ns("switch"), "link", "set", "spare", "master", "br0", "up")
	f.ip("-n", a, "addr", "add", "172.25.36.49/24", "dev", "eth1")
	f.ip("-n", a, "link", "set", "eth1", "up")
	f.ip("-n", a, "link", "set", "eth0", "down")
	f.mustStart()
	f.pinger().await(t, groupAddress)
	f.stop()
}

// TestGatewayAfterTheAdapterWasDown: the kernel drops an adapter's routes when it is set down, and keeps the addresses.
func TestGatewayAfterTheAdapterWasDown(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "gateway": "172.25.36.1"})
	f.powerOff("rocky")
	a := f.ns("apollo")
	f.ip("-n", a, "route", "del", "default")
	f.mustStart()
	f.ip("-n", a, "link", "set", "eth0", "down")
	f.ip("-n", a, "link", "set", "eth0", "up")
	if out := f.ip("-n", a, "route"); strings.Contains(out, "default") {
		t.Fatalf("the kernel has kept the route: %s", out)
	}
	if _, err := f.renew(1, 0); err != nil {
		t.Fatal(err)
	}
	if out := f.ip("-n", a, "route"); !strings.Contains(out, "default via 172.25.36.1") {
		t.Errorf("the gateway's route is gone: %s", out)
	}
}

// TestOneOfTwoLeaves: two applications have addresses in a network in which the server has none of its own. The first one
// has the network's route; when it leaves, the other one is reached all the same.
func TestOneOfTwoLeaves(t *testing.T) {
	for _, network := range []string{"10.1.1.%d/24", "2001:db8:1::%d/64"} {
		t.Run(network, func(t *testing.T) {
			addr := func(n int) string { return fmt.Sprintf(network, n) }
			one, _, _ := strings.Cut(addr(46), "/")
			f := protect(t, map[string]any{"address": addr(45), "adapter": "eth0"})
			f.ip("-n", f.ns("client"), "addr", "add", addr(100), "dev", "eth0")
			f.ip("-n", f.ns("apollo"), "route", "del", "default")
			f.mustStart()
			first, firstHandle := f.app, f.handle
			f.app, f.handle = &pluginv1.Application{Group: "apollo", Name: "second", WorkDir: t.TempDir()}, nil
			f.configure(map[string]any{"address": addr(46), "adapter": "eth0"})
			f.mustStart()
			p := f.pinger()
			p.await(t, one)
			second, secondHandle := f.app, f.handle
			f.app, f.handle = first, firstHandle
			f.stop()
			f.app, f.handle = second, secondHandle
			f.ip("-n", f.ns("client"), "neigh", "flush", "dev", "eth0")
			p.await(t, one)
			f.stop()
			out := f.ip("-n", f.ns("apollo"), "route") + f.ip("-n", f.ns("apollo"), "-6", "route")
			if strings.Contains(out, "10.1.1.") || strings.Contains(out, "2001:db8:1:") {
				t.Errorf("left behind: %s", out)
			}
		})
	}
}

// TestSourceOfIPv6: the group's address is never the source of the server's own traffic, however its own is configured.
func TestSourceOfIPv6(t *testing.T) {
	for name, c := range map[string]struct{ own, group string }{
		"as a network manager does": {"noprefixroute", groupAddress6 + "/64"},
		"one machine":               {"nodad", groupAddress6 + "/128"},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"address": c.group, "adapter": "eth0"})
			f.powerOff("rocky")
			a := f.ns("apollo")
			f.ip("-n", a, "-6", "addr", "flush", "dev", "eth0", "scope", "global")
			f.ip("-n", a, "addr", "add", "2001:db8:36::46/64", "dev", "eth0", "nodad", c.own)
			f.ip("-n", a, "route", "replace", "2001:db8:36::/64", "dev", "eth0", "metric", "100")
			f.mustStart()
			if out := f.ip("-n", a, "route", "get", "2001:db8:36::100"); !strings.Contains(out, "src 2001:db8:36::46") {
				t.Errorf("the server speaks as %s", out)
			}
			f.pinger().await(t, groupAddress6)
		})
	}
}
