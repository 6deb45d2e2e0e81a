package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

const (
	maxSocketPath = 103 // bytes; the shortest limit among the systems that have unix sockets
	maxMessage    = 16 << 20
	drainTimeout  = 2 * time.Second // for answers under way when the agent ends
	pingInterval  = 10 * time.Second
	watchMin      = 100 * time.Millisecond // between two statuses of a watch
	watchMax      = time.Second            // after which ages are told anew, and a watcher knows that the agent lives
)

// Permission says who may use the control API besides root and the agent's own user.
type Permission struct {
	// Group is the name of a group of users who may look (Status, Watch, Events). Empty: nobody else may.
	Group string
}

// Serve answers operators on the unix socket at socketPath until ctx ends, and then removes it. The socket has mode
// 0660; for each call the kernel's word on who is asking decides (on Windows, who may open the socket's folder). It
// returns nil after ctx ended, ErrRefused (ORS-7003) when another agent answers there, and other errors with ORS-7005
// when the socket cannot be made. Handlers that do not end within two seconds of ctx's end are left behind.
func Serve(ctx context.Context, socketPath string, permitted Permission, b Backend, log hclog.Logger) error {
	gate, err := newGate(permitted)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, socketPath, gate)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	server := grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.UnaryInterceptor(gate.unary),
		grpc.StreamInterceptor(gate.stream),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingInterval / 2}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingInterval}),
	)
	controlv1.RegisterControlServiceServer(server, &service{backend: b, work: work, log: log})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Debug("control API is open", "socket", socketPath)
	select {
	case err = <-served:
		return fmt.Errorf("ORS-7005: control socket %s failed: %w", socketPath, err)
	case <-ctx.Done():
	}
	drained := make(chan struct{})
	go func() { server.GracefulStop(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
		server.Stop()
		<-drained
	}
	<-served
	return nil
}

// listen opens the socket, after a stale one was proved to be one.
func listen(ctx context.Context, path string, g *gate) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("ORS-7005: path of the control socket has %d bytes, wanted at most %d: %s",
			len(path), maxSocketPath, path)
	}
	fail := func(err error) (net.Listener, error) {
		return nil, fmt.Errorf("ORS-7005: control socket %s cannot be opened: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fail(err)
	}
	// Whoever connects before the mode is set is asked for his credentials all the same.
	if err := errors.Join(os.Chmod(path, 0o660), g.own(path)); err != nil {
		_, err = fail(err)
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket at which nobody answers. Any doubt is an error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ORS-7005: control socket %s cannot be opened: %w", path, err)
	}
	if !isSocket(info) {
		return fmt.Errorf("ORS-7005: %s is a %s, wanted a socket or nothing", path, info.Mode().Type())
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		err = errors.Join(fmt.Errorf("ORS-7003: %w: another agent answers at %s", ErrRefused, path), conn.Close())
	case nobodyListens(err):
		if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		err = fmt.Errorf("ORS-7005: stale control socket cannot be removed: %w", err)
	default:
		err = fmt.Errorf("ORS-7003: %w: whether another agent answers at %s is not known: %w", ErrRefused, path, err)
	}
	return err
}

// service turns calls into those of a Backend.
type service struct {
	controlv1.UnimplementedControlServiceServer
	backend Backend
	work    context.Context // ends with Serve
	log     hclog.Logger

	programs programs
}

// until returns a context that ends with the call or with Serve.
func (s *service) until(call context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(call)
	detach := context.AfterFunc(s.work, cancel)
	return ctx, func() { detach(); cancel() }
}

func (s *service) statusJSON(ctx context.Context) ([]byte, error) {
	st := s.backend.Status(ctx)
	st.Programs = s.programs.all()
	st.normalize()
	return json.Marshal(st)
}

func (s *service) Status(call context.Context, _ *controlv1.StatusRequest) (*controlv1.StatusResponse, error) {
	ctx, cancel := s.until(call)
	defer cancel()
	raw, err := s.statusJSON(ctx)
	return &controlv1.StatusResponse{StatusJson: raw}, toWire(err)
}

func (s *service) Watch(_ *controlv1.WatchRequest, out controlv1.ControlService_WatchServer) error {
	ctx, cancel := s.until(out.Context())
	defer cancel()
	changed, unsubscribe := s.backend.Subscribe()
	defer unsubscribe()
	for {
		raw, err := s.statusJSON(ctx)
		if err == nil {
			err = out.Send(&controlv1.WatchResponse{StatusJson: raw})
		}
		if err != nil {
			return toWire(err)
		}
		if !pause(ctx, nil, watchMin) || !pause(ctx, changed, watchMax-watchMin) {
			return toWire(s.ended(ctx))
		}
	}
}

