package ipset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/orscore/ors/plugins/sdk"
)

// A lifetime of an address counts whole seconds, and the kernel may look at it late: up to half a second for IPv4; for
// IPv6 it looks once a second at most, and may round that up by a quarter. A lease that is long enough for that is kept
// by a lifetime: the address itself goes. A shorter one is kept by a gate.
const (
	shortestLifetime = 3 * time.Second
	lifetimeLate     = 500 * time.Millisecond
	lifetimeLate6    = 1500 * time.Millisecond
)

// mostAsk is for how long a renewal asks for addresses whose lease had ended: the core does not wait long for it.
const mostAsk = 200 * time.Millisecond

// Renew implements sdk.Leaser. An address whose lifetime has passed, though it is to stay, is taken again, unless
// another machine answers for it by now; one that no start has taken, or that was given up, is not. A plugin that was
// started again takes up what it does beside.
func (a *application) Renew(ctx context.Context, known *sdk.Handle, lease sdk.Lease) (string, error) {
	if err := a.broken(); err != nil {
		return "", err
	}
	st, err := a.loadState()
	if err != nil {
		return "", err
	}
	n, err := readAdapters()
	if err != nil {
		return "", err
	}
	if st, err = a.claimHeld(n, st, known); err != nil {
		a.in.Log.Warn("it is not on record which addresses are this application's", "error", err)
	}
	var hows []string
	var errs []error
	var places, lapsed []place
	keep := func(pl place) {
		how, err := a.keep(n, pl, lease)
		if err != nil {
			errs = append(errs, err)
			return
		}
		hows, places = append(hows, how), append(places, pl)
		if pl.held == nil && hasNeighbours(pl.link) {
			errs = append(errs, announceOnce(pl))
		}
	}
	for _, p := range a.set.addresses {
		if n.mine(p.Addr(), st) == nil && (st == nil || st.Pending || !st.has(p.Addr())) {
			continue // not taken, or given up
		}
		pl, err := n.place(p, a.set.adapter, st)
		switch {
		case err != nil:
			errs = append(errs, err)
		case pl.held == nil:
			lapsed = append(lapsed, pl)
		default:
			keep(pl)
		}
	}
	if len(lapsed) > 0 {
		if err := a.askAgain(ctx, lapsed); err != nil {
			errs = append(errs, err)
		} else {
			for _, pl := range lapsed {
				keep(pl)
			}
		}
		if errors.Join(errs...) == nil {
			errs = append(errs, a.makeGood(st))
		}
	}
	if len(places) == 0 {
		return "", errors.Join(errs...)
	}
	if len(lapsed) == 0 && a.set.gateway.IsValid() && a.routeWanting() != "" { // its adapter was down
		errs = append(errs, a.routeAgain(places))
	}
	a.in.Background(func(ctx context.Context) {
		voices, err := openVoices(places)
		if err != nil {
			a.in.Log.Warn("the addresses are not announced again", "error", err)
		}
		a.work(ctx, voices)
	})
	return strings.Join(hows, " "), errors.Join(errs...)
}

// askAgain asks for addresses whose lease had ended.
func (a *application) askAgain(ctx context.Context, places []place) error {
	voices, err := openVoices(places)
	defer closeVoices(voices)
	if err != nil {
		return err
	}
	return a.askForAll(ctx, plan{places: places}, voices, min(a.set.probe, mostAsk), func(string, string) {})
}

// routeAgain makes the default route by the gateway on the adapter of the address in its network.
func (a *application) routeAgain(places []place) error {
	via := a.set.viaGateway()
	for _, pl := range places {
		if pl.prefix.Addr() == via.Addr() && down(pl.link) == nil {
			return a.addRoute(pl.link.Attrs().Index)
		}
	}
	return nil
}

// makeGood does again what has gone with addresses whose lease had ended: the kernel drops routes with them.
func (a *application) makeGood(st *state) error {
	if st == nil {
		st = &state{}
	}
	n, err := readAdapters()
	if err != nil {
		return err
	}
	p, err := a.plan(n, st)
	if err != nil {
		return err
	}
	told := func(name, text string) {
		a.in.Log.Info("the addresses are here again, after their lease had ended", "step", name, "detail", text)
	}
	if err := a.replaceDummy(p.dummy, n, st, told); err != nil {
		return err
	}
	a.putBeside(p, st, told)
	if st.Dummy == nil || len(st.Dummy.Routes) == 0 || len(p.places) == 0 {
		return nil
	}
	l := st.Dummy.adapter(n)
	if l == nil {
		return st.Dummy.lost()
	}
	return putRoutes(st.Dummy.Routes, l.Attrs().Index, a.set.replaces)
}

