package ipset

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// step is one thing that a start does: a short stable name and a sentence.
type step struct{ name, text string }

// plan is what a start does on this server as it is now. It is made by looking only.
type plan struct {
	places  []place
	dummy   *netlink.Addr // to be removed; nil: there is none
	gateway *place        // the address whose adapter gets the default route; nil: no route
	notes   []step        // what is worth knowing, and changes nothing
}

// plan looks at what there is.
func (a *application) plan(n *adapters, st *state) (plan, error) {
	var p plan
	var errs []error
	for _, prefix := range a.set.addresses {
		pl, err := n.place(prefix, a.set.adapter, st)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, loopback(pl.link), down(pl.link), withoutIPv6(pl.link, prefix.Addr()))
		if err := unplugged(pl.link); err != nil {
			p.note("adapter", "%v: nobody can reach %s until it has.", err, prefix.Addr())
		}
		p.places = append(p.places, pl)
	}
	if err := errors.Join(errs...); err != nil {
		return plan{}, err
	}
	if a.set.gateway.IsValid() {
		via := a.set.viaGateway()
		for i := range p.places {
			if p.places[i].prefix.Addr() == via.Addr() {
				p.gateway = &p.places[i]
			}
		}
	}
	return p, a.planDummy(&p, n, st)
}

func (a *application) planDummy(p *plan, n *adapters, st *state) error {
	if !a.set.replaces.IsValid() {
		return nil
	}
	p.dummy = n.holder(a.set.replaces)
	if p.dummy == nil && (st == nil || st.Dummy == nil) {
		p.note("dummy", "The dummy address %s is on no adapter: nothing to replace.", a.set.replaces)
	}
	if p.dummy != nil && n.ours(p.dummy) {
		return fmt.Errorf("%s is no dummy: ORS itself has put it on %s", a.set.replaces, n.name(p.dummy.LinkIndex))
	}
	if p.dummy != nil && p.dummy.Peer != nil {
		return fmt.Errorf("the dummy address %s is one end of a point-to-point link and is not replaced", a.set.replaces)
	}
	return nil
}

func (p *plan) note(name, format string, args ...any) {
	p.notes = append(p.notes, step{name, fmt.Sprintf(format, args...)})
}

// fresh lists the addresses that are not here yet.
func (p *plan) fresh() []netip.Addr {
	var out []netip.Addr
	for _, pl := range p.places {
		if pl.held == nil {
			out = append(out, pl.prefix.Addr())
		}
	}
	return out
}

// describe says what a start would do now, in its order. The steps have the names of the start's own.
func (a *application) describe(n *adapters, p plan) []step {
	out := p.notes
	add := func(name, format string, args ...any) { out = append(out, step{name, fmt.Sprintf(format, args...)}) }
	for _, pl := range p.places {
		if pl.held == nil && a.set.probe > 0 && hasNeighbours(pl.link) {
			add("probe", "Ask on %s for %v whether another machine has %s; if one answers, change nothing.",
				pl.link.Attrs().Name, a.set.probe, pl.prefix.Addr())
		}
	}
	for _, pl := range p.places {
		if pl.held == nil {
			add("address", "Add %s to %s and announce it %d times.", pl.prefix, pl.link.Attrs().Name, a.set.announce)
		} else {
			add("address", "%s is on %s already: announce it %d times.", pl.prefix, pl.link.Attrs().Name, a.set.announce)
		}
	}
	if p.dummy != nil {
		add("dummy", "Remove the dummy %s from %s, and note in %s how to put it back.",
			p.dummy.IPNet, n.name(p.dummy.LinkIndex), a.in.WorkDir)
	}
	if p.gateway != nil {
		r := a.route(a.set.gateway, p.gateway.link.Attrs().Index)
		add("gateway", "Add a default route by %s on %s with the metric %d, behind any other one.",
			a.set.gateway, p.gateway.link.Attrs().Name, r.Priority)
	}
	return out
}
