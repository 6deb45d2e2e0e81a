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

// routes lists what addRoute has made, whatever the gateway was.
func (a *application) routes() ([]netlink.Route, error) {
	var out []netlink.Route
	for _, gateway := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		like := a.route(gateway, 0)
		found, err := retryDump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(like.Family, like, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list of routes: %w", err)
		}
		for _, r := range found {
			if r.Priority == like.Priority {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

func (a *application) removeRoutes() error {
	all, err := a.routes()
	if err != nil {
		return err
	}
	for i := range all {
		if err := netlink.RouteDel(&all[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the default route by %s: %w", all[i].Gw, err)
		}
	}
	return nil
}

// routeWanting says that the default route by the gateway is not there; empty when it is, or need not be.
func (a *application) routeWanting() string {
	if !a.set.gateway.IsValid() {
		return ""
	}
	all, err := a.routes()
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("there is no default route by %s", a.set.gateway)
	}
	if err != nil {
		return err.Error() + "."
	}
	return ""
}
