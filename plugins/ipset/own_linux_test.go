package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestServersOwnAddress: an address that a server has for itself, as that of its interconnect, is refused as a group's: on
// its own server because it is there, on the other one because its owner answers.
func TestServersOwnAddress(t *testing.T) {
	for name, c := range map[string]struct{ own, partner string }{
		"IPv4": {"10.9.9.2/30", "10.9.9.1/30"}, "IPv6": {"2001:db8:9::2/64", "2001:db8:9::1/64"},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"address": c.own})
			f.ip("-n", f.ns("apollo"), "link", "add", "ic0", "type", "veth", "peer", "name", "ic0", "netns", f.ns("rocky"))
			for host, addr := range map[string]string{"apollo": c.own, "rocky": c.partner} {
				f.ip("-n", f.ns(host), "link", "set", "ic0", "up")
				f.ip("-n", f.ns(host), "addr", "add", addr, "dev", "ic0", "nodad")
			}
			own, _, _ := strings.Cut(c.own, "/")
			words := own + " is on ic0 already, and not by this plugin"
			f.wantProblem("address", words)
			if _, err := f.start(); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("start with the server's own address: %v", err)
			}
			f.configure(map[string]any{"address": c.partner, "probe": "2s"})
			partner, _, _ := strings.Cut(c.partner, "/")
			_, err := f.start()
			if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "another machine (") ||
				!strings.Contains(err.Error(), "answers for "+partner+": its server is alive") {
				t.Errorf("start with the partner's own address: %v", err)
			}
			if out := f.ip("-n", f.ns("apollo"), "addr", "show", "dev", "ic0"); strings.Contains(out, " "+c.partner) ||
				!strings.Contains(out, " "+c.own) {
				t.Errorf("apollo has %s", out)
			}
		})
	}
}

// TestRefreshIPv6: an IPv6 address is advertised again for as long as it is here, so that a client whose cache says
// otherwise finds it.
func TestRefreshIPv6(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress6 + "/64", "announce": 1, "refresh": "1s"})
	f.powerOff("rocky")
	f.mustStart()
	f.pinger().await(t, groupAddress6)
	heard := f.listenNDP(groupAddress6)
	heard() // after 5 s at the latest
	for range 2 {
		f.ip("-n", f.ns("client"), "neigh", "replace", groupAddress6, "lladdr", "02:00:00:00:00:99", "dev", "eth0",
			"nud", "stale")
		heard()
		if got := f.neighbour(groupAddress6); got != f.mac("apollo") {
			t.Errorf("after the advertisement the client has %q", got)
		}
	}
	f.stop()
}

// listenNDP returns a function that waits for one more advertisement of an IPv6 address to all machines that nobody has
// asked for, and overrides what is cached.
func (n *network) listenNDP(addr string) func() {
	n.Helper()
	const etherIPv6, override = 0xdd86, 0x20 // of linux/if_ether.h, in the network's order; RFC 4861
	var fd int
	n.within("client", func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, etherIPv6)
		return err
	})
	n.Cleanup(func() { _ = unix.Close(fd) })
	want := append([]byte{0xff, 0x02, 13: 0, 15: 1}, 136, 0)
	target := netip.MustParseAddr(addr).AsSlice()
	buf := make([]byte, 256)
	return func() {
		n.Helper()
		for end := time.Now().Add(patience); time.Now().Before(end); {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
			got, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && got >= 64 && buf[6] == unix.IPPROTO_ICMPV6 && string(buf[24:42]) == string(want) &&
				buf[44] == override && string(buf[48:64]) == string(target) {
				return
			}
		}
		n.Fatalf("%s was not advertised within %v", addr, patience)
	}
}
