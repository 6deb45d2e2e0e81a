package plugintest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func (k *kit) pluginKilled() (string, error) {
	return k.with(func(a *app) (string, error) {
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		k.plugin.kill()
		if err := a.survived(before); err != nil {
			return "", err
		}
		if _, err := a.wantHealth(healthOK); err != nil {
			return "", err
		}
		if err := a.stop(); err != nil {
			return "", err
		}
		return fmt.Sprintf("Processes that lived on: %d. The next plugin found and stopped them.", len(before)), a.gone()
	})
}

func (k *kit) pluginEnds() (string, error) {
	return k.with(func(a *app) (string, error) {
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		begin := time.Now()
		k.plugin.end()
		took := time.Since(begin)
		if !k.plugin.waitEnd(endWhenTold) {
			return "", errors.New("it cannot even be killed")
		}
		if err := a.survived(before); err != nil {
			return "", err
		}
		return fmt.Sprintf("Ended after %v; the application lives.", took.Round(time.Millisecond)), nil
	})
}

// coreGone has the plugin started by another process, which is killed, and closes the connection as the kernel does
// with those of a process that has ended.
func (k *kit) coreGone() (string, error) {
	k.end()
	p, err := k.spawn(k.o.Command, "/bin/sh", "-c", `"$@" & wait`, "core")
	if err != nil {
		return "", err
	}
	k.plugin = p
	return k.with(func(a *app) (string, error) {
		before, err := a.settled()
		if err != nil {
			return "", err
		}
		self, ok := look(p.pid)
		if !ok || p.pid == p.run.pid() {
			return "", errors.New("the plugin's process was not found below its core")
		}
		begin := time.Now()
		p.run.kill()
		_ = p.conn.Close()
		for self.alive() {
			if time.Since(begin) > endWithCore {
				self.kill()
				return "", fmt.Errorf("%v after the end of the core it still lives", endWithCore)
			}
			time.Sleep(pause)
		}
		took := time.Since(begin)
		p.end()
		if err := a.survived(before); err != nil {
			return "", err
		}
		return fmt.Sprintf("Ended after %v; the application lives.", took.Round(10*time.Millisecond)), nil
	})
}

// pluginKilledInStart kills the plugin at several moments of a start, and compares what Recover says then with what
// there is.
func (k *kit) pluginKilledInStart() (string, error) {
	var states []string
	for _, after := range []time.Duration{-1, 0, 5 * time.Millisecond, 50 * time.Millisecond} {
		a := k.app()
		state, err := a.breakOff(after)
		if err = errors.Join(err, a.end()); err != nil {
			return "", fmt.Errorf("killed %s: %w", moment(after), err)
		}
		states = append(states, short(state)+" "+moment(after))
	}
	return strings.Join(states, ", ") + ".", nil
}

func moment(after time.Duration) string {
	if after < 0 {
		return "at the first step"
	}
	return fmt.Sprintf("%v after the call", after)
}

// breakOff kills the plugin so long after the beginning of a start, or, below 0, when the first step is told.
func (a *app) breakOff(after time.Duration) (pluginv1.RunState, error) {
	p := a.plugin
	if after >= 0 {
		timer := time.AfterFunc(after, p.run.kill)
		defer timer.Stop()
	}
	_, err := a.startAs(a.caller(), func() {
		if after < 0 {
			p.run.kill()
		}
	})
	if err != nil && !p.waitEnd(patience) {
		return runUnknown, fmt.Errorf("the start failed: %w", err)
	}
	p.kill()
	if err := a.launch(); err != nil {
		return runUnknown, err
	}
	// What was just being made may still come about by itself: the answer counts once it is a sure one.
	r, err := a.wantState(nil, runRunning, runStopped)
	if err != nil {
		return runUnknown, err
	}
	if r.GetState() == runStopped {
		if err := a.noProcess(time.Second); err != nil {
			return runStopped, err
		}
		return runStopped, a.start()
	}
	a.handle = r.GetHandle()
	if len(a.handle.GetState()) == 0 && a.handle.GetVersion() == 0 {
		return runRunning, errors.New("Recover says RUNNING without a handle: the core has none of this application")
	}
	if err := a.start(); err != nil {
		return runRunning, fmt.Errorf("a start of what Recover has found: %w", err)
	}
	return runRunning, nil
}

// oneCopy starts an application once more after the plugin was killed in the midst of a start, and compares what runs
// then with what runs after a start that nothing has disturbed.
func (k *kit) oneCopy() (string, error) {
	usual := 0
	if _, err := k.with(func(a *app) (string, error) {
		all, err := a.processes()
		usual = trees(all)
		return "", err
	}); err != nil {
		return "", err
	}
	for _, after := range []time.Duration{-1, 0, 5 * time.Millisecond, 50 * time.Millisecond} {
		a := k.app()
		_, err := a.breakOff(after)
		if err == nil {
			err = a.running()
		}
		var all []living
		if err == nil {
			all, err = a.settled()
		}
		if err == nil && trees(all) > usual {
			err = fmt.Errorf("more of it runs than after a start that nothing has disturbed: %s", list(all))
		}
		if err = errors.Join(err, a.end()); err != nil {
			return "", fmt.Errorf("killed %s: %w", moment(after), err)
		}
	}
	return fmt.Sprintf("Processes at the top of it: %d, each time.", usual), nil
}

// trees counts the processes whose parent is none of them: what one copy starts by itself does not count.
func trees(all []living) int {
	n := 0
	for _, p := range all {
		if !slices.ContainsFunc(all, func(o living) bool { return o.pid == p.parent }) {
			n++
		}
	}
	return n
}

