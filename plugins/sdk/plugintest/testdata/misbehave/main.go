// Command ors-plugin-misbehave is a plugin that keeps the contract, or breaks it in the one way that the name of its
// folder says: what the conformance kit is tested with. It speaks the protocol without package sdk, which would not let
// it misbehave.
//
// It must never be installed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/bootclock"
	"github.com/orscore/ors/plugins/sdk/supervise"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// fault is the one thing that this run does wrong.
var fault = filepath.Base(filepath.Dir(os.Args[0]))

func is(names ...string) bool {
	for _, n := range names {
		if fault == n {
			return true
		}
	}
	return false
}

func main() {
	supervise.Main()
	if is("greets") {
		_, _ = fmt.Fprintln(os.Stdout, "misbehave 1.0, ready to serve")
	}
	s := &server{apps: map[string]*app{}, gone: make(chan struct{})}
	if !is("outlives-core", "stops-when-it-ends") {
		go func() {
			<-s.gone
			os.Exit(0)
		}()
	}
	if is("trusts-everybody") {
		s.serveByHand()
	}
	s.serve()
}

type server struct {
	pluginv1.UnimplementedPluginServiceServer

	one  sync.Mutex // all calls, where the fault is to take one at a time
	gone chan struct{}

	mu       sync.Mutex
	apps     map[string]*app
	epoch    uint64 // of all applications, where the fault is to mix them up
	connects int
}

func (s *server) app(p *pluginv1.Application) *app {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[p.GetName()]
	if a == nil {
		a = &app{dir: p.GetWorkDir(), done: map[string]any{}, cut: func() {}}
		s.apps[p.GetName()] = a
	}
	return a
}

// Info implements the contract.
func (s *server) Info(context.Context, *pluginv1.InfoRequest) (*pluginv1.InfoResponse, error) {
	r := &pluginv1.InfoResponse{
		Kind: "misbehave", Version: "1.0.0", Description: "Keeps a program running, more or less.",
		Leases: !is("renews-unasked"),
	}
	if is("other-kind") {
		r.Kind = "behave"
	}
	return r, nil
}

// Schema implements the contract.
func (s *server) Schema(context.Context, *pluginv1.SchemaRequest) (*pluginv1.SchemaResponse, error) {
	command := &pluginv1.Attribute{
		Name: "command", Type: "list(string)", Default: `["sleep", "3600"]`, Description: "What to run.",
	}
	if is("bad-default") {
		command.Default = `{ sleep = 3600 }`
	}
	return &pluginv1.SchemaResponse{Schema: &pluginv1.Block{
		Attributes: []*pluginv1.Attribute{command}, Description: "A program.",
	}}, nil
}

// Validate implements the contract.
func (s *server) Validate(_ context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	problem := &pluginv1.Problem{Severity: pluginv1.Problem_SEVERITY_ERROR, Attribute: "command"}
	switch err := check(r.GetApplication().GetConfig()); {
	case err == nil && !is("refuses-good"), is("accepts-anything"):
		return &pluginv1.ValidateResponse{}, nil
	case err == nil:
		problem.Summary = "the command is not to my taste"
	case is("panics"):
		_, _ = fmt.Fprintf(os.Stderr, "panic: %v\n\ngoroutine 1 [running]:\n", err)
		problem.Summary = "it cannot be read"
	default:
		problem.Summary = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return &pluginv1.ValidateResponse{Problems: []*pluginv1.Problem{problem}}, nil
}

// Ready implements the contract.
func (s *server) Ready(_ context.Context, r *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error) {
	if _, err := os.Stat(r.GetApplication().GetDrives()[0].GetPath()); err != nil && is("wants-its-drive") {
		return &pluginv1.ReadyResponse{Problems: []*pluginv1.Problem{
			{Severity: pluginv1.Problem_SEVERITY_ERROR, Summary: "the drive is not there"},
		}}, nil
	}
	if is("finds-no-line") {
		return &pluginv1.ReadyResponse{Problems: []*pluginv1.Problem{
			{Severity: pluginv1.Problem_SEVERITY_WARNING, Attribute: "binary", Summary: "the binary is old"},
		}}, nil
	}
	return &pluginv1.ReadyResponse{}, nil
}

// Start implements the contract.
func (s *server) Start(r *pluginv1.StartRequest, stream grpc.ServerStreamingServer[pluginv1.StartResponse]) error {
	a := s.app(r.GetApplication())
	if err := s.admit(a, r.GetCaller()); err != nil {
		return err
	}
	tell := func() error {
		return stream.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Progress{
			Progress: &pluginv1.Progress{Step: "exec", Text: "Running the command."},
		}})
	}
	defer context.AfterFunc(stream.Context(), a.cutShort)()
	got, err := a.change("start", r.GetCaller().GetOperationId(), func(ctx context.Context) (any, error) {
		return a.start(ctx, r.GetApplication().GetConfig(), tell)
	})
	if err != nil || is("start-without-handle") {
		return err
	}
	h := got.(*pluginv1.Handle)
	return stream.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Started{Started: h}})
}

