package main

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const groupAddress = "172.25.36.45"

// renew asks for one renewal, as the core does.
func (f *fixture) renew(sequence uint64, until time.Duration) (string, error) {
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Renew(ctx, &pluginv1.RenewRequest{
		Caller: f.caller(), Application: f.app, Handle: f.handle, Sequence: sequence, UntilNs: uint64(until),
	})
	return r.GetDetail(), err
}

// leased is an address on apollo under a lease, with a client that asks for it.
type leased struct {
	*fixture
	leaseCase
	sequence uint64
}

// leaseCase is an address, and for how long it is leased.
type leaseCase struct {
	addr   string
	length time.Duration
}

func newLeased(t testing.TB, c leaseCase) *leased {
	l := &leased{fixture: protect(t, map[string]any{"addresses": both, "replaces": "172.25.36.48"}), leaseCase: c}
	l.powerOff("rocky")
	l.mustRenew()
	l.mustStart()
	return l
}

func (l *leased) mustRenew() time.Duration {
	l.Helper()
	until, err := l.tryRenew()
	if err != nil {
		l.Fatal("renew:", err)
	}
	return until
}

// tryRenew fails, too, where this machine did not let it arrive before the lease's end.
func (l *leased) tryRenew() (until time.Duration, err error) {
	l.sequence++
	until = bootclock.Now() + l.length
	_, err = l.renew(l.sequence, until)
	return until, err
}

// awaitSilence renews no more, and wants the address to answer until shortly before the lease's end, and no more
// after it. Nothing here asserts how fast this machine is: an answer counts when it came before the moment it is
// compared with.
func (l *leased) awaitSilence(p *pinger, until time.Duration) {
	l.Helper()
	for end := time.Now().Add(patience); ; {
		late := bootclock.Until(until) < 0 // asked before the ping leaves
		answered := p.answered(l.addr)
		if late && answered {
			l.Fatalf("the address answers %v after its lease has ended", -bootclock.Until(until))
		}
		if late {
			return
		}
		if time.Now().After(end) {
			l.Fatal("the lease did not end")
		}
	}
}

// freeze stops the plugin as a debugger, a hung hypervisor or a SIGSTOP does.
func (l *leased) freeze(t testing.TB) (thaw func()) {
	pid := l.plugin.PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = unix.Kill(pid, unix.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}

// The two ways of a lease: nf_tables below 3 s, a lifetime of the address above.
var leases = map[string]leaseCase{
	"gate":          {groupAddress, 800 * time.Millisecond},
	"gate IPv6":     {groupAddress6, 800 * time.Millisecond},
	"lifetime":      {groupAddress, 3500 * time.Millisecond},
	"lifetime IPv6": {groupAddress6, 3500 * time.Millisecond},
}

func TestLeaseEndsWhenNobodyRenews(t *testing.T) {
	for name, c := range leases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeased(t, c)
			p := l.pinger()
			l.mustRenew()
			p.await(t, l.addr)
			until := l.mustRenew()
			l.freeze(t)() // a plugin that was stopped for a moment changes nothing
			l.awaitSilence(p, until)
			if l.length < 3*time.Second {
				l.health(pluginv1.Health_HEALTH_UNKNOWN) // not failed: to start it again would not help
			}
			if got := l.neighbour(l.addr); l.length < 3*time.Second && got == "" {
				t.Error("the client does not even know the address's adapter: it never answered")
			}
			l.mustRenew() // its core lives, after all
			p.await(t, l.addr)
		})
	}
}

// Frozen or killed, the plugin and with it the core's word are gone; the kernel keeps the lease.
func TestLeaseEndsWithoutThePlugin(t *testing.T) {
	for name, c := range leases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeased(t, c)
			p := l.pinger()
			l.mustRenew()
			p.await(t, l.addr)
			until := l.mustRenew()
			l.freeze(t)
			l.awaitSilence(p, until)
			// Nobody hears it by ARP either: a client that has forgotten it does not find it.
			l.ip("-n", l.ns("client"), "neigh", "flush", "dev", "eth0")
			for range 20 {
				if p.answered(l.addr) {
					t.Fatal("it answers a client that asks by ARP first")
				}
			}
			if got := l.neighbour(l.addr); got == l.mac("apollo") {
				t.Errorf("the client has learned %s", got)
			}
		})
	}
}

