package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killShare    = 4 // at least one part in so many of the time for a stop is kept for the kill
	killMost     = 3 * time.Second
	pollShort    = 2 * time.Millisecond
	pollLong     = 50 * time.Millisecond
	emptyHandful = 300 * time.Millisecond // a supervisor with nothing below it for so long is stuck
)

// Look says what is known of the last run in dir, and of known, a run from a handle, which may be nil. Stopped is
// only said when nothing of either runs.
func Look(dir string, known *Run) Status {
	rec, err := Load(dir)
	if err != nil {
		return Status{State: Unknown, Run: known, Detail: err.Error()}
	}
	if rec == nil {
		rec, known = known, nil
	}
	if rec == nil {
		return Status{State: Stopped, Detail: "It was never started on this server."}
	}
	st := rec.Status()
	if known == nil || known.ID == rec.ID || st.State != Stopped {
		return st
	}
	if old := known.Status(); old.State != Stopped {
		return old
	}
	return st
}

// refresh takes over what the supervisor has recorded meanwhile.
func (r *Run) refresh() {
	if rec, err := Load(r.Dir); err == nil && rec != nil && rec.ID == r.ID {
		*r = *rec
	}
}

// Forget removes the record of the last run in dir. It is called when the run was stopped on purpose, so that its end
// is not taken for the result of a later one.
func Forget(dir string) error {
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record of the supervisor: %w", err)
	}
	return nil
}

// Status says what is known of this run now.
func (r *Run) Status() Status {
	boot, err := bootID()
	if err != nil {
		return Status{State: Unknown, Run: r, Detail: err.Error()}
	}
	r.refresh()
	st := Status{State: Stopped, Run: r}
	switch {
	case r.BootID == "":
		return Status{State: Unknown, Run: r, Detail: "The record of the run names no boot id."}
	case r.BootID != boot:
		st.Before, st.Detail = true, "The server was restarted since."
		return st
	case r.Ended:
		st.Detail = r.endDetail()
		return st
	}
	st.Supervised, err = r.Supervisor.alive()
	if err == nil {
		st.Main, err = r.Main.alive()
	}
	if err == nil && st.Main {
		st.State = Running
		st.Detail = r.detail(st)
		return st
	}
	var members []Identity
	if err == nil {
		members, err = r.family(false)
	}
	if err == nil && !st.Supervised && len(members) == 0 {
		// Without a supervisor a member that has just been born may be missed once, not twice.
		members, err = r.family(true)
	}
	if err != nil {
		return Status{State: Unknown, Run: r, Detail: err.Error()}
	}
	st.Others = len(members)
	if st.Supervised || len(members) > 0 {
		st.State = Running
	}
	main := r.Main
	r.refresh() // an exit may have come on record since
	if r.Main != main {
		return r.Status() // it was started meanwhile, and not looked at
	}
	for range 20 {
		if !st.Supervised || r.Main.PID == 0 || r.Exit != nil {
			break
		}
		time.Sleep(5 * time.Millisecond) // its supervisor is about to write down how it ended
		r.refresh()
	}
	st.Detail = r.detail(st)
	return st
}

func (r *Run) endDetail() string {
	if r.Exit == nil {
		return "Its command was never started, or nobody saw it end."
	}
	return fmt.Sprintf("Process %d %v at %s.", r.Main.PID, r.Exit, r.Exit.At.Format(time.TimeOnly))
}

func (r *Run) detail(st Status) string {
	var b strings.Builder
	switch {
	case st.Main:
		fmt.Fprintf(&b, "Process %d, started %s, is alive.", r.Main.PID, r.StartedAt.Format(time.DateTime))
	case r.Main.PID == 0 && st.State == Running:
		b.WriteString("It is being prepared.")
	default:
		b.WriteString(r.endDetail())
	}
	if st.Others > 0 && !st.Main {
		fmt.Fprintf(&b, " Other processes of it are alive: %d.", st.Others)
	}
	if st.State == Running && !st.Supervised {
		b.WriteString(" Its supervisor is gone.")
	}
	return b.String()
}

