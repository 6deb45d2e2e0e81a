package domino

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

// handleVersion is the form of the handle: a handleState as JSON.
const handleVersion = 1

// handleState are the runs of the servers by the names of their files.
type handleState struct {
	Runs map[string]*supervise.Run `json:"runs"`
}

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	logMaxBytes = 10 << 20
	cleanUp     = 20 * time.Second // for ending what a start that failed has begun
	mapperShare = 4                // of the time of a stop the fourth part is kept for port mappers
	askLongest  = 24 * time.Hour   // how long a server may take to end: the application's stop_timeout ends it before
)

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// look says what is known of a server's last run.
func (a *application) look(s server, known *sdk.Handle) supervise.Status {
	if known == nil {
		return supervise.Look(a.superviseDir(s), nil)
	}
	var h handleState
	if known.Version != handleVersion || json.Unmarshal(known.State, &h) != nil {
		return supervise.Status{
			State:  supervise.Unknown,
			Detail: fmt.Sprintf("This plugin cannot read handles of version %d.", known.Version),
		}
	}
	return supervise.Look(a.superviseDir(s), h.Runs[slug(s.Name)])
}

// alive says whether a server is there: its process, or others of it, as while Domino's fault recovery restarts it.
func alive(st supervise.Status) bool {
	return st.State == supervise.Running && (st.Main || st.Others > 0)
}

func (a *application) handle(runs map[string]*supervise.Run) (sdk.Handle, error) {
	b, err := json.Marshal(handleState{Runs: runs})
	return sdk.Handle{Version: handleVersion, State: b}, err
}

