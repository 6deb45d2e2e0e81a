// Command ors-plugin-keeper is a plugin for ORS. It protects one program: it runs it in the foreground under the
// SDK's supervisor, so that it outlives this plugin and the agent. Begin here: change the schema, what starts it and
// what tells that it is well. `make check` says whether the contract is kept.
//
// It must never print: its standard output belongs to the plugin protocol.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/orscore/ors/plugins/sdk"
	"github.com/orscore/ors/plugins/sdk/environment"
	"github.com/orscore/ors/plugins/sdk/supervise"
)

func main() {
	sdk.Serve(sdk.Plugin{
		Kind: "keeper", Version: "0.1.0", Description: "Protects one program.",
		Schema: sdk.Schema{
			Description: "A program that stays in the foreground.",
			Attributes: []sdk.Attribute{
				{Name: "command", Type: "list(string)", Required: true, Description: "Program, with its path, and arguments."},
				{Name: "address", Type: "string", Default: `""`, Description: "HOST:PORT that takes connections while it is well."},
				{Name: "kill_after", Type: "string", Default: `"10s"`, Description: "From SIGTERM until it is killed."},
			},
		},
		New: func(in sdk.Instance) (sdk.Application, error) {
			a := &application{in: in}
			return a, in.Decode(&a.config)
		},
	})
}

// application serves one call; what must last is in the work folder.
type application struct {
	in     sdk.Instance
	config struct {
		Command   []string `json:"command"`
		Address   string   `json:"address"`
		KillAfter string   `json:"kill_after"`
	}
}

// folder keeps the supervisor's record. It is on this server, not on a drive that moves.
func (a *application) folder() string { return filepath.Join(a.in.WorkDir, "run") }

// log takes the program's output. The kit that checks plugins names no file, nor did older cores.
func (a *application) log() string {
	return cmp.Or(a.in.LogFile, filepath.Join(a.in.WorkDir, "output.log"))
}

func (a *application) Validate(context.Context) []sdk.Problem {
	var found []sdk.Problem
	if len(a.config.Command) == 0 || !filepath.IsAbs(a.config.Command[0]) {
		found = append(found, sdk.Problem{Attribute: "command", Summary: "the program is not named by an absolute path",
			Detail: `Such as ["/usr/sbin/sleepd", "-f"].`})
	}
	if _, _, err := net.SplitHostPort(a.config.Address); a.config.Address != "" && err != nil {
		found = append(found, sdk.Problem{Attribute: "address", Summary: err.Error(), Detail: `Such as "172.25.36.45:80".`})
	}
	if _, err := time.ParseDuration(a.config.KillAfter); err != nil {
		found = append(found, sdk.Problem{Attribute: "kill_after", Summary: err.Error(), Detail: `Such as "10s".`})
	}
	return found
}

func (a *application) Ready(context.Context) []sdk.Problem {
	if _, err := os.Stat(a.config.Command[0]); err != nil {
		return []sdk.Problem{{Attribute: "command", Summary: err.Error(), Detail: "Install the program on this server."}}
	}
	return nil
}

func (a *application) Start(ctx context.Context, known *sdk.Handle, progress sdk.Progress) (sdk.Handle, error) {
	if s := supervise.Look(a.folder(), run(known)); s.State == supervise.Running && s.Main {
		progress("running", "It runs already: "+s.Detail)
		return handle(s.Run)
	} else if s.State != supervise.Stopped && s.Run != nil { // left over, or not known: nothing may run beside a new one
		if s = s.Run.Kill(ctx); s.State != supervise.Stopped {
			return sdk.Handle{}, fmt.Errorf("something of an earlier run is left: %s", s.Detail)
		}
	}
	r, err := supervise.Start(ctx, supervise.Spec{
		Dir: a.folder(), Name: a.in.Group + "/" + a.in.Name, Argv: a.config.Command, Log: a.log(),
		Env:         append(environment.List(a.in.Environment().Variables()), "PATH="+os.Getenv("PATH")),
		LogMaxBytes: 10 << 20,
	}, progress)
	if err != nil {
		return sdk.Handle{}, err
	}
	for a.answers(ctx) != nil {
		if s := r.Status(); !s.Main || ctx.Err() != nil {
			s = r.Kill(context.WithoutCancel(ctx))
			return sdk.Handle{}, fmt.Errorf("it does not take connections at %s; %s", a.config.Address, s.Detail)
		}
		time.Sleep(50 * time.Millisecond)
	}
	progress("ready", "It is well.")
	return handle(r)
}

