package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/store"
)

// startApps brings all applications of the group up, each as soon as those are up that it comes after.
func (w *groupWorker) startApps(ctx context.Context, a failover.Action) error {
	w.stopProbes()
	if a.Delay > 0 && !sleepUntil(ctx, w.n.loop.When(a.Delay).Sub(w.n.loop.When(0)), 0) {
		return errors.New("it was not tried again in time")
	}
	if len(w.mounted) == 0 {
		if err := w.findMounted(ctx); err != nil {
			return err
		}
	}
	if a.Delay > 0 {
		if err := w.mendDrives(ctx, a); err != nil {
			return err
		}
	}
	if w.n.view.Arrival(w.index).Step == arrival.Leaving { // it could not be stopped for a move, and goes on here
		w.arrive(arrival.Arrived, "")
	}
	mounted := w.mounted
	err := w.inOrder(false, func(p *app) error { return p.up(ctx, a, mounted) })
	if err != nil {
		return err
	}
	for _, p := range w.apps {
		p.watch(a)
	}
	w.arrive(arrival.Up, "All protected applications answer.")
	return nil
}

// mendDrives mounts the group's drives anew when one of them is surely dead or gone: its storage was away for a moment,
// and a filesystem that has given up does not come back by itself, however often the applications on it are restarted.
// A drive that gives no answer in time is left as it is.
func (w *groupWorker) mendDrives(ctx context.Context, a failover.Action) error {
	dead := ""
	err := w.eachDrive(func(s *config.StorageUnit, d *config.Drive) error {
		m, ok, err := w.n.o.Drives.Find(ctx, w.spec(s, d))
		switch {
		case err != nil:
			return fmt.Errorf("drive %s of %s: %w", d.Letter, s.Name, err)
		case !ok:
			dead = d.Letter + " is not mounted"
			return nil
		}
		err = w.n.o.Drives.Alive(ctx, m)
		var e *drive.Error
		if errors.As(err, &e) && e.Code == drive.CodeDead {
			dead = e.Error()
		}
		return nil
	})
	if err != nil || dead == "" {
		return err
	}
	w.n.record(store.Record{Kind: "drive", Group: w.cfg.Name, Code: drive.CodeDead, Op: a.Op,
		Text: "The group's drives are mounted anew, its applications ended before: " + dead})
	if err := w.killAll(ctx, a); err != nil {
		return err
	}
	return w.attach(ctx, a)
}

// stopApps stops all applications in the reverse order.
func (w *groupWorker) stopApps(ctx context.Context, a failover.Action) error {
	w.stopProbes()
	if len(w.mounted) == 0 {
		if err := w.findMounted(ctx); err != nil {
			return err
		}
	}
	w.arrive(arrival.Leaving, "The group is about to be stopped: whoever uses its drives lets go of them.")
	return w.inOrder(true, func(p *app) error { return p.down(ctx, a) })
}

// killAll ends what is left of the group and takes its mounts away, all at once. It fails unless nothing is left for
// sure.
func (w *groupWorker) killAll(ctx context.Context, a failover.Action) error {
	w.stopProbes()
	w.arrive(arrival.Leaving, "The storage is not this server's any more: all that is left of the group is killed.")
	findErr := w.findMounted(ctx)
	errs := make([]error, len(w.apps))
	var wg sync.WaitGroup
	for i, p := range w.apps {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := p.kill(ctx, a); err != nil {
				errs[i] = fmt.Errorf("application %s: %w", p.cfg.Name, err)
			}
		}()
	}
	wg.Wait()
	for i := len(w.mounted) - 1; i >= 0; i-- {
		if err := w.n.o.Drives.ForceUnmount(ctx, w.mounted[i]); err != nil {
			errs = append(errs, fmt.Errorf("drive %s: %w", w.mounted[i].Letter, err))
		}
	}
	if err := errors.Join(append(errs, findErr)...); err != nil {
		w.n.alarm("ORS-1017", w.cfg.Name, "Left-overs of the group are still here: "+err.Error(),
			"end them by hand; the group can come here only when nothing of it is left")
		return err
	}
	w.n.view.ClearAlarm("ORS-1017", w.cfg.Name)
	w.mounted = nil
	w.n.o.Ledger.Group(ledger.Cleared, w.cfg.Name, a.Op)
	w.arrive(arrival.Left, "Nothing of the group is left here.")
	w.forgetProblems()
	w.n.view.Drives(w.index, nil)
	return nil
}

func (w *groupWorker) stopProbes() {
	for _, p := range w.apps {
		p.stopWatch()
	}
}

// inOrder calls f for every application, in parallel where `after` allows it: with reverse, an application waits for
// those that come after it. When one fails, those that wait for it are not called.
func (w *groupWorker) inOrder(reverse bool, f func(*app) error) error {
	type result struct {
		done chan struct{}
		err  error
	}
	results := map[string]*result{}
	waits := map[string][]string{}
	for _, p := range w.apps {
		results[p.cfg.Name] = &result{done: make(chan struct{})}
		for _, before := range p.cfg.After {
			if reverse {
				waits[before] = append(waits[before], p.cfg.Name)
			} else {
				waits[p.cfg.Name] = append(waits[p.cfg.Name], before)
			}
		}
	}
	for _, p := range w.apps {
		go func() {
			r := results[p.cfg.Name]
			defer close(r.done)
			for _, name := range waits[p.cfg.Name] {
				other := results[name]
				<-other.done
				if other.err != nil {
					r.err = fmt.Errorf("application %s waits for %s", p.cfg.Name, name)
					return
				}
			}
			if err := f(p); err != nil {
				r.err = fmt.Errorf("application %s: %w", p.cfg.Name, err)
			}
		}()
	}
	var errs []error
	for _, p := range w.apps {
		r := results[p.cfg.Name]
		<-r.done
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}
