package plugintest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/peerpid"
	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// What the contract gives a plugin (proto/ors/plugin/v1).
const (
	startUp     = 10 * time.Second // process, handshake, Info and Schema
	shortCall   = 5 * time.Second  // Info, Schema, Validate, Recover
	renewCall   = time.Second
	readyCall   = 10 * time.Second
	probeCall   = 5 * time.Second
	killCall    = 30 * time.Second
	endWithCore = 10 * time.Second // after the core has gone
	endWhenTold = 3 * time.Second
	drain       = 200 * time.Millisecond // for what a process that has ended has left in its pipe
)

// program is one run of the plugin, launched as the core does: in a session of its own, in the root folder, with the
// core's environment and certificates, and with a file for its standard error.
type program struct {
	client  *plugin.Client
	conn    *grpc.ClientConn
	service pluginv1.PluginServiceClient
	run     *child
	pid     int    // of the plugin itself, which something may have started for us
	line    string // the handshake
}

// launch starts the plugin.
func (k *kit) launch() error {
	p, err := k.spawn(k.o.Command)
	k.plugin = p
	return err
}

// socketDir is the folder that the plugin's socket has to be in: nobody else may enter it.
func (k *kit) socketDir() string { return filepath.Join(k.dir, "run") }

// spawn starts a plugin, directly or as the child of another program that is given it as its last arguments.
func (k *kit) spawn(command []string, below ...string) (*program, error) {
	begin := k.logged()
	command = slices.Concat(below, command)
	run := &child{cmd: exec.Command(command[0], command[1:]...), exited: make(chan struct{})}
	run.prints.rest = k.prints
	run.cmd.Dir = string(os.PathSeparator)
	run.cmd.Stderr = k.log
	ownSession(run.cmd)
	p := &program{run: run}
	config := &plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  handshake.ProtocolVersion,
			MagicCookieKey:   handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: clientOnly{}}},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			run.cmd.Env = append(environment(), cmd.Env...)
			return run, nil
		},
		StartTimeout:     startUp,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       k.prints,
		SyncStderr:       k.log,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: k.socketDir()},
	}
	if k.o.NoTLS {
		config.AutoMTLS = false
		config.TLSConfig = &tls.Config{} // unused; go-plugin dereferences it when a plugin sends a certificate unasked
		config.GRPCDialOptions = []grpc.DialOption{grpc.WithTransportCredentials(peerpid.Credentials(func() int {
			if len(below) > 0 {
				return k.seen.own(run.pid())
			}
			return run.pid()
		}))}
	}
	p.client = plugin.NewClient(config)
	connected := make(chan error, 1)
	go func() { connected <- p.connect() }()
	var err error
	select {
	case err = <-connected:
	case <-time.After(startUp + time.Second):
		run.kill()
		err = fmt.Errorf("no handshake within %v", startUp)
	}
	if pid := run.pid(); pid != 0 {
		p.pid = k.seen.own(pid)
	}
	p.line = run.prints.line.String()
	if err == nil {
		return p, nil
	}
	p.waitEnd(drain) // who prints nothing has mostly ended
	ended := run.result()
	p.end()
	return nil, fmt.Errorf("it did not start: %s%s", handshake.Explain(err, ended), k.said(begin))
}

// environment is all that a plugin gets from the core besides what go-plugin adds.
func environment() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env := []string{"ORS_SERVER=" + serverName, "ORS_LOG_LEVEL=info", "PATH=" + path}
	for _, name := range append([]string{"LANG", "LC_ALL", "TZ"}, systemEnvironment...) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (p *program) connect() error {
	rpc, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := rpc.Dispense(handshake.PluginName)
	if err != nil {
		return err
	}
	p.conn = raw.(connected).conn // clientOnly returns nothing else
	p.service = pluginv1.NewPluginServiceClient(p.conn)
	return nil
}

func (p *program) ended() bool {
	select {
	case <-p.run.exited:
		return true
	default:
		return false
	}
}

// waitEnd waits until the process that was started has ended.
func (p *program) waitEnd(most time.Duration) bool {
	select {
	case <-p.run.exited:
		return true
	case <-time.After(most):
		return p.ended()
	}
}

// kill ends the plugin as kill -9 does.
func (p *program) kill() {
	p.run.kill()
	p.end()
}

