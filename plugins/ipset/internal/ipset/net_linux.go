package ipset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

const (
	supported   = true
	labelSuffix = ":ors" // marks our IPv4 addresses, so that what a crash left is recognised
	labelMost   = 15     // characters of a label, by the kernel's IFNAMSIZ
	mark        = 79     // marks all our addresses (IFA_PROTO, since Linux 5.18) and routes
	dumpTries   = 3      // a dump that races with a change is repeated
	ifaProto    = 11     // IFA_PROTO of linux/if_addr.h

	forEver = uint32(1<<32 - 1) // a lifetime

	keptFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD // of an address that is put back
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// adapters is the state of all adapters and their addresses at one moment.
type adapters struct {
	links  []netlink.Link
	addrs  []netlink.Addr
	marked []entry // that bear our mark
}

// entry is one address on one adapter. The kernel takes the same address on several, or with several prefixes.
type entry struct {
	index  int
	prefix netip.Prefix
}

func entryOf(a *netlink.Addr) entry {
	bits, _ := a.Mask.Size()
	return entry{a.LinkIndex, netip.PrefixFrom(ipOf(*a), bits)}
}

func retryDump[T any](list func() ([]T, error)) ([]T, error) {
	for i := 1; ; i++ {
		out, err := list()
		if err == nil || i == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
}

func readAdapters() (*adapters, error) {
	links, err := retryDump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list of adapters: %w", err)
	}
	addrs, err := retryDump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list of addresses: %w", err)
	}
	marked, err := retryDump(markedAddresses)
	if err != nil {
		return nil, fmt.Errorf("marks of addresses: %w", err)
	}
	return &adapters{links: links, addrs: addrs, marked: marked}, nil
}

func (n *adapters) link(index int) netlink.Link {
	for _, l := range n.links {
		if l.Attrs().Index == index {
			return l
		}
	}
	return nil
}

func (n *adapters) name(index int) string {
	if l := n.link(index); l != nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("adapter %d", index)
}

// mac is an adapter's hardware address; empty: it has none, as the loopback.
func (n *adapters) mac(index int) string {
	l := n.link(index)
	if l == nil || bytes.Equal(l.Attrs().HardwareAddr, make([]byte, len(l.Attrs().HardwareAddr))) {
		return ""
	}
	return l.Attrs().HardwareAddr.String()
}

// holder finds the entry of an address, whatever its prefix.
func (n *adapters) holder(addr netip.Addr) *netlink.Addr {
	for i := range n.addrs {
		if ipOf(n.addrs[i]) == addr {
			return &n.addrs[i]
		}
	}
	return nil
}

// has says whether an entry is there.
func (n *adapters) has(e entry) bool {
	return slices.ContainsFunc(n.addrs, func(a netlink.Addr) bool { return entryOf(&a) == e })
}

// ours says whether an address that is here was taken by this plugin.
func (n *adapters) ours(a *netlink.Addr) bool {
	return strings.HasSuffix(a.Label, labelSuffix) || slices.Contains(n.marked, entryOf(a))
}

// mine finds the entry of an address that this plugin has taken: it bears the mark, or is on record where the kernel
// keeps no mark. What somebody else has put on an adapter is not the group's: the partner may have it.
func (n *adapters) mine(addr netip.Addr, st *state) *netlink.Addr {
	for i := range n.addrs {
		if ipOf(n.addrs[i]) == addr && n.ours(&n.addrs[i]) {
			return &n.addrs[i]
		}
	}
	if !keepsMarks() && st.has(addr) {
		return n.holder(addr)
	}
	return nil
}

// keepsMarks says whether the kernel keeps IFA_PROTO, as Linux does since 5.18. Where that cannot be found out, it may.
var keepsMarks = sync.OnceValue(func() bool {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return true
	}
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return err != nil || major > 5 || major == 5 && minor >= 18
})

// foreign is the error of an address that somebody else has put on an adapter of this server.
type foreign struct {
	addr    netip.Addr
	adapter string
}

func (f *foreign) Error() string {
	return fmt.Sprintf("%s is on %s already, and not by this plugin", f.addr, f.adapter)
}

