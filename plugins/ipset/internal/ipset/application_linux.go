package ipset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

const (
	announceEvery = 200 * time.Millisecond
	announceLast  = 5 * time.Second
)

// Ready implements sdk.Application.
func (a *application) Ready(context.Context) []sdk.Problem {
	if len(a.problems) > 0 {
		return a.problems
	}
	var found []sdk.Problem
	add := func(sev sdk.Severity, attribute, summary, detail string) {
		found = append(found, sdk.Problem{Severity: sev, Attribute: attribute, Summary: summary, Detail: detail})
	}
	if err := capable(); err != nil {
		add(sdk.Error, "", err.Error(), "Run the agent as root.")
	}
	n, err := readAdapters()
	if err != nil {
		add(sdk.Error, "", err.Error(), "")
		return found
	}
	l, err := n.choose(a.set)
	if err != nil {
		add(sdk.Error, "adapter", err.Error(), "")
	} else if err := unplugged(l); err != nil {
		add(sdk.Error, "adapter", err.Error(), "Look at the adapter and its cable.")
	}
	held := n.holder(a.set.address.Addr())
	switch st, serr := a.loadState(); {
	case serr != nil:
		add(sdk.Error, "", serr.Error(), "")
	case held != nil && st == nil && !strings.HasSuffix(held.Label, labelSuffix):
		add(sdk.Error, "address",
			fmt.Sprintf("%s is on %s already, and not by this plugin", a.set.address.Addr(), n.name(held.LinkIndex)),
			"Take it out of the server's own network configuration: it belongs to the group.")
	case a.set.replaces.IsValid() && n.holder(a.set.replaces) == nil && held == nil:
		add(sdk.Warning, "replaces", fmt.Sprintf("the dummy address %s is on no adapter", a.set.replaces),
			"Give it to the adapter that is to take the group's address, or leave replaces out.")
	}
	return found
}

// Start implements sdk.Application. Whoever waits for the address is served from the first announcement on;
// everything that can come later comes later.
func (a *application) Start(ctx context.Context, known *sdk.Handle, progress sdk.Progress) (sdk.Handle, error) {
	if len(a.problems) > 0 {
		return sdk.Handle{}, errors.New(a.problems[0].Summary)
	}
	st, err := a.known(known)
	if err != nil {
		return sdk.Handle{}, err
	}
	n, err := readAdapters()
	if err != nil {
		return sdk.Handle{}, err
	}
	var l netlink.Link
	held := n.holder(a.set.address.Addr())
	if held != nil {
		l = n.link(held.LinkIndex)
	} else if l, err = n.choose(a.set); err != nil {
		return sdk.Handle{}, err
	}
	if l == nil {
		return sdk.Handle{}, fmt.Errorf("the adapter of %s has just gone", a.set.address.Addr())
	}
	if err := down(l); err != nil {
		return sdk.Handle{}, err
	}
	if err := unplugged(l); err != nil {
		progress("adapter", fmt.Sprintf("%v: nobody can reach the address until it has.", err))
	}
	if st == nil {
		st = &state{}
	}
	st.Address, st.Adapter = a.set.address.String(), l.Attrs().Name
	if err := a.take(ctx, n, l, held == nil, st, progress); err != nil {
		if held == nil {
			err = errors.Join(err, a.giveUp(st))
		}
		return sdk.Handle{}, err
	}
	return st.handle()
}

