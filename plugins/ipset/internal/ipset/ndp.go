package ipset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

// Neighbour discovery, RFC 4861: ICMPv6 in an IPv6 packet, straight after its header of 40 bytes, in an Ethernet frame.
const (
	etherIPv6    = 0x86dd
	etherHeader  = 14
	ipv6Header   = 40
	ndpMessage   = etherHeader + ipv6Header // where the message begins
	nextICMPv6   = 58
	solicitation = 135
	advertised   = 136
)

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = multicastMAC(allNodes)
)

// multicastMAC is the Ethernet address of an IPv6 multicast group, RFC 2464.
func multicastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// solicitedNode is the multicast group in which an address is asked for, RFC 4291.
func solicitedNode(addr netip.Addr) netip.Addr {
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	b := addr.As16()
	copy(group[13:], b[13:])
	return netip.AddrFrom16(group)
}

// ndpFrame packs a message. Nothing here makes a message that could not be packed.
func ndpFrame(m ndp.Message, fromMAC, toMAC net.HardwareAddr, from, to netip.Addr) []byte {
	body, err := ndp.MarshalMessageChecksum(m, from, to)
	if err != nil {
		panic(fmt.Sprintf("ipset: %v", err))
	}
	b := make([]byte, 0, ndpMessage+len(body))
	b = append(b, toMAC...)
	b = append(b, fromMAC...)
	b = binary.BigEndian.AppendUint16(b, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, nextICMPv6, ndp.HopLimit)
	b = append(b, from.AsSlice()...)
	b = append(b, to.AsSlice()...)
	return append(b, body...)
}

func lladdr(direction ndp.Direction, mac net.HardwareAddr) []ndp.Option {
	return []ndp.Option{&ndp.LinkLayerAddress{Direction: direction, Addr: mac}}
}

// announceNDP is an unsolicited neighbour advertisement that overrides what others have in their caches.
func announceNDP(mac net.HardwareAddr, addr netip.Addr, router bool) [][]byte {
	m := &ndp.NeighborAdvertisement{Router: router, Override: true, TargetAddress: addr, Options: lladdr(ndp.Target, mac)}
	return [][]byte{ndpFrame(m, mac, allNodesMAC, addr, allNodes)}
}

// probeNDP asks who has addr without claiming it, as the detection of duplicate addresses does, RFC 4862.
func probeNDP(mac net.HardwareAddr, addr netip.Addr) []byte {
	group := solicitedNode(addr)
	m := &ndp.NeighborSolicitation{TargetAddress: addr}
	return ndpFrame(m, mac, multicastMAC(group), netip.IPv6Unspecified(), group)
}

// askNDP asks one neighbour, in the name of addr, for the neighbour's own address: it learns the sender's.
func askNDP(mac net.HardwareAddr, addr netip.Addr, to neighbour) []byte {
	m := &ndp.NeighborSolicitation{TargetAddress: to.addr, Options: lladdr(ndp.Source, mac)}
	return ndpFrame(m, mac, to.mac, addr, to.addr)
}

// claimsNDP finds the machine that has addr, or is about to take it, by a frame that it has sent.
func claimsNDP(frame []byte, addr netip.Addr, own net.HardwareAddr) net.HardwareAddr {
	if len(frame) < ndpMessage || binary.BigEndian.Uint16(frame[12:]) != etherIPv6 ||
		frame[etherHeader+6] != nextICMPv6 || frame[etherHeader+7] != ndp.HopLimit {
		return nil
	}
	mac := net.HardwareAddr(frame[6:12])
	if bytes.Equal(mac, own) {
		return nil
	}
	m, err := ndp.ParseMessage(frame[ndpMessage:])
	if err != nil {
		return nil
	}
	from := netip.AddrFrom16([16]byte(frame[etherHeader+8 : etherHeader+24]))
	switch m := m.(type) {
	case *ndp.NeighborAdvertisement:
		if m.TargetAddress == addr {
			return mac
		}
	case *ndp.NeighborSolicitation:
		if from == addr || from.IsUnspecified() && m.TargetAddress == addr {
			return mac
		}
	}
	return nil
}