// Stop ends the run as how says, each phase within its time and all of them within the deadline of ctx, and returns
// what is known then.
func (r *Run) Stop(ctx context.Context, how StopHow) Status {
	st := r.Status()
	if st.State != Running {
		return st
	}
	if r.Main.PID == 0 && st.Others == 0 {
		return r.Kill(ctx) // there is nobody to ask, and its supervisor must not start the program any more
	}
	soft, cancel := context.WithDeadline(ctx, softEnd(ctx, time.Now()))
	defer cancel()
	if len(how.Command) > 0 {
		r.ask(soft, how)
	}
	if r.terminate(soft, how.Signal, how.KillAfter) {
		removeCgroup(r.group()) // its supervisor has, unless it was killed
		return r.Status()
	}
	return r.Kill(ctx)
}

// softEnd keeps time for the kill.
func softEnd(ctx context.Context, now time.Time) time.Time {
	end, ok := ctx.Deadline()
	if !ok {
		return now.Add(time.Hour)
	}
	return end.Add(-min(end.Sub(now)/killShare, killMost))
}

// ask runs the stop command and gives the application the rest of the time-out to end.
func (r *Run) ask(ctx context.Context, how StopHow) {
	ctx, cancel := context.WithTimeout(ctx, how.Timeout)
	defer cancel()
	cmd := Command{
		Argv: how.Command, Env: append(append([]string{}, how.Env...), MarkerEnv+"="+r.ID), Cwd: how.Cwd, User: how.User,
	}
	if _, err := cmd.Run(ctx); err == nil {
		r.waitEnd(ctx, func() {})
	}
}

// terminate signals the main process, and everything else of the run once that has ended: a shell that is told to end
// tells nobody. It says whether the run has ended.
func (r *Run) terminate(ctx context.Context, name string, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sig := unix.SignalNum(name)
	if sig == 0 {
		sig = unix.SIGTERM
	}
	asked := map[Identity]bool{}
	return r.waitEnd(ctx, func() {
		for _, id := range r.addressees() {
			if !asked[id] {
				asked[id] = true
				_ = id.signal(sig)
			}
		}
	})
}

// addressees are who is told to end now.
func (r *Run) addressees() []Identity {
	if alive, err := r.Main.alive(); err == nil && alive {
		return []Identity{r.Main}
	}
	members, _ := r.family(false)
	return members
}

// waitEnd waits until nothing of the run lives, and calls meanwhile again and again as long as something does. The end
// of the main process wakes it, and that of the supervisor, which comes right after the last one.
func (r *Run) waitEnd(ctx context.Context, meanwhile func()) bool {
	for pause := pollShort; ; pause = min(2*pause, pollLong) {
		if st := r.Status(); st.State == Stopped {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		meanwhile()
		fd, err := r.Main.open()
		if err != nil {
			fd, err = r.Supervisor.open()
		}
		if err == nil {
			pollEnd(ctx, fd)
			_ = unix.Close(fd)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pollEnd returns when the process has ended, ctx is done, or a short while has passed.
func pollEnd(ctx context.Context, fd int) {
	wait := 2 * pollLong
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end))
	}
	if ms := int(wait.Milliseconds()); ms > 0 {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
	}
}

// Kill ends everything of the run at once, and returns what is known at the end of it or of ctx. It goes on until the
// supervisor has seen the last process end, or, where the supervisor itself was killed, until nothing is found any
// more.
func (r *Run) Kill(ctx context.Context) Status {
	boot, err := bootID()
	if err != nil || boot != r.BootID {
		return r.Status()
	}
	var empty time.Time
	for pause := pollShort; ; pause = min(2*pause, pollLong) {
		r.refresh()
		killCgroup(r.group())
		members, err := r.family(true)
		for _, m := range members {
			if m.PID != os.Getpid() {
				_ = m.signal(unix.SIGKILL)
			}
		}
		if len(members) > 0 || err != nil {
			empty = time.Time{}
		} else if empty.IsZero() {
			empty = time.Now()
		} else if alive, aerr := r.Supervisor.alive(); aerr == nil && alive && time.Since(empty) > emptyHandful {
			_ = r.Supervisor.signal(unix.SIGKILL)
		}
		if len(members) == 0 && err == nil {
			if st := r.Status(); st.State == Stopped {
				removeCgroup(r.group())
				return st
			}
		}
		select {
		case <-ctx.Done():
			return r.Status()
		case <-time.After(pause):
		}
	}
}