// A core that renews in time is heard without a gap.
func TestRenewedIsNeverSilent(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute for all four")
	}
	for name, c := range leases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeased(t, c)
			p := l.pinger()
			until := l.mustRenew()
			p.await(t, l.addr)
			missed, asked, gaps := 0, 0, 0
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
				if bootclock.Until(until) < l.length*3/4 {
					if bootclock.Until(until) < 100*time.Millisecond {
						gaps++ // this machine did not let the test renew in time: what follows proves nothing
					}
					next, err := l.tryRenew()
					if err != nil && bootclock.Until(next) < 0 { // it was under way for too long: so was the plugin's answer
						gaps++
						continue
					}
					if err != nil {
						t.Fatal("renew:", err)
					}
					until = next
				}
				asked++
				if p.answered(l.addr) || p.answered(l.addr) || p.answered(l.addr) {
					continue
				}
				if bootclock.Until(until) > 0 {
					missed++
				}
			}
			t.Logf("%d questions, %d late renewals", asked, gaps)
			if missed > gaps {
				t.Errorf("%d of %d questions were not answered, %d renewals were late", missed, asked, gaps)
			}
		})
	}
}

func TestLeaseIsLifted(t *testing.T) {
	for name, c := range leases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeased(t, c)
			p := l.pinger()
			late := bootclock.Now() + l.length
			until := l.mustRenew()
			l.sequence += 2
			if how, err := l.renew(l.sequence, 0); err != nil || !strings.Contains(how, "stays") {
				t.Fatal(how, err)
			}
			// The renewal that the core had sent before it lifted the lease arrives now.
			if _, err := l.renew(l.sequence-1, late); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("an overtaken renewal got %v", err)
			}
			for bootclock.Until(until) > -l.length/2 {
				time.Sleep(10 * time.Millisecond)
			}
			p.await(t, l.addr)
			l.wantAddresses("172.25.36.45/24 eth0:ors", "172.25.36.46/24 eth0")
			if strings.Contains(l.ip("-n", l.ns("apollo"), "-4", "addr", "show", "dev", "eth0"), "valid_lft 3sec") {
				t.Error("the address still has a lifetime")
			}
		})
	}
}

func TestRenewalsThatAreRefused(t *testing.T) {
	l := newLeased(t, leaseCase{groupAddress, time.Minute})
	l.epoch = 3
	l.mustRenew()
	l.mustStart()
	for name, c := range map[string]struct {
		epoch, sequence uint64
		until           time.Duration
	}{
		"the same number":   {3, l.sequence, bootclock.Now() + time.Minute},
		"an older number":   {3, 1, 0},
		"an older epoch":    {2, 100, 0},
		"a moment gone by":  {3, 100, bootclock.Now() - time.Millisecond},
		"the first moments": {3, 100, 1},
	} {
		l.epoch = c.epoch
		if _, err := l.renew(c.sequence, c.until); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A start is given to nobody when the core has stopped to renew while it was under way.
func TestStartAfterTheLease(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "probe": "2s"})
	f.powerOff("rocky")
	before := f.addresses()
	if _, err := f.renew(1, bootclock.Now()+500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "lease") {
		t.Errorf("start: %v", err)
	}
	f.wantAddresses(before...)
}

// Whatever kept the lease is gone with the address, and nothing comes back by a late renewal.
func TestStopEndsTheLease(t *testing.T) {
	for name, c := range leases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLeased(t, c)
			before := []string{"172.25.36.46/24 eth0", "172.25.36.48/24 eth0"}
			l.mustRenew()
			l.stop()
			l.mustRenew()
			l.wantAddresses(before...)
			l.ip("-n", l.ns("apollo"), "addr", "add", l.addr+"/32", "dev", "eth0")
			l.pinger().await(t, l.addr) // no gate is left
		})
	}
}
