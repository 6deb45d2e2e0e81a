package sdk

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// Deadlines of calls that come with none. The core always sets one; these keep a call from a tool bounded too.
const (
	shortCall  = 10 * time.Second
	changeCall = 10 * time.Minute
)

// server speaks the protocol for one Plugin.
type server struct {
	pluginv1.UnimplementedPluginServiceServer
	plugin Plugin
	log    hclog.Logger
	gone   chan struct{} // closed when the core's last connection has ended

	mu    sync.Mutex
	slots map[[2]string]*slot
}

func newServer(p Plugin, log hclog.Logger) *server {
	return &server{plugin: p, log: log, gone: make(chan struct{}), slots: map[[2]string]*slot{}}
}

func (s *server) slot(a *pluginv1.Application) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{a.GetGroup(), a.GetName()}
	sl := s.slots[key]
	if sl == nil {
		sl = newSlot()
		s.slots[key] = sl
	}
	return sl
}

// close ends all background jobs, each in its own turn, and waits no longer than they may take.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		select {
		case <-sl.turn:
			sl.endJob()
			give(sl.turn)
		default: // an operation is under way and ends with the process
		}
	}
}

func (s *server) instance(a *pluginv1.Application, c *pluginv1.Caller) Instance {
	in := Instance{
		Group: a.GetGroup(), Name: a.GetName(), Config: a.GetConfig(), Drives: drives(a.GetDrives()), WorkDir: a.GetWorkDir(),
		Primary: a.GetPrimary(), Arrival: arrival(a.GetArrival()), LogFile: a.GetLogFile(),
		Caller: Caller{Server: c.GetServer(), BootID: c.GetBootId(), Epoch: c.GetEpoch(), OperationID: c.GetOperationId()},
		Log:    s.log.With("group", a.GetGroup(), "application", a.GetName()),
	}
	return in
}

// withAll adds what is said of all applications of the kind.
func (s *server) withAll(in Instance, all []*pluginv1.Application) Instance {
	for _, a := range all {
		in.All = append(in.All, s.instance(a, nil))
	}
	return in
}

func (s *server) application(in Instance) (Application, error) {
	app, err := guard(func() (any, error) { return s.plugin.New(in) })
	if err != nil {
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		return nil, &refusal{err}
	}
	if app == nil {
		return nil, status.Error(codes.Internal, "the plugin made no application: its New returned nil, and no error")
	}
	return app.(Application), nil
}

func (s *server) Info(context.Context, *pluginv1.InfoRequest) (*pluginv1.InfoResponse, error) {
	return &pluginv1.InfoResponse{
		Kind: s.plugin.Kind, Version: s.plugin.Version, Description: s.plugin.Description, Events: s.plugin.OnEvent != nil,
		Leases: s.plugin.Leases,
	}, nil
}

func (s *server) Schema(context.Context, *pluginv1.SchemaRequest) (*pluginv1.SchemaResponse, error) {
	return &pluginv1.SchemaResponse{Schema: s.plugin.Schema.proto()}, nil
}

func (s *server) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	ctx, cancel := bounded(ctx, shortCall)
	defer cancel()
	app, err := s.application(s.withAll(s.instance(r.GetApplication(), nil), r.GetAll()))
	var refused *refusal
	if errors.As(err, &refused) {
		return &pluginv1.ValidateResponse{Problems: problems([]Problem{refused.problem()})}, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := guard(func() (any, error) { return app.Validate(ctx), nil })
	if err != nil {
		return nil, err
	}
	return &pluginv1.ValidateResponse{Problems: problems(found.([]Problem))}, nil
}

func (s *server) Ready(ctx context.Context, r *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error) {
	ctx, cancel := bounded(ctx, shortCall)
	defer cancel()
	app, err := s.application(s.withAll(s.instance(r.GetApplication(), r.GetCaller()), r.GetAll()))
	if err != nil {
		return nil, err
	}
	found, err := guard(func() (any, error) { return app.Ready(ctx), nil })
	if err != nil {
		return nil, err
	}
	return &pluginv1.ReadyResponse{Problems: problems(found.([]Problem))}, nil
}

// change runs one operation that changes an application, or joins it.
func (s *server) change(ctx context.Context, v verb, a *pluginv1.Application, c *pluginv1.Caller, tell func(step) error,
	act func(context.Context, *operation, Application) (any, error),
) (any, error) {
	sl := s.slot(a)
	sl.mu.Lock()
	err := sl.epochs.admit(a.GetWorkDir(), c.GetEpoch(), v == verbKill)
	sl.mu.Unlock()
	if err != nil {
		return nil, err
	}
	in := s.instance(a, c)
	in.background, in.lease = sl.startJob, sl.currentLease
	app, err := s.application(in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx, changeCall)
	defer cancel()
	deadline, _ := ctx.Deadline()
	op := sl.begin(v, c.GetOperationId(), func(ctx context.Context, op *operation) (any, error) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if err := sl.overtaken(c.GetEpoch()); err != nil { // while it waited for its turn
			return nil, err
		}
		return act(ctx, op, app)
	})
	return op.follow(ctx, s.gone, tell)
}