func ipOf(a netlink.Addr) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.IP)
	return ip.Unmap()
}

// place is where one address of the group is, or goes.
type place struct {
	prefix netip.Prefix
	link   netlink.Link
	held   *netlink.Addr // nil: it is not here
}

// place finds the adapter of an address: where it is, else the one of that name or hardware address, else the one with
// another address in the narrowest network that contains it, else the one that the dummy was on, which may have been
// the only one of its network. An address that is here, but not by this plugin, is an error.
func (n *adapters) place(p netip.Prefix, adapter string, st *state) (place, error) {
	held := n.mine(p.Addr(), st)
	if other := n.holder(p.Addr()); held == nil && other != nil {
		return place{}, &foreign{p.Addr(), n.name(other.LinkIndex)}
	}
	if held != nil {
		bits, _ := held.Mask.Size()
		l := n.link(held.LinkIndex)
		if l == nil {
			return place{}, fmt.Errorf("the adapter of %s has just gone", p.Addr())
		}
		return place{netip.PrefixFrom(p.Addr(), bits), l, held}, nil
	}
	if adapter != "" {
		l, err := n.named(adapter)
		return place{p, l, nil}, err
	}
	best, bits := netlink.Link(nil), -1
	for _, a := range n.addrs {
		ones, _ := a.Mask.Size()
		l := n.link(a.LinkIndex)
		if l == nil || l.Attrs().Flags&net.FlagLoopback != 0 || ipOf(a).Is4() != p.Addr().Is4() ||
			!a.Contains(p.Addr().AsSlice()) {
			continue
		}
		if ones > bits || ones == bits && unplugged(best) != nil && unplugged(l) == nil { // of two, one that is reached
			best, bits = l, ones
		}
	}
	if best == nil && st != nil && st.Dummy != nil {
		if d, err := netip.ParsePrefix(st.Dummy.Prefix); err == nil && d.Contains(p.Addr()) {
			best = st.Dummy.adapter(n)
		}
	}
	if best == nil {
		return place{}, fmt.Errorf("no adapter has another address in the network of %s; set adapter to one of: %s",
			p, strings.Join(n.names(), ", "))
	}
	return place{p, best, nil}, nil
}

// named finds an adapter by its name or its hardware address. A port of a bridge or a bond has none of the traffic for
// addresses, and often the hardware address of the whole.
func (n *adapters) named(adapter string) (netlink.Link, error) {
	mac, _ := net.ParseMAC(adapter)
	var found []netlink.Link
	var port error
	for _, l := range n.links {
		if l.Attrs().Name != adapter && (mac == nil || !bytes.Equal(l.Attrs().HardwareAddr, mac)) {
			continue
		}
		if m := n.link(l.Attrs().MasterIndex); m != nil && slices.Contains(wholes, m.Type()) {
			port = fmt.Errorf("adapter %s is a port of %s: name that", l.Attrs().Name, m.Attrs().Name)
			continue
		}
		found = append(found, l)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var names []string
		for _, l := range found {
			names = append(names, l.Attrs().Name)
		}
		return nil, fmt.Errorf("adapters %s have the hardware address %s: say which by its name",
			strings.Join(names, ", "), adapter)
	case port != nil:
		return nil, port
	}
	return nil, fmt.Errorf("there is no adapter %q; there are: %s", adapter, strings.Join(n.names(), ", "))
}

// wholes are the types of adapters whose ports have no addresses of their own.
var wholes = []string{"bridge", "bond", "team", "openvswitch"}

func (n *adapters) names() []string {
	var out []string
	for _, l := range n.links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			out = append(out, l.Attrs().Name)
		}
	}
	return out
}

// loopback says that nobody else is reached by an adapter.
func loopback(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagLoopback != 0 {
		return fmt.Errorf("adapter %s is the loopback: no other machine is reached by it", l.Attrs().Name)
	}
	return nil
}

// down says why an adapter cannot send; nil when it can.
func down(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("adapter %s is down", l.Attrs().Name)
	}
	return nil
}