func (k *kit) applicationKilled() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.settled()
		if err != nil {
			return "", err
		}
		if err := a.strike(all); err != nil {
			return "", err
		}
		p, err := a.wantHealth(healthFailed, healthUnknown) // what is left to the program's own recovery is not known
		if err != nil {
			return "", err
		}
		r, err := a.wantState(a.handle, runStopped, runUnknown)
		if err != nil {
			return "", err
		}
		if err := a.start(); err != nil {
			return "", fmt.Errorf("a restart in place: %w", err)
		}
		if _, err := a.wantHealth(healthOK); err != nil {
			return "", fmt.Errorf("after a restart in place: %w", err)
		}
		return fmt.Sprintf("Probe: %s Recover: %s, %s", p.GetDetail(), short(r.GetState()), r.GetDetail()), nil
	})
}

// strike makes the running application fail.
func (a *app) strike(all []living) error {
	if a.o.Break != nil {
		return a.o.Break(a.ctx)
	}
	if len(all) == 0 {
		return skipped("The application has no process here, and nothing was given that makes it fail.")
	}
	for _, p := range programs(all, programOf(a.o.Command)) {
		p.kill()
	}
	return nil
}

// pidReuse kills all that belongs to the application at once, so that nobody can put its end on record, and gives the
// pids to others.
func (k *kit) pidReuse() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.processes()
		if err != nil {
			return "", err
		}
		k.plugin.kill()
		freeze(all)
		for _, p := range all {
			p.kill()
		}
		for end := time.Now().Add(patience); len(lost(all)) < len(all) && time.Now().Before(end); time.Sleep(pause) {
		}
		if err := a.noProcess(calm); err != nil {
			return "", err
		}
		var taken []living
		for _, p := range programs(all, programOf(k.o.Command)) {
			end, err := k.seen.stranger(p.pid)
			if err != nil {
				return "", err
			}
			defer end()
			if other, ok := look(p.pid); ok {
				taken = append(taken, other)
			}
		}
		if err := k.launch(); err != nil {
			return "", err
		}
		return a.strangers(taken)
	})
}

func (a *app) strangers(taken []living) (string, error) {
	r, err := a.recover()
	if err != nil {
		return "", err
	}
	if r.GetState() == runRunning {
		return "", fmt.Errorf("another process has the pid of one that has ended (%s), and Recover says RUNNING: %s",
			list(taken), r.GetDetail())
	}
	if err := a.stop(); err != nil {
		return "", err
	}
	if err := a.kill(); err != nil {
		return "", err
	}
	if dead := lost(taken); len(dead) > 0 {
		return "", fmt.Errorf("it has killed a process that was none of its own: %s", list(dead))
	}
	return fmt.Sprintf("Recover says %s; %s lives.", short(r.GetState()), list(taken)), nil
}

func (k *kit) probeHang() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.processes()
		if err != nil {
			return "", err
		}
		frozen := programs(all, programOf(k.o.Command))
		freeze(frozen)
		defer func() {
			for _, p := range frozen {
				p.thaw()
			}
		}()
		answered := make(chan error, 1)
		var r *pluginv1.ProbeResponse
		go func() {
			var err error
			r, err = a.probe()
			answered <- err
		}()
		time.Sleep(pause)
		other := k.app()
		if err := other.workDir(); err != nil {
			return "", err
		}
		if _, err := other.recover(); err != nil {
			return "", errors.Join(fmt.Errorf("beside a probe of an application that hangs: %w", err), <-answered)
		}
		if err := <-answered; err != nil {
			return "", fmt.Errorf("the application hangs, and so does its probe: %w", err)
		}
		s, err := a.recover()
		if err != nil {
			return "", err
		}
		if s.GetState() == runStopped {
			return "", fmt.Errorf("the application hangs, and Recover says STOPPED: %s", s.GetDetail())
		}
		return fmt.Sprintf("Probe says %s: %s", short(r.GetHealth()), r.GetDetail()), nil
	})
}

// freeze stops processes as a debugger does, and waits until they stand still.
func freeze(all []living) {
	for _, p := range all {
		p.freeze()
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pause) {
		if !slices.ContainsFunc(all, func(p living) bool { return !p.still() }) {
			return
		}
	}
}

// hungStop is the deadline of a stop that has to kill.
const hungStop = 4 * time.Second

func (k *kit) stopHung() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.processes()
		if err != nil {
			return "", err
		}
		freeze(programs(all, programOf(k.o.Command)))
		begin := time.Now()
		if err := a.stopAs(a.caller(), hungStop); err != nil {
			return "", err
		}
		took := time.Since(begin)
		return fmt.Sprintf("STOPPED after %v of %v.", took.Round(10*time.Millisecond), hungStop), a.gone()
	})
}

func (k *kit) holdsNothing() (string, error) {
	return k.with(func(a *app) (string, error) {
		all, err := a.processes()
		if err != nil {
			return "", err
		}
		for _, p := range all {
			if fd := p.holds(k.log); fd != "" {
				return "", fmt.Errorf("%s holds the plugin's log as its descriptor %s", p.describe(), fd)
			}
			if fd := p.holds(k.plugin.run.read); fd != "" {
				return "", fmt.Errorf("%s holds the plugin's standard output as its descriptor %s: "+
					"when the core ends, it is killed by what it prints", p.describe(), fd)
			}
		}
		return fmt.Sprintf("Nothing in %d processes.", len(all)), nil
	})
}
