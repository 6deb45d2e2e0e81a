package ipset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

// Start implements sdk.Application. Whoever waits for an address is served from its first announcement on; everything
// that can come later comes later.
func (a *application) Start(ctx context.Context, known *sdk.Handle, progress sdk.Progress) (sdk.Handle, error) {
	if err := a.broken(); err != nil {
		return sdk.Handle{}, err
	}
	st, err := a.known(known)
	if err != nil {
		return sdk.Handle{}, err
	}
	n, err := readAdapters()
	if err != nil {
		return sdk.Handle{}, err
	}
	p, err := a.plan(n, st)
	if err != nil {
		return sdk.Handle{}, err
	}
	for _, note := range p.notes {
		progress(note.name, note.text)
	}
	if st == nil {
		st = &state{}
	}
	st.Own = nil // whoever starts has them last
	st.claim(a.set.addresses)
	if err := a.take(ctx, n, p, st, progress); err != nil {
		return sdk.Handle{}, errors.Join(err, a.undo(p, st))
	}
	return st.handle()
}

// broken is what is wrong with the configuration.
func (a *application) broken() error {
	for _, p := range a.problems {
		if p.Severity != sdk.Warning {
			return errors.New(p.Summary)
		}
	}
	return nil
}

// take asks, adds, announces and replaces. The caller undoes it after an error.
func (a *application) take(ctx context.Context, n *adapters, p plan, st *state, progress sdk.Progress) (err error) {
	voices, err := openVoices(p.places)
	defer func() {
		if err != nil {
			closeVoices(voices)
		}
	}()
	if err != nil {
		return err
	}
	err = a.whileRenewed(st, func() error { return a.askForAll(ctx, p, voices, a.set.probe, progress) })
	if err != nil {
		return err
	}
	st.Pending = true
	if err := a.saveState(st); err != nil {
		return err
	}
	for i, pl := range p.places {
		if i > 0 {
			if n, err = readAdapters(); err != nil { // what was just added counts
				return err
			}
		}
		if err := a.takeOne(n, pl, voices[i], progress); err != nil {
			return err
		}
	}
	for _, v := range voices {
		if v == nil {
			continue
		}
		if err := v.tellNeighbours(); err != nil {
			a.in.Log.Warn("not all neighbours could be told of the address", "address", v.addr, "error", err)
		}
	}
	if err := a.replaceDummy(p.dummy, n, st, progress); err != nil {
		return err
	}
	a.putBeside(p, st, progress)
	st.Pending = false
	if err := a.saveState(st); err != nil {
		return err
	}
	a.in.Background(func(ctx context.Context) { a.work(ctx, voices) })
	return nil
}

// putBeside does what helps the addresses' clients, and what the addresses are not given up for when it fails: it is
// told, and Probe goes on to tell it.
func (a *application) putBeside(p plan, st *state, progress sdk.Progress) {
	tell := func(name, done string, err error) {
		if err != nil {
			a.in.Log.Warn("the addresses are here, but not all that belongs to them", "step", name, "error", err)
			done = fmt.Sprintf("Not done: %v.", err)
		}
		progress(name, done)
	}
	if p.gateway != nil {
		tell("gateway", fmt.Sprintf("Without another default route, packets leave by %s.", a.set.gateway),
			a.addRoute(p.gateway.link.Attrs().Index))
	}
	if len(a.set.hosts) > 0 {
		tell("hosts", fmt.Sprintf("Names are in %s.", a.set.hostsFile),
			a.whileRenewed(st, func() error { return a.putHosts(st) }))
	}
	a.forgetDNS()
	for _, d := range a.set.dns {
		tell("dns", fmt.Sprintf("Zone %s is updated at %s from now on, until that has succeeded.",
			d.update.Zone, d.update.Server), nil)
	}
}

// openVoices returns a voice for each place, nil for adapters without neighbours.
func openVoices(places []place) ([]*voice, error) {
	out := make([]*voice, len(places))
	for i, pl := range places {
		if !hasNeighbours(pl.link) {
			continue
		}
		v, err := openVoice(pl.link, pl.prefix.Addr())
		if err != nil {
			return out, err
		}
		out[i] = v
	}
	return out, nil
}

func closeVoices(all []*voice) {
	for _, v := range all {
		if v != nil {
			v.close()
		}
	}
}

