package ipset

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The metrics of default routes of this plugin: behind all that an administrator or DHCP is likely to set, and one for
// each application, so that two of them may have the same gateway.
const (
	firstMetric = 0x10000
	metrics     = 0x10000
)

// route is the default route by the application's gateway.
func (a *application) route(gateway netip.Addr, index int) *netlink.Route {
	h := fnv.New32a()
	_, _ = h.Write([]byte(a.in.Group + "/" + a.in.Name))
	family, bits := netlink.FAMILY_V4, 32
	if gateway.Is6() {
		family, bits = netlink.FAMILY_V6, 128
	}
	return &netlink.Route{
		Family: family, Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
		Gw: gateway.AsSlice(), LinkIndex: index, Table: unix.RT_TABLE_MAIN, Protocol: mark,
		Priority: firstMetric + int(h.Sum32()%metrics),
	}
}

// addRoute makes the default route by the gateway. It succeeds when it is there.
func (a *application) addRoute(index int) error {
	r := a.route(a.set.gateway, index)
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("default route by %s: %w", a.set.gateway, err)
	}
	return nil
}

// removeRoutes takes away what addRoute made, whatever the gateway was.
func (a *application) removeRoutes() error {
	for _, gateway := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		like := a.route(gateway, 0)
		found, err := retryDump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(like.Family, like, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return fmt.Errorf("list of routes: %w", err)
		}
		for i := range found {
			if found[i].Priority != like.Priority {
				continue
			}
			if err := netlink.RouteDel(&found[i]); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the default route by %s: %w", found[i].Gw, err)
			}
		}
	}
	return nil
}