func (a *application) Recover(_ context.Context, known *sdk.Handle) sdk.Recovered {
	s := supervise.Look(a.folder(), run(known))
	out := sdk.Recovered{Detail: s.Detail}
	switch s.State {
	case supervise.Running:
		out.State = sdk.Running
		if h, err := handle(s.Run); err == nil {
			out.Handle = &h
		}
	case supervise.Stopped:
		out.State = sdk.Stopped
	}
	return out
}

func (a *application) Probe(ctx context.Context, known *sdk.Handle) sdk.Probed {
	s := supervise.Look(a.folder(), run(known))
	switch {
	case s.State == supervise.Unknown:
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: s.Detail}
	case !s.Main:
		return sdk.Probed{Health: sdk.Failed, Detail: s.Detail, Ended: s.State == supervise.Stopped}
	}
	switch err := a.answers(ctx); {
	case err == nil:
		return sdk.Probed{Health: sdk.Healthy, Detail: s.Detail}
	case errors.Is(err, syscall.ECONNREFUSED):
		return sdk.Probed{Health: sdk.Failed, Detail: "It does not take connections at " + a.config.Address + "."}
	default: // no answer in time, or no way to it, proves nothing
		return sdk.Probed{Health: sdk.HealthUnknown, Detail: "It is not known whether it answers: " + err.Error() + "."}
	}
}

func (a *application) Stop(ctx context.Context, known *sdk.Handle) sdk.Ended {
	after, err := time.ParseDuration(a.config.KillAfter)
	if err != nil {
		after = 0 // Validate has said so; what runs must be stopped all the same
	}
	return a.end(known, func(r *supervise.Run) supervise.Status {
		return r.Stop(ctx, supervise.StopHow{Signal: "SIGTERM", KillAfter: after})
	})
}

func (a *application) Kill(ctx context.Context, known *sdk.Handle) sdk.Ended {
	return a.end(known, func(r *supervise.Run) supervise.Status { return r.Kill(ctx) })
}

func (a *application) end(known *sdk.Handle, how func(*supervise.Run) supervise.Status) sdk.Ended {
	s := supervise.Look(a.folder(), run(known))
	if s.State != supervise.Stopped && s.Run != nil {
		s = how(s.Run)
	}
	switch s.State {
	case supervise.Stopped:
		return sdk.Ended{State: sdk.Stopped, Detail: s.Detail}
	case supervise.Running:
		return sdk.Ended{State: sdk.Running, Detail: s.Detail}
	}
	return sdk.Ended{State: sdk.Unknown, Detail: s.Detail}
}

// answers says why the address takes no connection; nil: it does. Without one, what lives is well.
func (a *application) answers(ctx context.Context) error {
	if a.config.Address == "" {
		return nil
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", a.config.Address)
	if err != nil {
		return err
	}
	return c.Close()
}

// handle and run turn a run into what the core keeps, and back. What cannot be read is as good as none: the work folder
// has the record, too.
func handle(r *supervise.Run) (sdk.Handle, error) {
	state, err := json.Marshal(r)
	return sdk.Handle{Version: 1, State: state}, err
}

func run(h *sdk.Handle) *supervise.Run {
	r := &supervise.Run{}
	if h == nil || h.Version != 1 || json.Unmarshal(h.State, r) != nil {
		return nil
	}
	return r
}
