package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// The longest that a call may take when its context says nothing shorter (proto/ors/plugin/v1). Starting and stopping
// an application take what the configuration allows; their limits here only stop a caller that has forgotten to say.
const (
	infoDeadline     = 5 * time.Second
	validateDeadline = 5 * time.Second
	readyDeadline    = 10 * time.Second
	recoverDeadline  = 5 * time.Second
	probeDeadline    = 30 * time.Second
	killDeadline     = 30 * time.Second
	renewDeadline    = 5 * time.Second
	changeDeadline   = 24 * time.Hour
)

// request is what all calls about an application have.
type request interface {
	proto.Message
	GetApplication() *pluginv1.Application
}

// method is how one call is treated.
type method[Q, R any] struct {
	name     string
	deadline time.Duration
	call     func(pluginv1.PluginServiceClient, context.Context, Q, ...grpc.CallOption) (R, error)
	patient  bool // its deadline belongs to the application: lateness says little about the plugin
}

// Validate asks what the schema could not express about a configuration.
func (h *Host) Validate(ctx context.Context, kind string, q *pluginv1.ValidateRequest) (
	*pluginv1.ValidateResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.ValidateRequest, *pluginv1.ValidateResponse]{
		name: "Validate", deadline: validateDeadline, call: pluginv1.PluginServiceClient.Validate})
}

// Ready asks whether the application could be started on this server now.
func (h *Host) Ready(ctx context.Context, kind string, q *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.ReadyRequest, *pluginv1.ReadyResponse]{
		name: "Ready", deadline: readyDeadline, call: pluginv1.PluginServiceClient.Ready})
}

// Recover asks whether what a handle names still runs. An error says nothing about that: it is unknown.
func (h *Host) Recover(ctx context.Context, kind string, q *pluginv1.RecoverRequest) (
	*pluginv1.RecoverResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.RecoverRequest, *pluginv1.RecoverResponse]{
		name: "Recover", deadline: recoverDeadline, call: pluginv1.PluginServiceClient.Recover})
}

// Probe asks for the health of a running application. An error says nothing about that: it is unknown.
func (h *Host) Probe(ctx context.Context, kind string, q *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.ProbeRequest, *pluginv1.ProbeResponse]{
		name: "Probe", deadline: probeDeadline, call: pluginv1.PluginServiceClient.Probe})
}

// Stop ends the application. Only an answer with RUN_STATE_STOPPED says that nothing of it runs.
func (h *Host) Stop(ctx context.Context, kind string, q *pluginv1.StopRequest) (*pluginv1.StopResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.StopRequest, *pluginv1.StopResponse]{
		name: "Stop", deadline: changeDeadline, call: pluginv1.PluginServiceClient.Stop, patient: true})
}

// Kill ends the application at once. Only an answer with RUN_STATE_STOPPED says that nothing of it runs.
func (h *Host) Kill(ctx context.Context, kind string, q *pluginv1.KillRequest) (*pluginv1.KillResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.KillRequest, *pluginv1.KillResponse]{
		name: "Kill", deadline: killDeadline, call: pluginv1.PluginServiceClient.Kill})
}

// Renew lets a running application be heard for another while. It is repeated all the time, so that a late answer says
// nothing about the plugin.
func (h *Host) Renew(ctx context.Context, kind string, q *pluginv1.RenewRequest) (*pluginv1.RenewResponse, error) {
	return call(ctx, h, kind, q, method[*pluginv1.RenewRequest, *pluginv1.RenewResponse]{
		name: "Renew", deadline: renewDeadline, call: pluginv1.PluginServiceClient.Renew, patient: true})
}

// StartApplication starts the application and returns its handle; progress, which may be nil, is told of each step.
// An error says that the start has failed or was not seen to succeed: whether anything runs is for Recover to say.
func (h *Host) StartApplication(ctx context.Context, kind string, q *pluginv1.StartRequest,
	progress func(*pluginv1.Progress)) (*pluginv1.Handle, error) {
	return call(ctx, h, kind, q, method[*pluginv1.StartRequest, *pluginv1.Handle]{
		name: "Start", deadline: changeDeadline, patient: true,
		call: func(c pluginv1.PluginServiceClient, ctx context.Context, q *pluginv1.StartRequest, o ...grpc.CallOption) (
			*pluginv1.Handle, error) {
			stream, err := c.Start(ctx, q, o...)
			if err != nil {
				return nil, err
			}
			return receive(stream, progress)
		},
	})
}

