// Package plugintest runs a plugin as the core does, as a process of its own over go-plugin with mutual TLS, for the
// tests of plugins in any language. Conform, and `orscore plugin check`, put all promises of the contract to the test;
// Start is for tests of a plugin's own.
//
// It must never reach into a plugin other than through the protocol.
package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// endWithin bounds the wait for a plugin that was asked to end.
const endWithin = 5 * time.Second

// Process is a running plugin.
type Process struct {
	pluginv1.PluginServiceClient
	PID    int
	client *plugin.Client
	socket string // folder of its socket
}

// Start runs a plugin: a program and its arguments, so that a test may put something such as `ip netns exec` in
// front. Its environment is what the core gives it. Its logs are written to logs.
func Start(logs io.Writer, argv ...string) (*Process, error) {
	socket, err := os.MkdirTemp("", "ors")
	if err != nil {
		return nil, fmt.Errorf("folder for the plugin's socket: %w", err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(environment(), "PLUGIN_UNIX_SOCKET_DIR="+socket)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  handshake.ProtocolVersion,
			MagicCookieKey:   handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: clientOnly{}}},
		Cmd:              cmd,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		Stderr:           logs,
		Logger:           hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off}),
	})
	p := &Process{client: client, socket: socket}
	rpc, err := client.Client()
	if err == nil {
		p.PID = client.ReattachConfig().Pid
		var got any
		if got, err = rpc.Dispense(handshake.PluginName); err == nil {
			p.PluginServiceClient = got.(pluginv1.PluginServiceClient)
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("start plugin %s: %w", strings.Join(argv, " "), err), p.Close())
}

// Exited says whether the plugin's process has ended.
func (p *Process) Exited() bool { return p.client.Exited() }

// Close asks the plugin to end, and kills it when it does not.
func (p *Process) Close() error {
	var err error
	done := make(chan struct{})
	go func() { p.client.Kill(); close(done) }()
	select {
	case <-done:
	case <-time.After(endWithin):
		err = fmt.Errorf("plugin %d did not end within %v", p.PID, endWithin)
	}
	return errors.Join(err, os.RemoveAll(p.socket))
}

type clientOnly struct{ plugin.NetRPCUnsupportedPlugin }

func (clientOnly) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("plugintest serves no plugin")
}

func (clientOnly) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return connected{pluginv1.NewPluginServiceClient(c), c}, nil
}

// Started is how a start went.
type Started struct {
	Handle *pluginv1.Handle
	Steps  []string    // in their order
	Texts  []string    // one for each step
	At     []time.Time // when each step arrived
}

// StartApplication calls Start and follows it to its end.
func (p *Process) StartApplication(ctx context.Context, r *pluginv1.StartRequest) (Started, error) {
	var s Started
	stream, err := p.Start(ctx, r)
	if err != nil {
		return s, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && s.Handle != nil {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if pr := m.GetProgress(); pr != nil {
			s.Steps, s.Texts = append(s.Steps, pr.GetStep()), append(s.Texts, pr.GetText())
			s.At = append(s.At, time.Now())
		}
		if h := m.GetStarted(); h != nil {
			s.Handle = h
		}
	}
}

// Config fills body as the core does: every attribute of the schema is there, with its default or null, and every
// block is a list. Defaults are taken as JSON, which all literals of HCL but here-documents are.
func Config(schema *pluginv1.Block, body map[string]any) ([]byte, error) {
	filled, err := fill(schema, body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(filled)
}

func fill(schema *pluginv1.Block, body map[string]any) (map[string]any, error) {
	out, used := map[string]any{}, 0
	for _, a := range schema.GetAttributes() {
		v, ok := body[a.GetName()]
		if ok {
			used++
		} else if d := a.GetDefault(); d != "" {
			if err := json.Unmarshal([]byte(d), &v); err != nil {
				return nil, fmt.Errorf("default of %s: %w", a.GetName(), err)
			}
		} else if a.GetRequired() {
			return nil, fmt.Errorf("%s is required", a.GetName())
		}
		out[a.GetName()] = v
	}
	for _, b := range schema.GetBlocks() {
		list := []any{}
		inner, ok := body[b.GetName()].([]map[string]any)
		if ok {
			used++
		}
		for _, one := range inner {
			labels := map[string]any{}
			rest := map[string]any{}
			for k, v := range one {
				rest[k] = v
			}
			for _, l := range b.GetLabels() {
				labels[l] = rest[l]
				delete(rest, l)
			}
			v, err := fill(b.GetBlock(), rest)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.GetName(), err)
			}
			for k, l := range labels {
				v[k] = l
			}
			list = append(list, v)
		}
		out[b.GetName()] = list
	}
	if used != len(body) {
		return nil, fmt.Errorf("the schema does not know all of %v", body)
	}
	return out, nil
}
