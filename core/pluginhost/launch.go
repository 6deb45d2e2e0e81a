package pluginhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"github.com/hashicorp/go-version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/peerpid"
	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// process is one run of a plugin.
type process struct {
	client  *plugin.Client
	conn    *grpc.ClientConn
	service pluginv1.PluginServiceClient
	run     *child
	program *candidate
	*description
	suspect chan struct{} // a call was not answered in time
	late    atomic.Int32  // calls in a row that were not answered in time
	reason  atomic.Pointer[string]

	calls   int // under way; guarded by the instance
	changes int // those of them that start or stop something
}

// launch starts a program that has been chosen and asks what it is. It takes at most limits.start, and leaves nothing
// running when it fails. A launch that was asked for does not count against the restart budget and is not shown: the
// program is only to say what it is, or does not serve yet.
func (in *instance) launch(ctx context.Context, c *candidate, asked bool) (*process, *Error) {
	ctx, cancel := context.WithTimeout(ctx, in.h.lim.start)
	defer cancel()
	if !asked {
		in.started()
	}
	p, err := in.spawn(ctx, c)
	if err != nil {
		return nil, err
	}
	err = in.introduce(ctx, p)
	if !asked && p.info != nil {
		in.says(p.info.GetVersion())
	}
	if err == nil && !c.stillThere() {
		err = &Error{Code: CodeStart, Kind: in.kind, What: c.path + " was replaced while it was being started",
			Next: "nothing: it is looked at again"}
	}
	if err != nil {
		p.kill("it is not the plugin that is wanted")
		p.end(0, in.h.lim.dead)
		return nil, err
	}
	in.h.remember(c.sum, p.description)
	return p, nil
}

// check finds the program that is to serve. One that was refused for what it has said of itself would say the same
// again.
func (in *instance) check(ctx context.Context) (*candidate, *Error) {
	c, err := in.h.choose(ctx, in.kind)
	in.mu.Lock()
	same, was := err == nil && c.same(in.last), in.err
	in.last = c
	in.mu.Unlock()
	if same && was != nil && (was.Code == CodeVersion || was.Code == CodeWrongKind) {
		return nil, was
	}
	return c, err
}

// spawn starts the program and connects to it.
func (in *instance) spawn(ctx context.Context, c *candidate) (*process, *Error) {
	logPath := in.h.logPath(in.kind, in.application)
	fail := func(what string, err error) *Error {
		return &Error{Code: CodeStart, Kind: in.kind, What: what, Next: in.next(), Err: err}
	}
	dir, err := in.h.socketDir()
	if err != nil {
		return nil, fail("there is no place for its socket", err)
	}
	log, err := openLog(logPath)
	if err != nil {
		return nil, fail("its log cannot be written", err)
	}
	defer log.Close() // the process has a descriptor of its own
	begin, _ := log.Seek(0, io.SeekEnd)
	run := newChild(c.path, log)
	p := &process{run: run, program: c, description: &description{}, suspect: make(chan struct{}, 1)}
	p.client = plugin.NewClient(in.clientConfig(dir, run))

	connected := make(chan error, 1)
	go func() { connected <- p.connect() }()
	select {
	case err = <-connected:
	case <-ctx.Done():
		run.kill()
		err = fmt.Errorf("no handshake within %v", in.h.lim.start)
		sleep(context.Background(), in.h.lim.dead, run.exited)
	}
	if err == nil {
		run.speaks()
		return p, nil
	}
	sleep(context.Background(), drain, run.exited) // who prints nothing has mostly ended
	ended := run.result()
	run.kill()
	p.end(0, in.h.lim.dead)
	what := "it did not start: " + handshake.Explain(err, ended)
	if tail := logTail(logPath, begin); tail != "" {
		what += "; it said: " + tail
	}
	return nil, fail(what, nil)
}

func (in *instance) clientConfig(socketDir string, run *child) *plugin.ClientConfig {
	c := &plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  handshake.ProtocolVersion,
			MagicCookieKey:   handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: clientSide{}}},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			run.cmd.Env = append(in.environment(), cmd.Env...)
			return run, nil
		},
		StartTimeout:     in.h.lim.start,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		Logger:           hclog.NewNullLogger(), // what matters of it is in our errors and in the plugin's log
		SyncStdout:       run.prints,
		SyncStderr:       run.prints,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: socketDir},
	}
	if in.h.o.Pins[in.kind].NoTLS {
		c.AutoMTLS = false
		c.TLSConfig = &tls.Config{} // unused; go-plugin dereferences it when a plugin sends a certificate unasked
		c.GRPCDialOptions = []grpc.DialOption{grpc.WithTransportCredentials(peerpid.Credentials(run.pid))}
	}
	return c
}