// unplugged says why an adapter cannot be reached; nil when it can, as far as it knows.
func unplugged(l netlink.Link) error {
	switch l.Attrs().OperState {
	case netlink.OperDown, netlink.OperLowerLayerDown:
		return errors.Join(down(l), fmt.Errorf("adapter %s has no carrier", l.Attrs().Name))
	}
	return down(l)
}

// withoutIPv6 says that an adapter takes no IPv6 address; nil when it takes any of the family.
func withoutIPv6(l netlink.Link, addr netip.Addr) error {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + l.Attrs().Name + "/disable_ipv6")
	if addr.Is4() || err == nil && !bytes.Equal(bytes.TrimSpace(b), []byte("1")) {
		return nil
	}
	return fmt.Errorf("IPv6 is switched off on adapter %s", l.Attrs().Name)
}

// hasNeighbours says whether an adapter has neighbours to ask and to tell.
func hasNeighbours(l netlink.Link) bool {
	at := l.Attrs()
	return at.RawFlags&(unix.IFF_NOARP|unix.IFF_LOOPBACK|unix.IFF_POINTOPOINT) == 0 && len(at.HardwareAddr) == 6
}

// markedAddresses lists the addresses that bear our mark.
func markedAddresses() ([]entry, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(netlink.FAMILY_ALL))
	list, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, b := range list {
		msg := nl.DeserializeIfAddrmsg(b)
		attrs, err := nl.ParseRouteAttr(b[msg.Len():])
		if err != nil {
			return nil, err
		}
		var addr netip.Addr
		marked := false
		for _, at := range attrs {
			switch at.Attr.Type {
			case unix.IFA_LOCAL, unix.IFA_ADDRESS: // the local one is the address, and comes last where both are there
				if a, ok := netip.AddrFromSlice(at.Value); ok && (at.Attr.Type == unix.IFA_LOCAL || !addr.IsValid()) {
					addr = a
				}
			case ifaProto:
				marked = len(at.Value) == 1 && at.Value[0] == mark
			}
		}
		if marked {
			out = append(out, entry{int(msg.Index), netip.PrefixFrom(addr, int(msg.Prefixlen))})
		}
	}
	return out, nil
}

// add puts an address on its adapter, or gives the one that is there the lifetime of the lease. Its network gets a
// route by it only when no other address there has one, the dummy excepted; so the address becomes the source of the
// server's own traffic only where there is no other.
func (n *adapters) add(p place, dummy netip.Addr, lease sdk.Lease) error {
	addr, name := p.prefix.Addr(), p.link.Attrs().Name
	flags, valid, preferred := 0, forEver, forEver
	if lease.Ends() {
		left := seconds(lease.Left(), addr)
		if left <= 0 {
			return errLeaseOver
		}
		valid, preferred = uint32(left), uint32(left)
	}
	if addr.Is6() {
		flags |= unix.IFA_F_NODAD // it has been asked for, and has to be there at once
	}
	for i := range n.addrs {
		o := &n.addrs[i]
		if o.LinkIndex != p.link.Attrs().Index || ipOf(*o) == dummy || ipOf(*o) == addr {
			continue
		}
		if entryOf(o).prefix.Masked() == p.prefix.Masked() && o.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			flags |= unix.IFA_F_NOPREFIXROUTE
		}
		// routes do not choose the source of IPv6: the server's own is to be
		if addr.Is6() && ipOf(*o).Is6() && ipOf(*o).IsGlobalUnicast() && !n.ours(o) && o.PreferedLft != 0 {
			preferred = 0
		}
	}
	if err := putAddress(p, flags, valid, preferred); err != nil {
		return fmt.Errorf("take address %s on %s: %w", p.prefix, name, err)
	}
	return nil
}