// askForAll asks for all addresses that are not here, at the same time, and waits for an answer for so long.
func (a *application) askForAll(ctx context.Context, p plan, voices []*voice, wait time.Duration,
	progress sdk.Progress) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error)
	asked := 0
	for i, pl := range p.places {
		v := voices[i]
		if v == nil || pl.held != nil {
			continue
		}
		asked++
		progress("probe", fmt.Sprintf("Asking on %s for %v whether another machine has %s.",
			pl.link.Attrs().Name, wait, v.addr))
		go func() {
			mac, err := v.conflict(ctx, wait)
			if mac != nil {
				err = fmt.Errorf("another machine (%v) answers for %s: its server is alive, or did not give the address up: %w",
					mac, v.addr, sdk.ErrInUse)
			}
			answers <- err
		}()
	}
	var errs []error
	for range asked {
		if err := <-answers; err != nil && (len(errs) == 0 || !errors.Is(err, context.Canceled)) {
			errs = append(errs, err)
			cancel() // one that is not to be had is enough
		}
	}
	return errors.Join(errs...)
}

// takeOne takes one address and announces it.
func (a *application) takeOne(n *adapters, pl place, v *voice, progress sdk.Progress) error {
	addr := pl.prefix.Addr()
	_, err := a.keep(n, pl, a.in.Lease())
	if err != nil && noTables(err) && short(a.in.Lease()) {
		progress("lease", fmt.Sprintf("%s cannot be made to fall silent by itself: %v.", addr, err))
		_, err = a.keep(n, pl, sdk.Lease{})
	}
	if err != nil {
		return err
	}
	if v != nil {
		if err := v.announce(); err != nil {
			a.in.Log.Warn("the address could not be announced at once; it will be tried again", "error", err)
		}
	}
	progress("address", fmt.Sprintf("%s is on %s and announced.", pl.prefix, pl.link.Attrs().Name))
	return nil
}

// replaceDummy removes the dummy address, after it is on record how to put it back.
func (a *application) replaceDummy(d *netlink.Addr, n *adapters, st *state, progress sdk.Progress) error {
	if d == nil {
		return nil
	}
	st.Dummy = &dummy{
		Adapter: n.name(d.LinkIndex), Index: d.LinkIndex, MAC: n.mac(d.LinkIndex),
		Prefix: d.IPNet.String(), Label: d.Label, Scope: d.Scope,
		Flags: d.Flags & keptFlags, Valid: d.ValidLft, Preferred: d.PreferedLft,
	}
	if d.Broadcast != nil {
		st.Dummy.Broadcast = d.Broadcast.String()
	}
	var err error
	if st.Dummy.Routes, err = routesOf(d.LinkIndex, a.set.replaces.Is4()); err != nil {
		return err
	}
	if d.Flags&unix.IFA_F_NOPREFIXROUTE == 0 { // the network's own comes back with the address
		st.Dummy.Routes = slices.DeleteFunc(st.Dummy.Routes,
			func(r savedRoute) bool { return r.Protocol == unix.RTPROT_KERNEL })
	}
	if err := a.saveState(st); err != nil {
		return err
	}
	now, err := readAdapters() // the group's addresses are there now and must stay
	if err != nil {
		return err
	}
	if err := now.remove(d); err != nil {
		return err
	}
	if err := putRoutes(st.Dummy.Routes, d.LinkIndex, a.set.replaces); err != nil {
		a.in.Log.Warn("a route that needs the dummy address waits for it", "error", err)
	}
	progress("dummy", fmt.Sprintf("The dummy address %s was removed from %s.", a.set.replaces, st.Dummy.Adapter))
	return nil
}

// undo takes back what a start that failed has done: all of it where nothing was here before, else only what it added.
func (a *application) undo(p plan, st *state) error {
	fresh := p.fresh()
	if len(fresh) == len(p.places) {
		if err := a.giveUp(st); err != nil {
			return err
		}
		return a.dropState()
	}
	return removeAddresses(fresh, st)
}

// giveUp removes the addresses and what belongs to them, and puts the dummy back, and proves all of it. The record of
// them is left to the caller.
func (a *application) giveUp(st *state) error {
	all := make([]netip.Addr, 0, len(a.set.addresses))
	for _, p := range a.set.addresses {
		all = append(all, p.Addr())
	}
	if st != nil {
		all = append(all, slices.DeleteFunc(st.former(a.set.addresses),
			func(addr netip.Addr) bool { return a.passedOn(st, addr) })...)
	}
	dummy := restoreDummy(st) // first: an adapter that has no address for a moment loses all its routes
	if err := removeAddresses(all, st); err != nil {
		return errors.Join(dummy, err)
	}
	if st != nil {
		st.Addresses, st.Own = nil, nil
	}
	a.leaveSecondaries()
	return errors.Join(dummy, restoreRoutes(st), a.removeRoutes(), a.dropHosts(st))
}

