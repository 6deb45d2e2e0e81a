package ipset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/orscore/ors/plugins/sdk"
)

// Ready implements sdk.Application.
func (a *application) Ready(context.Context) []sdk.Problem {
	if a.broken() != nil {
		return a.problems
	}
	var found findings
	if err := capable(); err != nil {
		found.add("", "Run the agent as root.", "%v", err)
	}
	n, err := readAdapters()
	if err != nil {
		found.add("", "Look at the system's log.", "%v", err)
		return found
	}
	st, err := a.loadState()
	if err != nil {
		found.add("", "Remove the file when the address is on no adapter.", "%v", err)
	}
	for i, p := range a.set.addresses {
		a.readyAddress(&found, n, st, a.attribute(i), p)
	}
	if a.set.replaces.IsValid() && n.holder(a.set.replaces) == nil && (st == nil || st.Dummy == nil) {
		found.warn("replaces", "Give it to the adapter that is to take the group's address, or leave replaces out.",
			"the dummy address %s is on no adapter", a.set.replaces)
	}
	a.readyHosts(&found)
	a.readyDNS(&found)
	return found
}

func (a *application) readyAddress(found *findings, n *adapters, st *state, attribute string, p netip.Prefix) {
	at := attribute
	if a.set.adapter != "" {
		at = "adapter"
	}
	pl, err := n.place(p, a.set.adapter, st)
	if other := new(foreign); errors.As(err, &other) {
		found.add(attribute, "Take it out of the server's own network configuration: it belongs to the group.", "%v", err)
		return
	}
	if err != nil {
		found.add(at, "Name an adapter of this server. Where the servers' adapters differ, write for instance: "+
			`adapter = self == "rocky" ? "eth0" : "ens3".`, "%v", err)
		return
	}
	if err := loopback(pl.link); err != nil {
		found.add(at, "Name the adapter that the group's clients reach.", "%v", err)
	}
	if err := unplugged(pl.link); err != nil {
		found.add(at, "Look at the adapter and its cable.", "%v", err)
	}
	if err := withoutIPv6(pl.link, p.Addr()); err != nil {
		found.add(attribute, "Set net.ipv6.conf."+pl.link.Attrs().Name+".disable_ipv6 to 0.", "%v", err)
	}
	for _, other := range n.addrs {
		bits, _ := other.Mask.Size()
		if o := ipOf(other); other.LinkIndex == pl.link.Attrs().Index && o != p.Addr() && bits != p.Bits() &&
			bits < o.BitLen() && p.Bits() < o.BitLen() && (p.Contains(o) || other.Contains(p.Addr().AsSlice())) {
			found.warn(attribute, fmt.Sprintf("Write %s/%d, if they are in one network.", p.Addr(), bits),
				"%s has another prefix than %s/%d on %s", p, o, bits, pl.link.Attrs().Name)
		}
	}
}
