package ipset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	probes         = 3  // questions that a probe spreads over its time
	mostNeighbours = 64 // that are told of an address one by one
	pollMost       = 50 // milliseconds after which a probe looks whether it is still wanted
)

// voice speaks for one address on one adapter: it asks whether others have it, and tells them where it is.
type voice struct {
	fd     int
	index  int
	mac    net.HardwareAddr
	addr   netip.Addr
	router bool
}

// htons turns a protocol number into the byte order of a socket address.
func htons(v uint16) uint16 {
	if littleEndian {
		return v<<8 | v>>8
	}
	return v
}

// openVoice opens a socket that sees ARP, or neighbour discovery, and nothing else.
func openVoice(l netlink.Link, addr netip.Addr) (*voice, error) {
	v := &voice{index: l.Attrs().Index, mac: l.Attrs().HardwareAddr, addr: addr}
	proto := uint16(etherARP)
	if addr.Is6() {
		proto, v.router = etherIPv6, forwards(l.Attrs().Name)
	}
	// Without a protocol until it is bound: to rebind a socket that already receives makes the kernel wait for all
	// its readers, many milliseconds of an outage.
	var err error
	if v.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if addr.Is6() {
		err = v.listenToNDP()
	}
	if err == nil {
		err = unix.Bind(v.fd, &unix.SockaddrLinklayer{Protocol: htons(proto), Ifindex: v.index})
	}
	if err != nil {
		_ = unix.Close(v.fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return v, nil
}

// listenToNDP hears those who probe for the address at the same time, and lets the kernel sort out all other packets.
func (v *voice) listenToNDP() error {
	group := multicastMAC(solicitedNode(v.addr))
	member := unix.PacketMreq{Ifindex: int32(v.index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(group))}
	copy(member.Address[:], group)
	if err := unix.SetsockoptPacketMreq(v.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member); err != nil {
		return err
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherHeader + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: ndpMessage, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: solicitation, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: advertised, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, 0, len(program))
	for _, i := range program {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return unix.SetsockoptSockFprog(v.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// forwards says whether this server is a router for the machines on an adapter: its advertisements must say so.
func forwards(adapter string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + adapter + "/forwarding")
	return err == nil && len(b) > 0 && b[0] == '1'
}

// on is the voice for an adapter as it is now: another one where the adapter was made anew, or has another hardware
// address, as that of a bond may when the port in use fails.
func (v *voice) on(l netlink.Link) (*voice, error) {
	if l.Attrs().Index == v.index && bytes.Equal(l.Attrs().HardwareAddr, v.mac) {
		return v, nil
	}
	now, err := openVoice(l, v.addr)
	if err != nil {
		return v, err
	}
	v.close()
	return now, nil
}

// close waits for the kernel's readers of the socket, which takes milliseconds: nobody should wait for it.
func (v *voice) close() { _ = unix.Close(v.fd) }

func (v *voice) send(frame []byte) error {
	if _, err := unix.Write(v.fd, frame); err != nil {
		return fmt.Errorf("send to the network: %w", err)
	}
	return nil
}

// announce tells everybody.
func (v *voice) announce() error {
	frames := announceARP(v.mac, v.addr)
	if v.addr.Is6() {
		frames = announceNDP(v.mac, v.addr, v.router)
	}
	var errs []error
	for _, f := range frames {
		errs = append(errs, v.send(f))
	}
	return errors.Join(errs...)
}

// tellNeighbours tells those whom the kernel knows, one by one: some heed nothing that is not meant for them, and no
// one heeds an announcement soon after the last one.
func (v *voice) tellNeighbours() error {
	all, err := v.neighbours()
	errs := []error{err}
	for _, to := range all {
		f := askARP
		if v.addr.Is6() {
			f = askNDP
		}
		errs = append(errs, v.send(f(v.mac, v.addr, to)))
	}
	return errors.Join(errs...)
}

func (v *voice) neighbours() ([]neighbour, error) {
	family := netlink.FAMILY_V4
	if v.addr.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := retryDump(func() ([]netlink.Neigh, error) { return netlink.NeighList(v.index, family) })
	if err != nil {
		return nil, fmt.Errorf("list of neighbours: %w", err)
	}
	const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
		netlink.NUD_PERMANENT
	var out []neighbour
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		a = a.Unmap()
		if !ok || n.State&known == 0 || len(n.HardwareAddr) != 6 || a == v.addr || a.IsMulticast() {
			continue
		}
		if out = append(out, neighbour{a, n.HardwareAddr}); len(out) == mostNeighbours {
			break
		}
	}
	return out, nil
}

// conflict asks for the address during a time and returns the hardware address of a machine that claims it, or nil.
func (v *voice) conflict(ctx context.Context, during time.Duration) (net.HardwareAddr, error) {
	question := probeARP(v.mac, v.addr)
	if v.addr.Is6() {
		question = probeNDP(v.mac, v.addr)
	}
	began := time.Now()
	for i := range probes {
		if err := v.send(question); err != nil {
			return nil, err
		}
		until := began.Add(during * time.Duration(i+1) / probes)
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			until = end
		}
		if mac, err := v.listen(ctx, until); mac != nil || err != nil {
			return mac, err
		}
	}
	return nil, ctx.Err()
}

func (v *voice) listen(ctx context.Context, until time.Time) (net.HardwareAddr, error) {
	claims := claimsARP
	if v.addr.Is6() {
		claims = claimsNDP
	}
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		// Rounded up: a wait of less than a millisecond must not become a busy loop.
		left := int((time.Until(until) + time.Millisecond - 1) / time.Millisecond)
		if left <= 0 {
			return nil, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(v.fd), Events: unix.POLLIN}}, min(left, pollMost))
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for the network: %w", err)
		}
		n, from, err := unix.Recvfrom(v.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive from the network: %w", err)
		}
		if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Pkttype == unix.PACKET_OUTGOING {
			continue // this server's own
		}
		if mac := claims(buf[:n], v.addr, v.mac); mac != nil {
			return append(net.HardwareAddr(nil), mac...), nil
		}
	}
	return nil, nil
}