// environment is all that a plugin gets of the agent's environment: secrets of the agent are none of its business.
func (in *instance) environment() []string {
	env := []string{"ORS_SERVER=" + in.h.o.Server, "ORS_LOG_LEVEL=" + in.h.o.Log.GetLevel().String()}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env = append(env, "PATH="+path)
	for _, name := range append([]string{"LANG", "LC_ALL", "TZ"}, systemEnvironment...) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// connect starts the process and opens the connection. It returns when the process ends, at the latest.
func (p *process) connect() error {
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(handshake.PluginName)
	if err != nil {
		return err
	}
	p.conn = raw.(*grpc.ClientConn) // clientSide returns nothing else
	p.service = pluginv1.NewPluginServiceClient(p.conn)
	return nil
}

// introduce asks a plugin what it is and compares that with what is wanted.
func (in *instance) introduce(ctx context.Context, p *process) *Error {
	fail := func(code, what, next string, err error) *Error {
		return &Error{Code: code, Kind: in.kind, What: what, Next: next, Err: err}
	}
	const broken = "install a version of it that works"
	infoCtx, cancel := context.WithTimeout(ctx, infoDeadline)
	defer cancel()
	info, err := p.service.Info(infoCtx, &pluginv1.InfoRequest{})
	if err != nil {
		next := broken
		if strings.Contains(err.Error(), "does not look like a TLS handshake") {
			next = fmt.Sprintf("where it cannot speak TLS, write `tls = false` in its block `plugin %q`", in.kind)
		}
		return fail(CodeStart, "it did not say what it is", next, err)
	}
	p.info, p.protocol = info, p.client.NegotiatedVersion()
	if info.GetKind() != in.kind {
		return fail(CodeWrongKind, fmt.Sprintf("the program serves the kind %q", info.GetKind()),
			fmt.Sprintf("install the plugin for %q as %s", in.kind, in.h.program(in.kind)), nil)
	}
	if err := in.wanted(p); err != nil {
		return err
	}
	schemaCtx, cancelSchema := context.WithTimeout(ctx, infoDeadline)
	defer cancelSchema()
	schema, err := p.service.Schema(schemaCtx, &pluginv1.SchemaRequest{})
	if err != nil || schema.GetSchema() == nil {
		return fail(CodeStart, "it did not say what its configuration may hold", broken, err)
	}
	p.schema = schema.GetSchema()
	return nil
}

// wanted compares the version that a plugin says it is with its name and with what the configuration wants.
func (in *instance) wanted(p *process) *Error {
	pin := in.h.o.Pins[in.kind]
	if pin.Version == "" && p.program.claimed == nil {
		return nil
	}
	got, err := version.NewSemver(p.info.GetVersion())
	if err != nil {
		return &Error{Code: CodeVersion, Kind: in.kind,
			What: fmt.Sprintf("its version %q is none, and %q is wanted", p.info.GetVersion(), pin.Version),
			Next: "install a version of it that works", Err: err}
	}
	if c := p.program; c.claimed != nil && !c.claimed.Equal(got) {
		return otherVersion(in.kind, c.path, got)
	}
	return pin.fits(in.kind, got)
}

// ended says whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.run.exited:
		return true
	default:
		return false
	}
}

// kill ends the process at once. The first reason given is the one that is reported.
func (p *process) kill(why string) {
	p.reason.CompareAndSwap(nil, &why)
	p.run.kill()
}

// why says why the process ended.
func (p *process) why() string {
	if r := p.reason.Load(); r != nil {
		return *r + ", and was killed"
	}
	return "it ended: " + p.run.result()
}

// end closes the connection, waits for the process for at most grace, then kills it and waits for at most dead. A
// process that cannot even be killed sits in the kernel: it is left alone, and nobody waits for it.
func (p *process) end(grace, dead time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.client.Kill() // without a deadline of its own: ends when the process does
	}()
	if grace > 0 {
		sleep(context.Background(), grace, done)
	}
	p.run.kill()
	sleep(context.Background(), dead, done)
}

// healthy asks the plugin's health service, which every go-plugin server has. Any answer is a sign of life.
func (p *process) healthy(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx,
		&grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	code := status.Code(err)
	return code != codes.DeadlineExceeded && code != codes.Unavailable
}

// clientSide is the core's side of the plugin protocol.
type clientSide struct{ plugin.NetRPCUnsupportedPlugin }

func (clientSide) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the core serves no plugin")
}

func (clientSide) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// next is where to look when a plugin has failed.
func (in *instance) next() string {
	if in.h.o.Asked {
		return "`orscore plugin check` shows what the program does"
	}
	return "see " + in.h.logPath(in.kind, in.application)
}

// maxLog is how large a plugin's log may be when the plugin is launched; a larger one is moved aside first.
const maxLog = 8 << 20

func (h *Host) logPath(kind, application string) string {
	name := "plugin-" + kind
	if application != "" {
		name += "-" + strings.ReplaceAll(application, "/", "-")
	}
	return filepath.Join(h.o.LogDir, name+".log")
}

// openLog opens a log for appending. The plugin writes to it directly: a pipe to the core would kill or block the
// plugin as soon as the core is gone.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
}

// logTail returns the end of what was written to a log since begin, on one line.
func logTail(path string, begin int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 600
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end <= begin {
		return ""
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, max(begin, end-most), most))
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(raw), "?")), " ")
}
