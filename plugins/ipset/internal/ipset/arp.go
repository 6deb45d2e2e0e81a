package ipset

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// The address resolution protocol on Ethernet, RFC 826: one packet is 14 bytes of frame and 28 of message.
const (
	arpFrame   = 42
	etherARP   = 0x0806
	arpRequest = 1
	arpReply   = 2
)

var (
	everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// neighbour is another machine of an adapter's network, as the kernel knows it.
type neighbour struct {
	addr netip.Addr
	mac  net.HardwareAddr
}

// arp is one message.
type arp struct {
	op         uint16
	senderMAC  net.HardwareAddr
	senderAddr netip.Addr
	targetMAC  net.HardwareAddr
	targetAddr netip.Addr
}

// frame is the message as an Ethernet broadcast.
func (m arp) frame() []byte { return m.frameTo(everybody) }

func (m arp) frameTo(mac net.HardwareAddr) []byte {
	b := make([]byte, 0, arpFrame)
	b = append(b, mac...)
	b = append(b, m.senderMAC...)
	b = binary.BigEndian.AppendUint16(b, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4) // Ethernet, IPv4, lengths of their addresses
	b = binary.BigEndian.AppendUint16(b, m.op)
	b = append(b, m.senderMAC...)
	b = append(b, m.senderAddr.AsSlice()...)
	b = append(b, m.targetMAC...)
	return append(b, m.targetAddr.AsSlice()...)
}

// parseARP reads a frame. It may be longer than the message: short frames are padded.
func parseARP(b []byte) (arp, error) {
	if len(b) < arpFrame {
		return arp{}, fmt.Errorf("ARP frame of %d bytes is too short", len(b))
	}
	if binary.BigEndian.Uint16(b[12:]) != etherARP || [6]byte(b[14:20]) != [6]byte{0, 1, 8, 0, 6, 4} {
		return arp{}, fmt.Errorf("frame is not ARP for IPv4 on Ethernet: % x", b[12:20])
	}
	return arp{
		op:         binary.BigEndian.Uint16(b[20:]),
		senderMAC:  net.HardwareAddr(b[22:28]),
		senderAddr: netip.AddrFrom4([4]byte(b[28:32])),
		targetMAC:  net.HardwareAddr(b[32:38]),
		targetAddr: netip.AddrFrom4([4]byte(b[38:42])),
	}, nil
}

// announceARP are both forms of gratuitous ARP: some hosts heed only requests, others only replies. Linux takes a
// reply for gratuitous only when its target is the sender.
func announceARP(mac net.HardwareAddr, addr netip.Addr) [][]byte {
	return [][]byte{
		arp{op: arpRequest, senderMAC: mac, senderAddr: addr, targetMAC: nobody, targetAddr: addr}.frame(),
		arp{op: arpReply, senderMAC: mac, senderAddr: addr, targetMAC: mac, targetAddr: addr}.frame(),
	}
}

// probeARP asks who has addr without claiming it, RFC 5227.
func probeARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	none := netip.IPv4Unspecified()
	return arp{op: arpRequest, senderMAC: mac, senderAddr: none, targetMAC: nobody, targetAddr: addr}.frame()
}

// askARP asks one neighbour, in the name of addr, for the neighbour's own address. Whoever is asked for an address of
// its own learns the sender's (RFC 826), also when it heeds no gratuitous ARP.
func askARP(mac net.HardwareAddr, addr netip.Addr, to neighbour) []byte {
	return arp{op: arpRequest, senderMAC: mac, senderAddr: addr, targetMAC: nobody, targetAddr: to.addr}.frameTo(to.mac)
}

// claimsARP finds the machine that has addr, or is about to take it, by a frame that it has sent.
func claimsARP(frame []byte, addr netip.Addr, own net.HardwareAddr) net.HardwareAddr {
	if m, err := parseARP(frame); err == nil && m.claims(addr, own) {
		return m.senderMAC
	}
	return nil
}

// claims says whether the message shows that another machine has addr, or is about to take it.
func (m arp) claims(addr netip.Addr, own net.HardwareAddr) bool {
	if m.senderMAC.String() == own.String() {
		return false
	}
	probing := m.op == arpRequest && m.senderAddr.IsUnspecified() && m.targetAddr == addr
	return m.senderAddr == addr || probing
}
