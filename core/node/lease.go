package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Applications that the network hears, such as addresses, are on a lease of the kernel that is renewed for as long as
// the loop of this server runs and holds their group. So they are silent before the partner may take the group over,
// whatever has become of this server's agent and plugins: stopped, killed, or hanging.

const (
	leaseAnswer = time.Second     // of one renewal
	leaseEnd    = 2 * time.Second // of the last words at the agent's end
	leaseTries  = 3               // failures in a row that are told
)

// renewLeases passes the loop's word on that the groups here may be heard for another while. The loop's goroutine calls
// it after each turn, and it never waits.
func (n *Node) renewLeases() {
	now, length := bootclock.Now(), loop.LeaseLength(&n.cfg.Interconnect)
	due := now-n.renewedAt >= max(n.cfg.Interconnect.Interval/2, length/10)
	until := now + n.loop.LeaseFor()
	for g, w := range n.workers {
		serves := n.loop.MayServe(g)
		if serves && (due || !w.serves) {
			w.until.Store(int64(until))
			for _, p := range w.apps {
				p.renewSoon()
			}
		}
		w.serves = serves
	}
	if due {
		n.renewedAt = now
	}
	if n.loop.Waited() && n.shortLeases(now+length) {
		n.loop.Returned()
	}
}

// shortLeases says whether nothing that is held here may be heard after a moment.
func (n *Node) shortLeases(until time.Duration) bool {
	for g, w := range n.workers {
		if !n.loop.HoldsGroup(g) {
			continue
		}
		for _, p := range w.apps {
			if !p.unleased.Load() && (!p.leased.Load() || time.Duration(p.heardTill.Load()) > until) {
				return false
			}
		}
	}
	return true
}

// endLeases is the agent's last word about what it leaves running. Nothing else renews any more. A partner that has
// heard the goodbye leaves everything where it is.
func (n *Node) endLeases() {
	var until time.Duration // for good
	if !n.partnerKnows.Load() {
		last := n.loop.LastLease()
		if last == 0 {
			return
		}
		until = bootclock.Now() + last
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseEnd)
	defer cancel()
	var wg sync.WaitGroup
	for g, w := range n.workers {
		for _, p := range w.apps {
			if !p.leased.Load() || !n.loop.MayServe(g) {
				continue
			}
			wg.Go(func() {
				if _, err := p.renew(ctx, p.leaseEpoch.Load(), until); err != nil {
					n.o.Log.Warn("ORS-1060: an application falls silent although the agent ends in order",
						"group", w.cfg.Name, "application", p.cfg.Name, "error", err)
				}
			})
		}
	}
	wg.Wait()
}

// renewSoon has the application's lease renewed, if it has one.
func (p *app) renewSoon() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// beginLease puts the application under a lease, before it is started or when it was found running, and has it renewed
// until endLease. It does nothing for a plugin that knows of none.
func (p *app) beginLease(ctx context.Context, epoch uint32) error {
	p.leaseEpoch.Store(epoch)
	p.mu.Lock()
	running := p.leaseCancel != nil
	p.mu.Unlock()
	if running {
		return nil
	}
	for bootclock.Until(time.Duration(p.w.until.Load())) <= 0 {
		select {
		case <-p.kick: // the loop has just decided that the group is here, or is about to
		case <-ctx.Done():
			return fmt.Errorf("its lease: %w", ctx.Err())
		}
	}
	_, err := p.renew(ctx, epoch, time.Duration(p.w.until.Load()))
	if status.Code(err) == codes.Unimplemented {
		p.unleased.Store(true)
		return nil
	}
	inner, cancel := context.WithCancel(p.w.n.ctx)
	ended := make(chan struct{})
	p.mu.Lock()
	p.leaseCancel, p.leaseEnded = cancel, ended
	p.mu.Unlock()
	p.w.n.goRun(func(context.Context) {
		defer close(ended)
		p.renewals(inner)
	})
	return nil
}

// endLease ends the renewals of an application that surely does not run any more.
func (p *app) endLease() {
	p.mu.Lock()
	cancel, ended := p.leaseCancel, p.leaseEnded
	p.leaseCancel, p.leaseEnded = nil, nil
	p.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
	p.leased.Store(false)
}

func (p *app) renewals(ctx context.Context) {
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		}
		_, err := p.renew(ctx, p.leaseEpoch.Load(), time.Duration(p.w.until.Load()))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failures >= leaseTries {
				p.w.n.view.ClearAlarm("ORS-1060", p.w.cfg.Name)
			}
			failures = 0
		case status.Code(err) == codes.FailedPrecondition: // late or overtaken: the next one is on its way
		default:
			if failures++; failures == leaseTries {
				p.w.n.alarm("ORS-1060", p.w.cfg.Name, fmt.Sprintf("The lease of %s is not renewed: %v", p.cfg.Name, err),
					"see what the plugin says; until then it may fall silent, or stay heard when this server's agent dies")
			}
		}
	}
}

// renew asks the plugin for one renewal; until 0 lifts the lease.
func (p *app) renew(ctx context.Context, epoch uint32, until time.Duration) (string, error) {
	a, err := p.request(p.w.n.view.Mounted(p.w.index))
	if err != nil {
		return "", err
	}
	h, err := p.handle()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, leaseAnswer)
	defer cancel()
	p.heardTill.Store(max(p.heardTill.Load(), int64(until))) // what fails may have been done
	r, err := p.w.n.o.Plugins.Renew(ctx, p.cfg.Kind, &pluginv1.RenewRequest{
		Caller: p.caller(0, epoch), Application: a, Handle: h, Sequence: p.renewed.Add(1), UntilNs: uint64(until),
	})
	if err == nil {
		p.leased.Store(true)
		p.heardTill.Store(int64(until))
	}
	return r.GetDetail(), err
}