// Recover implements the contract.
func (s *server) Recover(_ context.Context, r *pluginv1.RecoverRequest) (*pluginv1.RecoverResponse, error) {
	if is("slow-recover") {
		time.Sleep(time.Minute)
	}
	a, h := s.app(r.GetApplication()), r.GetHandle()
	alive, detail := a.alive()
	state := pluginv1.RunState_RUN_STATE_STOPPED
	switch {
	case alive, is("recovers-nothing"):
		state = pluginv1.RunState_RUN_STATE_RUNNING
	}
	_, unmarked := os.Stat(filepath.Join(a.dir, "started"))
	switch {
	case is("forgets-without-handle") && h == nil,
		is("stopped-on-unknown-handle") && h.GetVersion() > 2,
		is("forgets-old-handles") && h.GetVersion() == 1,
		is("guesses-after-broken-start") && unmarked != nil:
		state = pluginv1.RunState_RUN_STATE_STOPPED
	}
	out := &pluginv1.RecoverResponse{State: state, Detail: said(detail)}
	if state == pluginv1.RunState_RUN_STATE_RUNNING {
		out.Handle = a.handle()
	}
	return out, nil
}

// Probe implements the contract.
func (s *server) Probe(_ context.Context, r *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error) {
	a := s.app(r.GetApplication())
	if is("one-at-a-time") {
		s.one.Lock()
		defer s.one.Unlock()
		time.Sleep(500 * time.Millisecond)
	}
	if is("writes-in-probe") {
		_ = os.MkdirAll(a.dir, 0o700)
		_ = os.WriteFile(filepath.Join(a.dir, "probed"), nil, 0o600)
	}
	for is("hangs-with-application") && a.frozen() {
		time.Sleep(10 * time.Millisecond)
	}
	if is("prints") {
		_, _ = fmt.Fprintln(os.Stdout, "probed")
	}
	alive, detail := a.alive()
	health := pluginv1.Health_HEALTH_FAILED
	if alive || is("ok-when-dead") && a.started() {
		health = pluginv1.Health_HEALTH_OK
	}
	return &pluginv1.ProbeResponse{Health: health, Detail: said(detail)}, nil
}

func said(detail string) string {
	if is("says-nothing") {
		return ""
	}
	return detail
}

// Stop implements the contract.
func (s *server) Stop(_ context.Context, r *pluginv1.StopRequest) (*pluginv1.StopResponse, error) {
	a := s.app(r.GetApplication())
	if err := s.admit(a, r.GetCaller()); err != nil {
		return nil, err
	}
	alive, _ := a.alive()
	switch {
	case is("stop-fails-when-stopped") && !a.started():
		return nil, status.Error(codes.NotFound, "it does not run")
	case is("stop-once") && !alive && a.started():
		return nil, status.Error(codes.NotFound, "it does not run")
	case is("stops-in-words"):
		return &pluginv1.StopResponse{State: pluginv1.RunState_RUN_STATE_STOPPED, Detail: "It was asked to."}, nil
	}
	_, err := a.change("stop", r.GetCaller().GetOperationId(), func(ctx context.Context) (any, error) {
		return nil, a.stop(ctx)
	})
	if err != nil {
		return nil, err
	}
	return &pluginv1.StopResponse{State: pluginv1.RunState_RUN_STATE_STOPPED, Detail: said("Nothing of it runs.")}, nil
}

// Kill implements the contract.
func (s *server) Kill(_ context.Context, r *pluginv1.KillRequest) (*pluginv1.KillResponse, error) {
	a := s.app(r.GetApplication())
	if err := s.admit(a, r.GetCaller()); err != nil {
		return nil, err
	}
	alive, _ := a.alive()
	if is("kill-once") && !alive && a.started() {
		return nil, status.Error(codes.NotFound, "it does not run")
	}
	if !is("starts-after-kill") {
		a.cutShort()
	}
	_, err := a.change("kill", r.GetCaller().GetOperationId(), func(context.Context) (any, error) {
		if is("kills-in-words") {
			return nil, nil
		}
		return nil, a.kill()
	})
	if err != nil {
		return nil, err
	}
	return &pluginv1.KillResponse{State: pluginv1.RunState_RUN_STATE_STOPPED, Detail: said("Nothing of it runs.")}, nil
}

// Renew implements the contract. A program has nothing to silence.
func (s *server) Renew(_ context.Context, r *pluginv1.RenewRequest) (*pluginv1.RenewResponse, error) {
	a := s.app(r.GetApplication())
	if err := s.admit(a, r.GetCaller()); err != nil {
		return nil, err
	}
	if is("slow-renewal") {
		time.Sleep(2 * time.Second)
	}
	until := time.Duration(r.GetUntilNs())
	switch {
	case is("lease-out-of-order"):
	case until != 0 && bootclock.Until(until) <= 0:
		return nil, status.Error(codes.FailedPrecondition, "the lease has ended")
	case !a.inOrder(r.GetCaller().GetBootId(), r.GetSequence()):
		return nil, status.Error(codes.FailedPrecondition, "the renewal is out of date")
	}
	return &pluginv1.RenewResponse{}, nil
}

// admit refuses an epoch that has passed.
func (s *server) admit(a *app, c *pluginv1.Caller) error {
	if is("any-epoch") {
		return nil
	}
	newest := a.newestEpoch()
	if is("one-epoch-for-all") {
		s.mu.Lock()
		newest = s.epoch
		s.epoch = max(s.epoch, c.GetEpoch())
		s.mu.Unlock()
	}
	if c.GetEpoch() < newest {
		return status.Errorf(codes.FailedPrecondition, "epoch %d is older than %d", c.GetEpoch(), newest)
	}
	return a.noteEpoch(c.GetEpoch())
}

var errGivenUp = errors.New("the start was given up")
