package plugintest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const (
	runStopped    = pluginv1.RunState_RUN_STATE_STOPPED
	runRunning    = pluginv1.RunState_RUN_STATE_RUNNING
	runUnknown    = pluginv1.RunState_RUN_STATE_UNKNOWN
	healthOK      = pluginv1.Health_HEALTH_OK
	healthFailed  = pluginv1.Health_HEALTH_FAILED
	healthUnknown = pluginv1.Health_HEALTH_UNKNOWN
)

func (k *kit) recoverNeverStarted() (string, error) {
	r, err := k.app().recover()
	if err != nil {
		return "", err
	}
	if r.GetState() != runStopped {
		return "", fmt.Errorf("what was never started here is %s (%s): the core would never start it", short(r.GetState()),
			r.GetDetail())
	}
	return r.GetDetail(), nil
}

func (k *kit) stopStopped() (string, error) {
	a := k.app()
	if err := a.workDir(); err != nil {
		return "", err
	}
	if err := a.stop(); err != nil {
		return "", err
	}
	if err := a.kill(); err != nil {
		return "", err
	}
	r, err := a.probe()
	if err != nil {
		return "", err
	}
	if r.GetHealth() == healthOK {
		return "", fmt.Errorf("Probe says OK of what was never started: %s", r.GetDetail())
	}
	return "STOPPED twice, and its probe says " + short(r.GetHealth()) + ".", nil
}

func (k *kit) startRuns() (string, error) {
	a := k.app()
	begin := time.Now()
	s, err := a.startAs(a.caller(), nil)
	took := time.Since(begin)
	evidence := ""
	if err == nil {
		a.handle = s.Handle
		evidence, err = a.startWent(s, took)
	}
	return evidence, errors.Join(err, a.end())
}

func (a *app) startWent(s Started, took time.Duration) (string, error) {
	for i, step := range s.Steps {
		if step == "" || strings.ContainsAny(step, "\r\n") || len(step) > 40 || strings.TrimSpace(s.Texts[i]) == "" {
			return "", fmt.Errorf("step %q, %q: a step is a short, stable word, and comes with a sentence", step, s.Texts[i])
		}
	}
	if err := a.running(); err != nil {
		return "", err
	}
	r, err := a.wantHealth(healthOK)
	if err != nil {
		return "", err
	}
	all, err := a.settled()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("After %v: %s Steps: %s. Processes: %d.", took.Round(time.Millisecond), r.GetDetail(),
		strings.Join(s.Steps, ", "), len(all)), nil
}

func (k *kit) startSteps() (string, error) {
	a := k.app()
	s, err := a.startAs(a.caller(), nil)
	if err == nil {
		a.handle = s.Handle
		if len(s.Steps) == 0 {
			err = errors.New("the start told no step: who waits for it does not see what is being done")
		}
	}
	return strings.Join(s.Texts, " "), errors.Join(err, a.end())
}

// startBeside sends two starts at the same time, of two operations: a core that was started again does that.
func (k *kit) startBeside() (string, error) {
	return k.with(func(a *app) (string, error) {
		one, err := a.settled()
		if err != nil {
			return "", err
		}
		if err := a.stop(); err != nil {
			return "", err
		}
		var both sync.WaitGroup
		var starts [2]Started
		var errs [2]error
		for i := range starts {
			c := a.caller()
			both.Go(func() { starts[i], errs[i] = a.startAs(c, nil) })
		}
		both.Wait()
		for i, s := range starts {
			if s.Handle != nil {
				a.handle = s.Handle
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("one of two starts at the same time: %w", errs[i])
			}
		}
		if err := errors.Join(errs[:]...); err != nil {
			return "", err
		}
		if err := a.running(); err != nil {
			return "", err
		}
		two, err := a.settled()
		if err != nil {
			return "", err
		}
		if len(two) > len(one) {
			return "", fmt.Errorf("two starts at the same time have started it twice: %d processes instead of %d: %s",
				len(two), len(one), list(two))
		}
		return fmt.Sprintf("Both gave a handle, and there are as many processes as after one start: %d.", len(two)), nil
	})
}

func (k *kit) startTwice() (string, error) {
	return k.with(func(a *app) (string, error) {
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		for range 2 {
			if err := a.start(); err != nil {
				return "", fmt.Errorf("a start of what runs: %w", err)
			}
		}
		if err := a.running(); err != nil {
			return "", err
		}
		after, err := a.settled()
		if err != nil {
			return "", err
		}
		if dead := lost(before); len(dead) > 0 {
			return "", fmt.Errorf("a start of what runs has ended %s", list(dead))
		}
		if len(after) > len(before) {
			return "", fmt.Errorf("a start of what runs has started more of it: %d processes, now %d: %s",
				len(before), len(after), list(after))
		}
		return fmt.Sprintf("The same processes: %d.", len(after)), nil
	})
}

// repeat sends an operation once more when others have come after it, as a message does that was long on its way.
func (k *kit) repeat() (string, error) {
	return k.with(func(a *app) (string, error) {
		stop, again := a.caller(), a.caller()
		if err := a.stopAs(stop, a.o.StopWithin); err != nil {
			return "", err
		}
		s, err := a.startAs(again, nil)
		if err != nil {
			return "", fmt.Errorf("a start after a stop: %w", err)
		}
		a.handle = s.Handle
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		if err := a.stopAs(stop, a.o.StopWithin); err != nil {
			return "", fmt.Errorf("the stop that has come before: %w", err)
		}
		if dead := lost(before); len(dead) > 0 {
			return "", fmt.Errorf("a stop that was repeated with its operation_id stopped what a later start had started: %s",
				list(dead))
		}
		if err := a.running(); err != nil {
			return "", fmt.Errorf("after a stop that was repeated with its operation_id: %w", err)
		}
		t, err := a.startAs(again, nil)
		if err != nil {
			return "", fmt.Errorf("the start that has come before: %w", err)
		}
		if !sameHandle(s.Handle, t.Handle) {
			return "", errors.New("a start that was repeated with its operation_id answered with another handle")
		}
		return "The stop changed nothing, the start gave the same handle.", nil
	})
}

