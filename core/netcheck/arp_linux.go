package netcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An ARP packet of Ethernet and IPv4 (RFC 826).
const (
	arpLen      = 28
	arpRequest  = 1
	arpReply    = 2
	etherIPv4   = 0x0800
	hardwareEth = 1
)

// resolves asks by ARP on the adapter of the address's network until a reply comes. Even a host that drops everything
// else answers that.
func resolves(ctx context.Context, ip netip.Addr) (string, error) {
	adapter, own, err := adapterOf(ip)
	if err != nil {
		return "", err
	}
	if own == ip {
		return "", errors.New("it is an address of this server itself: that says nothing")
	}
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return "", fmt.Errorf("this process may not ask by ARP: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: adapter.Index}); err != nil {
		return "", errors.Join(fmt.Errorf("adapter %s: %w", adapter.Name, err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "ARP on "+adapter.Name) // its reads have deadlines
	defer func() { _ = f.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return "", err
	}
	to := &unix.SockaddrLinklayer{Protocol: proto, Ifindex: adapter.Index, Halen: 6,
		Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	question := arpQuestion(adapter.HardwareAddr, own, ip)
	var sendErr error
	for ctx.Err() == nil {
		if err := raw.Control(func(fd uintptr) { sendErr = unix.Sendto(int(fd), question, 0, to) }); err != nil {
			return "", err
		}
		if mac := arpAnswer(ctx, f, ip, time.Now().Add(again)); mac != nil {
			return fmt.Sprintf("answered by ARP: it is %s on %s", mac, adapter.Name), nil
		}
	}
	if sendErr != nil {
		return "", fmt.Errorf("adapter %s: %w", adapter.Name, sendErr)
	}
	return "", errSilent
}

// adapterOf finds the adapter with an address in the narrowest network that has ip, and that address.
func adapterOf(ip netip.Addr) (*net.Interface, netip.Addr, error) {
	adapters, err := net.Interfaces()
	if err != nil {
		return nil, netip.Addr{}, err
	}
	var best *net.Interface
	var own netip.Prefix
	for i := range adapters {
		addrs, err := adapters[i].Addrs()
		if err != nil || len(adapters[i].HardwareAddr) != 6 {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is4() && p.Contains(ip) && (best == nil || p.Bits() > own.Bits()) {
				best, own = &adapters[i], p
			}
		}
	}
	if best == nil {
		return nil, netip.Addr{}, fmt.Errorf("no adapter of this server has an address in the network of %s", ip)
	}
	return best, own.Addr(), nil
}

func arpQuestion(mac net.HardwareAddr, own, ip netip.Addr) []byte {
	b := binary.BigEndian.AppendUint16(nil, hardwareEth)
	b = binary.BigEndian.AppendUint16(b, etherIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, arpRequest)
	b = append(b, mac...)
	b = append(b, own.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, ip.AsSlice()...)
}

// arpAnswer reads until a reply of ip comes, and returns its hardware address, or until the time is over.
func arpAnswer(ctx context.Context, f *os.File, ip netip.Addr, until time.Time) net.HardwareAddr {
	buf := make([]byte, 256)
	if f.SetReadDeadline(until) != nil {
		return nil
	}
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				sleep(ctx, time.Until(until)) // the adapter is down, which the socket tells once
			}
			return nil
		}
		b := buf[:n]
		if n >= arpLen && binary.BigEndian.Uint16(b[6:]) == arpReply && bytes.Equal(b[14:18], ip.AsSlice()) {
			return bytes.Clone(b[8:14])
		}
	}
	return nil
}