func (s *server) Start(r *pluginv1.StartRequest, stream pluginv1.PluginService_StartServer) error {
	tell := func(st step) error {
		return stream.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Progress{
			Progress: &pluginv1.Progress{Step: st.name, Text: st.text},
		}})
	}
	got, err := s.change(stream.Context(), verbStart, r.GetApplication(), r.GetCaller(), tell,
		func(ctx context.Context, op *operation, app Application) (any, error) {
			return app.Start(ctx, handle(r.GetPrevious()), op.progress)
		})
	if err != nil {
		return asStatus(err)
	}
	h := got.(Handle)
	return stream.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Started{Started: protoHandle(&h)}})
}

func (s *server) Stop(ctx context.Context, r *pluginv1.StopRequest) (*pluginv1.StopResponse, error) {
	got, err := s.change(ctx, verbStop, r.GetApplication(), r.GetCaller(), ignoreStep,
		func(ctx context.Context, _ *operation, app Application) (any, error) {
			return app.Stop(ctx, handle(r.GetHandle())), nil
		})
	if err != nil {
		return nil, asStatus(err)
	}
	e := got.(Ended)
	return &pluginv1.StopResponse{State: runState(e.State), Detail: e.Detail}, nil
}

func (s *server) Kill(ctx context.Context, r *pluginv1.KillRequest) (*pluginv1.KillResponse, error) {
	got, err := s.change(ctx, verbKill, r.GetApplication(), r.GetCaller(), ignoreStep,
		func(ctx context.Context, _ *operation, app Application) (any, error) {
			return app.Kill(ctx, handle(r.GetHandle())), nil
		})
	if err != nil {
		return nil, asStatus(err)
	}
	e := got.(Ended)
	return &pluginv1.KillResponse{State: runState(e.State), Detail: e.Detail}, nil
}

func (s *server) Recover(ctx context.Context, r *pluginv1.RecoverRequest) (*pluginv1.RecoverResponse, error) {
	ctx, cancel := bounded(ctx, shortCall)
	defer cancel()
	app, err := s.application(s.instance(r.GetApplication(), r.GetCaller()))
	if err != nil {
		return nil, err
	}
	starting := s.slot(r.GetApplication()).starting()
	got, err := guard(func() (any, error) { return app.Recover(ctx, handle(r.GetHandle())), nil })
	if err != nil {
		return nil, err
	}
	f := got.(Recovered)
	if f.State == Stopped && starting { // its caller may have given it up; it has not ended, and may yet bring it up
		f.State, f.Detail = Unknown, "A start of it is under way. "+f.Detail
	}
	return &pluginv1.RecoverResponse{State: runState(f.State), Detail: f.Detail, Handle: protoHandle(f.Handle)}, nil
}

func (s *server) Probe(ctx context.Context, r *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error) {
	ctx, cancel := bounded(ctx, shortCall)
	defer cancel()
	app, err := s.application(s.instance(r.GetApplication(), r.GetCaller()))
	if err != nil {
		return nil, err
	}
	got, err := guard(func() (any, error) { return app.Probe(ctx, handle(r.GetHandle())), nil })
	if err != nil {
		return nil, err
	}
	p := got.(Probed)
	return &pluginv1.ProbeResponse{Health: health(p.Health), Detail: p.Detail, Finished: p.Finished,
		Ended: p.Ended && p.Health == Failed}, nil
}

func (s *server) Events(stream pluginv1.PluginService_EventsServer) error {
	if s.plugin.OnEvent == nil {
		return status.Error(codes.Unimplemented, "this plugin listens to no events")
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pluginv1.EventsResponse{})
		}
		if err != nil {
			return err
		}
		e := Event{Kind: r.GetKind(), Group: r.GetGroup(), Text: r.GetText(), Drives: drives(r.GetDrives()),
			Step: r.GetStep(), Event: r.GetEvent()}
		if _, err := guard(func() (any, error) { s.plugin.OnEvent(e); return nil, nil }); err != nil {
			return err
		}
	}
}

func bounded(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, most)
}

func ignoreStep(step) error { return nil }

func asStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, ErrInUse) {
		return status.Error(codes.AlreadyExists, err.Error())
	}
	return status.Error(codes.Aborted, err.Error())
}
