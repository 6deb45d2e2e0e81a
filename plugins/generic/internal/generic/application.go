package generic

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/environment"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

// handleVersion is the form of the handle: a supervise.Run as JSON.
const handleVersion = 1

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	mebibyte    = 1 << 20
	leftoverEnd = 10 * time.Second // for ending what an earlier run has left before the program is started again
	settlePause = 20 * time.Millisecond
	logLines    = 5 // of the program's last words in an error
)

// application implements sdk.Application for one program.
type application struct {
	in     sdk.Instance
	config config
}

func newApplication(in sdk.Instance) (sdk.Application, error) {
	a := &application{in: in}
	if err := in.Decode(&a.config); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *application) superviseDir() string { return filepath.Join(a.in.WorkDir, "supervisor") }

func (a *application) logFile() string {
	if path := cmp.Or(a.config.LogFile, a.in.LogFile); path != "" {
		return path
	}
	return filepath.Join(a.in.WorkDir, "output.log")
}

func (a *application) user() (*supervise.User, error) {
	if a.config.User == "" {
		return nil, nil
	}
	return supervise.LookupUser(a.config.User)
}

// environment is the whole environment of every command. The configuration has the last word.
func (a *application) environment(u *supervise.User) []string {
	env := a.in.Environment().Variables()
	env["PATH"], env["ORS_WORK_DIR"] = defaultPath, a.in.WorkDir
	if u != nil {
		env["USER"], env["LOGNAME"], env["HOME"] = u.Name, u.Name, u.Home
	}
	maps.Copy(env, a.config.Environment)
	return environment.List(env)
}

func (a *application) spec(u *supervise.User) supervise.Spec {
	s := supervise.Spec{
		Dir: a.superviseDir(), Name: a.in.Group + "/" + a.in.Name,
		Argv: slices.Clone(a.config.Command), Env: a.environment(u), Cwd: a.config.WorkingDirectory, User: u,
		Log: a.logFile(), LogMaxBytes: a.config.LogMaxMB * mebibyte,
	}
	a.limit(&s)
	if a.config.PassDrives {
		s.Argv = append(s.Argv, a.in.Environment().Letters()...)
	}
	if a.config.PassStatus {
		s.Argv = append(s.Argv, a.in.Environment().Parameters()...)
	}
	for _, b := range a.config.BeforeStart {
		s.Before = append(s.Before, supervise.Step{Argv: b.Command, Timeout: lasting(b.Timeout)})
	}
	return s
}

func (a *application) look(known *sdk.Handle) supervise.Status {
	if known == nil {
		return supervise.Look(a.superviseDir(), nil)
	}
	var run supervise.Run
	if known.Version != handleVersion || json.Unmarshal(known.State, &run) != nil {
		return supervise.Status{
			State:  supervise.Unknown,
			Detail: fmt.Sprintf("This plugin cannot read handles of version %d.", known.Version),
		}
	}
	return supervise.Look(a.superviseDir(), &run)
}

func handleOf(run *supervise.Run) (sdk.Handle, error) {
	b, err := json.Marshal(run)
	return sdk.Handle{Version: handleVersion, State: b}, err
}

// serving says whether the program does its work: its process lives, or has ended well and left others behind.
func (a *application) serving(st supervise.Status) bool {
	if st.State != supervise.Running {
		return false
	}
	return st.Main || st.Others > 0 && st.Run.Exit != nil && a.succeeded(st.Run.Exit)
}

func (a *application) succeeded(e *supervise.Exit) bool {
	return e.Signal == "" && slices.Contains(a.config.SuccessCodes, e.Code)
}

// finished says whether a batch run has ended well since the server was started. Its supervisor may be about to write
// down that it was the last process.
func (a *application) finished(st supervise.Status) bool {
	if a.config.Mode != modeBatch || st.Run == nil || st.Run.Exit == nil || !a.succeeded(st.Run.Exit) {
		return false
	}
	return st.State == supervise.Stopped && !st.Before ||
		st.State == supervise.Running && st.Supervised && !st.Main && st.Others == 0
}

// ending says that a batch run has ended, and how is about to be written down.
func (a *application) ending(st supervise.Status) bool {
	return a.config.Mode == modeBatch && st.State == supervise.Running && st.Supervised && !st.Main &&
		st.Run.Main.PID != 0 && st.Run.Exit == nil
}

// preparing says that a run has not come to its program yet.
func preparing(st supervise.Status) bool {
	return st.State == supervise.Running && st.Supervised && st.Run.Main.PID == 0
}

// settle waits while what a run has come to is about to be known: a prepare command of a start that was cut short is
// not ended half-way. One that has taken longer than it may is left over, as every other one.
func (a *application) settle(ctx context.Context, st supervise.Status, progress sdk.Progress,
) (supervise.Status, error) {
	if preparing(st) {
		progress("before", "An earlier start has begun to prepare it, and is awaited.")
	}
	late := time.After(a.prepareTime())
	for a.ending(st) || preparing(st) {
		select {
		case <-ctx.Done():
			err := fmt.Errorf("what an earlier start has come to is not known yet: %w", ctx.Err())
			if preparing(st) {
				err = abandon(ctx, st.Run, err)
			}
			return st, err
		case <-late:
			if preparing(st) {
				return st, nil
			}
		case <-time.After(settlePause):
		}
		st = st.Run.Status()
	}
	return st, nil
}

// prepareTime is how long an earlier start may take to come to the program.
func (a *application) prepareTime() time.Duration {
	most := leftoverEnd
	for _, b := range a.config.BeforeStart {
		most += lasting(b.Timeout)
	}
	return most
}

