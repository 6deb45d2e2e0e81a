package ipset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// probes is how many questions a probe spreads over its time.
const probes = 3

// arpSocket sends and receives ARP frames on one adapter.
type arpSocket struct {
	fd  int
	mac net.HardwareAddr
}

// htons turns a protocol number into the byte order of a socket address.
func htons(v uint16) uint16 { return v<<8 | v>>8 }

func openARP(index int, mac net.HardwareAddr) (*arpSocket, error) {
	proto := htons(etherARP)
	if !littleEndian {
		proto = etherARP
	}
	// Without a protocol until it is bound: to rebind a socket that already receives makes the kernel wait for all
	// its readers, many milliseconds of an outage.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("ARP socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("ARP socket: %w", err)
	}
	return &arpSocket{fd: fd, mac: mac}, nil
}

// close waits for the kernel's readers of the socket, which takes milliseconds: nobody should wait for it.
func (s *arpSocket) close() { _ = unix.Close(s.fd) }

func (s *arpSocket) send(frame []byte) error {
	if _, err := unix.Write(s.fd, frame); err != nil {
		return fmt.Errorf("send ARP: %w", err)
	}
	return nil
}

func (s *arpSocket) announce(addr netip.Addr) error {
	var errs []error
	for _, f := range announcements(s.mac, addr) {
		errs = append(errs, s.send(f))
	}
	return errors.Join(errs...)
}

// conflict asks for addr during a time and returns the hardware address of a machine that claims it, or nil.
func (s *arpSocket) conflict(ctx context.Context, addr netip.Addr, during time.Duration) (net.HardwareAddr, error) {
	began := time.Now()
	for i := range probes {
		if err := s.send(probe(s.mac, addr)); err != nil {
			return nil, err
		}
		until := began.Add(during * time.Duration(i+1) / probes)
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			until = end
		}
		if mac, err := s.listen(ctx, addr, until); mac != nil || err != nil {
			return mac, err
		}
	}
	return nil, ctx.Err()
}

func (s *arpSocket) listen(ctx context.Context, addr netip.Addr, until time.Time) (net.HardwareAddr, error) {
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		// Rounded up: a wait of less than a millisecond must not become a busy loop.
		left := int((time.Until(until) + time.Millisecond - 1) / time.Millisecond)
		if left <= 0 {
			return nil, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, left)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for ARP: %w", err)
		}
		n, _, err = unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive ARP: %w", err)
		}
		if m, err := parseARP(buf[:n]); err == nil && m.claims(addr, s.mac) {
			return append(net.HardwareAddr(nil), m.senderMAC...), nil
		}
	}
	return nil, nil
}
