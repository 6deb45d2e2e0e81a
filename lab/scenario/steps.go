//go:build linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const pollPause = 50 * time.Millisecond

// verbs are all steps besides wait, expect and hold.
var verbs []verb

func init() {
	verbs = []verb{
		{"power off SERVER", true, powerOff},
		{"power on SERVER", true, powerOn},
		{"power cycle enclosure", true, powerCycle},
		{"cut cable", true, cable("cut")},
		{"mend cable", true, cable("mend")},
		{"cable REST", true, cable()},
		{"cut network NETWORK of HOST", true, link(false)},
		{"cut interconnect sent by SERVER", true, deafen(false)},
		{"mend interconnect sent by SERVER", true, deafen(true)},
		{"mend network NETWORK of HOST", true, link(true)},
		{"start agent SERVER", true, startAgent},
		{"kill agent SERVER", true, signalAgent(unix.SIGKILL)},
		{"stop agent SERVER", true, signalAgent(unix.SIGTERM)},
		{"restart agent SERVER", true, restartAgent},
		{"pause server SERVER", true, pauseServer},
		{"resume server SERVER", true, resumeServer},
		{"pause agent SERVER", true, pauseAgent(unix.SIGSTOP)},
		{"resume agent SERVER", true, pauseAgent(unix.SIGCONT)},
		{"shutdown SERVER", true, shutdown},
		{"fill state of SERVER", true, fillState},
		{"free state of SERVER", true, freeState},
		{"arm ACTION at POINT on SERVER", false, arm},
		{"heal", true, heal},
		{"go home", true, goHome},
		{"start workload WORKLOAD", false, startWorkload},
		{"stop workload WORKLOAD", false, stopWorkload},
		{"remember processes HOST REST", false, rememberProcesses},
		{"run HOST fails NUMBER REST", true, runFails},
		{"run HOST REST", true, run},
		{"begin HOST REST", true, begin},
	}
}

func powerOff(ctx context.Context, r *Runner, a args) error {
	at, err := r.pair.PowerOff(ctx, a.word["SERVER"])
	if !at.IsZero() {
		r.powerCut = at // the moment itself, not when the dead host's remains were gone
	}
	return err
}

func powerOn(ctx context.Context, r *Runner, a args) error {
	return r.pair.PowerOn(ctx, a.word["SERVER"])
}

func powerCycle(_ context.Context, r *Runner, _ args) error { return r.pair.PowerCycleEnclosure() }

func startAgent(_ context.Context, r *Runner, a args) error {
	return r.pair.StartAgent(a.word["SERVER"])
}

func startWorkload(_ context.Context, r *Runner, a args) error {
	return r.startWorkload(a.word["WORKLOAD"])
}

func stopWorkload(ctx context.Context, r *Runner, a args) error {
	return r.stopWorkload(ctx, a.word["WORKLOAD"])
}

// cable gives the cable the words, or those of the step.
func cable(words ...string) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, a args) error {
		return r.pair.Cable(ctx, append(words, a.rest...)...)
	}
}

func link(up bool) func(context.Context, *Runner, args) error {
	return func(_ context.Context, r *Runner, a args) error {
		return r.pair.SetLink(a.word["HOST"], a.word["NETWORK"], up)
	}
}

func signalAgent(sig unix.Signal) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, a args) error {
		ctx, cancel := context.WithTimeout(ctx, defaultWait)
		defer cancel()
		_, err := r.pair.SignalAgent(ctx, a.word["SERVER"], sig)
		return err
	}
}

func pauseAgent(sig unix.Signal) func(context.Context, *Runner, args) error {
	return func(_ context.Context, r *Runner, a args) error { return r.pair.PauseAgent(a.word["SERVER"], sig) }
}

// shutdown ends a server's part in order, as its service manager would before the machine goes down.
func shutdown(ctx context.Context, r *Runner, a args) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	out, code, err := r.pair.Run(ctx, a.word["SERVER"], "orscore", "shutdown", "--reason", "scenario")
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("orscore shutdown: exit code %d: %s", code, strings.TrimSpace(out))
	}
	if code, err = r.pair.WaitAgent(ctx, a.word["SERVER"]); err == nil && code != 0 {
		err = fmt.Errorf("the agent ended with exit code %d", code)
	}
	return err
}

func run(ctx context.Context, r *Runner, a args) error { return r.command(ctx, a, 0) }

func runFails(ctx context.Context, r *Runner, a args) error { return r.command(ctx, a, a.number()) }

func (r *Runner) command(ctx context.Context, a args, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, code, err := r.pair.Run(ctx, a.word["HOST"], a.rest...)
	if err != nil {
		return err
	}
	r.detail(out)
	if code != want {
		return fmt.Errorf("exit code %d, wanted %d: %s", code, want, strings.TrimSpace(out))
	}
	return nil
}

// waitFor polls the condition until it holds or its time is over.
func waitFor(st Step) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, _ args) error {
		ctx, cancel := context.WithTimeout(ctx, st.wait)
		defer cancel()
		var last error
		for {
			err := st.cond.check(ctx, r, st.with)
			if err == nil {
				return nil
			}
			if ctx.Err() == nil || last == nil {
				last = err // the answer to a question that was cut short says nothing
			}
			if st.cond.final {
				return last
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("not within %v: %w", st.wait, last)
			case <-time.After(pollPause):
			}
		}
	}
}

func expect(st Step) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, _ args) error {
		ctx, cancel := context.WithTimeout(ctx, defaultWait)
		defer cancel()
		return st.cond.check(ctx, r, st.with)
	}
}

// hold lets time pass; with a condition it must hold all the time.
func hold(st Step) func(context.Context, *Runner, args) error {
	return func(ctx context.Context, r *Runner, _ args) error {
		begin := time.Now()
		end := time.NewTimer(st.wait)
		defer end.Stop()
		for {
			if st.cond != nil {
				if err := st.cond.check(ctx, r, st.with); err != nil {
					return fmt.Errorf("after %v: %w", time.Since(begin).Round(time.Millisecond), err)
				}
			}
			pause := time.After(2 * pollPause)
			if st.cond == nil {
				pause = nil
			}
			select {
			case <-ctx.Done():
				return errors.Join(errors.New("the scenario's time is over"), ctx.Err())
			case <-end.C:
				return nil
			case <-pause:
			}
		}
	}
}
