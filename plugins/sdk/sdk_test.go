package sdk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an Application made of functions; one that is nil must not be called.
type script struct {
	in    Instance
	start func(ctx context.Context, in Instance, p Progress) (Handle, error)
	stop  func(ctx context.Context) Ended
	kill  func(ctx context.Context) Ended
	probe func() Probed
	renew func(Lease)
}

func (s *script) Validate(context.Context) []Problem { return s.siblings() }
func (s *script) Ready(context.Context) []Problem {
	return append([]Problem{
		{Summary: "an error"}, {Severity: Warning, Attribute: "a[0].b", Summary: "a warning", Detail: "d"},
	}, s.siblings()...)
}

// siblings says which applications of its kind it was told of.
func (s *script) siblings() []Problem {
	var out []Problem
	for _, o := range s.in.All {
		out = append(out, Problem{Attribute: "all", Summary: fmt.Sprintf("%s/%s %s %s %d",
			o.Group, o.Name, o.Primary, o.Config, len(o.Drives))})
	}
	return out
}
func (s *script) Start(ctx context.Context, _ *Handle, p Progress) (Handle, error) {
	return s.start(ctx, s.in, p)
}
func (s *script) Recover(context.Context, *Handle) Recovered { return Recovered{} }
func (s *script) Probe(context.Context, *Handle) Probed      { return s.probe() }
func (s *script) Stop(ctx context.Context, _ *Handle) Ended  { return s.stop(ctx) }
func (s *script) Kill(ctx context.Context, _ *Handle) Ended  { return s.kill(ctx) }
func (s *script) Renew(_ context.Context, _ *Handle, l Lease) (string, error) {
	s.renew(l)
	return "", nil
}

// serve runs the protocol for one script over a connection in memory.
func serve(t *testing.T, s script, events func(Event)) (pluginv1.PluginServiceClient, *server) {
	t.Helper()
	srv := newServer(Plugin{
		Kind: "script", Version: "1.0.0", Schema: Schema{}, OnEvent: events, Leases: true,
		New: func(in Instance) (Application, error) {
			app := s
			app.in = in
			switch string(in.Config) {
			case "bad":
				return nil, errors.New("not JSON")
			case "none":
				return nil, nil
			}
			return &app, nil
		},
	}, hclog.NewNullLogger())
	listener := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	pluginv1.RegisterPluginServiceServer(g, srv)
	go func() { _ = g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:script", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		srv.close()
	})
	return pluginv1.NewPluginServiceClient(conn), srv
}

func bound(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until waits for what happens in another goroutine.
func until(t *testing.T, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !happened(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Error("it has not happened in time")
			return
		}
	}
}

func caller(epoch uint64, id string) *pluginv1.Caller {
	return &pluginv1.Caller{Server: "apollo", BootId: "b", Epoch: epoch, OperationId: id}
}

func finish(stream pluginv1.PluginService_StartClient, err error) ([]string, error) {
	var steps []string
	for err == nil {
		var m *pluginv1.StartResponse
		if m, err = stream.Recv(); err == nil {
			if m.GetStarted() != nil {
				return steps, nil
			}
			steps = append(steps, m.GetProgress().GetStep())
		}
	}
	return steps, err
}

func TestOneOperationActsOnce(t *testing.T) {
	var acts atomic.Int32
	under, release := make(chan struct{}), make(chan struct{})
	c, _ := serve(t, script{start: func(_ context.Context, _ Instance, p Progress) (Handle, error) {
		acts.Add(1)
		p("first", "")
		close(under)
		<-release
		p("second", "")
		return Handle{Version: 1, State: []byte("x")}, nil
	}}, nil)
	ctx := bound(t)
	app := &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	req := &pluginv1.StartRequest{Caller: caller(1, "one"), Application: app}
	results := make(chan string, 3)
	ask := func() {
		steps, err := finish(c.Start(ctx, req))
		results <- strings.Join(steps, " ") + " " + status.Code(err).String()
	}
	go ask()
	<-under
	go ask()
	close(release)
	for range 2 {
		if got := <-results; got != "first second OK" {
			t.Errorf("one of the two saw %q", got)
		}
	}
	ask() // a late repeat asks whether it happened
	if got := <-results; got != "first second OK" || acts.Load() != 1 {
		t.Errorf("a late repeat saw %q, %d acts", got, acts.Load())
	}
}