// take adds, announces and replaces. The caller undoes it after an error.
func (a *application) take(ctx context.Context, n *adapters, l netlink.Link, fresh bool, st *state,
	progress sdk.Progress,
) error {
	var sock *arpSocket
	if speaksARP(l) {
		var err error
		if sock, err = openARP(l.Attrs().Index, l.Attrs().HardwareAddr); err != nil {
			return err
		}
	}
	announcing := false
	defer func() {
		if sock != nil && !announcing {
			sock.close()
		}
	}()
	if fresh && sock != nil && a.set.probe > 0 {
		progress("probe", fmt.Sprintf("Asking on %s for %v whether another machine has %s.",
			st.Adapter, a.set.probe, a.set.address.Addr()))
		mac, err := sock.conflict(ctx, a.set.address.Addr(), a.set.probe)
		if err != nil {
			return err
		}
		if mac != nil {
			return fmt.Errorf("another machine (%v) answers for %s: its server is alive, or did not give the address up",
				mac, a.set.address.Addr())
		}
	}
	if err := a.saveState(st); err != nil {
		return err
	}
	held := n.holder(a.set.address.Addr())
	_, err := a.keep(n, l, held, a.in.Lease())
	if err != nil && noTables(err) && short(a.in.Lease()) {
		progress("lease", fmt.Sprintf("%s cannot be made to fall silent by itself: %v.", a.set.address.Addr(), err))
		_, err = a.keep(n, l, held, sdk.Lease{})
	}
	if err != nil {
		return err
	}
	if sock != nil {
		if err := sock.announce(a.set.address.Addr()); err != nil {
			a.in.Log.Warn("the address could not be announced at once; it will be tried again", "error", err)
		}
	}
	progress("address", fmt.Sprintf("%s is on %s and announced.", a.set.address, st.Adapter))
	if err := a.replaceDummy(n, st, progress); err != nil {
		return err
	}
	if sock != nil {
		announcing = true // it closes the socket
		a.in.Background(func(ctx context.Context) { a.announceOn(ctx, sock, l.Attrs().Index) })
	}
	return nil
}

// replaceDummy removes the dummy address, after it is on record how to put it back.
func (a *application) replaceDummy(n *adapters, st *state, progress sdk.Progress) error {
	if !a.set.replaces.IsValid() {
		return nil
	}
	d := n.holder(a.set.replaces)
	if d == nil {
		if st.Dummy == nil {
			progress("dummy", fmt.Sprintf("The dummy address %s is on no adapter: nothing to replace.", a.set.replaces))
		}
		return nil
	}
	if d.Peer != nil {
		return fmt.Errorf("the dummy address %s is one end of a point-to-point link and is not replaced", a.set.replaces)
	}
	st.Dummy = &dummy{
		Adapter: n.name(d.LinkIndex), Prefix: d.IPNet.String(), Label: d.Label, Scope: d.Scope,
		Flags: d.Flags & unix.IFA_F_NOPREFIXROUTE, Valid: d.ValidLft, Preferred: d.PreferedLft,
	}
	if d.Broadcast != nil {
		st.Dummy.Broadcast = d.Broadcast.String()
	}
	if err := a.saveState(st); err != nil {
		return err
	}
	now, err := readAdapters() // the group's address is there now and must stay
	if err != nil {
		return err
	}
	if err := now.remove(d); err != nil {
		return err
	}
	progress("dummy", fmt.Sprintf("The dummy address %s was removed from %s.", a.set.replaces, st.Dummy.Adapter))
	return nil
}

// announceOn repeats the announcement for as long as the address is here, and closes the socket.
func (a *application) announceOn(ctx context.Context, sock *arpSocket, index int) {
	defer sock.close()
	pauses := make([]time.Duration, 0, a.set.announce)
	for range a.set.announce - 1 {
		pauses = append(pauses, announceEvery)
	}
	pauses = append(pauses, announceLast)
	for i := 0; i < len(pauses); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauses[i]):
		}
		n, err := readAdapters()
		if err == nil && n.holder(a.set.address.Addr()) == nil {
			return // somebody has taken it away: announcing it would be a lie
		}
		if err == nil && n.link(index) != nil && unplugged(n.link(index)) != nil {
			continue // nobody hears it: wait for the carrier
		}
		i++
		if lease := a.in.Lease(); lease.Ends() && lease.Left() <= 0 {
			continue // it may be the partner's by now: it is silent until the lease is renewed
		}
		if err := sock.announce(a.set.address.Addr()); err != nil {
			a.in.Log.Warn("the address could not be announced again", "error", err)
		}
	}
}

// giveUp removes the address and puts the dummy back, and proves both.
func (a *application) giveUp(st *state) error {
	n, err := readAdapters()
	if err != nil {
		return err
	}
	for held := n.holder(a.set.address.Addr()); held != nil; held = n.holder(a.set.address.Addr()) {
		if err := n.remove(held); err != nil {
			return err
		}
		if n, err = readAdapters(); err != nil {
			return err
		}
	}
	if err := (gate{a.set.address.Addr()}).remove(); err != nil && !noTables(err) {
		return err
	}
	if st != nil && st.Dummy != nil {
		if err := st.Dummy.restore(n); err != nil {
			return err
		}
	}
	return a.dropState()
}