// end asks the plugin to end, kills it when it does not, and lets nothing of this side run on.
func (p *program) end() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.client.Kill()
	}()
	select {
	case <-done:
	case <-time.After(endWhenTold):
	}
	p.run.kill()
	select {
	case <-done:
	case <-time.After(endWhenTold): // it sits in the kernel
	}
}

// logged is the size of the plugin's log.
func (k *kit) logged() int64 {
	size, err := k.log.Seek(0, io.SeekEnd)
	if err != nil {
		return 0
	}
	return size
}

// said is the end of what the plugin has logged since, as a part of a sentence.
func (k *kit) said(begin int64) string {
	const most = 500
	from := max(begin, k.logged()-most)
	b := make([]byte, most)
	n, _ := k.log.ReadAt(b, from)
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(b[:n]), "?")), " ")
	if text == "" {
		return ""
	}
	return "; it said: " + text
}

// call makes one call with the time that the contract gives it. A plugin whose answer is late is killed, as the core
// does with one that hangs.
func call[Q, R any](k *kit, name string, within time.Duration,
	method func(context.Context, Q, ...grpc.CallOption) (R, error), request Q,
) (R, error) {
	ctx, cancel := context.WithTimeout(k.ctx, within)
	defer cancel()
	begin := k.logged()
	r, err := method(ctx, request)
	return r, k.explain(name, within, begin, err)
}

func (k *kit) explain(name string, within time.Duration, begin int64, err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.DeadlineExceeded:
		k.plugin.kill()
		return fmt.Errorf("%s was not answered within %v", name, within)
	case codes.Unavailable:
		if k.plugin.waitEnd(drain) {
			return fmt.Errorf("the plugin's process ended during %s: %s%s", name, k.plugin.run.result(), k.said(begin))
		}
	}
	return fmt.Errorf("%s failed: %w", name, err)
}

// child is the operating system's side of the plugin: go-plugin's runner.Runner. See core/pluginhost, whose way to run
// plugins this one has to keep to.
type child struct {
	cmd    *exec.Cmd
	prints printed
	exited chan struct{}

	mu      sync.Mutex
	started bool
	doomed  bool
	ended   string

	read *os.File
}

// Start implements runner.Runner.
func (c *child) Start(context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c.read = r
	c.cmd.Stdout = w
	err = c.cmd.Start()
	_ = w.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		_ = r.Close()
		close(c.exited)
		return err
	}
	c.started = true
	if c.doomed {
		_ = c.cmd.Process.Kill()
	}
	go c.reap()
	return nil
}

func (c *child) reap() {
	err := c.cmd.Wait()
	c.mu.Lock()
	c.ended = "exit status 0"
	if err != nil {
		c.ended = err.Error()
	}
	c.mu.Unlock()
	_ = c.read.SetReadDeadline(time.Now().Add(drain))
	close(c.exited)
}

func (c *child) result() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return 0
	}
	return c.cmd.Process.Pid
}

func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doomed = true
	if c.started {
		_ = c.cmd.Process.Kill()
	}
}

// Wait implements runner.Runner.
func (c *child) Wait(context.Context) error {
	<-c.exited
	return nil
}

// Kill implements runner.Runner.
func (c *child) Kill(context.Context) error {
	c.kill()
	return nil
}

// Stdout implements runner.Runner; all that is read is kept.
func (c *child) Stdout() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(c.read, &c.prints), c.read}
}

// printed takes standard output apart: the handshake, and what should not be there.
type printed struct {
	line   output
	rest   *output
	broken bool // the line has ended
}

// Write implements io.Writer.
func (p *printed) Write(b []byte) (int, error) {
	line, rest := b, []byte(nil)
	if i := bytes.IndexByte(b, '\n'); p.broken {
		line, rest = nil, b
	} else if i >= 0 {
		line, rest, p.broken = b[:i], b[i+1:], true
	}
	_, _ = p.line.Write(line)
	_, _ = p.rest.Write(rest)
	return len(b), nil
}

// Stderr implements runner.Runner: the process writes to its log.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(&bytes.Reader{}) }

// Name implements runner.Runner.
func (c *child) Name() string { return c.cmd.Path }

// ID implements runner.Runner.
func (c *child) ID() string { return strconv.Itoa(c.pid()) }

// Diagnose implements runner.Runner.
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// connected is a connection as clientOnly hands it out.
type connected struct {
	pluginv1.PluginServiceClient
	conn *grpc.ClientConn
}
