package ipset

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"

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

// routesOf lists an adapter's routes in the main table, but for the network's own, which the kernel makes with an
// address.
func routesOf(index int, v4 bool) ([]savedRoute, error) {
	family := netlink.FAMILY_V6
	if v4 {
		family = netlink.FAMILY_V4
	}
	found, err := retryDump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list of routes: %w", err)
	}
	var out []savedRoute
	for i := range found {
		r := &found[i]
		if r.Protocol == mark || r.Protocol == unix.RTPROT_RA || r.Type != unix.RTN_UNICAST ||
			r.Protocol == unix.RTPROT_KERNEL && (r.Priority == 0 || !v4) {
			continue
		}
		s := savedRoute{Destination: destination(r, v4), Metric: r.Priority, Scope: int(r.Scope), Protocol: int(r.Protocol),
			Flags: r.Flags & unix.RTNH_F_ONLINK}
		if r.Gw != nil {
			s.Gateway = r.Gw.String()
		}
		if r.Src != nil {
			s.Source = r.Src.String()
		}
		out = append(out, s)
	}
	return out, nil
}

func destination(r *netlink.Route, v4 bool) string {
	switch {
	case r.Dst != nil:
		return r.Dst.String()
	case v4:
		return "0.0.0.0/0"
	}
	return "::/0"
}

// putRoutes makes those of an adapter's routes that are not there. One whose source is without goes without a source:
// that address is away for now. What has been set in the place of one since then stays.
func putRoutes(want []savedRoute, index int, without netip.Addr) error {
	if len(want) == 0 {
		return nil
	}
	have, err := routesOf(index, !strings.Contains(want[0].Destination, ":"))
	if err != nil {
		return err
	}
	var errs []error
	for i := len(want) - 1; i >= 0; i-- { // those to networks first: gateways are in them
		r := want[i]
		if without.IsValid() && r.Source == without.String() {
			r.Source = ""
		}
		bare := r
		bare.Source = ""
		switch {
		case slices.Contains(have, r):
		case slices.Contains(have, bare): // made here, when the source was away
			errs = append(errs, r.put(index, netlink.RouteReplace))
		default:
			errs = append(errs, r.put(index, netlink.RouteAdd))
		}
	}
	return errors.Join(errs...)
}

func (s savedRoute) put(index int, how func(*netlink.Route) error) error {
	_, dst, err := net.ParseCIDR(s.Destination)
	if err != nil {
		return fmt.Errorf("record of a route: %w", err)
	}
	r := &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_MAIN, Dst: dst, Gw: net.ParseIP(s.Gateway),
		Src: net.ParseIP(s.Source), Priority: s.Metric, Scope: netlink.Scope(s.Scope),
		Protocol: netlink.RouteProtocol(s.Protocol), Flags: s.Flags}
	if err := how(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route to %s: %w", s.Destination, err)
	}
	return nil
}