// pause waits until early receives or d is over; false when ctx ends before.
func pause(ctx context.Context, early <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-early:
	case <-t.C:
	}
	return true
}

// ended says why a stream is over.
func (s *service) ended(ctx context.Context) error {
	if s.work.Err() != nil {
		return errAgentEnds
	}
	return ctx.Err()
}

func (s *service) Move(r *controlv1.MoveRequest, out controlv1.ControlService_MoveServer) error {
	req := MoveRequest{
		Groups: r.GetGroups(), To: r.GetTo(), Failback: r.GetFailback(), Reason: r.GetReason(),
		Force: r.GetForce(), By: peerOf(out.Context()),
	}
	gone := false
	err := s.backend.Move(s.work, req, func(p MoveProgress) {
		if gone {
			return
		}
		err := out.Send(&controlv1.MoveResponse{
			AtMs: p.At.Milliseconds(), Group: p.Group, Step: p.Step, Text: p.Text,
			Finished: p.Finished, Moved: p.Moved, Code: p.Code,
		})
		if gone = err != nil; gone {
			s.log.Info("operator left; the move goes on", "by", req.By, "error", err)
		}
	})
	return toWire(err)
}

func (s *service) Events(r *controlv1.EventsRequest, out controlv1.ControlService_EventsServer) error {
	ctx, cancel := s.until(out.Context())
	defer cancel()
	after := r.GetAfter()
	records, err := s.backend.Journal().Read(after, int(r.GetLast()))
	if err != nil {
		return toWire(err)
	}
	for _, rec := range records {
		if err := sendRecord(out, rec); err != nil {
			return toWire(err)
		}
		after = rec.Pos
	}
	if !r.GetFollow() {
		return nil
	}
	err = s.backend.Journal().Follow(ctx, after, func(rec record) error { return sendRecord(out, rec) })
	if ctx.Err() != nil {
		err = s.ended(ctx)
	}
	return toWire(err)
}

func sendRecord(out controlv1.ControlService_EventsServer, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return out.Send(&controlv1.EventsResponse{EventJson: raw})
}

func (s *service) Map(_ context.Context, r *controlv1.MapRequest) (*controlv1.MapResponse, error) {
	lines, err := s.backend.Map(s.work, r.GetDrive())
	return &controlv1.MapResponse{Lines: lines}, toWire(err)
}

func (s *service) Clear(_ context.Context, r *controlv1.ClearRequest) (*controlv1.ClearResponse, error) {
	text, err := s.backend.Clear(s.work, r.GetGroup())
	return &controlv1.ClearResponse{Text: text}, toWire(err)
}

func (s *service) Mode(call context.Context, r *controlv1.ModeRequest) (*controlv1.ModeResponse, error) {
	req := ModeRequest{Disabled: r.Disabled, Reason: r.GetReason(), By: peerOf(call)}
	if r.MaintenanceMs != nil {
		d := time.Duration(r.GetMaintenanceMs()) * time.Millisecond
		req.Maintenance = &d
	}
	text, err := s.backend.Mode(s.work, req)
	return &controlv1.ModeResponse{Text: text}, toWire(err)
}

func (s *service) Restart(_ context.Context, r *controlv1.RestartRequest) (*controlv1.RestartResponse, error) {
	text, err := s.backend.Restart(s.work, RestartRequest{
		Within: time.Duration(r.GetWithinMs()) * time.Millisecond, Reason: r.GetReason(), Program: r.GetProgram(),
	})
	return &controlv1.RestartResponse{Text: text}, toWire(err)
}

func (s *service) UpgradePlugin(_ context.Context, r *controlv1.UpgradePluginRequest) (
	*controlv1.UpgradePluginResponse, error) {
	text, err := s.backend.UpgradePlugin(s.work, r.GetKind())
	return &controlv1.UpgradePluginResponse{Text: text}, toWire(err)
}

func (s *service) Shutdown(r *controlv1.ShutdownRequest, out controlv1.ControlService_ShutdownServer) error {
	gone := false
	err := s.backend.Shutdown(s.work, r.GetReason(), func(text string) {
		gone = gone || out.Send(&controlv1.ShutdownResponse{Text: text}) != nil
	})
	return toWire(err)
}