// lookForLease is how often a newer lease is looked for while a start does something that may take long.
const lookForLease = 20 * time.Millisecond

// whileRenewed does what may take long, and meanwhile gives those addresses that are here each new lease: a renewal of
// the core does not wait for a start, and without this they would fall silent in its midst.
func (a *application) whileRenewed(st *state, long func() error) error {
	seen := *st // long may change it
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(lookForLease)
		defer tick.Stop()
		for last := (sdk.Lease{}); ; {
			if lease := a.in.Lease(); lease != last {
				last = lease
				a.renewHeld(&seen, lease)
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	defer wg.Wait()
	defer close(done)
	return long()
}

// renewHeld gives the addresses that are here a new lease. What fails is told when the core renews after the start. A
// lease that does not end is not given: the core's word for that waits for the start.
func (a *application) renewHeld(st *state, lease sdk.Lease) {
	if !lease.Ends() || lease.Left() <= 0 {
		return
	}
	n, err := readAdapters()
	if err != nil {
		return
	}
	for _, p := range a.set.addresses {
		if n.mine(p.Addr(), st) == nil {
			continue
		}
		if pl, err := n.place(p, a.set.adapter, st); err == nil {
			_, _ = a.keep(n, pl, lease)
		}
	}
}

// short says whether a gate keeps a lease, not a lifetime.
func short(lease sdk.Lease) bool { return lease.Ends() && lease.Left() < shortestLifetime }

// keep takes the address on an adapter where it is not held, and makes it fall silent when the lease ends; it says how.
// Whatever it leaves behind when it fails ends no later than before.
func (a *application) keep(n *adapters, p place, lease sdk.Lease) (string, error) {
	g, held := gate{p.prefix.Addr()}, p.held
	left := lease.Left()
	if lease.Ends() && left <= 0 {
		return "", errLeaseOver
	}
	if short(lease) {
		if err := g.passFor(left); err != nil {
			return "", err
		}
		if held == nil || lifetime(held) != 0 {
			if err := n.add(p, a.set.replaces, sdk.Lease{}); err != nil {
				return "", err
			}
		}
		if lease.Left() <= 0 { // this process was stopped meanwhile
			return "", errors.Join(errLeaseOver, g.passFor(time.Millisecond))
		}
		return fmt.Sprintf("%s is silent %d ms after the last renewal (nf_tables).", g.addr, left.Milliseconds()), nil
	}
	if lease.Ends() && g.addr.Is4() {
		if err := a.keepSecondaries(p); err != nil {
			return "", err
		}
	}
	if held == nil || lease.Ends() || lifetime(held) != 0 {
		if err := n.add(p, a.set.replaces, lease); err != nil {
			return "", err
		}
	}
	if err := g.remove(); err != nil && !noTables(err) {
		return "", err
	}
	if !lease.Ends() {
		return fmt.Sprintf("%s stays.", g.addr), nil
	}
	return fmt.Sprintf("%s goes %d s after the last renewal (lifetime).", g.addr, seconds(left, g.addr)), nil
}

// seconds is the lifetime of an address that is surely gone after left.
func seconds(left time.Duration, addr netip.Addr) int {
	late := lifetimeLate
	if addr.Is6() {
		late = lifetimeLate6
	}
	return int((left - late) / time.Second)
}

// silent says whether the address is here, but its lease has ended.
func silent(addr netip.Addr) (bool, error) {
	shut, err := gate{addr}.shut()
	if err != nil && noTables(err) {
		return false, nil
	}
	return shut, err
}

// lifetime of an address in seconds; 0: without end.
func lifetime(a *netlink.Addr) int {
	if uint32(a.ValidLft) == forEver {
		return 0
	}
	return a.ValidLft
}

func announceOnce(p place) error {
	v, err := openVoice(p.link, p.prefix.Addr())
	if err != nil {
		return err
	}
	defer v.close()
	return v.announce()
}