// abandon ends a run whose start has failed with err.
func abandon(ctx context.Context, run *supervise.Run, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftoverEnd)
	defer cancel()
	if end := run.Kill(ctx); end.State != supervise.Stopped {
		return fmt.Errorf("%w; and it cannot be ended: %s", err, end.Detail)
	}
	return err
}

// Start implements sdk.Application.
func (a *application) Start(ctx context.Context, known *sdk.Handle, progress sdk.Progress) (sdk.Handle, error) {
	began := time.Now()
	st, err := a.settle(ctx, a.look(known), progress)
	if err != nil {
		return sdk.Handle{}, err
	}
	if a.finished(st) { // what it has done holds until it is stopped
		progress("running", "It has been done, and was not stopped since: "+st.Detail)
		return handleOf(st.Run)
	}
	user, err := a.user()
	if err != nil {
		return sdk.Handle{}, err
	}
	run := st.Run
	if a.serving(st) {
		progress("running", st.Detail)
	} else if run, err = a.exec(ctx, st, user, progress); err != nil {
		return sdk.Handle{}, err
	}
	if err := a.awaitReady(ctx, run, user, progress); err != nil {
		return sdk.Handle{}, abandon(ctx, run, err)
	}
	progress("ready", fmt.Sprintf("Ready %d ms after the start was asked for.", time.Since(began).Milliseconds()))
	return handleOf(run)
}

// exec starts the program, after what an earlier run may have left is gone.
func (a *application) exec(ctx context.Context, st supervise.Status, u *supervise.User, progress sdk.Progress,
) (*supervise.Run, error) {
	began := time.Now()
	switch st.State {
	case supervise.Unknown:
		return nil, fmt.Errorf("cannot tell whether the program runs already: %s", st.Detail)
	case supervise.Running:
		progress("left over", st.Detail+" What is left is ended first.")
		kctx, cancel := context.WithTimeout(ctx, leftoverEnd)
		defer cancel()
		if end := st.Run.Kill(kctx); end.State != supervise.Stopped {
			return nil, fmt.Errorf("an earlier run cannot be ended: %s", end.Detail)
		}
	}
	run, err := supervise.Start(ctx, a.spec(u), progress)
	if err != nil {
		return nil, err
	}
	progress("exec", fmt.Sprintf("Process %d runs %s, %d ms after the start was asked for.",
		run.Main.PID, a.config.Command[0], time.Since(began).Milliseconds()))
	return run, nil
}

// ended describes a program that should be running, with its last words.
func (a *application) ended(st supervise.Status) error {
	text := "The program has ended. " + st.Detail
	if st.Run != nil && st.Run.Exit != nil {
		if meaning := a.config.ExitCodes[strconv.Itoa(st.Run.Exit.Code)]; meaning != "" && st.Run.Exit.Signal == "" {
			text += " Its exit code means: " + meaning + "."
		}
	}
	if words := lastWords(a.logFile()); words != "" {
		text += " Its last words in " + a.logFile() + ": " + words
	}
	return errors.New(text)
}

// lastWords returns the last lines of a log file, on one line.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 2048
	if fi, err := f.Stat(); err == nil && fi.Size() > most {
		_, _ = f.Seek(-most, 2)
	}
	b := make([]byte, most)
	n, _ := f.Read(b)
	lines := strings.Split(strings.TrimSpace(string(b[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], " | ")
}

// Recover implements sdk.Application. A batch run that has ended well counts as running until it is stopped: there is
// nothing to start again.
func (a *application) Recover(_ context.Context, known *sdk.Handle) sdk.Recovered {
	st := a.look(known)
	switch {
	case st.State == supervise.Stopped && a.finished(st), st.State == supervise.Running:
		h, err := handleOf(st.Run)
		if err != nil {
			return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
		}
		return sdk.Recovered{State: sdk.Running, Detail: st.Detail, Handle: &h}
	case st.State == supervise.Stopped:
		return sdk.Recovered{State: sdk.Stopped, Detail: st.Detail}
	}
	return sdk.Recovered{State: sdk.Unknown, Detail: st.Detail}
}

// Stop implements sdk.Application.
func (a *application) Stop(ctx context.Context, known *sdk.Handle) sdk.Ended {
	st := a.look(known)
	if st.State != supervise.Running {
		return a.end(st)
	}
	s := defaultStop
	if len(a.config.Stop) > 0 {
		s = a.config.Stop[0]
	}
	user, err := a.user()
	if err != nil && len(s.Command) > 0 {
		a.in.Log.Warn("the stop command is left out", "error", err)
		s.Command = nil
	}
	return a.end(st.Run.Stop(ctx, supervise.StopHow{
		Command: s.Command, Env: a.environment(user), Cwd: a.config.WorkingDirectory, User: user,
		Signal: s.Signal, Timeout: lasting(s.Timeout), KillAfter: lasting(s.KillAfter),
	}))
}

// Kill implements sdk.Application.
func (a *application) Kill(ctx context.Context, known *sdk.Handle) sdk.Ended {
	st := a.look(known)
	if st.State == supervise.Stopped || st.Run == nil {
		return a.end(st)
	}
	return a.end(st.Run.Kill(ctx))
}

// end makes the answer. The record of a run that was stopped on purpose is removed: the result of a batch run holds
// until then.
func (a *application) end(st supervise.Status) sdk.Ended {
	if st.State == supervise.Stopped {
		if err := supervise.Forget(a.superviseDir()); err != nil {
			a.in.Log.Warn("a later batch run may be taken for done", "error", err)
		}
	}
	state := map[supervise.State]sdk.RunState{
		supervise.Running: sdk.Running, supervise.Stopped: sdk.Stopped, supervise.Unknown: sdk.Unknown,
	}
	return sdk.Ended{State: state[st.State], Detail: st.Detail}
}