func TestOperationsOfOneApplicationTakeTurns(t *testing.T) {
	var at atomic.Int32
	body := func(context.Context, Instance, Progress) (Handle, error) {
		if at.Add(1) != 1 {
			t.Error("two at a time")
		}
		time.Sleep(time.Millisecond)
		at.Add(-1)
		return Handle{Version: 1}, nil
	}
	c, _ := serve(t, script{start: body}, nil)
	ctx, dir := bound(t), t.TempDir()
	done := make(chan error, 8)
	for i := range cap(done) {
		go func() {
			_, err := finish(c.Start(ctx, &pluginv1.StartRequest{
				Caller: caller(1, string(rune('a'+i))), Application: &pluginv1.Application{Name: "a", WorkDir: dir},
			}))
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestKillCutsAStartShortAndEndsTheBackground(t *testing.T) {
	under, jobEnded := make(chan struct{}), make(chan struct{})
	c, _ := serve(t, script{
		start: func(ctx context.Context, in Instance, _ Progress) (Handle, error) {
			in.Background(func(ctx context.Context) {
				<-ctx.Done()
				close(jobEnded)
			})
			close(under)
			<-ctx.Done()
			return Handle{}, ctx.Err()
		},
		kill: func(context.Context) Ended {
			select {
			case <-jobEnded:
			default:
				t.Error("the background job goes on during a kill")
			}
			return Ended{State: Stopped}
		},
	}, nil)
	ctx, app := bound(t), &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	started := make(chan error, 1)
	go func() {
		_, err := finish(c.Start(ctx, &pluginv1.StartRequest{Caller: caller(1, "s"), Application: app}))
		started <- err
	}()
	<-under
	r, err := c.Kill(ctx, &pluginv1.KillRequest{Caller: caller(1, "k"), Application: app})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Error(r, err)
	}
	if err := <-started; err == nil {
		t.Error("the start went well")
	}
}

func TestStartIsGivenUpWhenItsOnlyCallerLeaves(t *testing.T) {
	under, given := make(chan struct{}), make(chan struct{})
	c, _ := serve(t, script{start: func(ctx context.Context, _ Instance, _ Progress) (Handle, error) {
		close(under)
		<-ctx.Done()
		close(given)
		return Handle{}, ctx.Err()
	}}, nil)
	ctx, cancel := context.WithCancel(bound(t))
	go func() {
		<-under
		cancel()
	}()
	app := &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	if _, err := finish(c.Start(ctx, &pluginv1.StartRequest{Caller: caller(1, "s"), Application: app})); err == nil {
		t.Error("the start went well")
	}
	select {
	case <-given:
	case <-time.After(patience):
		t.Error("the start was not given up")
	}
}

// TestStartGoesOnWhenTheCoreDies: the connection that ends with the call is the core's death, and an application
// outlives it.
func TestStartGoesOnWhenTheCoreDies(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	var cut atomic.Bool
	c, srv := serve(t, script{start: func(ctx context.Context, _ Instance, _ Progress) (Handle, error) {
		close(under)
		<-release
		cut.Store(ctx.Err() != nil)
		return Handle{}, nil
	}}, nil)
	ctx, cancel := context.WithCancel(bound(t))
	app := &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	go func() {
		<-under
		close(srv.gone)
		cancel()
	}()
	_, _ = finish(c.Start(ctx, &pluginv1.StartRequest{Caller: caller(1, "s"), Application: app}))
	sl := srv.slot(app)
	sl.mu.Lock()
	op := sl.live[0]
	sl.mu.Unlock()
	select {
	case <-op.ctx.Done():
		t.Error("the start was given up")
	case <-time.After(2 * lingerGone):
	}
	close(release)
	<-op.done
	if cut.Load() {
		t.Error("the start saw its context end")
	}
}

// TestTheLastWordOfACore: an agent that makes room for another one gives up the renewal that is under way, and asks
// for a longer lease than any before. No renewal comes after that.
func TestTheLastWordOfACore(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	var held atomic.Int64
	c, srv := serve(t, script{renew: func(l Lease) {
		if held.Load() == 0 {
			close(under)
			<-release
		}
		held.Store(int64(l.Left().Round(time.Minute)))
	}}, nil)
	app := &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	renew := func(ctx context.Context, sequence uint64, length time.Duration) error {
		_, err := c.Renew(ctx, &pluginv1.RenewRequest{Caller: caller(1, ""), Application: app, Sequence: sequence,
			UntilNs: uint64(bootclock.Now() + length)})
		return err
	}
	ctx, cancel := context.WithCancel(bound(t))
	first := make(chan error, 1)
	go func() { first <- renew(ctx, 1, time.Hour) }()
	<-under
	cancel()
	<-first
	go func() {
		defer close(release)
		sl := srv.slot(app)
		until(t, func() bool {
			sl.mu.Lock()
			defer sl.mu.Unlock()
			return sl.renewals.newest == 2
		})
	}()
	if err := renew(bound(t), 2, 2*time.Hour); err != nil {
		t.Error(err)
	}
	if got := time.Duration(held.Load()); got != 2*time.Hour {
		t.Errorf("the application is heard for %v, want 2h", got)
	}
}

// TestARenewalOfAnOldEpochWaits: the application hears nothing of it when a newer epoch was seen meanwhile.
func TestARenewalOfAnOldEpochWaits(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	var heard atomic.Int64
	c, srv := serve(t, script{renew: func(Lease) {
		if heard.Add(1) == 1 {
			close(under)
			<-release
		}
	}}, nil)
	ctx, app := bound(t), &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	answers := [2]chan error{make(chan error, 1), make(chan error, 1)}
	renew := func(i int) {
		_, err := c.Renew(ctx, &pluginv1.RenewRequest{Caller: caller(1, ""), Application: app, Sequence: uint64(i + 1),
			UntilNs: uint64(bootclock.Now() + time.Hour)})
		answers[i] <- err
	}
	go renew(0)
	<-under
	go renew(1)
	sl := srv.slot(app)
	until(t, func() bool {
		sl.mu.Lock()
		defer sl.mu.Unlock()
		return sl.renewals.newest == 2
	})
	sl.mu.Lock()
	err := sl.epochs.admit(app.GetWorkDir(), 2, true)
	sl.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-answers[0]; err != nil {
		t.Error(err)
	}
	if err := <-answers[1]; status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the renewal of the old epoch got %v", err)
	}
	if n := heard.Load(); n != 1 {
		t.Errorf("the application was asked %d times", n)
	}
}

// TestAnOldEpochWaits: what was admitted, and waits for its turn, is not begun when a newer epoch was seen meanwhile.
func TestAnOldEpochWaits(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	c, srv := serve(t, script{
		start: func(context.Context, Instance, Progress) (Handle, error) {
			t.Error("a start of epoch 1 was begun after epoch 2 was seen")
			return Handle{}, nil
		},
		stop: func(context.Context) Ended {
			close(under)
			<-release
			return Ended{State: Stopped}
		},
	}, nil)
	ctx, app := bound(t), &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	stopped, started := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Stop(ctx, &pluginv1.StopRequest{Caller: caller(1, "stop"), Application: app})
		stopped <- err
	}()
	<-under
	go func() {
		_, err := finish(c.Start(ctx, &pluginv1.StartRequest{Caller: caller(1, "start"), Application: app}))
		started <- err
	}()
	sl := srv.slot(app)
	until(t, func() bool {
		sl.mu.Lock()
		defer sl.mu.Unlock()
		return len(sl.live) == 2
	})
	sl.mu.Lock()
	err := sl.epochs.admit(app.GetWorkDir(), 2, true)
	sl.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := <-started; status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the start of the old epoch got %v", err)
	}
}