func (d *dummy) restore(n *adapters) error {
	ip, network, err := net.ParseCIDR(d.Prefix)
	if err != nil {
		return fmt.Errorf("record of the dummy address: %w", err)
	}
	addr, _ := netip.AddrFromSlice(ip.To4())
	if n.holder(addr) != nil {
		return nil
	}
	for _, l := range n.links {
		if l.Attrs().Name != d.Adapter {
			continue
		}
		return readd(netlink.Addr{
			IPNet: &net.IPNet{IP: ip, Mask: network.Mask}, Label: d.Label, Scope: d.Scope, Flags: d.Flags,
			Broadcast: net.ParseIP(d.Broadcast).To4(), ValidLft: d.Valid, PreferedLft: d.Preferred, LinkIndex: l.Attrs().Index,
		})
	}
	return fmt.Errorf("the dummy address %s cannot be put back: adapter %s is gone", d.Prefix, d.Adapter)
}

// Recover implements sdk.Application: the address is on an adapter or it is not.
func (a *application) Recover(_ context.Context, known *sdk.Handle) sdk.Recovered {
	if len(a.problems) > 0 {
		return sdk.Recovered{State: sdk.Unknown, Detail: a.problems[0].Summary}
	}
	n, err := readAdapters()
	if err != nil {
		return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
	}
	held := n.holder(a.set.address.Addr())
	if held == nil {
		return sdk.Recovered{State: sdk.Stopped, Detail: fmt.Sprintf("%s is on no adapter.", a.set.address.Addr())}
	}
	st, err := a.known(known)
	if st == nil || err != nil {
		st = &state{Address: a.set.address.String(), Adapter: n.name(held.LinkIndex)}
	}
	h, err := st.handle()
	if err != nil {
		return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
	}
	detail := fmt.Sprintf("%s is on %s.", held.IPNet, n.name(held.LinkIndex))
	return sdk.Recovered{State: sdk.Running, Detail: detail, Handle: &h}
}

// Probe implements sdk.Application. An adapter without a carrier is no failure of the address: to take it again would
// not help, and the partner, on the same network, may be no better off.
func (a *application) Probe(context.Context, *sdk.Handle) sdk.Probed {
	n, err := readAdapters()
	if err != nil {
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: err.Error()}
	}
	held := n.holder(a.set.address.Addr())
	if held == nil {
		return sdk.Probed{Health: sdk.Failed, Detail: fmt.Sprintf("%s is on no adapter.", a.set.address.Addr())}
	}
	if l := n.link(held.LinkIndex); l != nil {
		if err := unplugged(l); err != nil {
			return sdk.Probed{Health: sdk.HealthUnknown, Detail: err.Error() + "."}
		}
	}
	if silent, err := a.silent(); err != nil || silent {
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: silentText(held, err)}
	}
	return sdk.Probed{Health: sdk.Healthy, Detail: fmt.Sprintf("%s is on %s.", held.IPNet, n.name(held.LinkIndex))}
}

func silentText(held *netlink.Addr, err error) string {
	if err != nil {
		return err.Error() + "."
	}
	return fmt.Sprintf("%s is silent: its lease has ended and is not renewed.", held.IPNet)
}

// Stop implements sdk.Application.
func (a *application) Stop(_ context.Context, known *sdk.Handle) sdk.Ended {
	if len(a.problems) > 0 {
		return sdk.Ended{State: sdk.Unknown, Detail: a.problems[0].Summary}
	}
	st, err := a.known(known)
	if err != nil {
		a.in.Log.Warn("a dummy address, if there was one, is not put back", "error", err)
	}
	if err := a.giveUp(st); err != nil {
		n, rerr := readAdapters()
		if rerr != nil {
			return sdk.Ended{State: sdk.Unknown, Detail: err.Error()}
		}
		if n.holder(a.set.address.Addr()) != nil {
			return sdk.Ended{State: sdk.Running, Detail: err.Error()}
		}
		return sdk.Ended{State: sdk.Stopped, Detail: fmt.Sprintf("%s is on no adapter, but: %v", a.set.address.Addr(), err)}
	}
	return sdk.Ended{State: sdk.Stopped, Detail: fmt.Sprintf("%s is on no adapter.", a.set.address.Addr())}
}

// Kill implements sdk.Application: an address has no clean end that would take longer.
func (a *application) Kill(ctx context.Context, known *sdk.Handle) sdk.Ended {
	return a.Stop(ctx, known)
}
