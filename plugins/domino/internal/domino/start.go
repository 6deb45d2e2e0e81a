package domino

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/plugins/domino/internal/notesini"
	"github.com/orscore/ors/plugins/domino/internal/nrpc"
	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

const (
	firstPause   = 5 * time.Millisecond
	longestPause = 500 * time.Millisecond
	askTimeout   = 2 * time.Second // for one answer while a server comes up
	firstStep    = time.Second     // after so long without an answer, and then each time twice as much, a step says so
	longestStep  = 30 * time.Second
)

// Start implements sdk.Application: the port mapper and servers with addresses of their own at once, the servers
// that are mapped when their mapper answers.
func (a *application) Start(ctx context.Context, known *sdk.Handle, progress sdk.Progress) (sdk.Handle, error) {
	if !supported {
		return sdk.Handle{}, errUnsupported
	}
	began := time.Now()
	var mu sync.Mutex
	runs := map[string]*supervise.Run{}
	step := func(name, text string) {
		mu.Lock()
		defer mu.Unlock()
		progress(name, text)
	}
	var later, first []server
	for _, s := range a.servers {
		if a.isMapped(s) {
			later = append(later, s)
		} else {
			first = append(first, s)
		}
	}
	for _, phase := range [][]server{first, later} {
		err := each(phase, func(s server) error {
			run, err := a.startOne(ctx, s, a.look(s, known), step)
			mu.Lock()
			defer mu.Unlock()
			if run != nil {
				runs[slug(s.Name)] = run
			}
			return err
		})
		if err != nil {
			return sdk.Handle{}, a.undo(ctx, runs, err)
		}
	}
	step("ready", fmt.Sprintf("All servers of the application answer, %v after the start was asked for.", since(began)))
	return a.handle(runs)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// isMapped says whether another server of the application maps this one's port.
func (a *application) isMapped(s server) bool {
	for _, o := range a.servers {
		if o.Mapper && !s.Mapper && o.at.Addr() == s.at.Addr() {
			return true
		}
	}
	return false
}

// undo ends what a start that has failed has begun.
func (a *application) undo(ctx context.Context, runs map[string]*supervise.Run, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	for _, s := range a.servers {
		run := runs[slug(s.Name)]
		if run == nil {
			continue
		}
		if st := run.Kill(ctx); st.State != supervise.Stopped {
			err = fmt.Errorf("%w; and %s cannot be ended: %s", err, s.Name, st.Detail)
			continue
		}
		a.clearIPC(s)
		if ferr := supervise.Forget(a.superviseDir(s)); ferr != nil {
			a.in.Log.Warn("the record of a server that has ended stays", "server", s.Name, "error", ferr)
		}
	}
	return err
}

// startOne starts one server, unless it runs, and waits for its answer. The run is returned as soon as there is one,
// also with an error.
func (a *application) startOne(ctx context.Context, s server, st supervise.Status, step sdk.Progress,
) (*supervise.Run, error) {
	run := st.Run
	switch {
	case st.State == supervise.Unknown:
		return nil, fmt.Errorf("%s: cannot tell whether it runs already: %s", s.Name, st.Detail)
	case alive(st):
		step("running", s.Name+": "+st.Detail)
	case st.State == supervise.Running: // a start that was cut short
		kctx, cancel := context.WithTimeout(ctx, cleanUp)
		defer cancel()
		if end := st.Run.Kill(kctx); end.State != supervise.Stopped {
			return nil, fmt.Errorf("%s: an earlier start cannot be ended: %s", s.Name, end.Detail)
		}
		fallthrough
	default:
		var err error
		if run, err = a.exec(ctx, s, step); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return run, a.awaitAnswer(ctx, s, run, step)
}

// exec looks at everything that must be right, clears away what a dead server has left, and starts the program.
func (a *application) exec(ctx context.Context, s server, step sdk.Progress) (*supervise.Run, error) {
	u, err := s.lookupUser()
	if err != nil {
		return nil, err
	}
	if w, err := a.whoWorks(ctx, s, u.UID); err != nil {
		return nil, err
	} else if w != nil {
		return nil, fmt.Errorf("%v and was not started by ORS: end it first", w)
	}
	if err := free(s); err != nil {
		return nil, err
	}
	if err := a.prepareIni(s, step); err != nil {
		return nil, err
	}
	if err := a.clearLocks(s, step); err != nil {
		return nil, err
	}
	if said := a.clearIPC(s); said != "" {
		step("clean up", s.Name+": "+said)
	}
	l := a.launch(runtime.GOOS, s)
	run, err := supervise.Start(ctx, supervise.Spec{
		Dir: a.superviseDir(s), Name: a.in.Group + "/" + a.in.Name + "/" + slug(s.Name),
		Argv: l.argv, Env: environment(l, u), Cwd: l.dir, User: u, Log: a.logFile(s), LogMaxBytes: logMaxBytes,
	}, step)
	if err != nil {
		return nil, err
	}
	number := ""
	if s.Number != 0 {
		number = fmt.Sprintf(" as partition %d", s.Number)
	}
	step("exec", fmt.Sprintf("%s: process %d runs %s in %s%s, under user %s.", s.Name, run.Main.PID, l.argv[0], l.dir,
		number, u.Name))
	return run, nil
}

// prepareIni looks at notes.ini, and edits it where that was asked for. No server runs on it: the caller has looked. It
// is looked at as it will be, before it is written: a start that is refused leaves it as it was.
func (a *application) prepareIni(s server, step sdk.Progress) error {
	old, err := os.ReadFile(s.ini())
	if err != nil {
		return err
	}
	ini := notesini.Parse(old)
	var changed []string
	if a.config.EditIni {
		if err := s.iniStays(); err != nil {
			return fmt.Errorf("%s is left as it is: %w", s.ini(), err)
		}
		if changed, err = edit(ini, s, a.servers); err != nil {
			return fmt.Errorf("%s is left as it is: %w", s.ini(), err)
		}
	}
	found := inspect(ini, s, a.servers, a.pair, a.config.OnFailure, onDisk)
	if len(found.harm) > 0 {
		return errors.New(strings.Join(found.harm, "; "))
	}
	if len(changed) > 0 {
		if err := notesini.Save(s.ini(), old, ini); err != nil {
			return err
		}
		step("notes.ini", fmt.Sprintf("%s: %s was written; the former file is %s.", s.Name, strings.Join(changed, ", "),
			s.ini()+notesini.Backup))
	}
	for _, p := range found.all {
		if p.Severity == sdk.Error {
			step("notes.ini", p.Summary+". "+p.Detail)
		}
	}
	return nil
}

// iniStays refuses a notes.ini that is a link off the group's drives: the server's user may have made it, and root
// would write for him what he may not.
func (s server) iniStays() error {
	real, err := filepath.EvalSymlinks(s.ini())
	if err != nil {
		return err
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(s.ini()))
	if err != nil || real == filepath.Join(folder, filepath.Base(s.ini())) {
		return err
	}
	for _, d := range s.drives {
		if on, err := filepath.EvalSymlinks(d.Path); err == nil && strings.HasPrefix(real, on+"/") {
			return nil
		}
	}
	return fmt.Errorf("it is a link to %s, which is on no drive of the group", real)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// free says whether the server's address is here and its port is nobody's.
func free(s server) error {
	l, err := net.Listen("tcp", s.at.String())
	switch {
	case errors.Is(err, errNoSuchAddress):
		return fmt.Errorf("its address %s is not on this server: start it after the application that brings the address, "+
			"with `after`", s.at.Addr())
	case err != nil:
		return fmt.Errorf("its address is taken: %w", err)
	}
	return l.Close()
}

// staleLocks are the files by which a server says that it uses its data directory. They travel with the storage.
var staleLocks = []string{"~notes.lck", ".jsc_lock", "pid.nbf", "mq.nbf", "sem.nbf", "shm.nbf"}

// clearLocks removes what a server that was cut off has left in its data directory. That is only right because the
// group's storage is this server's, under the epoch of this call, and nothing works in the directory here.
func (a *application) clearLocks(s server, step sdk.Progress) error {
	drive := driveOf(s.drives, s.Data)
	if a.in.Caller.Epoch == 0 || drive == nil {
		return nil
	}
	var removed []string
	for _, name := range staleLocks {
		err := os.Remove(filepath.Join(s.Data, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("a lock of a server that is gone: %w", err)
		}
		removed = append(removed, name)
	}
	if len(removed) > 0 {
		step("locks", fmt.Sprintf("%s: left by a run that was cut off and removed: %s. Drive %s is this server's under "+
			"epoch %d, and no process works in %s.", s.Name, strings.Join(removed, ", "), drive.Letter, a.in.Caller.Epoch,
			s.Data))
	}
	return nil
}

// awaitAnswer waits until a server says who it is. What it does until then is reading its log and checking databases,
// which takes minutes for large ones: steps say how long it has been, and what its console shows.
func (a *application) awaitAnswer(ctx context.Context, s server, run *supervise.Run, step sdk.Progress) error {
	began := time.Now()
	told, next := began, firstStep
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if st := run.Status(); !alive(st) {
			return fmt.Errorf("%s has ended: %s Its console: %s", s.Name, st.Detail, lastWords(a.logFile(s), 5))
		}
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		got := a.ask(ask, s)
		cancel()
		switch got.state {
		case answersRight, answersUnnamed:
			step("consistency check", fmt.Sprintf("%s is open for clients after %v: %s", s.Name, since(began), got.text))
			return nil
		case answersWrong:
			return errors.New(got.text)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not answer within the time for the start, %v: %s Its console: %s", s.Name, since(began),
				got.text, lastWords(a.logFile(s), 3))
		}
		if time.Since(told) >= next {
			told, next = time.Now(), min(2*next, longestStep)
			step("consistency check", fmt.Sprintf("%s: %v so far. Its console: %s", s.Name, since(began),
				lastWords(a.logFile(s), 1)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// answer is what asking a server has shown.
type answer struct {
	state answerState
	text  string
}

type answerState int

const (
	answersNot     answerState = iota // surely nothing listens
	answersSilent                     // no answer, and that may be the network's doing, or that it is busy
	answersUnnamed                    // up, and not proven to be the right one
	answersRight
	answersWrong // surely another one
)

// ask asks a server who it is.
func (a *application) ask(ctx context.Context, s server) answer {
	at := s.at.String()
	if a.config.Probe == probeTCP {
		if err := nrpc.Connect(ctx, at); err != nil {
			return answer{unanswered(err), fmt.Sprintf("%s takes no connection at %s: %v.", s.Name, at, err)}
		}
		return answer{answersUnnamed, fmt.Sprintf("A connection to %s was made; which server it is was not asked.", at)}
	}
	name, err := nrpc.Ask(ctx, at)
	switch {
	case err == nil && name == "":
		return answer{answersUnnamed, fmt.Sprintf("At %s a Domino server answers that does not say its name: up, unverified.",
			at)}
	case err == nil && strings.EqualFold(name, s.Name):
		return answer{answersRight, fmt.Sprintf("%s answers at %s.", name, at)}
	case err == nil:
		return answer{answersWrong, fmt.Sprintf("at %s of %s another server answers: %s", at, s.Name, name)}
	case errors.Is(err, nrpc.ErrForeign):
		return answer{answersWrong, fmt.Sprintf("at %s of %s something else answers: %v", at, s.Name, err)}
	}
	return answer{unanswered(err), fmt.Sprintf("%s at %s: %v.", s.Name, at, err)}
}

// unanswered is what an error shows: that nothing listens only where the host has said so. A network that is out of
// order, a reset and a time-out say nothing of the server.
func unanswered(err error) answerState {
	if errors.Is(err, errRefused) {
		return answersNot
	}
	return answersSilent
}
