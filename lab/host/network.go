//go:build linux

package host

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const maxLinkName = 15 // bytes, of the kernel

// Network is the switches and cables between hosts. The switches are bridges in a host of their own, so the machine's
// network does not change.
type Network struct {
	id     string
	fabric *Host
	h      *netlink.Handle
	ports  map[string]map[string]netlink.Link // host, switch: the port on the switch's side
}

// NewNetwork makes the named switches in fabric. id goes into the hardware addresses, so that labs differ.
func NewNetwork(id string, fabric *Host, switches ...string) (*Network, error) {
	h, err := handle(fabric)
	if err != nil {
		return nil, err
	}
	n := &Network{id: id, fabric: fabric, h: h, ports: map[string]map[string]netlink.Link{}}
	for _, s := range switches {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s}}
		if err := h.LinkAdd(br); err != nil {
			return nil, errors.Join(fmt.Errorf("switch %s: %w", s, err), n.Close())
		}
		if err := h.LinkSetUp(br); err != nil {
			return nil, errors.Join(fmt.Errorf("switch %s: %w", s, err), n.Close())
		}
	}
	return n, nil
}

// Close lets go of the switches; they end with their host.
func (n *Network) Close() error {
	n.h.Close()
	return nil
}

// handle opens the network of a host. It keeps that network alive until it is closed.
func handle(h *Host) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(h.ID.PID)
	if err != nil {
		return nil, fmt.Errorf("network of host %s: %w", h.Spec.Name, err)
	}
	defer ns.Close()
	nh, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, fmt.Errorf("network of host %s: %w", h.Spec.Name, err)
	}
	return nh, nil
}

// Attach plugs a network card of the host into a switch and gives it addresses such as "10.36.0.1/24". A card's
// hardware address is always the same for a host, as a real one's.
func (n *Network) Attach(h *Host, card, to string, addresses ...string) error {
	wrong := func(err error) error { return fmt.Errorf("card %s of host %s: %w", card, h.Spec.Name, err) }
	br, err := n.h.LinkByName(to)
	if err != nil {
		return wrong(fmt.Errorf("switch %s: %w", to, err))
	}
	port := portName(h.Spec.Name, to)
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{
			Name: port, MasterIndex: br.Attrs().Index, HardwareAddr: n.hardware(h.Spec.Name, to, "switch"),
		},
		PeerName: card, PeerHardwareAddr: n.hardware(h.Spec.Name, to, "card"), PeerNamespace: netlink.NsPid(h.ID.PID),
	}
	if err := n.h.LinkAdd(veth); err != nil {
		return wrong(err)
	}
	link, err := n.h.LinkByName(port)
	if err != nil {
		return wrong(err)
	}
	if n.ports[h.Spec.Name] == nil {
		n.ports[h.Spec.Name] = map[string]netlink.Link{}
	}
	n.ports[h.Spec.Name][to] = link
	if err := n.h.LinkSetUp(link); err != nil {
		return wrong(err)
	}
	return configureCard(h, card, addresses)
}

func configureCard(h *Host, card string, addresses []string) error {
	wrong := func(err error) error { return fmt.Errorf("card %s of host %s: %w", card, h.Spec.Name, err) }
	nh, err := handle(h)
	if err != nil {
		return err
	}
	defer nh.Close()
	link, err := nh.LinkByName(card)
	if err != nil {
		return wrong(err)
	}
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return wrong(err)
		}
		if err := nh.AddrAdd(link, addr); err != nil {
			return wrong(err)
		}
	}
	if err := nh.LinkSetUp(link); err != nil {
		return wrong(err)
	}
	return nil
}

func portName(host, to string) string {
	name := host + "-" + to
	if len(name) > maxLinkName {
		name = name[:maxLinkName-4] + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:4]
	}
	return name
}

func (n *Network) hardware(parts ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(n.id + "\x00" + strings.Join(parts, "\x00")))
	return append(net.HardwareAddr{0x02}, sum[:5]...) // locally administered, one card
}

// SetLink plugs a host's cable out of a switch, or in again.
func (n *Network) SetLink(host, to string, up bool) error {
	link := n.ports[host][to]
	if link == nil {
		return fmt.Errorf("host %s has no cable to switch %s; it has: %s", host, to, strings.Join(n.switches(host), ", "))
	}
	set := n.h.LinkSetDown
	if up {
		set = n.h.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("cable of host %s to switch %s: %w", host, to, err)
	}
	return nil
}

func (n *Network) switches(host string) []string {
	var all []string
	for s := range n.ports[host] {
		all = append(all, s)
	}
	sort.Strings(all)
	return all
}

// nobodysCard is a hardware address that no card of a lab has.
var nobodysCard = net.HardwareAddr{0x02, 0xff, 0xff, 0xff, 0xff, 0xff}

// Misdirect lets everything be lost that a host sends from a card to an address such as "10.36.0.2/24", and nothing
// that it is sent: it goes to a card that nobody has. Undo ends it.
func (n *Network) Misdirect(h *Host, card, address string, undo bool) error {
	wrong := func(err error) error { return fmt.Errorf("card %s of host %s: %w", card, h.Spec.Name, err) }
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return wrong(err)
	}
	nh, err := handle(h)
	if err != nil {
		return err
	}
	defer nh.Close()
	link, err := nh.LinkByName(card)
	if err != nil {
		return wrong(err)
	}
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: addr.IP, State: netlink.NUD_PERMANENT, HardwareAddr: nobodysCard,
	}
	if !undo {
		err = nh.NeighSet(neighbour)
	} else if err = nh.NeighDel(neighbour); errors.Is(err, unix.ENOENT) {
		err = nil
	}
	if err != nil {
		return wrong(err)
	}
	return nil
}

// Down takes all links of a host down, at once; a dead host's kernel would still answer for its addresses.
func (n *Network) Down(host string) error {
	var errs []error
	for _, s := range n.switches(host) {
		errs = append(errs, n.SetLink(host, s, false))
	}
	return errors.Join(errs...)
}

// Remove takes a host's cables away. What is left of its network ends with it.
func (n *Network) Remove(host string) error {
	var errs []error
	for _, s := range n.switches(host) {
		err := n.h.LinkDel(n.ports[host][s])
		var missing netlink.LinkNotFoundError
		if err != nil && !errors.As(err, &missing) && !strings.Contains(err.Error(), "no such device") {
			errs = append(errs, fmt.Errorf("cable of host %s to switch %s: %w", host, s, err))
		}
	}
	delete(n.ports, host)
	return errors.Join(errs...)
}