func receive(stream grpc.ServerStreamingClient[pluginv1.StartResponse], progress func(*pluginv1.Progress)) (
	*pluginv1.Handle, error) {
	var handle *pluginv1.Handle
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && handle != nil:
			return handle, nil
		case errors.Is(err, io.EOF):
			return nil, status.Error(codes.DataLoss, "the start ended without a handle")
		case err != nil:
			return nil, err
		}
		if s := m.GetStarted(); s != nil {
			handle = s
		}
		if p := m.GetProgress(); p != nil && progress != nil {
			progress(p)
		}
	}
}

// call makes one call, bounded by ctx and by the method's own deadline. When the plugin's process ends during the
// call, the call is repeated once with the process that follows, except a start: after that Recover has to say what
// there is.
func call[Q request, R any](ctx context.Context, h *Host, kind string, q Q, m method[Q, R]) (R, error) {
	var none R
	application := ""
	if a := q.GetApplication(); a != nil {
		application = a.GetGroup() + "/" + a.GetName()
	}
	in, err := h.instance(kind, application)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.deadline)
	defer cancel()
	q = h.signed(q).(Q)
	for again := false; ; again = true {
		p, err := in.acquire(ctx, m.deadline == changeDeadline)
		if err != nil {
			return none, err
		}
		r, err := m.call(p.service, ctx, q)
		in.release(p, m.deadline == changeDeadline)
		if err == nil {
			p.late.Store(0)
			return r, nil
		}
		died := in.judge(ctx, p, err, m.patient)
		if died && !again && m.name != "Start" && ctx.Err() == nil {
			continue
		}
		return none, in.explain(p, m.name, err, died)
	}
}

// judge draws conclusions about the plugin from a failed call: it may be dead, or hang. It says whether the process
// has ended.
func (in *instance) judge(ctx context.Context, p *process, err error, patient bool) (died bool) {
	code := status.Code(err)
	switch {
	case code == codes.Unavailable:
		// The connection is gone, and so is the process, but the news of that may be some moments behind.
		sleep(ctx, drain, p.run.exited)
	case code == codes.DeadlineExceeded && !patient && p.late.Add(1) > 1:
		p.kill("it hung: two calls in a row were not answered in time")
	case code == codes.DeadlineExceeded:
	default:
		return p.ended()
	}
	if !p.ended() {
		select {
		case p.suspect <- struct{}{}:
		default:
		}
	}
	return p.ended()
}

func (in *instance) explain(p *process, name string, err error, died bool) error {
	next := in.next()
	switch {
	case died:
		what := fmt.Sprintf("its process ended during %s (%s)", name, p.why())
		return &Error{Code: CodeCall, Kind: in.kind, What: what, Next: next, Err: err}
	case status.Code(err) == codes.DeadlineExceeded:
		return &Error{Code: CodeHung, Kind: in.kind, What: name + " was not answered in time", Next: next, Err: err}
	}
	return &Error{Code: CodeCall, Kind: in.kind, What: name + " failed", Err: err}
}

// signed fills who calls into a request that does not say. The caller's message is left as it is.
func (h *Host) signed(q request) request {
	c, ok := q.(interface{ GetCaller() *pluginv1.Caller })
	if !ok || c.GetCaller().GetServer() != "" && c.GetCaller().GetBootId() != "" {
		return q
	}
	q = proto.Clone(q).(request)
	m := q.ProtoReflect()
	field := m.Descriptor().Fields().ByName("caller")
	caller := m.Mutable(field).Message().Interface().(*pluginv1.Caller)
	if caller.Server == "" {
		caller.Server = h.o.Server
	}
	if caller.BootId == "" {
		caller.BootId = h.o.BootID
	}
	return q
}
