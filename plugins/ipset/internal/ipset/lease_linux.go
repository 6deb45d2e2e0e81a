package ipset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/orscore/ors/plugins/sdk"
)

// A lifetime of an address counts whole seconds, and the kernel may look up to half a second late. A lease that is
// long enough for that is kept by a lifetime: the address itself goes. A shorter one is kept by a gate.
const (
	shortestLifetime = 3 * time.Second
	lifetimeLate     = 500 * time.Millisecond
)

// errLeaseOver is what a start gets whose core does not renew any more.
var errLeaseOver = errors.New("the lease of the address has ended: this server's core does not renew it any more")

// Renew implements sdk.Leaser. An address whose lifetime has passed, though it is to stay, is taken again.
func (a *application) Renew(_ context.Context, _ *sdk.Handle, lease sdk.Lease) (string, error) {
	if len(a.problems) > 0 {
		return "", errors.New(a.problems[0].Summary)
	}
	st, err := a.loadState()
	if err != nil {
		return "", err
	}
	n, err := readAdapters()
	if err != nil {
		return "", err
	}
	held := n.holder(a.set.address.Addr())
	if held == nil && st == nil {
		return "", nil // it was not taken, or is given up already
	}
	var l netlink.Link
	if held != nil {
		l = n.link(held.LinkIndex)
	} else if l, err = n.choose(a.set); err != nil {
		return "", err
	}
	if l == nil {
		return "", fmt.Errorf("the adapter of %s has just gone", a.set.address.Addr())
	}
	how, err := a.keep(n, l, held, lease)
	if err == nil && held == nil && speaksARP(l) {
		err = a.announceOnce(l)
	}
	return how, err
}

// short says whether a gate keeps a lease, not a lifetime.
func short(lease sdk.Lease) bool { return lease.Ends() && lease.Left() < shortestLifetime }

// keep takes the address on an adapter where it is not held, and makes it fall silent when the lease ends; it says how.
// Whatever it leaves behind when it fails ends no later than before.
func (a *application) keep(n *adapters, l netlink.Link, held *netlink.Addr, lease sdk.Lease) (string, error) {
	g, set := gate{a.set.address.Addr()}, a.set
	if held != nil {
		bits, _ := held.Mask.Size()
		set.address = netip.PrefixFrom(set.address.Addr(), bits)
	}
	left := lease.Left()
	if lease.Ends() && left <= 0 {
		return "", errLeaseOver
	}
	if short(lease) {
		if err := g.passFor(left); err != nil {
			return "", err
		}
		if held == nil || lifetime(held) != 0 {
			if err := n.add(l, set, sdk.Lease{}); err != nil {
				return "", err
			}
		}
		if lease.Left() <= 0 { // this process was stopped meanwhile
			return "", errors.Join(errLeaseOver, g.passFor(time.Millisecond))
		}
		return fmt.Sprintf("%s is silent %d ms after the last renewal (nf_tables).", g.addr, left.Milliseconds()), nil
	}
	if held == nil || lease.Ends() || lifetime(held) != 0 {
		if err := n.add(l, set, lease); err != nil {
			return "", err
		}
	}
	if err := g.remove(); err != nil && !noTables(err) {
		return "", err
	}
	if !lease.Ends() {
		return fmt.Sprintf("%s stays.", g.addr), nil
	}
	return fmt.Sprintf("%s goes %d s after the last renewal (lifetime).", g.addr, seconds(left)), nil
}

// seconds is the lifetime of an address that is surely gone after left.
func seconds(left time.Duration) int { return int((left - lifetimeLate) / time.Second) }

// silent says whether the address is here, but its lease has ended.
func (a *application) silent() (bool, error) {
	shut, err := gate{a.set.address.Addr()}.shut()
	if err != nil && noTables(err) {
		return false, nil
	}
	return shut, err
}

// lifetime of an address in seconds; 0: without end.
func lifetime(a *netlink.Addr) int {
	const forEver = 1<<32 - 1
	if uint32(a.ValidLft) == forEver {
		return 0
	}
	return a.ValidLft
}

func (a *application) announceOnce(l netlink.Link) error {
	sock, err := openARP(l.Attrs().Index, l.Attrs().HardwareAddr)
	if err != nil {
		return err
	}
	defer sock.close()
	return sock.announce(a.set.address.Addr())
}

// keepSecondaries makes the kernel keep an adapter's other addresses when one of ours ends by itself.
func keepSecondaries(adapter string) error {
	path := "/proc/sys/net/ipv4/conf/" + adapter + "/promote_secondaries"
	old, err := os.ReadFile(path)
	if err == nil && len(old) > 0 && old[0] == '1' {
		return nil
	}
	if err == nil {
		err = os.WriteFile(path, []byte("1"), 0)
	}
	if err != nil {
		return fmt.Errorf("other addresses of %s would go with this one: %w", adapter, err)
	}
	return nil
}