// removeAddresses takes addresses of ours off whatever adapters they are on, and takes away what kept their leases.
func removeAddresses(all []netip.Addr, st *state) error {
	for _, addr := range all {
		n, err := readAdapters()
		if err != nil {
			return err
		}
		for held := n.mine(addr, st); held != nil; held = n.mine(addr, st) {
			if err := n.remove(held); err != nil {
				return err
			}
			if n, err = readAdapters(); err != nil {
				return err
			}
		}
		if err := (gate{addr}).remove(); err != nil && !noTables(err) {
			return err
		}
	}
	return nil
}

// restoreDummy puts back the dummy address that is on record.
func restoreDummy(st *state) error {
	if st == nil || st.Dummy == nil {
		return nil
	}
	n, err := readAdapters()
	if err != nil {
		return err
	}
	return st.Dummy.restore(n)
}

// restoreRoutes puts back the routes of the dummy's adapter that are on record. Where that is gone, it is told with the
// dummy.
func restoreRoutes(st *state) error {
	if st == nil || st.Dummy == nil || len(st.Dummy.Routes) == 0 {
		return nil
	}
	n, err := readAdapters()
	if err != nil {
		return err
	}
	l := st.Dummy.adapter(n)
	if l == nil {
		return nil
	}
	return putRoutes(st.Dummy.Routes, l.Attrs().Index, netip.Addr{})
}

func (d *dummy) restore(n *adapters) error {
	p, err := netip.ParsePrefix(d.Prefix)
	if err != nil {
		return fmt.Errorf("record of the dummy address: %w", err)
	}
	if n.holder(p.Addr()) != nil {
		return nil
	}
	l := d.adapter(n)
	if l == nil {
		return d.lost()
	}
	back := netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Label: d.labelOn(l.Attrs().Name), Scope: d.Scope, Flags: d.Flags, ValidLft: d.Valid, PreferedLft: d.Preferred,
		LinkIndex: l.Attrs().Index,
	}
	if p.Addr().Is4() {
		back.Broadcast = net.ParseIP(d.Broadcast).To4()
	}
	return readd(back)
}

// adapter finds the one that the dummy was on: the same one, whatever its name is now, else the one of that name, else
// the one with that hardware address, which may have been made anew. nil: it is gone.
func (d *dummy) adapter(n *adapters) netlink.Link {
	if l := n.link(d.Index); l != nil && (l.Attrs().Name == d.Adapter || d.MAC != "" && n.mac(d.Index) == d.MAC) {
		return l
	}
	for _, l := range n.links {
		if l.Attrs().Name == d.Adapter {
			return l
		}
	}
	if l, err := n.named(d.MAC); d.MAC != "" && err == nil {
		return l
	}
	return nil
}

// addr is the dummy itself, without its prefix.
func (d *dummy) addr() netip.Addr {
	p, _ := netip.ParsePrefix(d.Prefix) // else it is on no adapter
	return p.Addr()
}

// labelOn is the dummy's label on an adapter of this name: the kernel's labels begin with it.
func (d *dummy) labelOn(adapter string) string {
	rest, ok := strings.CutPrefix(d.Label, d.Adapter)
	if label := adapter + rest; d.Label != "" && ok && len(label) <= labelMost {
		return label
	}
	return "" // the kernel's own choice
}

// lost says that the dummy's adapter is gone, and what puts the dummy back by hand.
func (d *dummy) lost() error {
	on, by := d.Adapter, "ip addr add "+d.Prefix
	if d.MAC != "" {
		on += " (" + d.MAC + ")"
	}
	if d.Broadcast != "" {
		by += " broadcast " + d.Broadcast
	}
	by += " dev " + d.Adapter
	if d.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		by += " noprefixroute"
	}
	return fmt.Errorf("the dummy address %s cannot be put back: adapter %s is gone. Where it is by another name now, "+
		"or another one is in its place, put that name into: %s", d.Prefix, on, by)
}

// here tells which of the addresses this plugin has on an adapter, as sentences.
func (a *application) here(n *adapters, st *state) (held []*netlink.Addr, missing []string, sentence string) {
	var is, isNot []string
	for _, p := range a.set.addresses {
		h := n.mine(p.Addr(), st)
		if h == nil {
			missing = append(missing, p.Addr().String())
			if other := n.holder(p.Addr()); other != nil {
				isNot = append(isNot, (&foreign{p.Addr(), n.name(other.LinkIndex)}).Error())
			} else {
				isNot = append(isNot, fmt.Sprintf("%s is on no adapter", p.Addr()))
			}
			continue
		}
		held = append(held, h)
		is = append(is, fmt.Sprintf("%s is on %s", h.IPNet, n.name(h.LinkIndex)))
	}
	return held, missing, strings.Join(append(isNot, is...), "; ") + "."
}

