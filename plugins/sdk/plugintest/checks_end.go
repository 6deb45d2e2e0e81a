package plugintest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// ended demands that a stopped application is gone in every way that can be seen.
func (a *app) ended() (string, error) {
	if err := a.gone(); err != nil {
		return "", err
	}
	r, err := a.probe()
	if err != nil {
		return "", err
	}
	if r.GetHealth() == healthOK {
		return "", fmt.Errorf("it is STOPPED, and Probe says OK: %s", r.GetDetail())
	}
	return "No process, Recover says STOPPED, Probe says " + short(r.GetHealth()) + ".", nil
}

func (k *kit) stopStops() (string, error) {
	return k.with(func(a *app) (string, error) {
		if err := a.stop(); err != nil {
			return "", err
		}
		return a.ended()
	})
}

func (k *kit) stopTwice() (string, error) {
	return k.with(func(a *app) (string, error) {
		for range 2 {
			if err := a.stop(); err != nil {
				return "", err
			}
		}
		return "STOPPED both times.", nil
	})
}

func (k *kit) killKills() (string, error) {
	return k.with(func(a *app) (string, error) {
		if err := a.kill(); err != nil {
			return "", err
		}
		return a.ended()
	})
}

func (k *kit) killTwice() (string, error) {
	return k.with(func(a *app) (string, error) {
		for range 3 {
			if err := a.kill(); err != nil {
				return "", err
			}
		}
		if err := a.stop(); err != nil {
			return "", fmt.Errorf("after a kill: %w", err)
		}
		return "STOPPED three times, and a stop after it, too.", nil
	})
}

// killDuringStart takes the storage away while the application is being started.
func (k *kit) killDuringStart() (string, error) {
	a := k.app()
	stepped, ended := make(chan struct{}, 1), make(chan error, 1)
	caller := a.caller()
	go func() {
		_, err := a.startAs(caller, func() {
			select {
			case stepped <- struct{}{}:
			default:
			}
		})
		ended <- err
	}()
	select {
	case <-stepped: // so it is on its way, and not overtaken by the kill
	case <-time.After(unannounced):
	}
	err := a.kill()
	select {
	case <-ended: // with an error, or well when it was faster
	case <-time.After(patience):
		err = errors.Join(err, fmt.Errorf("%v after the kill the start has not ended", patience))
	}
	if err == nil {
		err = a.noProcess(time.Second)
	}
	return "Nothing runs a second after it.", errors.Join(err, a.end())
}

// killAtOnce is how long a kill may take that a stop is in the way of.
const killAtOnce = 5 * time.Second

// killDuringStop takes the storage away while a stop waits for an application that hangs.
func (k *kit) killDuringStop() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.processes()
		if err != nil {
			return "", err
		}
		freeze(programs(all, programOf(k.o.Command)))
		ended, stopping := make(chan struct{}), a.caller()
		go func() {
			defer close(ended)
			_ = a.stopAs(stopping, a.o.StopWithin) // whatever becomes of it
		}()
		time.Sleep(unannounced)
		begin := time.Now()
		if err := a.kill(); err != nil {
			return "", err
		}
		took := time.Since(begin)
		if took > killAtOnce {
			return "", fmt.Errorf("it took %v, for as long as the stop", took.Round(10*time.Millisecond))
		}
		select {
		case <-ended:
		case <-time.After(patience):
			return "", fmt.Errorf("%v after the kill the stop has not ended", patience)
		}
		return fmt.Sprintf("Killed after %v.", took.Round(10*time.Millisecond)), a.gone()
	})
}

// startCut gives a start up at several moments, as the core does when its time is over.
func (k *kit) startCut() (string, error) {
	var states []string
	for _, after := range []time.Duration{-1, 0, 5 * time.Millisecond, 50 * time.Millisecond} {
		a := k.app()
		state, err := a.giveUp(after)
		if err = errors.Join(err, a.end()); err != nil {
			return "", fmt.Errorf("given up %s: %w", moment(after), err)
		}
		states = append(states, short(state)+" "+moment(after))
	}
	return strings.Join(states, ", ") + ".", nil
}

// giveUp gives a start up so long after its beginning, or, below 0, when the first step is told.
func (a *app) giveUp(after time.Duration) (pluginv1.RunState, error) {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	if after >= 0 {
		timer := time.AfterFunc(after, cancel)
		defer timer.Stop()
	}
	s, err := a.follow(ctx, a.caller(), func() {
		if after < 0 {
			cancel()
		}
	})
	if err == nil {
		a.handle = s.Handle // it was faster
	} else if ctx.Err() == nil {
		return runUnknown, fmt.Errorf("the start failed: %w", err)
	}
	time.Sleep(calm) // what was given up at once may still be on its way
	r, err := a.wantState(a.handle, runRunning, runStopped)
	if err != nil {
		return runUnknown, err
	}
	if r.GetState() == runStopped {
		return runStopped, a.noProcess(time.Second)
	}
	return runRunning, a.stop()
}

