package ipset

import (
	"context"
	"sync"
	"time"
)

const (
	announceEvery = 200 * time.Millisecond
	announceLast  = 5 * time.Second
)

// work is what goes on while the addresses are here. It closes the voices.
func (a *application) work(ctx context.Context, voices []*voice) {
	var wg sync.WaitGroup
	for _, v := range voices {
		if v != nil {
			wg.Go(func() { a.announceOn(ctx, v) })
		}
	}
	for i := range a.set.dns {
		wg.Go(func() { a.keepDNS(ctx, i) })
	}
	wg.Wait()
}

// pause is the time before announcement number i, counted from the one at the start; false: there is none.
func (s settings) pause(i int) (time.Duration, bool) {
	switch {
	case i < s.announce:
		return announceEvery, true
	case i == s.announce:
		return announceLast, true
	}
	return s.refresh, s.refresh > 0
}

// announceOn repeats the announcement for as long as the address is here.
func (a *application) announceOn(ctx context.Context, v *voice) {
	defer func() { v.close() }()
	for i := 1; ; {
		pause, ok := a.set.pause(i)
		if !ok {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		n, err := readAdapters()
		if err == nil {
			st, _ := a.loadState()
			held := n.mine(v.addr, st)
			if held == nil {
				continue // its lease has ended, or somebody has taken it away: announcing it would be a lie
			}
			l := n.link(held.LinkIndex)
			if l == nil || unplugged(l) != nil {
				continue // nobody hears it: wait for the carrier
			}
			if v, err = v.on(l); err != nil {
				a.in.Log.Warn("the address cannot be announced on its adapter as it is now", "address", v.addr, "error", err)
				continue
			}
		}
		i = min(i+1, a.set.announce+1)
		if lease := a.in.Lease(); lease.Ends() && lease.Left() <= 0 {
			continue // it may be the partner's by now: it is silent until the lease is renewed
		}
		err = v.announce()
		if err == nil && i > a.set.announce {
			err = v.tellNeighbours()
		}
		if err != nil {
			a.in.Log.Warn("the address could not be announced again", "address", v.addr, "error", err)
		}
	}
}