func TestEpochs(t *testing.T) {
	stopped := script{stop: func(context.Context) Ended { return Ended{State: Stopped} },
		kill: func(context.Context) Ended { return Ended{State: Stopped} }}
	dir := t.TempDir()
	app := func(name string) *pluginv1.Application {
		return &pluginv1.Application{Name: name, WorkDir: filepath.Join(dir, name)}
	}
	c, _ := serve(t, stopped, nil)
	ctx := bound(t)
	try := func(c pluginv1.PluginServiceClient, name string, epoch uint64, want codes.Code) {
		t.Helper()
		_, err := c.Stop(ctx, &pluginv1.StopRequest{Caller: caller(epoch, ""), Application: app(name)})
		if status.Code(err) != want {
			t.Errorf("epoch %d for %s got %v, want %v", epoch, name, err, want)
		}
	}
	try(c, "a", 5, codes.OK)
	try(c, "a", 5, codes.OK)
	try(c, "a", 4, codes.FailedPrecondition)
	try(c, "b", 4, codes.OK)
	again, _ := serve(t, stopped, nil) // a plugin that was restarted
	try(again, "a", 4, codes.FailedPrecondition)
	try(again, "a", 6, codes.OK)

	if err := os.WriteFile(filepath.Join(dir, "a", epochFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged, _ := serve(t, stopped, nil)
	try(damaged, "a", 7, codes.Unavailable)
	if _, err := damaged.Kill(ctx, &pluginv1.KillRequest{Caller: caller(7, ""), Application: app("a")}); err != nil {
		t.Errorf("a kill without a readable record got %v", err)
	}
}

func TestAnswers(t *testing.T) {
	c, _ := serve(t, script{
		stop:  func(context.Context) Ended { return Ended{} },
		probe: func() Probed { panic("out of tune") },
	}, nil)
	ctx, app := bound(t), &pluginv1.Application{Name: "a", WorkDir: t.TempDir()}
	if r, err := c.Stop(ctx, &pluginv1.StopRequest{Application: app}); err != nil ||
		r.GetState() != pluginv1.RunState_RUN_STATE_UNKNOWN {
		t.Errorf("a state that was not set is %v, %v", r, err)
	}
	if r, err := c.Recover(ctx, &pluginv1.RecoverRequest{Application: app}); err != nil ||
		r.GetState() != pluginv1.RunState_RUN_STATE_UNKNOWN {
		t.Errorf("a state that was not set is %v, %v", r, err)
	}
	if _, err := c.Probe(ctx, &pluginv1.ProbeRequest{Application: app}); status.Code(err) != codes.Internal ||
		!strings.Contains(err.Error(), "out of tune") {
		t.Errorf("a panic became %v", err)
	}
	r, err := c.Ready(ctx, &pluginv1.ReadyRequest{Application: app})
	if err != nil || len(r.GetProblems()) != 2 || r.GetProblems()[0].GetSeverity() != pluginv1.Problem_SEVERITY_ERROR ||
		r.GetProblems()[1].GetSeverity() != pluginv1.Problem_SEVERITY_WARNING {
		t.Errorf("problems are %v, %v", r, err)
	}
	_, err = c.Probe(ctx, &pluginv1.ProbeRequest{Application: &pluginv1.Application{Config: []byte("none")}})
	if status.Code(err) != codes.Internal {
		t.Errorf("a New that returns nothing got %v", err)
	}
	v, err := c.Validate(ctx, &pluginv1.ValidateRequest{Application: &pluginv1.Application{Config: []byte("bad")}})
	if err != nil || len(v.GetProblems()) != 1 || v.GetProblems()[0].GetSummary() != "not JSON" {
		t.Errorf("problems are %v, %v", v, err)
	}
	stream, err := c.Events(ctx)
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("events got %v", err)
	}
}

// TestNumbers: a number that does not fit the plugin's struct is found in the configuration.
func TestNumbers(t *testing.T) {
	type block struct {
		Rise int `json:"rise"`
	}
	type body struct {
		Port  uint16  `json:"port"`
		Codes []int   `json:"codes"`
		Check []block `json:"check"`
	}
	for config, want := range map[string]string{
		`{"port":1.5}`:        `port: 1.5 is no whole number`,
		`{"port":70000}`:      `port: 70000 is no whole number, or out of range`,
		`{"codes":[0,2,2.5]}`: `codes[2]: 2.5 is no whole number`,
		`{"port":3,"check":[{"rise":1},{"rise":1e2}]}`: `check[1].rise: 1e2 is no whole number`,
		`{"check":[{"rise":"x"}]}`:                     `: configuration of application "a" does not fit`,
	} {
		var b body
		err := Instance{Name: "a", Config: []byte(config)}.Decode(&b)
		if err == nil {
			t.Errorf("%s is decoded as %+v", config, b)
			continue
		}
		p := (&refusal{err}).problem()
		if got := p.Attribute + ": " + p.Summary; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	heard := make(chan Event, 2)
	c, _ := serve(t, script{}, func(e Event) { heard <- e })
	stream, err := c.Events(bound(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := stream.Send(&pluginv1.EventsRequest{Kind: "group", Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if a, b := <-heard, <-heard; a.Text != "one" || b.Text != "two" || a.Kind != "group" {
		t.Errorf("heard %v, %v", a, b)
	}
}

func TestPluginCheck(t *testing.T) {
	good := Plugin{Kind: "good", Version: "1.0.0",
		Schema: Schema{Attributes: []Attribute{{Name: "maxSize", Type: "number"}}},
		New:    func(Instance) (Application, error) { return nil, nil }}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Plugin){
		"kind":                func(p *Plugin) { p.Kind = "No Good" },
		"kind with a version": func(p *Plugin) { p.Kind = "lamp_2" },
		"version":             func(p *Plugin) { p.Version = "" },
		"version of words":    func(p *Plugin) { p.Version = "newest" },
		"label": func(p *Plugin) {
			p.Schema.Blocks = []Block{{Name: "b", Labels: []string{"a b"}}}
		},
		"label and attribute": func(p *Plugin) {
			p.Schema.Blocks = []Block{{Name: "b", Labels: []string{"a"},
				Body: Schema{Attributes: []Attribute{{Name: "a", Type: "string"}}}}}
		},
		"limits": func(p *Plugin) { p.Schema.Blocks = []Block{{Name: "b", Min: 3, Max: 2}} },
		"new":    func(p *Plugin) { p.New = nil },
		"twice": func(p *Plugin) {
			p.Schema.Attributes = []Attribute{{Name: "a", Type: "string"}, {Name: "a", Type: "string"}}
		},
		"type": func(p *Plugin) { p.Schema.Attributes = []Attribute{{Name: "a"}} },
		"default": func(p *Plugin) {
			p.Schema.Attributes = []Attribute{{Name: "a", Type: "bool", Required: true, Default: "true"}}
		},
		"in blocks": func(p *Plugin) { p.Schema.Blocks = []Block{{Name: "b", Body: Schema{Attributes: []Attribute{{}}}}} },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
}

// TestAllOfTheKind: an application sees its siblings of both servers, itself among them, and where each is at home.
func TestAllOfTheKind(t *testing.T) {
	c, _ := serve(t, script{}, nil)
	one := &pluginv1.Application{Group: "g", Name: "a", Primary: "rocky", Config: []byte(`{"n":1}`)}
	two := &pluginv1.Application{
		Group: "h", Name: "b", Primary: "apollo", Config: []byte(`{"n":2}`), Drives: []*pluginv1.Drive{{Letter: "F:", Path: "/f"}},
	}
	want := []string{"g/a rocky {\"n\":1} 0", "h/b apollo {\"n\":2} 1"}
	all := []*pluginv1.Application{one, two}
	v, err := c.Validate(bound(t), &pluginv1.ValidateRequest{Application: one, All: all})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Ready(bound(t), &pluginv1.ReadyRequest{Application: two, All: all})
	if err != nil {
		t.Fatal(err)
	}
	for call, problems := range map[string][]*pluginv1.Problem{"validate": v.GetProblems(), "ready": r.GetProblems()} {
		var got []string
		for _, p := range problems {
			if p.GetAttribute() == "all" {
				got = append(got, p.GetSummary())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: seen %q, want %q", call, got, want)
		}
	}
}