func (k *kit) sentences() (string, error) {
	a := k.app()
	var mute []string
	heard := func(name, detail string) {
		if strings.TrimSpace(detail) == "" {
			mute = append(mute, name)
		}
	}
	if err := a.start(); err != nil {
		return "", errors.Join(err, a.end())
	}
	if r, err := a.recover(); err == nil {
		heard("Recover", r.GetDetail())
	}
	if r, err := a.probe(); err == nil {
		heard("Probe", r.GetDetail())
	}
	stop, err := call(k, "Stop", k.o.StopWithin, k.plugin.service.Stop, &pluginv1.StopRequest{
		Caller: a.caller(), Application: a.pb, Handle: a.handle,
	})
	if err == nil {
		heard("Stop", stop.GetDetail())
	}
	kill, err := call(k, "Kill", killCall, k.plugin.service.Kill, &pluginv1.KillRequest{
		Caller: a.caller(), Application: a.pb, Handle: a.handle,
	})
	if err == nil {
		heard("Kill", kill.GetDetail())
	}
	if err := a.end(); err != nil {
		return "", err
	}
	if len(mute) > 0 {
		return "", fmt.Errorf("no detail from %s: an operator would see nothing", strings.Join(mute, ", "))
	}
	return "Recover, Probe, Stop and Kill say why.", nil
}

func (k *kit) recoverWithoutHandle() (string, error) {
	return k.with(func(a *app) (string, error) {
		r, err := a.recoverWith(nil)
		if err != nil {
			return "", err
		}
		if r.GetState() == runStopped {
			return "", fmt.Errorf("it runs, and without a handle Recover says STOPPED (%s): the core would start it twice",
				r.GetDetail())
		}
		return short(r.GetState()) + ": " + r.GetDetail(), nil
	})
}

// handleUnknown shows handles of a later release, and damaged ones.
func (k *kit) handleUnknown() (string, error) {
	return k.with(func(a *app) (string, error) {
		v, state := a.handle.GetVersion(), a.handle.GetState()
		for _, c := range []struct {
			name string
			h    *pluginv1.Handle
		}{
			{"of a later version", &pluginv1.Handle{Version: v + 1000, State: state}},
			{"with other bytes", &pluginv1.Handle{Version: v, State: []byte("\x00\xff{]")}},
			{"of version 0 without bytes", &pluginv1.Handle{}},
			{"cut in half", &pluginv1.Handle{Version: v, State: state[:len(state)/2]}},
		} {
			r, err := a.recoverWith(c.h)
			if err != nil {
				return "", fmt.Errorf("a handle %s: %w", c.name, err)
			}
			if r.GetState() == runStopped {
				return "", fmt.Errorf("it runs, and with a handle %s Recover says STOPPED (%s)", c.name, r.GetDetail())
			}
		}
		return "Four of them, and none was taken for STOPPED.", a.running()
	})
}

// handlePrevious has an older release start the application and the checked one find and stop it.
func (k *kit) handlePrevious() (string, error) {
	if len(k.o.Previous) == 0 {
		return "", skipped("No older release was given.")
	}
	k.end()
	old, err := k.spawn(k.o.Previous)
	if err != nil {
		return "", fmt.Errorf("the older release: %w", err)
	}
	k.plugin = old
	return k.with(func(a *app) (string, error) {
		was := a.handle.GetVersion()
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		k.plugin.kill()
		if err := a.survived(before); err != nil {
			return "", err
		}
		if err := a.stop(); err != nil {
			return "", err
		}
		return fmt.Sprintf("Handle of version %d: found, and stopped.", was), a.gone()
	})
}

func (k *kit) concurrentCalls() (string, error) {
	const callers = 24
	return k.with(func(a *app) (string, error) {
		var wg sync.WaitGroup
		errs := make([]error, callers)
		begin := time.Now()
		for i := range callers {
			caller := a.caller()
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(k.ctx, shortCall)
				defer cancel()
				if i%2 == 0 {
					r, err := k.plugin.service.Probe(ctx, &pluginv1.ProbeRequest{Caller: caller, Application: a.pb, Handle: a.handle})
					if errs[i] = err; err == nil && (r.GetHealth() == healthFailed || r.GetEnded()) {
						errs[i] = fmt.Errorf("Probe says FAILED or ended of what runs: %s", r.GetDetail())
					}
					return
				}
				r, err := k.plugin.service.Recover(ctx, &pluginv1.RecoverRequest{Caller: caller, Application: a.pb,
					Handle: a.handle})
				if errs[i] = err; err == nil && r.GetState() == runStopped {
					errs[i] = fmt.Errorf("Recover says STOPPED of what runs: %s", r.GetDetail())
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return "", fmt.Errorf("of %d calls at once: %w", callers, err)
			}
		}
		return fmt.Sprintf("%d at once in %v.", callers, time.Since(begin).Round(time.Millisecond)), nil
	})
}
