package netcheck

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/internal/netnstest"
)

// askEnv makes the test binary ask the targets that it names, in whatever network namespace it was started in.
const askEnv = "ORS_TEST_ASK"

// waitEnv is how long.
const waitEnv = "ORS_TEST_WAIT"

func TestMain(m *testing.M) {
	if asked := os.Getenv(askEnv); asked != "" {
		var ts []Target
		for _, s := range strings.Split(asked, " ") {
			t, err := Parse(s)
			if err != nil {
				panic(err)
			}
			ts = append(ts, t)
		}
		wait, err := time.ParseDuration(os.Getenv(waitEnv))
		if err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := json.NewEncoder(os.Stdout).Encode(Ask(ctx, ts)); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// lan is a server and two hosts on a switch, each in a network namespace of its own.
type lan struct {
	testing.TB
	prefix string
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	l := &lan{t, netnstest.Prefix(t)}
	l.ip("netns", "add", l.prefix+"switch")
	l.ip("-n", l.prefix+"switch", "link", "add", "br0", "up", "type", "bridge")
	for h, addr := range map[string]string{"server": "10.9.0.1/24", "open": "10.9.0.2/24", "strict": "10.9.0.3/24"} {
		ns := l.prefix + h
		l.ip("netns", "add", ns)
		l.ip("-n", l.prefix+"switch", "link", "add", h, "type", "veth", "peer", "name", "eth0", "netns", ns)
		l.ip("-n", l.prefix+"switch", "link", "set", h, "master", "br0", "up")
		l.ip("-n", ns, "link", "set", "eth0", "up")
		l.ip("-n", ns, "addr", "add", addr, "dev", "eth0")
	}
	// What a host behind a strict firewall does to everything that is no ARP.
	l.ip("netns", "exec", l.prefix+"strict", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	l.ip("-n", l.prefix+"strict", "route", "del", "10.9.0.0/24", "dev", "eth0")
	l.ip("-n", l.prefix+"strict", "route", "add", "blackhole", "10.9.0.1/32")
	return l
}

func (l *lan) ip(args ...string) {
	l.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// ask asks from the server.
func (l *lan) ask(wait time.Duration, target string) Result {
	l.Helper()
	c := exec.Command("ip", "netns", "exec", l.prefix+"server", "/proc/self/exe")
	exe, err := os.Executable()
	if err != nil {
		l.Fatal(err)
	}
	c.Args[len(c.Args)-1] = exe
	c.Env = append(os.Environ(), askEnv+"="+target, waitEnv+"="+wait.String())
	out, err := c.Output()
	if err != nil {
		l.Fatal(err)
	}
	var r []Result
	if err := json.Unmarshal(out, &r); err != nil || len(r) != 1 {
		l.Fatalf("%s: %v", out, err)
	}
	return r[0]
}

// yes waits long for an answer that must come; no waits shortly for one that must not.
func (l *lan) yes(target, detail string) {
	l.Helper()
	if r := l.ask(30*time.Second, target); !r.Answers || !strings.Contains(r.Detail, detail) {
		l.Errorf("%s: %+v; want an answer with %q", target, r, detail)
	}
}

func (l *lan) no(target, detail string) {
	l.Helper()
	if r := l.ask(1500*time.Millisecond, target); r.Answers || !strings.Contains(r.Detail, detail) {
		l.Errorf("%s: %+v; want none, with %q", target, r, detail)
	}
}

func TestHostsOfANetwork(t *testing.T) {
	l := newLAN(t)
	l.yes("10.9.0.2", "ping")
	l.yes("arp:10.9.0.2", "ARP")
	l.yes("tcp:10.9.0.2:80", "refused")
	// A host that answers no ping and no connection still answers ARP.
	l.no("10.9.0.3", "no answer")
	l.no("tcp:10.9.0.3:80", "no answer")
	l.yes("arp:10.9.0.3", "ARP")
	// Nobody has this address, nobody has this network, and asking oneself says nothing.
	l.no("10.9.0.77", "")
	l.no("arp:10.9.0.77", "no answer")
	l.no("arp:10.10.0.1", "no adapter")
	l.no("arp:10.9.0.1", "itself")
	// The cable is pulled at the other end, then the adapter is switched off.
	l.ip("-n", l.prefix+"switch", "link", "set", "server", "down")
	for _, target := range []string{"10.9.0.2", "arp:10.9.0.2", "tcp:10.9.0.2:80"} {
		l.no(target, "")
	}
	l.ip("-n", l.prefix+"server", "link", "set", "eth0", "down")
	for _, target := range []string{"10.9.0.2", "arp:10.9.0.2", "tcp:10.9.0.2:80"} {
		l.no(target, "")
	}
	l.ip("-n", l.prefix+"switch", "link", "set", "server", "up")
	l.ip("-n", l.prefix+"server", "link", "set", "eth0", "up")
	l.yes("10.9.0.2", "ping")
	l.yes("arp:10.9.0.2", "ARP")
}
