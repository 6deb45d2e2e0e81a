// Command plugin is a plugin whose name says how it misbehaves: ors-plugin-good, -garbage, -hang, -crash, -wrongkind
// … A call does what the application's configuration says. It speaks go-plugin directly, so that it can do what the
// SDK prevents. Its version is 1.2.3, or the text behind the last "version=" in its file.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func main() {
	kind, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(os.Args[0]), "ors-plugin-"), "_")
	switch kind {
	case "garbage":
		fmt.Println("hello, this is no handshake")
		select {}
	case "hang":
		select {}
	case "crash":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(3)
	}
	fmt.Fprintln(os.Stderr, "plugin", kind, "begins")
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  handshake.ProtocolVersion,
			MagicCookieKey:   handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: &side{kind: kind}}},
		GRPCServer:       plugin.DefaultGRPCServer,
	})
}

type side struct {
	plugin.NetRPCUnsupportedPlugin
	kind string
}

func (s *side) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	pluginv1.RegisterPluginServiceServer(g, &server{kind: s.kind})
	return nil
}

func (s *side) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("not the client")
}

type server struct {
	pluginv1.UnimplementedPluginServiceServer
	kind string
}

func (s *server) Info(context.Context, *pluginv1.InfoRequest) (*pluginv1.InfoResponse, error) {
	kind := s.kind
	switch s.kind {
	case "wrongkind":
		kind = "something"
	case "mute":
		select {} // not until ctx is done: an answer at the deadline can still reach the caller in time
	}
	return &pluginv1.InfoResponse{Kind: kind, Version: version(), Description: "A plugin for tests.",
		Events: s.kind == "listener" || s.kind == "deaf"}, nil
}

func (s *server) Events(stream pluginv1.PluginService_EventsServer) error {
	if s.kind == "deaf" {
		<-stream.Context().Done()
		return nil
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "told:", os.Getpid(), e.GetKind(), e.GetGroup(), e.GetText())
	}
}

func version() string {
	raw, err := os.ReadFile(os.Args[0])
	if err != nil {
		return err.Error()
	}
	if _, text, ok := strings.Cut(string(raw[len(raw)-64:]), "version="); ok {
		return text
	}
	return "1.2.3"
}

// spin keeps one processor busy and answers nothing any more: it is never interrupted, and who stops the world waits
// for it. That takes a runtime that does not interrupt loops, so the program executes itself with such a one first.
func spin() {
	go runtime.GC()
	for {
	}
}

func init() {
	const setting = "asyncpreemptoff=1"
	if !strings.HasPrefix(filepath.Base(os.Args[0]), "ors-plugin-spin") || os.Getenv("GODEBUG") == setting {
		return
	}
	fmt.Fprintln(os.Stderr, syscall.Exec(os.Args[0], os.Args, append(os.Environ(), "GODEBUG="+setting)))
	os.Exit(1)
}

func (s *server) Schema(context.Context, *pluginv1.SchemaRequest) (*pluginv1.SchemaResponse, error) {
	attributes := []*pluginv1.Attribute{{Name: "do", Type: "string"}}
	return &pluginv1.SchemaResponse{Schema: &pluginv1.Block{Attributes: attributes}}, nil
}

// orders is the configuration of an application.
type orders struct {
	Do   string `json:"do"`
	File string `json:"file"`
}

// obey does what the configuration says and returns what it has to say.
func obey(ctx context.Context, a *pluginv1.Application) string {
	var o orders
	if err := json.Unmarshal(a.GetConfig(), &o); err != nil {
		return ""
	}
	switch o.Do {
	case "hang": // beyond the deadline
		<-ctx.Done()
		time.Sleep(time.Second)
	case "hang once":
		if f, err := os.OpenFile(o.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			f.Close()
			<-ctx.Done()
		}
	case "spin":
		spin()
	case "environment":
		return strings.Join(os.Environ(), "\n")
	case "leave a child": // it keeps standard output and error open
		c := exec.Command("sleep", "60")
		c.Stdout, c.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
		if err := c.Start(); err != nil {
			return err.Error()
		}
		return fmt.Sprint(c.Process.Pid)
	case "print":
		fmt.Println("printed by the plugin")
	}
	return fmt.Sprint(os.Getpid())
}

func (s *server) Validate(_ context.Context, q *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	return &pluginv1.ValidateResponse{Problems: []*pluginv1.Problem{{Summary: q.GetApplication().GetName()}}}, nil
}

func (s *server) Ready(_ context.Context, q *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error) {
	c := q.GetCaller()
	return &pluginv1.ReadyResponse{Problems: []*pluginv1.Problem{{Summary: c.GetServer() + " " + c.GetBootId()}}}, nil
}

func (s *server) Start(q *pluginv1.StartRequest, out grpc.ServerStreamingServer[pluginv1.StartResponse]) error {
	progress := &pluginv1.Progress{Step: "exec", Text: "The program runs."}
	if err := out.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Progress{Progress: progress}}); err != nil {
		return err
	}
	pid := obey(out.Context(), q.GetApplication())
	if q.GetApplication().GetName() == "no handle" {
		return nil
	}
	handle := &pluginv1.Handle{Version: 1, State: []byte(pid)}
	return out.Send(&pluginv1.StartResponse{Event: &pluginv1.StartResponse_Started{Started: handle}})
}

func (s *server) Recover(context.Context, *pluginv1.RecoverRequest) (*pluginv1.RecoverResponse, error) {
	return &pluginv1.RecoverResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}

func (s *server) Probe(ctx context.Context, q *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error) {
	return &pluginv1.ProbeResponse{Health: pluginv1.Health_HEALTH_OK, Detail: obey(ctx, q.GetApplication())}, nil
}

func (s *server) Stop(context.Context, *pluginv1.StopRequest) (*pluginv1.StopResponse, error) {
	return &pluginv1.StopResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}

func (s *server) Kill(context.Context, *pluginv1.KillRequest) (*pluginv1.KillResponse, error) {
	return &pluginv1.KillResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}
