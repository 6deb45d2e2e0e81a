package core

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

// networkCheck asks all targets of the network check at once whether any of them answers: an address by ICMP echo, a
// host:port by a TCP connection, of which a refusal is an answer, too.
func networkCheck(c *config.Config) func(context.Context) failover.Answer {
	if len(c.NetworkCheck.Targets) == 0 {
		return nil
	}
	return func(ctx context.Context) failover.Answer {
		ctx, cancel := context.WithTimeout(ctx, c.NetworkCheck.Timeout)
		defer cancel()
		answers := make(chan bool, len(c.NetworkCheck.Targets))
		for _, t := range c.NetworkCheck.Targets {
			go func() { answers <- reachable(ctx, t) }()
		}
		for range c.NetworkCheck.Targets {
			if <-answers {
				return failover.Yes
			}
		}
		return failover.No
	}
}

func reachable(ctx context.Context, target string) bool {
	if ip, err := netip.ParseAddr(target); err == nil {
		return echoes(ctx, ip)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", target)
	if err == nil {
		_ = conn.Close()
		return true
	}
	return refused(err)
}

// echoes sends one ICMP echo request a quarter of a second until the address answers one (RFC 792, RFC 4443).
func echoes(ctx context.Context, ip netip.Addr) bool {
	networks, proto, request := []string{"ip4:icmp", "udp4"}, 1, icmp.Type(ipv4.ICMPTypeEcho)
	reply, all := icmp.Type(ipv4.ICMPTypeEchoReply), "0.0.0.0"
	if ip.Is6() {
		networks, proto, request = []string{"ip6:ipv6-icmp", "udp6"}, 58, ipv6.ICMPTypeEchoRequest
		reply, all = ipv6.ICMPTypeEchoReply, "::"
	}
	for i, network := range networks { // raw where it is permitted, else the kernel's unprivileged form
		conn, err := icmp.ListenPacket(network, all)
		if err != nil {
			continue
		}
		defer func() { _ = conn.Close() }()
		to := net.Addr(&net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()})
		if i == 1 {
			to = &net.UDPAddr{IP: ip.AsSlice(), Zone: ip.Zone()}
		}
		return pinged(ctx, conn, to, ip, proto, request, reply)
	}
	return false
}

func pinged(ctx context.Context, conn *icmp.PacketConn, to net.Addr, ip netip.Addr, proto int,
	request, reply icmp.Type) bool {
	const every = 250 * time.Millisecond
	buf := make([]byte, 1500)
	for seq := 1; ctx.Err() == nil; seq++ {
		echo := icmp.Message{Type: request, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq, Data: []byte("ors")}}
		raw, err := echo.Marshal(nil)
		if err != nil {
			return false
		}
		if _, err := conn.WriteTo(raw, to); err != nil {
			return false
		}
		until := time.Now().Add(every)
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			until = end
		}
		if conn.SetReadDeadline(until) != nil {
			return false
		}
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				break // nothing yet: ask again
			}
			if m, err := icmp.ParseMessage(proto, buf[:n]); err == nil && m.Type == reply && sameHost(from, ip) {
				return true
			}
		}
	}
	return false
}

func sameHost(a net.Addr, ip netip.Addr) bool {
	var got net.IP
	switch a := a.(type) {
	case *net.IPAddr:
		got = a.IP
	case *net.UDPAddr:
		got = a.IP
	}
	return got.Equal(ip.AsSlice())
}
