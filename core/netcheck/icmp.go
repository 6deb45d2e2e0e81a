package netcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// family is what the two IP versions have different.
type family struct {
	unprivileged, raw string // networks of icmp.ListenPacket
	all               string
	protocol          int
	request, reply    icmp.Type
}

var (
	version4 = family{"udp4", "ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	version6 = family{"udp6", "ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

// echoes sends an ICMP echo request again and again until the address answers one (RFC 792, RFC 4443): through the
// kernel's unprivileged form where it is permitted, else through a raw socket.
func echoes(ctx context.Context, ip netip.Addr) (string, error) {
	f := version4
	if ip.Is6() {
		f = version6
	}
	conn, err := icmp.ListenPacket(f.unprivileged, f.all)
	to := net.Addr(&net.UDPAddr{IP: ip.AsSlice(), Zone: ip.Zone()})
	if err != nil {
		var rawErr error
		if conn, rawErr = icmp.ListenPacket(f.raw, f.all); rawErr != nil {
			return "", fmt.Errorf("this process may not ping: %w", errors.Join(err, rawErr))
		}
		to = &net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()}
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var sendErr error
	for seq := 1; ctx.Err() == nil; seq++ {
		echo := icmp.Message{Type: f.request, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq, Data: []byte("ors")}}
		packet, err := echo.Marshal(nil)
		if err != nil {
			return "", err
		}
		_, sendErr = conn.WriteTo(packet, to) // no route just now: asked again
		if answered(ctx, conn, f, ip, time.Now().Add(again)) {
			return "answered a ping", nil
		}
	}
	if sendErr != nil {
		return "", sendErr
	}
	return "", errSilent
}

// answered reads until an echo reply of ip comes, or the time is over.
func answered(ctx context.Context, conn *icmp.PacketConn, f family, ip netip.Addr, until time.Time) bool {
	buf := make([]byte, 1500)
	if conn.SetReadDeadline(until) != nil {
		return false
	}
	for ctx.Err() == nil {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				sleep(ctx, time.Until(until)) // an error that the socket keeps, such as "unreachable"
			}
			return false
		}
		if m, err := icmp.ParseMessage(f.protocol, buf[:n]); err == nil && m.Type == f.reply && sameHost(from, ip) {
			return true
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
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