// unannounced is how long a start may take to be under way that tells no step.
const unannounced = 300 * time.Millisecond

// staleCalls makes all calls that change something, under an epoch that has passed.
func (a *app) staleCalls() error {
	epoch := a.epoch
	defer func() { a.epoch = epoch }()
	a.epoch--
	_, err := a.startAs(a.caller(), nil)
	if err := refused("Start", err); err != nil {
		return err
	}
	if err := refused("Stop", a.stop()); err != nil {
		return err
	}
	return refused("Kill", a.kill())
}

func (k *kit) staleEpoch() (string, error) {
	return k.with(func(a *app) (string, error) {
		if err := a.staleCalls(); err != nil {
			return "", err
		}
		if err := a.running(); err != nil {
			return "", fmt.Errorf("after refused calls: %w", err)
		}
		a.epoch += 3
		if err := a.stop(); err != nil {
			return "", fmt.Errorf("under a newer epoch: %w", err)
		}
		a.epoch -= 3
		if err := refused("Stop", a.stop()); err != nil {
			return "", fmt.Errorf("when it was stopped: %w", err)
		}
		a.epoch += 3
		return "Start, Stop and Kill were refused, and a newer epoch was not.", nil
	})
}

func (k *kit) staleEpochAfterRestart() (string, error) {
	return k.with(func(a *app) (string, error) {
		k.plugin.kill()
		if err := k.launch(); err != nil {
			return "", err
		}
		return "Start, Stop and Kill were refused.", a.staleCalls()
	})
}

func (k *kit) epochsPerApplication() (string, error) {
	a, b := k.app(), k.app()
	b.epoch = a.epoch - 5
	for _, one := range []*app{a, b} {
		if err := one.workDir(); err != nil {
			return "", err
		}
		if err := one.stop(); err != nil {
			return "", fmt.Errorf("stop of %s under epoch %d: %w", one.pb.GetName(), one.epoch, err)
		}
	}
	return fmt.Sprintf("Epoch %d after epoch %d of another.", b.epoch, a.epoch), nil
}

func (a *app) lease(sequence uint64, until time.Duration) error {
	_, err := call(a.kit, "Renew", renewCall, a.plugin.service.Renew, &pluginv1.RenewRequest{
		Caller: a.caller(), Application: a.pb, Handle: a.handle, Sequence: sequence, UntilNs: uint64(until),
	})
	return err
}

// leases skips a check where the plugin's applications have none.
func (k *kit) leases() error {
	info, err := call(k, "Info", shortCall, k.plugin.service.Info, &pluginv1.InfoRequest{})
	if err == nil && !info.GetLeases() {
		return skipped("It has no leases.")
	}
	return err
}

// renewTime renews as often as the core does, while the application is probed.
func (k *kit) renewTime() (string, error) {
	if err := k.leases(); err != nil {
		return "", err
	}
	return k.with(func(a *app) (string, error) {
		var probing sync.WaitGroup
		defer probing.Wait()
		probing.Go(func() { _, _ = a.probe() })
		longest := time.Duration(0)
		for i := range uint64(10) {
			begin := time.Now()
			if err := a.lease(i+1, bootclock.Now()+time.Hour); err != nil {
				return "", err
			}
			longest = max(longest, time.Since(begin))
		}
		return fmt.Sprintf("Ten renewals, the longest took %v.", longest.Round(time.Millisecond)), nil
	})
}

func (k *kit) renew() (string, error) {
	if err := k.leases(); err != nil {
		return "", err
	}
	return k.with(func(a *app) (string, error) {
		hour := func() time.Duration { return bootclock.Now() + time.Hour }
		if err := a.lease(5, hour()); err != nil {
			return "", err
		}
		for _, c := range []struct {
			what     string
			sequence uint64
			until    time.Duration
			epoch    uint64
		}{
			{"a renewal that came before", 5, hour(), a.epoch},
			{"a renewal that was overtaken", 4, 0, a.epoch},
			{"a lease that has ended", 6, bootclock.Now() - time.Second, a.epoch},
			{"a caller that has lost the group", 7, hour(), a.epoch - 1},
		} {
			b := *a
			b.epoch = c.epoch
			err := b.lease(c.sequence, c.until)
			if status.Code(errors.Unwrap(err)) != codes.FailedPrecondition {
				return "", fmt.Errorf("%s has to be refused with FailedPrecondition, not so: %w", c.what, orAnswered(err))
			}
		}
		if err := a.lease(8, 0); err != nil {
			return "", fmt.Errorf("a lease without end: %w", err)
		}
		b := *a
		b.boot = "boot-2"
		if err := b.lease(1, hour()); err != nil {
			return "", fmt.Errorf("the first renewal of a core that was started again: %w", err)
		}
		_, err := a.wantHealth(healthOK)
		return "Four renewals were refused, three were taken.", err
	})
}

func orAnswered(err error) error {
	if err == nil {
		return errors.New("it was answered")
	}
	return err
}
