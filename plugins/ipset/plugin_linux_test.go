package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/netnstest"
	"github.com/orscore/ors/plugins/sdk/plugintest"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// patience bounds each wait of these tests.
const patience = 20 * time.Second

var binaryPath string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ors-ipset-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaryPath = filepath.Join(dir, "ors-plugin-ipset")
	build := exec.Command("go", "build", "-o", binaryPath, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// network is a switch with three hosts, each in a network namespace of its own: rocky and apollo, a pair, and a
// client.
type network struct {
	testing.TB
	prefix string
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	n := &network{TB: t, prefix: netnstest.Prefix(t)}
	n.ip("netns", "add", n.ns("switch"))
	n.ip("-n", n.ns("switch"), "link", "add", "br0", "type", "bridge")
	n.ip("-n", n.ns("switch"), "link", "set", "br0", "up")
	for host, addrs := range map[string][]string{
		"rocky": {"172.25.36.45/24", "2001:db8:36::45/64"},
		// The dummy is the first one, as the paper wants it.
		"apollo": {"172.25.36.48/24", "172.25.36.46/24", "2001:db8:36::48/64", "2001:db8:36::46/64"},
		"client": {"172.25.36.100/24", "2001:db8:36::100/64"},
	} {
		n.ip("netns", "add", n.ns(host))
		n.ip("-n", n.ns("switch"), "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", n.ns(host))
		n.ip("-n", n.ns("switch"), "link", "set", host, "master", "br0", "up")
		n.ip("-n", n.ns(host), "link", "set", "lo", "up")
		n.ip("-n", n.ns(host), "link", "set", "eth0", "up")
		for _, a := range addrs {
			if strings.Contains(a, ":") {
				n.ip("-n", n.ns(host), "addr", "add", a, "dev", "eth0", "nodad")
			} else {
				n.ip("-n", n.ns(host), "addr", "add", a, "brd", "+", "dev", "eth0")
			}
		}
	}
	n.ip("-n", n.ns("apollo"), "route", "add", "default", "via", "172.25.36.100")
	return n
}

func (n *network) ns(host string) string { return n.prefix + host }

func (n *network) ip(args ...string) string {
	n.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		n.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nft makes rules of nf_tables on a host.
func (n *network) nft(host, rules string) {
	n.Helper()
	c := exec.Command("ip", "netns", "exec", n.ns(host), "nft", "-f", "-")
	c.Stdin = strings.NewReader(rules)
	if out, err := c.CombinedOutput(); err != nil {
		n.Fatalf("nft on %s: %v %s", host, err, out)
	}
}

// addresses lists "address label" of apollo's adapter, sorted.
func (n *network) addresses() []string {
	n.Helper()
	var out []string
	all := strings.TrimSpace(n.ip("-n", n.ns("apollo"), "-o", "-4", "addr", "show", "dev", "eth0"))
	for _, line := range strings.Split(all, "\n") {
		if f := strings.Fields(strings.Split(line, "\\")[0]); len(f) > 3 {
			out = append(out, f[3]+" "+f[len(f)-1])
		}
	}
	slices.Sort(out)
	return out
}

func (n *network) wantAddresses(want ...string) {
	n.Helper()
	if got := n.addresses(); !slices.Equal(got, want) {
		n.Errorf("apollo has %q, want %q", got, want)
	}
}

// powerOff cuts a host off at the switch, as a power cut does.
func (n *network) powerOff(host string) { n.ip("-n", n.ns("switch"), "link", "set", host, "down") }

// within runs f in a host's namespace. What it opens stays there.
func (n *network) within(host string, f func() error) {
	n.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its foreign namespace
		ns, err := os.Open("/var/run/netns/" + n.ns(host))
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		n.Fatal(err)
	}
}

// fixture is the address under a plugin on apollo.
type fixture struct {
	*network
	plugin *plugintest.Process
	wrap   []string // what the plugin runs in
	logs   *syncBuffer
	app    *pluginv1.Application
	handle *pluginv1.Handle
	epoch  uint64
	ops    *atomic.Int64
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func protect(t testing.TB, body map[string]any) *fixture {
	t.Helper()
	f := &fixture{network: newNetwork(t), logs: &syncBuffer{}, epoch: 1, ops: &atomic.Int64{}}
	t.Cleanup(func() {
		if err := f.plugin.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(f.logs.String())
		}
	})
	f.launch()
	f.app = &pluginv1.Application{Group: "rocky", Name: "address", WorkDir: t.TempDir()}
	f.configure(body)
	return f
}

func (f *fixture) configure(body map[string]any) {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	s, err := f.plugin.Schema(ctx, &pluginv1.SchemaRequest{})
	if err != nil {
		f.Fatal(err)
	}
	if f.app.Config, err = plugintest.Config(s.GetSchema(), body); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) launch() {
	f.Helper()
	argv := append([]string{"ip", "netns", "exec", f.ns("apollo")}, f.wrap...)
	p, err := plugintest.Start(f.logs, append(argv, binaryPath)...)
	if err != nil {
		f.Fatal(err, f.logs.String())
	}
	f.plugin = p
}

func (f *fixture) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (f *fixture) caller() *pluginv1.Caller {
	n := f.ops.Add(1)
	return &pluginv1.Caller{Server: "apollo", BootId: "boot", Epoch: f.epoch, OperationId: fmt.Sprintf("op-%d", n)}
}

func (f *fixture) start() (plugintest.Started, error) {
	ctx, cancel := f.context()
	defer cancel()
	s, err := f.plugin.StartApplication(ctx, &pluginv1.StartRequest{
		Caller: f.caller(), Application: f.app, Previous: f.handle,
	})
	if err == nil {
		f.handle = s.Handle
	}
	return s, err
}

func (f *fixture) mustStart() plugintest.Started {
	f.Helper()
	s, err := f.start()
	if err != nil {
		f.Fatal("start:", err)
	}
	return s
}

func (f *fixture) stop() {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		f.Fatalf("stop: %v, %v", r, err)
	}
}

