package ipset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/plugins/sdk"
)

// byHand is the group of addresses that are set by hand.
const byHand = "by-hand"

// carryOut does what an order says, on an address that no application has taken.
func carryOut(ctx context.Context, o Order, say func(string)) error {
	n, err := readAdapters()
	if err != nil {
		return err
	}
	a, err := o.application(n)
	if err != nil {
		return err
	}
	st, err := a.loadState()
	if err != nil {
		return err
	}
	addr := a.set.addresses[0].Addr()
	if err := errors.Join(o.taken(addr), o.taken(a.set.replaces)); err != nil {
		return err
	}
	if err := o.contradicts(n, addr); err != nil {
		return err
	}
	if held := n.holder(addr); held != nil && st == nil {
		if n.ours(held) {
			return fmt.Errorf("%s is on %s for an application: it moves with its group", addr, n.name(held.LinkIndex))
		}
		return fmt.Errorf("%s is on %s already, and not by ORS: it is left alone", addr, n.name(held.LinkIndex))
	}
	if o.Release {
		return a.orderedRelease(n, st, o.DryRun, say)
	}
	p, err := a.plan(n, st)
	if err != nil {
		return err
	}
	if o.DryRun {
		for _, s := range a.describe(n, p) {
			say(s.text)
		}
		return nil
	}
	if err := capable(); err != nil {
		return err
	}
	if _, err := a.Start(ctx, nil, func(_, text string) { say(text) }); err != nil {
		return err
	}
	return a.announceByHand(ctx)
}

// contradicts says what an order wants otherwise of an address that is here.
func (o Order) contradicts(n *adapters, addr netip.Addr) error {
	held := n.holder(addr)
	if held == nil || o.Release {
		return nil
	}
	if o.Adapter != "" {
		l, err := n.named(o.Adapter)
		if err != nil {
			return err
		}
		if l.Attrs().Index != held.LinkIndex {
			return fmt.Errorf("%s is on %s already, not on %s: release it first", addr, n.name(held.LinkIndex), o.Adapter)
		}
	}
	if bits, _ := held.Mask.Size(); o.Bits != 0 && o.Bits != bits {
		return fmt.Errorf("%s is on %s already, with the prefix /%d, not /%d: release it first", addr,
			n.name(held.LinkIndex), bits, o.Bits)
	}
	return nil
}

// application is the one that an order is about, in no configuration.
func (o Order) application(n *adapters) (*application, error) {
	addr, err := netip.ParseAddr(o.Address)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address", o.Address)
	}
	if why := unusable(netip.PrefixFrom(addr, addr.BitLen())); why != "" {
		return nil, fmt.Errorf("%s %s: use an address that a host can have", addr, why)
	}
	prefix := netip.PrefixFrom(addr, o.Bits)
	if o.Bits == 0 {
		if prefix, err = n.network(addr, o.Adapter); err != nil {
			return nil, err
		}
	}
	c := config{
		Address: prefix.String(), Adapter: o.Adapter, Replaces: o.Replaces, Gateway: o.Gateway,
		Probe: "50ms", Announce: 5, Refresh: "0s",
	}
	a := &application{single: true, in: sdk.Instance{
		Group: byHand, Name: o.Address, WorkDir: o.WorkDir, Log: hclog.NewNullLogger(),
	}}
	a.set, a.problems = c.check()
	for _, p := range a.problems {
		if p.Severity != sdk.Warning {
			return nil, fmt.Errorf("%s: %s", p.Summary, p.Detail)
		}
	}
	return a, nil
}

// network gives an address the prefix of the network that it goes into, by the adapters' other addresses.
func (n *adapters) network(addr netip.Addr, adapter string) (netip.Prefix, error) {
	if held := n.holder(addr); held != nil {
		bits, _ := held.Mask.Size()
		return netip.PrefixFrom(addr, bits), nil
	}
	pl, err := n.place(netip.PrefixFrom(addr, addr.BitLen()), adapter, nil)
	if err != nil {
		return netip.Prefix{}, err
	}
	best := 0
	for _, other := range n.addrs {
		bits, _ := other.Mask.Size()
		if other.LinkIndex == pl.link.Attrs().Index && ipOf(other).Is4() == addr.Is4() && bits > best &&
			other.Contains(addr.AsSlice()) {
			best = bits
		}
	}
	if best == 0 {
		return netip.Prefix{}, fmt.Errorf("%s is in no network of %s: say its mask", addr, pl.link.Attrs().Name)
	}
	return netip.PrefixFrom(addr, best), nil
}

// announceByHand repeats the announcement while the operator waits: nobody does it afterwards.
func (a *application) announceByHand(ctx context.Context) error {
	n, err := readAdapters()
	if err != nil {
		return err
	}
	pl, err := n.place(a.set.addresses[0], a.set.adapter, nil)
	if err != nil || !hasNeighbours(pl.link) {
		return err
	}
	for range a.set.announce - 1 {
		select {
		case <-ctx.Done():
			return nil // it is here, and has been announced
		case <-time.After(announceEvery):
		}
		if err := announceOnce(pl); err != nil {
			return err
		}
	}
	return nil
}

// orderedRelease gives the address up again.
func (a *application) orderedRelease(n *adapters, st *state, dryRun bool, say func(string)) error {
	addr := a.set.addresses[0].Addr()
	held := n.holder(addr)
	if held == nil && st == nil {
		say(fmt.Sprintf("%s is not here: nothing to do.", addr))
		return nil
	}
	if dryRun {
		if held != nil {
			say(fmt.Sprintf("Remove %s from %s.", held.IPNet, n.name(held.LinkIndex)))
		}
		if st != nil && st.Dummy != nil {
			if l := st.Dummy.adapter(n); l != nil {
				say(fmt.Sprintf("Put the dummy %s back on %s.", st.Dummy.Prefix, l.Attrs().Name))
			} else {
				say(st.Dummy.lost().Error())
			}
		}
		routes, err := a.routes()
		for _, r := range routes {
			say(fmt.Sprintf("Remove the default route by %s.", r.Gw))
		}
		return err
	}
	e := a.stop(nil, func() error { return nil })
	if e.State != sdk.Stopped {
		return errors.New(e.Detail)
	}
	if left, err := a.loadState(); left != nil || err != nil { // something could not be undone, as the dummy
		return errors.Join(errors.New(e.Detail), err)
	}
	say(fmt.Sprintf("%s is on no adapter.", addr))
	if st == nil || st.Dummy == nil {
		return nil
	}
	if n, err := readAdapters(); err == nil && n.holder(st.Dummy.addr()) != nil {
		say(fmt.Sprintf("The dummy %s is on %s again.", st.Dummy.Prefix, n.name(n.holder(st.Dummy.addr()).LinkIndex)))
	}
	return nil
}