// environment is the whole environment of a server and of its stop command.
func environment(l launch, u *supervise.User) []string {
	env := map[string]string{"PATH": filepath.Dir(l.argv[0]) + ":" + defaultPath, "LANG": "C.UTF-8"}
	if u != nil {
		env["USER"], env["LOGNAME"], env["HOME"] = u.Name, u.Name, u.Home
	}
	maps.Copy(env, l.env)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

func (s server) lookupUser() (*supervise.User, error) {
	if s.User == "" {
		return nil, fmt.Errorf("no user is named for %s", s.Name)
	}
	return supervise.LookupUser(s.User)
}

// each does something for all servers at once, and returns the errors in their order.
func each(all []server, do func(server) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = do(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Recover implements sdk.Application. One server that runs makes the application run: what has become of the others
// is the probe's to say.
func (a *application) Recover(ctx context.Context, known *sdk.Handle) sdk.Recovered {
	runs := map[string]*supervise.Run{}
	var details []string
	state := sdk.Stopped
	states := map[string]supervise.Status{}
	for _, s := range a.servers {
		states[s.Name] = a.look(s, known)
	}
	byHand := a.byHand(ctx, states)
	for _, s := range a.servers {
		st := states[s.Name]
		details = append(details, s.Name+": "+st.Detail)
		if st.Run != nil {
			runs[slug(s.Name)] = st.Run
		}
		if said := byHand[s.Name]; said != "" {
			st.State = supervise.Unknown
			details = append(details, said)
		}
		if st.State == supervise.Running {
			state = sdk.Running
		} else if st.State == supervise.Unknown && state != sdk.Running {
			state = sdk.Unknown
		}
	}
	out := sdk.Recovered{State: state, Detail: strings.Join(details, " ")}
	if state == sdk.Running {
		h, err := a.handle(runs)
		if err != nil {
			return sdk.Recovered{State: sdk.Unknown, Detail: err.Error()}
		}
		out.Handle = &h
	}
	return out
}

// Stop implements sdk.Application: every server is asked by `server -q` and has the time of the call to end; the
// port mapper is the last, because the others are found through it until they have ended, and has a part of the time to
// itself, so that one that hangs does not have it killed.
func (a *application) Stop(ctx context.Context, known *sdk.Handle) sdk.Ended {
	first, last := a.mappedAndMappers()
	states := make(map[string]supervise.Status)
	var mu sync.Mutex
	mapped := ctx
	if end, ok := ctx.Deadline(); ok && len(last) > 0 {
		var cancel context.CancelFunc
		mapped, cancel = context.WithDeadline(ctx, end.Add(-time.Until(end)/mapperShare))
		defer cancel()
	}
	for _, phase := range []struct {
		ctx context.Context
		all []server
	}{{mapped, first}, {ctx, last}} {
		_ = each(phase.all, func(s server) error {
			st := a.stopOne(phase.ctx, s, a.look(s, known))
			mu.Lock()
			defer mu.Unlock()
			states[s.Name] = st
			return nil
		})
	}
	return a.end(ctx, states)
}

func (a *application) stopOne(ctx context.Context, s server, st supervise.Status) supervise.Status {
	if st.State != supervise.Running {
		return st
	}
	how := supervise.StopHow{Signal: "SIGTERM", Timeout: askLongest, KillAfter: cleanUp}
	u, err := s.lookupUser()
	if err != nil {
		a.in.Log.Warn("the server is not asked to end", "server", s.Name, "error", err)
	} else {
		q := a.quit(runtime.GOOS, s)
		how.Command, how.Cwd, how.User, how.Env = q.argv, q.dir, u, environment(q, u)
	}
	return st.Run.Stop(ctx, how)
}

// Kill implements sdk.Application.
func (a *application) Kill(ctx context.Context, known *sdk.Handle) sdk.Ended {
	states := make(map[string]supervise.Status)
	var mu sync.Mutex
	_ = each(a.servers, func(s server) error {
		st := a.look(s, known)
		if st.State != supervise.Stopped && st.Run != nil {
			st = st.Run.Kill(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		states[s.Name] = st
		return nil
	})
	return a.end(ctx, states)
}

// end makes the answer, and clears away what servers that are surely gone have left in this system. What they have
// left in their data directories stays for the next start: the storage may not be ours any more.
func (a *application) end(ctx context.Context, states map[string]supervise.Status) sdk.Ended {
	out := sdk.Ended{State: sdk.Stopped}
	var details []string
	byHand := a.byHand(context.WithoutCancel(ctx), states) // servers that had to be killed have used up the time
	for _, s := range a.servers {
		st := states[s.Name]
		detail := s.Name + ": " + st.Detail
		if said := byHand[s.Name]; said != "" {
			st.State = supervise.Unknown
			detail += " " + said
		}
		switch st.State {
		case supervise.Running:
			out.State = sdk.Running
		case supervise.Unknown:
			if out.State == sdk.Stopped {
				out.State = sdk.Unknown
			}
		case supervise.Stopped:
			if said := a.clearIPC(s); said != "" {
				detail += " " + said
			}
			if err := supervise.Forget(a.superviseDir(s)); err != nil {
				a.in.Log.Warn("the record of a server that has ended stays", "server", s.Name, "error", err)
			}
		}
		details = append(details, detail)
	}
	out.Detail = strings.Join(details, " ")
	return out
}

// byHand says by the names of servers that ORS knows to have ended why they do not count as stopped: a process works in
// the data directory, as when an administrator has started one again, or it cannot be told whether one does.
func (a *application) byHand(ctx context.Context, states map[string]supervise.Status) map[string]string {
	said := make(map[string]string)
	var mu sync.Mutex
	_ = each(a.servers, func(s server) error {
		if !supported || states[s.Name].State != supervise.Stopped {
			return nil
		}
		uid := uint32(0) // not known
		if u, err := s.lookupUser(); err == nil {
			uid = u.UID
		}
		w, err := a.whoWorks(ctx, s, uid)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			said[s.Name] = "But " + err.Error() + "."
		case w != nil:
			said[s.Name] = fmt.Sprintf("But %v and was not started by ORS: end it.", w)
		}
		return nil
	})
	return said
}

// clearIPC removes shared memory, semaphores and queues of a server's user, and says so. They are told apart by the
// user alone, so nothing is touched while any process of that user lives.
func (a *application) clearIPC(s server) string {
	u, err := s.lookupUser()
	if err != nil || u.UID == 0 {
		return ""
	}
	n, err := removeIPC(u.UID)
	switch {
	case err != nil:
		return "What it has left in shared memory stays: " + err.Error() + "."
	case n > 0:
		return fmt.Sprintf("%d pieces of its shared memory, semaphores and queues were removed.", n)
	}
	return ""
}

// mappedAndMappers splits the servers: port mappers are started before those they map, and stopped after them.
func (a *application) mappedAndMappers() (mapped, mappers []server) {
	for _, s := range a.servers {
		if s.Mapper {
			mappers = append(mappers, s)
		} else {
			mapped = append(mapped, s)
		}
	}
	return mapped, mappers
}

// lastWords returns the last lines of a server's console, on one line.
func lastWords(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const most = 2048
	if fi, err := f.Stat(); err == nil && fi.Size() > most {
		_, _ = f.Seek(-most, 2)
	}
	b := make([]byte, most)
	n, _ := f.Read(b)
	all := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(b[:n]), "?")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], " | ")
}