func (f *fixture) recover(want pluginv1.RunState) {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Recover(ctx, &pluginv1.RecoverRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != want {
		f.Fatalf("recover: %v, %v; want %v", r, err, want)
	}
}

func (f *fixture) health(want pluginv1.Health) {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Probe(ctx, &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetHealth() != want {
		f.Fatalf("probe: %v, %v; want %v", r, err, want)
	}
}

func (f *fixture) killPlugin() {
	f.Helper()
	if err := unix.Kill(f.plugin.PID, unix.SIGKILL); err != nil { // our child, not yet reaped by another
		f.Fatal(err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f.plugin.Exited(); <-tick.C {
		if time.Now().After(end) {
			f.Fatal("the plugin did not end")
		}
	}
	if err := f.plugin.Close(); err != nil {
		f.Fatal(err)
	}
	f.launch()
}

// pinger asks addresses for an echo again and again from the client, and says when an answer comes.
type pinger struct {
	fd, fd6 int
	seq     uint16
}

func (n *network) pinger() *pinger {
	n.Helper()
	p := &pinger{}
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	n.within("client", func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_INET, kind, unix.IPPROTO_ICMP); err == nil {
			p.fd6, err = unix.Socket(unix.AF_INET6, kind, unix.IPPROTO_ICMPV6)
		}
		return err
	})
	n.Cleanup(func() { _, _ = unix.Close(p.fd), unix.Close(p.fd6) })
	return p
}

// answered sends one echo request and waits a moment for its answer.
func (p *pinger) answered(addr string) bool {
	p.seq++
	ip := netip.MustParseAddr(addr)
	b := []byte{8, 0, 0, 0, 0x0a, 0x0b, 0, 0}
	binary.BigEndian.PutUint16(b[6:], p.seq)
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: ip.As16()}
	fd, header, reply := p.fd6, 0, byte(129)
	if ip.Is6() {
		b[0] = 128 // the kernel sums it up
	} else {
		var sum uint32
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
		to, fd, header, reply = &unix.SockaddrInet4{Addr: ip.As4()}, p.fd, 20, 0
	}
	_ = unix.Sendto(fd, b, 0, to) // the neighbour may be unknown just now
	buf := make([]byte, 256)
	for end := time.Now().Add(5 * time.Millisecond); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return false
		}
		if n >= header+8 && buf[header] == reply && bytes.Equal(buf[header+4:header+8], b[4:8]) {
			return true
		}
	}
}

func (p *pinger) await(t testing.TB, addr string) {
	t.Helper()
	for end := time.Now().Add(patience); !p.answered(addr); {
		if time.Now().After(end) {
			t.Fatalf("%s did not answer within %v", addr, patience)
		}
	}
}

// neighbour is the hardware address that the client has cached for an address.
func (n *network) neighbour(addr string) string {
	f := strings.Fields(n.ip("-n", n.ns("client"), "neigh", "show", addr))
	if i := slices.Index(f, "lladdr"); i >= 0 {
		return f[i+1]
	}
	return ""
}

func (n *network) mac(host string) string {
	f := strings.Fields(n.ip("-n", n.ns(host), "link", "show", "eth0"))
	return f[slices.Index(f, "link/ether")+1]
}