// putAddress is netlink.AddrReplace with our mark, which it does not know of.
func putAddress(p place, flags int, valid, preferred uint32) error {
	addr, ip := p.prefix.Addr(), p.prefix.Addr().AsSlice()
	msg := nl.NewIfAddrmsg(netlink.FAMILY_V4)
	if addr.Is6() {
		msg = nl.NewIfAddrmsg(netlink.FAMILY_V6)
	}
	msg.Index, msg.Prefixlen = uint32(p.link.Attrs().Index), uint8(p.prefix.Bits())
	life := nl.IfaCacheInfo{}
	life.Valid, life.Prefered = valid, preferred //nolint:misspell // the kernel header's own spelling
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(uint32(flags))))
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{mark}))
	if addr.Is4() && p.prefix.Bits() < 31 {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p.prefix).AsSlice()))
	}
	if label := p.link.Attrs().Name + labelSuffix; addr.Is4() && len(label) <= labelMost {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(label)))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// remove takes one address off its adapter and leaves all others as they were: without promotion, the kernel would
// drop with a network's first address all the later ones.
func (n *adapters) remove(a *netlink.Addr) error {
	name := n.name(a.LinkIndex)
	restore := promoteSecondaries(name)
	defer restore()
	err := netlink.AddrDel(nil, &netlink.Addr{IPNet: a.IPNet, Peer: a.Peer, LinkIndex: a.LinkIndex, Label: a.Label})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", a.IPNet, name, err)
	}
	now, err := readAdapters()
	if err != nil {
		return err
	}
	if now.has(entryOf(a)) {
		return fmt.Errorf("address %s is still on %s after it was removed", a.IPNet, name)
	}
	for _, other := range n.addrs {
		if other.LinkIndex == a.LinkIndex && entryOf(&other) != entryOf(a) && !now.has(entryOf(&other)) {
			if err := readd(other); err != nil {
				return fmt.Errorf("address %s was dropped with %s: %w", other.IPNet, a.IPNet, err)
			}
		}
	}
	return now.keepNetwork(a)
}

// keepNetwork gives the network of an address that was removed a route by another of ours, where that one has none
// because the address had it.
func (n *adapters) keepNetwork(gone *netlink.Addr) error {
	network := entryOf(gone).prefix.Masked()
	var heir *netlink.Addr
	for i := range n.addrs {
		o := &n.addrs[i]
		if o.LinkIndex != gone.LinkIndex || entryOf(o).prefix.Masked() != network {
			continue
		}
		if !n.ours(o) || o.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			return nil // it has the route, or its owner cares for that
		}
		heir = o
	}
	if heir == nil || network.IsSingleIP() {
		return nil
	}
	if network.Addr().Is6() { // the kernel makes the route when the flag goes, and drops it with the address
		pl := place{prefix: entryOf(heir).prefix, link: n.link(heir.LinkIndex)}
		return putAddress(pl, unix.IFA_F_NODAD, uint32(heir.ValidLft), uint32(heir.PreferedLft))
	}
	r := savedRoute{Destination: network.String(), Source: ipOf(*heir).String(), Scope: int(netlink.SCOPE_LINK),
		Protocol: unix.RTPROT_KERNEL}
	return r.put(gone.LinkIndex, netlink.RouteAdd)
}

func readd(a netlink.Addr) error {
	a.Flags &= keptFlags
	if err := netlink.AddrAdd(nil, &a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("put address %s back: %w", a.IPNet, err)
	}
	return nil
}

// promoteSecondaries makes the kernel keep an adapter's other addresses, and returns what undoes that. Where it may
// not be changed, remove puts back what was dropped.
func promoteSecondaries(adapter string) (restore func()) {
	path := secondariesPath(adapter)
	old, err := os.ReadFile(path)
	if err != nil || bytes.Equal(bytes.TrimSpace(old), []byte("1")) || os.WriteFile(path, []byte("1"), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(path, old, 0) }
}

// capable says whether this process may change addresses and send to the network.
func capable() error {
	const netAdmin, netRaw = 12, 13
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			var eff uint64
			if _, err := fmt.Sscanf(strings.TrimSpace(hex), "%x", &eff); err != nil {
				return fmt.Errorf("capabilities of this process: %w", err)
			}
			if eff&(1<<netAdmin) == 0 || eff&(1<<netRaw) == 0 {
				return errors.New("this process may not change addresses: it lacks CAP_NET_ADMIN or CAP_NET_RAW")
			}
		}
	}
	return nil
}