// Recover implements sdk.Application: an address is on an adapter or it is not. Where some are missing, Probe says so.
func (a *application) Recover(_ context.Context, known *sdk.Handle) sdk.Recovered {
	if err := a.broken(); err != nil {
		return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
	}
	n, err := readAdapters()
	if err != nil {
		return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
	}
	st, err := a.known(known)
	held, _, sentence := a.here(n, st)
	if len(held) == 0 {
		return sdk.Recovered{State: sdk.Stopped, Detail: sentence}
	}
	if st == nil || err != nil {
		st = &state{}
	}
	st.remember(a.set.addresses)
	h, err := st.handle()
	if err != nil {
		return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
	}
	return sdk.Recovered{State: sdk.Running, Detail: sentence, Handle: &h}
}

// Probe implements sdk.Application. An adapter without a carrier is a failure, though to take the address again does
// not help: then the group moves, if the partner is ready, and it is not if its own adapter has no carrier either.
func (a *application) Probe(_ context.Context, known *sdk.Handle) sdk.Probed {
	n, err := readAdapters()
	if err != nil {
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: err.Error()}
	}
	st, err := a.known(known)
	if err != nil {
		a.in.Log.Warn("what is on record of the addresses cannot be read", "error", err)
	}
	held, missing, sentence := a.here(n, st)
	if len(missing) > 0 {
		return sdk.Probed{Health: sdk.Failed, Detail: sentence}
	}
	for _, h := range held {
		if l := n.link(h.LinkIndex); l != nil {
			if err := unplugged(l); err != nil {
				return sdk.Probed{Health: sdk.Failed, Detail: fmt.Sprintf("Nobody can reach %s: %v.", h.IPNet, err)}
			}
		}
		silent, err := silent(ipOf(*h))
		if err != nil {
			return sdk.Probed{Health: sdk.HealthUnknown, Detail: err.Error() + "."}
		}
		if silent {
			return sdk.Probed{Health: sdk.HealthUnknown,
				Detail: fmt.Sprintf("%s is silent: its lease has ended and is not renewed.", h.IPNet)}
		}
	}
	amiss := []string{a.routeWanting(), a.hostsWanting()}
	for i := range a.set.dns {
		amiss = append(amiss, a.dnsWanting(i))
	}
	for _, wanting := range amiss {
		if wanting != "" {
			sentence += " But: " + wanting
		}
	}
	return sdk.Probed{Health: sdk.Healthy, Detail: sentence}
}

// Stop implements sdk.Application.
func (a *application) Stop(ctx context.Context, known *sdk.Handle) sdk.Ended {
	return a.stop(known, func() error { return a.removeDNS(ctx) })
}

// stop gives everything up; last is done then.
func (a *application) stop(known *sdk.Handle, last func() error) sdk.Ended {
	if err := a.broken(); err != nil {
		return sdk.Ended{State: sdk.Unknown, Detail: err.Error()}
	}
	st, unread := a.known(known)
	if unread != nil {
		unread = fmt.Errorf("a dummy address, if there was one, is not put back: %w", unread)
	}
	failed := errors.Join(a.giveUp(st), unread)
	switch {
	case failed == nil:
		failed = a.dropState()
	case st != nil && len(st.Addresses) == 0 && unread == nil: // what is still to be undone is on record, and no more
		failed = errors.Join(failed, a.saveState(st))
	}
	failed = errors.Join(failed, last())
	n, err := readAdapters()
	if err != nil {
		return sdk.Ended{State: sdk.Unknown, Detail: errors.Join(failed, err).Error()}
	}
	held, _, sentence := a.here(n, st)
	switch {
	case len(held) > 0:
		return sdk.Ended{State: sdk.Running, Detail: fmt.Sprintf("%s %v", sentence, failed)}
	case failed != nil:
		return sdk.Ended{State: sdk.Stopped, Detail: fmt.Sprintf("%s But: %v", sentence, failed)}
	}
	return sdk.Ended{State: sdk.Stopped, Detail: sentence}
}

// Kill implements sdk.Application: an address has no clean end that would take longer.
func (a *application) Kill(_ context.Context, known *sdk.Handle) sdk.Ended {
	return a.stop(known, func() error { return nil })
}
