package sdk

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/orscore/ors/plugins/sdk/handshake"
	"github.com/orscore/ors/plugins/sdk/supervise"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// firstConnection is how long a plugin waits for the core that started it.
const firstConnection = time.Minute

// Serve is the whole main of a plugin. It must be the first statement, returns never, and
//   - becomes a supervisor when the program was started as one (see package supervise);
//   - speaks the protocol on the socket that go-plugin makes, with the core's certificates;
//   - logs to standard error, which the core reads;
//   - ends the process, and touches no application, when the core is gone or asks for it, or at SIGTERM.
func Serve(p Plugin) {
	supervise.Main()
	if err := p.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	log := hclog.New(&hclog.LoggerOptions{
		Name: p.Kind, Level: hclog.LevelFromString(os.Getenv("ORS_LOG_LEVEL")), Output: os.Stderr, JSONFormat: true,
	})
	srv := newServer(p, log)
	watch := &connections{gone: srv.gone}
	go endWithCore(srv, watch, log)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  handshake.ProtocolVersion,
			MagicCookieKey:   handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{
			handshake.ProtocolVersion: {handshake.PluginName: &grpcPlugin{srv: srv}},
		},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.StatsHandler(watch))...)
		},
		Logger: log,
	})
	srv.close()
	os.Exit(0)
}

// endWithCore ends the process when the core's connection has ended, has never come, or SIGTERM asks for it. SIGHUP
// and SIGPIPE are taken, not ignored, so that they neither kill the plugin nor stay ignored in the programs it
// starts.
func endWithCore(srv *server, watch *connections, log hclog.Logger) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	first := time.After(firstConnection)
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGTERM {
				continue
			}
			log.Info("ending: asked to by SIGTERM; applications keep running")
		case <-first:
			if watch.seen() {
				continue
			}
			log.Error("ending: the core that started this plugin never connected")
		case <-srv.gone:
		}
		srv.close()
		os.Exit(0)
	}
}

// connections sees the core's connections come and go.
type connections struct {
	mu   sync.Mutex
	open int
	ever bool
	gone chan struct{}
}

func (c *connections) seen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ever
}

func (c *connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c *connections) HandleRPC(context.Context, stats.RPCStats)                         {}

func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		c.open++
		c.ever = true
	case *stats.ConnEnd:
		c.open--
		if c.open == 0 {
			select {
			case <-c.gone:
			default:
				close(c.gone)
			}
		}
	}
}

type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	srv *server
}

func (g *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterPluginServiceServer(s, g.srv)
	return nil
}

func (g *grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("sdk: the client side of the protocol belongs to the core")
}
