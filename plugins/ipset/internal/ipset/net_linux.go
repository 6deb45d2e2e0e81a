package ipset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

const (
	supported   = true
	labelSuffix = ":ors" // marks our addresses, so that what a crash left is recognised
	labelMost   = 15     // characters of a label, by the kernel's IFNAMSIZ
	dumpTries   = 3      // a dump that races with a change is repeated
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// adapters is the state of all adapters and their IPv4 addresses at one moment.
type adapters struct {
	links []netlink.Link
	addrs []netlink.Addr
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
	addrs, err := retryDump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list of addresses: %w", err)
	}
	return &adapters{links: links, addrs: addrs}, nil
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

// holder finds the entry of an address, whatever its prefix.
func (n *adapters) holder(addr netip.Addr) *netlink.Addr {
	for i := range n.addrs {
		if ipOf(n.addrs[i]) == addr {
			return &n.addrs[i]
		}
	}
	return nil
}

func ipOf(a netlink.Addr) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.IP.To4())
	return ip
}

// choose finds the adapter for an address: by name, or the one with another address in the narrowest network that
// contains it.
func (n *adapters) choose(s settings) (netlink.Link, error) {
	if s.adapter != "" {
		for _, l := range n.links {
			if l.Attrs().Name == s.adapter {
				return l, nil
			}
		}
		return nil, fmt.Errorf("there is no adapter %q; there are: %s", s.adapter, strings.Join(n.names(), ", "))
	}
	best, bits := netlink.Link(nil), -1
	for _, a := range n.addrs {
		ones, _ := a.Mask.Size()
		if ipOf(a) == s.address.Addr() || ones <= bits || !a.Contains(s.address.Addr().AsSlice()) {
			continue
		}
		if l := n.link(a.LinkIndex); l != nil && l.Attrs().Flags&net.FlagLoopback == 0 {
			best, bits = l, ones
		}
	}
	if best == nil {
		return nil, fmt.Errorf("no adapter has another address in the network of %s; set adapter to one of: %s",
			s.address, strings.Join(n.names(), ", "))
	}
	return best, nil
}

func (n *adapters) names() []string {
	var out []string
	for _, l := range n.links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			out = append(out, l.Attrs().Name)
		}
	}
	return out
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

// speaksARP says whether an adapter has neighbours to ask and to tell.
func speaksARP(l netlink.Link) bool {
	at := l.Attrs()
	return at.RawFlags&(unix.IFF_NOARP|unix.IFF_LOOPBACK|unix.IFF_POINTOPOINT) == 0 && len(at.HardwareAddr) == 6
}

// add puts the address on the adapter, or gives the one that is there the lifetime of the lease. Its network gets a
// route by it only when no other address there has one, the dummy excepted; so the address becomes the source of the
// server's own traffic only where there is no other.
func (n *adapters) add(l netlink.Link, s settings, lease sdk.Lease) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: s.address.Addr().AsSlice(), Mask: net.CIDRMask(s.address.Bits(), 32)}}
	if label := l.Attrs().Name + labelSuffix; len(label) <= labelMost {
		a.Label = label
	}
	for _, other := range n.addrs {
		ones, _ := other.Mask.Size()
		if other.LinkIndex == l.Attrs().Index && ones == s.address.Bits() && other.Contains(a.IP) &&
			ipOf(other) != s.replaces && ipOf(other) != s.address.Addr() && other.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			a.Flags |= unix.IFA_F_NOPREFIXROUTE
		}
	}
	if lease.Ends() {
		if err := keepSecondaries(l.Attrs().Name); err != nil {
			return err
		}
		a.ValidLft = seconds(lease.Left())
		if a.PreferedLft = a.ValidLft; a.ValidLft <= 0 {
			return errLeaseOver
		}
	}
	if err := netlink.AddrReplace(l, a); err != nil {
		return fmt.Errorf("take address %s on %s: %w", s.address, l.Attrs().Name, err)
	}
	return nil
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
	if left := now.holder(ipOf(*a)); left != nil && left.LinkIndex == a.LinkIndex {
		return fmt.Errorf("address %s is still on %s after it was removed", a.IPNet, name)
	}
	for _, other := range n.addrs {
		if other.LinkIndex == a.LinkIndex && ipOf(other) != ipOf(*a) && now.holder(ipOf(other)) == nil {
			if err := readd(other); err != nil {
				return fmt.Errorf("address %s was dropped with %s: %w", other.IPNet, a.IPNet, err)
			}
		}
	}
	return nil
}

func readd(a netlink.Addr) error {
	a.Flags &= unix.IFA_F_NOPREFIXROUTE
	if err := netlink.AddrAdd(nil, &a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("put address %s back: %w", a.IPNet, err)
	}
	return nil
}

// promoteSecondaries makes the kernel keep an adapter's other addresses, and returns what undoes that. Where it may
// not be changed, remove puts back what was dropped.
func promoteSecondaries(adapter string) (restore func()) {
	path := "/proc/sys/net/ipv4/conf/" + adapter + "/promote_secondaries"
	old, err := os.ReadFile(path)
	if err != nil || bytes.Equal(bytes.TrimSpace(old), []byte("1")) || os.WriteFile(path, []byte("1"), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(path, old, 0) }
}

// capable says whether this process may change addresses and send ARP.
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
