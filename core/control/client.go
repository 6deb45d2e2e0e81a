package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/orscore/ors/core/store"
	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

const (
	connectTimeout = 5 * time.Second
	answerTimeout  = 10 * time.Second // for Status
	actTimeout     = 2 * time.Minute  // for Map and Clear
)

// Client asks one recovery agent. Its methods may be called from several goroutines. Their errors are those of the
// agent, ErrNotPermitted, ErrRefused, ErrNoAgent (ORS-7001, ORS-7004), or context.Canceled when ctx was cancelled. An
// agent that stops answering is noticed within half a minute, also in the middle of a stream.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	rpc    controlv1.ControlServiceClient
}

// Dial finds the agent that listens at socketPath. ErrNoAgent (ORS-7001) says that there is none, ErrNotPermitted
// (ORS-7002) that the socket is closed to this user.
func Dial(ctx context.Context, socketPath string) (*Client, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "unix", socketPath)
	}
	probe, err := dial(ctx, "")
	switch {
	case err == nil:
		err = probe.Close()
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("ORS-7002: %w: control socket %s is closed to this user", ErrNotPermitted, socketPath)
	case errors.Is(err, fs.ErrNotExist) || nobodyListens(err):
		return nil, fmt.Errorf("ORS-7001: %w at %s", ErrNoAgent, socketPath)
	}
	if err != nil {
		return nil, fmt.Errorf("ORS-7001: %w at %s: %w", ErrNoAgent, socketPath, err)
	}
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingInterval}),
	)
	if err != nil {
		return nil, fmt.Errorf("ORS-7001: %w at %s: %w", ErrNoAgent, socketPath, err)
	}
	return &Client{socket: socketPath, conn: conn, rpc: controlv1.NewControlServiceClient(conn)}, nil
}

// Close ends the connection; calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Status returns the pair as the agent sees it.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := c.rpc.Status(ctx, &controlv1.StatusRequest{})
	if err != nil {
		return Status{}, fromWire(ctx, c.socket, err)
	}
	return decode[Status](res.GetStatusJson())
}

// Watch calls fn with the status at once and whenever it changed, at most ten times and at least once a second, until
// ctx ends, fn returns an error, or the agent ends.
func (c *Client) Watch(ctx context.Context, fn func(Status) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := c.rpc.Watch(ctx, &controlv1.WatchRequest{})
	return each(ctx, c, in, err, func(m *controlv1.WatchResponse) error {
		st, err := decode[Status](m.GetStatusJson())
		if err != nil {
			return err
		}
		return fn(st)
	})
}

// Move asks for a planned move and calls fn for each step until it has ended. The move goes on when ctx ends or the
// client leaves.
func (c *Client) Move(ctx context.Context, r MoveRequest, fn func(MoveProgress)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := c.rpc.Move(ctx, &controlv1.MoveRequest{Groups: r.Groups, To: r.To, Failback: r.Failback, Reason: r.Reason,
		Force: r.Force})
	return each(ctx, c, in, err, func(m *controlv1.MoveResponse) error {
		fn(MoveProgress{
			At: time.Duration(m.GetAtMs()) * time.Millisecond, Group: m.GetGroup(), Step: m.GetStep(), Text: m.GetText(),
			Finished: m.GetFinished(), Moved: m.GetMoved(), Code: m.GetCode(),
		})
		return nil
	})
}

// EventsRequest says which records of the journal are wanted.
type EventsRequest struct {
	After  uint64 // position behind which to begin; 0: the oldest that is kept
	Last   int    // of the stored ones only the newest so many; 0: all
	Follow bool   // go on with new ones
}

// Events calls fn for each record, oldest first.
func (c *Client) Events(ctx context.Context, r EventsRequest, fn func(store.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := c.rpc.Events(ctx, &controlv1.EventsRequest{After: r.After, Last: uint32(max(0, r.Last)), Follow: r.Follow})
	return each(ctx, c, in, err, func(m *controlv1.EventsResponse) error {
		rec, err := decode[store.Record](m.GetEventJson())
		if err != nil {
			return err
		}
		return fn(rec)
	})
}

// Map writes the map file of one mounted drive ("E:"), or of all when drive is empty. It returns a line about each.
func (c *Client) Map(ctx context.Context, drive string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	res, err := c.rpc.Map(ctx, &controlv1.MapRequest{Drive: drive})
	return res.GetLines(), fromWire(ctx, c.socket, err)
}

// Clear lets a blocked or faulted group try again.
func (c *Client) Clear(ctx context.Context, group string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	res, err := c.rpc.Clear(ctx, &controlv1.ClearRequest{Group: group})
	return res.GetText(), fromWire(ctx, c.socket, err)
}

// Mode switches the mode of the pair and says how it is then.
func (c *Client) Mode(ctx context.Context, r ModeRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	req := &controlv1.ModeRequest{Disabled: r.Disabled, Reason: r.Reason}
	if r.Maintenance != nil {
		ms := r.Maintenance.Milliseconds()
		req.MaintenanceMs = &ms
	}
	res, err := c.rpc.Mode(ctx, req)
	return res.GetText(), fromWire(ctx, c.socket, err)
}

// Restart ends the agent for a restart, and says so.
func (c *Client) Restart(ctx context.Context, r RestartRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	res, err := c.rpc.Restart(ctx, &controlv1.RestartRequest{
		WithinMs: r.Within.Milliseconds(), Reason: r.Reason, Program: r.Program,
	})
	return res.GetText(), fromWire(ctx, c.socket, err)
}

// UpgradePlugin lets the newest program that fits serve a plugin's kind, and says what serves it now.
func (c *Client) UpgradePlugin(ctx context.Context, kind string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	res, err := c.rpc.UpgradePlugin(ctx, &controlv1.UpgradePluginRequest{Kind: kind})
	return res.GetText(), fromWire(ctx, c.socket, err)
}

// Shutdown ends the agent's server's part in an orderly way and calls tell with what it does.
func (c *Client) Shutdown(ctx context.Context, reason string, tell func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := c.rpc.Shutdown(ctx, &controlv1.ShutdownRequest{Reason: reason})
	return each(ctx, c, in, err, func(m *controlv1.ShutdownResponse) error {
		tell(m.GetText())
		return nil
	})
}

// each takes a stream's messages until it ends. The error of opening it is passed through.
func each[M any](ctx context.Context, c *Client, in grpc.ServerStreamingClient[M], err error, fn func(*M) error) error {
	if err != nil {
		return fromWire(ctx, c.socket, err)
	}
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromWire(ctx, c.socket, err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

func decode[T any](raw []byte) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("ORS-7006: the agent's answer cannot be read: %w", err)
	}
	return v, nil
}