// takeOver measures one takeover as a client sees it that has the old server in its cache: the plugin's share, and
// from the beginning of the start to the next answer.
func takeOver(t testing.TB, addr string, body map[string]any) (start, answer time.Duration) {
	return protect(t, body).takeOver(addr)
}

func (f *fixture) takeOver(addr string) (start, answer time.Duration) {
	f.Helper()
	p := f.pinger()
	p.await(f, addr)
	if got := f.neighbour(addr); got != f.mac("rocky") {
		f.Fatalf("the client has %q in its cache, want rocky's %q", got, f.mac("rocky"))
	}
	f.powerOff("rocky")
	began := time.Now()
	started := make(chan time.Duration, 1)
	go func() {
		if _, err := f.start(); err != nil {
			f.Error("start:", err)
		}
		started <- time.Since(began)
	}()
	p.await(f, addr)
	answer = time.Since(began)
	start = <-started
	if got := f.neighbour(addr); got != f.mac("apollo") {
		f.Errorf("the client has %q in its cache, want apollo's %q", got, f.mac("apollo"))
	}
	return start, answer
}

func TestTakeover(t *testing.T) {
	start, answer := takeOver(t, "172.25.36.45", map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	t.Logf("start %v, next answer after %v", start, answer)
}

func TestReplacesTheDummyAndNothingElse(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	before, routes := f.addresses(), f.ip("-n", f.ns("apollo"), "-4", "route")
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	s := f.mustStart()
	if got := strings.Join(s.Steps, " "); got != "probe address dummy" {
		t.Errorf("steps are %q", got)
	}
	f.wantAddresses("172.25.36.45/24 eth0:ors", "172.25.36.46/24 eth0")
	now := f.ip("-n", f.ns("apollo"), "-4", "route")
	if !strings.Contains(now, "default via 172.25.36.100") ||
		!strings.Contains(now, "172.25.36.0/24 dev eth0 proto kernel scope link src 172.25.36.46") {
		t.Errorf("routes were\n%sand are\n%s", routes, now)
	}
	f.health(pluginv1.Health_HEALTH_OK)
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.mustStart()
	f.wantAddresses("172.25.36.45/24 eth0:ors", "172.25.36.46/24 eth0")
	f.stop()
	f.wantAddresses(before...)
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	f.health(pluginv1.Health_HEALTH_FAILED)
	f.stop()
	f.wantAddresses(before...)
}

func TestDummyIsTheOnlyAddress(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	f.ip("-n", f.ns("apollo"), "addr", "flush", "dev", "eth0")
	f.ip("-n", f.ns("apollo"), "addr", "add", "172.25.36.48/24", "dev", "eth0")
	f.mustStart()
	f.wantAddresses("172.25.36.45/24 eth0:ors")
	f.pinger().await(t, "172.25.36.45") // so the network has a route by it
	f.stop()
	f.wantAddresses("172.25.36.48/24 eth0")
}

// TestRoutesOfTheDummy: the server's own routes go on while the dummy is away, and are as they were when it is back.
func TestRoutesOfTheDummy(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		route []string
	}{
		"it is alone":              {nil, []string{"default", "via", "172.25.36.100"}},
		"it is their source":       {nil, []string{"default", "via", "172.25.36.100", "src", "172.25.36.48"}},
		"its network has a metric": {[]string{"noprefixroute"}, []string{"172.25.36.0/24", "src", "172.25.36.48", "metric", "100"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
			f.powerOff("rocky")
			a := f.ns("apollo")
			f.ip("-n", a, "addr", "flush", "dev", "eth0")
			f.ip(append([]string{"-n", a, "addr", "add", "172.25.36.48/24", "dev", "eth0"}, c.flags...)...)
			f.ip(append(append([]string{"-n", a, "route", "add"}, c.route...), "dev", "eth0")...)
			addrs, before := f.addresses(), f.ip("-n", a, "-4", "route")
			f.mustStart()
			f.wantAddresses("172.25.36.45/24 eth0:ors")
			if out := f.ip("-n", a, "-4", "route"); !strings.Contains(out, c.route[0]) {
				t.Errorf("the route to %s is gone:\n%s", c.route[0], out)
			}
			f.pinger().await(t, "172.25.36.45")
			f.stop()
			f.wantAddresses(addrs...)
			if after := f.ip("-n", a, "-4", "route"); after != before {
				t.Errorf("routes were\n%sand are\n%s", before, after)
			}
		})
	}
}

func TestPluginKilled(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48", "adapter": "eth0"})
	f.powerOff("rocky")
	before := f.addresses()
	f.epoch = 3
	f.mustStart()
	f.killPlugin()
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.health(pluginv1.Health_HEALTH_OK)
	f.epoch = 2
	ctx, cancel := f.context()
	defer cancel()
	_, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a stale stop got %v", err)
	}
	f.epoch, f.handle = 3, nil // the dummy is known without the handle, too
	f.stop()
	f.wantAddresses(before...)
}

func TestPartnerStillAnswers(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48", "probe": "10s"})
	before := f.addresses()
	_, err := f.start()
	if err == nil || !strings.Contains(err.Error(), f.mac("rocky")) {
		t.Fatalf("start while the partner has the address: %v", err)
	}
	f.wantAddresses(before...)
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
}

func TestProbeOff(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "probe": "0s"})
	if s := f.mustStart(); strings.Join(s.Steps, " ") != "address" {
		t.Errorf("steps are %v", s.Steps)
	}
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Error(r, err)
	}
	f.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "announce": 2})
	f.powerOff("rocky")
	var fd int
	f.within("client", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0x0608)
		return err
	})
	defer unix.Close(fd)
	f.mustStart()
	seen := map[byte]int{} // ARP operation → gratuitous frames
	buf := make([]byte, 256)
	for end := time.Now().Add(patience); seen[1] < 3 || seen[2] < 3; {
		if time.Now().After(end) {
			t.Fatalf("saw gratuitous requests and replies %v, want 3 of each: at once, after 200 ms and after 5 s", seen)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n, _, err := unix.Recvfrom(fd, buf, 0); err == nil && n >= 28 {
			if bytes.Equal(buf[14:18], []byte{172, 25, 36, 45}) && bytes.Equal(buf[14:18], buf[24:28]) {
				seen[buf[7]]++
			}
		}
	}
}

func TestReady(t *testing.T) {
	for name, c := range map[string]struct {
		body map[string]any
		with func(*network)
		want string
	}{
		"ready":      {map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"}, nil, ""},
		"no network": {map[string]any{"address": "10.1.1.1/24"}, nil, "address"},
		"no adapter": {map[string]any{"address": "172.25.36.45/24", "adapter": "eth7"}, nil, "adapter"},
		"loopback":   {map[string]any{"address": "172.25.36.45/24", "adapter": "lo"}, nil, "adapter"},
		"no dummy":   {map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.49"}, nil, "replaces"},
		"configured outside": {map[string]any{"address": "172.25.36.45/24"}, func(n *network) {
			n.ip("-n", n.ns("apollo"), "addr", "add", "172.25.36.45/24", "dev", "eth0")
		}, "address"},
		"no carrier": {map[string]any{"address": "172.25.36.45/24"}, func(n *network) { n.powerOff("apollo") }, "address"},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, c.body)
			if c.with != nil {
				c.with(f.network)
			}
			ctx, cancel := f.context()
			defer cancel()
			r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, p := range r.GetProblems() {
				got += p.GetAttribute()
			}
			if got != c.want {
				t.Errorf("problems are %v, want one of %q", r.GetProblems(), c.want)
			}
		})
	}
}

// TestCarrier: an address that nobody can reach has failed, until its adapter has a carrier again.
func TestCarrier(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24"})
	f.powerOff("rocky")
	f.mustStart()
	f.health(pluginv1.Health_HEALTH_OK)
	f.powerOff("apollo")
	f.health(pluginv1.Health_HEALTH_FAILED)
	f.ip("-n", f.ns("switch"), "link", "set", "apollo", "up")
	f.health(pluginv1.Health_HEALTH_OK)
}

func TestNoAdapter(t *testing.T) {
	f := protect(t, map[string]any{"address": "10.1.1.1/24"})
	before := f.addresses()
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("start without an adapter: %v; want a list of adapters", err)
	}
	f.wantAddresses(before...)
}

// BenchmarkTakeover measures a start, and from its beginning the time until a client whose neighbour cache holds the old
// server has its next answer: median and longest.
func BenchmarkTakeover(b *testing.B) {
	for _, addr := range []string{"172.25.36.45", "2001:db8:36::45"} {
		for _, probe := range []string{"50ms", "0s"} {
			b.Run("address="+addr+"/probe="+probe, func(b *testing.B) {
				var starts, answers []time.Duration
				for b.Loop() {
					start, answer := takeOver(b, addr, map[string]any{
						"addresses": []string{"172.25.36.45/24", "2001:db8:36::45/64"}, "replaces": "172.25.36.48", "probe": probe,
					})
					starts, answers = append(starts, start), append(answers, answer)
				}
				for unit, all := range map[string][]time.Duration{"ms-start": starts, "ms-to-answer": answers} {
					slices.Sort(all)
					b.ReportMetric(all[len(all)/2].Seconds()*1000, unit)
					b.ReportMetric(all[len(all)-1].Seconds()*1000, "most-"+unit)
				}
			})
		}
	}
}
