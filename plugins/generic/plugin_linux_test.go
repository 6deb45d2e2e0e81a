package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/plugins/sdk/plugintest"
	"github.com/orscore/ors/plugins/sdk/supervise"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// patience bounds each wait of these tests.
const patience = 30 * time.Second

var programs string // folder with the plugin and the protected program

func TestMain(m *testing.M) {
	if dir := os.Getenv("ORS_TEST_CORE"); dir != "" {
		actAsCore(dir)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ors-generic-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	_ = os.Chmod(dir, 0o755)
	programs = dir
	for name, pkg := range map[string]string{"ors-plugin-generic": ".", "app": "./testdata/app"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// fixture is one application under a plugin.
type fixture struct {
	testing.TB
	plugin *plugintest.Process
	logs   *syncBuffer
	schema *pluginv1.Block
	app    *pluginv1.Application
	epoch  uint64
	ops    int
	handle *pluginv1.Handle
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func program(name string) string { return filepath.Join(programs, name) }

// protect starts a plugin and makes an application of body; at the end nothing of either is left.
func protect(t testing.TB, body map[string]any) *fixture {
	t.Helper()
	f := &fixture{TB: t, logs: &syncBuffer{}, epoch: 1}
	f.launch()
	f.app = &pluginv1.Application{
		Group: "rocky", Name: "notes", WorkDir: t.TempDir(),
		Drives: []*pluginv1.Drive{{Letter: "G:", Path: t.TempDir(), ConfiguredLetter: "E:"}},
	}
	f.configure(body)
	t.Cleanup(func() {
		if f.plugin.Exited() {
			f.launch()
		}
		ctx, cancel := f.context()
		defer cancel()
		end, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
		if err != nil || end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
			t.Errorf("clean up: %v, %v", end, err)
		}
		if err := f.plugin.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(f.logs.String())
		}
	})
	return f
}

func (f *fixture) launch() {
	f.Helper()
	p, err := plugintest.Start(f.logs, program("ors-plugin-generic"))
	if err != nil {
		f.Fatal(err, f.logs)
	}
	f.plugin = p
	ctx, cancel := f.context()
	defer cancel()
	s, err := p.Schema(ctx, &pluginv1.SchemaRequest{})
	if err != nil {
		f.Fatal(err)
	}
	f.schema = s.GetSchema()
}

func (f *fixture) configure(body map[string]any) {
	f.Helper()
	config, err := plugintest.Config(f.schema, body)
	if err != nil {
		f.Fatal(err)
	}
	f.app.Config = config
}

func (f *fixture) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (f *fixture) caller() *pluginv1.Caller {
	f.ops++
	return &pluginv1.Caller{Server: "apollo", BootId: "boot", Epoch: f.epoch, OperationId: fmt.Sprintf("op-%d", f.ops)}
}

func (f *fixture) tryStart(ctx context.Context) (plugintest.Started, error) {
	s, err := f.plugin.StartApplication(ctx, &pluginv1.StartRequest{
		Caller: f.caller(), Application: f.app, Previous: f.handle,
	})
	if err == nil {
		f.handle = s.Handle
	}
	return s, err
}

func (f *fixture) start() plugintest.Started {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	s, err := f.tryStart(ctx)
	if err != nil {
		f.Fatal("start:", err)
	}
	return s
}

func (f *fixture) run() supervise.Run {
	f.Helper()
	var r supervise.Run
	if err := json.Unmarshal(f.handle.GetState(), &r); err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) recover(want pluginv1.RunState) *pluginv1.RecoverResponse {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Recover(ctx, &pluginv1.RecoverRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != want {
		f.Fatalf("recover: %v, %v; want %v", r, err, want)
	}
	return r
}

func (f *fixture) probe() *pluginv1.ProbeResponse {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Probe(ctx, &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil {
		f.Fatal("probe:", err)
	}
	return r
}

// healthy waits for a probe of this outcome: the end of a process is on record a moment after it.
func (f *fixture) health(want pluginv1.Health) *pluginv1.ProbeResponse {
	f.Helper()
	for end := time.Now().Add(patience); ; {
		r := f.probe()
		if r.GetHealth() == want {
			return r
		}
		if time.Now().After(end) {
			f.Fatalf("probe: %v; want %v", r, want)
		}
	}
}

func (f *fixture) stop() {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		f.Fatalf("stop: %v, %v", r, err)
	}
}

// killPlugin ends the plugin as a crash would.
func (f *fixture) killPlugin() {
	f.Helper()
	if err := unix.Kill(f.plugin.PID, unix.SIGKILL); err != nil { // our child, not yet reaped by another
		f.Fatal(err)
	}
	f.await("the plugin's end", f.plugin.Exited)
	if err := f.plugin.Close(); err != nil {
		f.Fatal(err)
	}
	f.launch()
}

func (f *fixture) await(what string, ok func() bool) {
	f.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			f.Fatalf("%s did not come within %v", what, patience)
		}
	}
}

// signal sends to exactly this process.
func (f *fixture) signal(id supervise.Identity, sig unix.Signal) {
	f.Helper()
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer unix.Close(fd)
	if !living(id) {
		f.Fatalf("process %d is gone", id.PID)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		f.Fatal(err)
	}
}

// living reads what supervise reads, independently of it.
func living(id supervise.Identity) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id.PID))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return fields[0] != "Z" && fields[19] == fmt.Sprint(id.Start)
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// server is the body of a service that listens, with a check for it.
func server(t testing.TB, args ...string) (map[string]any, string) {
	addr := freeAddress(t)
	return map[string]any{
		"command": append([]string{program("app"), "-listen", addr}, args...),
		"check":   []map[string]any{{"type": "tcp", "address": addr}},
	}, addr
}

// actAsCore is the other process of TestCoreDies: it starts a plugin and an application, tells of them, and waits to
// be killed.
func actAsCore(dir string) {
	programs = dir
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	p, err := plugintest.Start(os.Stderr, program("ors-plugin-generic"))
	if err != nil {
		fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var app pluginv1.Application
	if err := json.Unmarshal([]byte(os.Getenv("ORS_TEST_APPLICATION")), &app); err != nil {
		fail(err)
	}
	s, err := p.StartApplication(ctx, &pluginv1.StartRequest{Caller: &pluginv1.Caller{Epoch: 1}, Application: &app})
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"plugin": p.PID, "handle": s.Handle}); err != nil {
		fail(err)
	}
	select {}
}

func TestServiceLifecycle(t *testing.T) {
	body, addr := server(t)
	mark := filepath.Join(t.TempDir(), "prepared")
	body["before_start"] = []map[string]any{{"command": []string{"touch", mark}}}
	body["check"] = append(body["check"].([]map[string]any),
		map[string]any{"type": "http", "url": "http://" + addr + "/health"},
		map[string]any{"type": "command", "command": []string{
			"sh", "-c", `test "$ORS_DRIVE_E" = "$ORS_D1_PATH" -a "$ORS_D1" = G:`,
		}})
	f := protect(t, body)
	ctx, cancel := f.context()
	defer cancel()
	v, err := f.plugin.Validate(ctx, &pluginv1.ValidateRequest{Application: f.app})
	if err != nil || len(v.GetProblems()) > 0 {
		t.Fatal(v, err)
	}
	r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
	if err != nil || len(r.GetProblems()) > 0 {
		t.Fatal(r, err)
	}
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	first := f.start()
	want := "before exec check tcp check http check command ready"
	if got := strings.Join(first.Steps, " "); got != want {
		t.Errorf("steps are %q, want %q", got, want)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("the prepare command has not run:", err)
	}
	run := f.run()
	f.start()
	if again := f.run(); again.Main != run.Main {
		t.Errorf("a second start made %v of %v", again.Main, run.Main)
	}
	f.health(pluginv1.Health_HEALTH_OK)
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.stop()
	if living(run.Main) {
		t.Error("the program lives after it was stopped")
	}
	f.stop()
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	f.health(pluginv1.Health_HEALTH_FAILED)
}

func TestPluginKilledWhileRunning(t *testing.T) {
	body, addr := server(t)
	f := protect(t, body)
	f.start()
	run := f.run()
	f.killPlugin()
	r := f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.handle = r.GetHandle()
	if got := f.run(); got.Main != run.Main || !living(run.Main) {
		t.Fatalf("recovered %v, want %v", got.Main, run.Main)
	}
	resp, err := http.Get("http://" + addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	f.health(pluginv1.Health_HEALTH_OK)
	f.handle = nil // also without what the core remembers
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.stop()
	if living(run.Main) {
		t.Error("the program lives after it was stopped by the second plugin")
	}
}

func TestPluginKilledDuringStart(t *testing.T) {
	body, _ := server(t, "-delay", "700ms")
	f := protect(t, body)
	ctx, cancel := f.context()
	defer cancel()
	stream, err := f.plugin.PluginServiceClient.Start(ctx, &pluginv1.StartRequest{Caller: f.caller(), Application: f.app})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetProgress().GetStep() != "exec" {
		t.Fatal(m, err)
	}
	f.killPlugin()
	f.handle = f.recover(pluginv1.RunState_RUN_STATE_RUNNING).GetHandle()
	run := f.run()
	s := f.start()
	if got := f.run(); got.Main != run.Main || s.Steps[0] != "running" {
		t.Errorf("the start after the crash went %v and runs %v, want %v", s.Steps, got.Main, run.Main)
	}
	f.health(pluginv1.Health_HEALTH_OK)
}

// TestPluginKilledDuringPrepare: a prepare command that is under way is not a failure, and is neither ended half-way nor
// run again.
func TestPluginKilledDuringPrepare(t *testing.T) {
	dir := t.TempDir()
	f := protect(t, map[string]any{
		"command": []string{"sleep", "600"},
		"before_start": []map[string]any{{"timeout": "1m", "command": []string{
			"sh", "-c", "echo prepared >> " + dir + "/log; while test ! -e " + dir + "/go; do sleep 0.02; done",
		}}},
	})
	ctx, cancel := f.context()
	defer cancel()
	stream, err := f.plugin.PluginServiceClient.Start(ctx, &pluginv1.StartRequest{Caller: f.caller(), Application: f.app})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetProgress().GetStep() != "before" {
		t.Fatal(m, err)
	}
	f.killPlugin()
	f.handle = f.recover(pluginv1.RunState_RUN_STATE_RUNNING).GetHandle()
	if r := f.probe(); r.GetHealth() != pluginv1.Health_HEALTH_UNKNOWN {
		t.Errorf("probe: %v", r)
	}
	started := make(chan plugintest.Started, 1)
	go func() { started <- f.start() }()
	time.Sleep(200 * time.Millisecond)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := <-started; strings.Join(s.Steps, " ") != "before running ready" {
		t.Errorf("steps are %v", s.Steps)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || string(b) != "prepared\n" {
		t.Errorf("it was prepared: %q, %v", b, err)
	}
	f.health(pluginv1.Health_HEALTH_OK)
}

// TestSignalsToThePlugin: a hang-up does not end it, SIGTERM does, and neither touches the application.
func TestSignalsToThePlugin(t *testing.T) {
	body, _ := server(t)
	f := protect(t, body)
	f.start()
	run := f.run()
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGPIPE, unix.SIGINT} {
		if err := unix.Kill(f.plugin.PID, sig); err != nil { // our child, not yet reaped by another
			t.Fatal(err)
		}
	}
	f.health(pluginv1.Health_HEALTH_OK)
	if err := unix.Kill(f.plugin.PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	f.await("the plugin's end", f.plugin.Exited)
	if err := f.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	if !living(run.Main) {
		t.Error("the application ended with its plugin")
	}
	f.launch()
	f.health(pluginv1.Health_HEALTH_OK)
}

// TestStarvedProbe: a check that ran out of time says that the program has failed; one during which this server did not
// come to run says nothing.
func TestStarvedProbe(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "well")
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := protect(t, map[string]any{
		"command": []string{"sleep", "600"},
		"check": []map[string]any{{
			"type": "command", "command": []string{"sh", "-c", "test -e " + flag + " || exec sleep 60"}, "timeout": "400ms",
		}},
	})
	f.start()
	f.health(pluginv1.Health_HEALTH_OK)
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answer := make(chan *pluginv1.ProbeResponse, 1)
		go func() { answer <- f.probe() }()
		time.Sleep(100 * time.Millisecond)
		for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
			if err := unix.Kill(f.plugin.PID, sig); err != nil { // our child, not yet reaped by another
				t.Fatal(err)
			}
			if sig == unix.SIGSTOP {
				time.Sleep(700 * time.Millisecond) // longer than the check may take
			}
		}
		r := <-answer
		if r.GetHealth() != pluginv1.Health_HEALTH_UNKNOWN || !strings.Contains(r.GetDetail(), "this server was late") {
			t.Errorf("while it was stopped: %v", r)
		}
	}
	f.await("a probe of a server that is not starved", func() bool {
		return f.probe().GetHealth() == pluginv1.Health_HEALTH_FAILED
	})
}

// TestStarvedProbeOfAPatientCheck: where the probe has less time than its check, its own is what lateness is held
// against.
func TestStarvedProbeOfAPatientCheck(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "ill")
	f := protect(t, map[string]any{
		"command": []string{"sleep", "600"},
		"check": []map[string]any{{
			"type": "command", "command": []string{"sh", "-c", "test ! -e " + flag + " || exec sleep 60"}, "timeout": "1m",
		}},
	})
	f.start()
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	type outcome struct {
		r   *pluginv1.ProbeResponse
		err error
	}
	request := &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle}
	answer := make(chan outcome, 1)
	go func() { r, err := f.plugin.Probe(ctx, request); answer <- outcome{r, err} }()
	time.Sleep(100 * time.Millisecond)
	if err := unix.Kill(f.plugin.PID, unix.SIGSTOP); err != nil { // our child, not yet reaped by another
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // more than a quarter of the probe's time
	if err := unix.Kill(f.plugin.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	got := <-answer
	if got.err != nil || got.r.GetHealth() != pluginv1.Health_HEALTH_UNKNOWN ||
		!strings.Contains(got.r.GetDetail(), "this server was late") {
		t.Errorf("while it was stopped: %v, %v", got.r, got.err)
	}
}

func TestApplicationKilled(t *testing.T) {
	body, _ := server(t)
	f := protect(t, body)
	f.start()
	run := f.run()
	f.signal(run.Main, unix.SIGKILL)
	r := f.health(pluginv1.Health_HEALTH_FAILED)
	if !strings.Contains(r.GetDetail(), "SIGKILL") {
		f.await("the record of the signal", func() bool { return strings.Contains(f.probe().GetDetail(), "SIGKILL") })
	}
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	f.start()
	if again := f.run(); again.Main == run.Main {
		t.Error("it was not started again")
	}
	f.health(pluginv1.Health_HEALTH_OK)
}

func TestApplicationKilledWithChildLeft(t *testing.T) {
	body, _ := server(t, "-child")
	f := protect(t, body)
	f.start()
	run := f.run()
	kin := descendants(t, run)
	f.signal(run.Main, unix.SIGKILL)
	f.health(pluginv1.Health_HEALTH_FAILED)
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING) // its child does
	s := f.start()
	if s.Steps[0] != "left over" {
		t.Errorf("steps are %v, want the left-over process to be ended first", s.Steps)
	}
	for _, k := range kin {
		if living(k) {
			t.Errorf("process %d of the first run lives", k.PID)
		}
	}
}

// descendants lists the living processes below the run's supervisor.
func descendants(t testing.TB, run supervise.Run) []supervise.Identity {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parent, start := map[int]int{}, map[int]uint64{}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, ppid int
		var begun uint64
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if _, err := fmt.Sscan(filepath.Base(filepath.Dir(path)), &pid); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(f[1], &ppid); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(f[19], &begun); err != nil {
			t.Fatal(err)
		}
		parent[pid], start[pid] = ppid, begun
	}
	var out []supervise.Identity
	for pid := range parent {
		for p := parent[pid]; p > 0; p = parent[p] {
			if p == run.Supervisor.PID {
				out = append(out, supervise.Identity{PID: pid, Start: start[pid]})
				break
			}
		}
	}
	return out
}

func TestStopOfAStubbornFamily(t *testing.T) {
	body, _ := server(t, "-stubborn", "-child")
	body["stop"] = []map[string]any{{
		"kill_after": "100ms", "timeout": "100ms", "command": []string{"sh", "-c", "sleep 60"},
	}}
	f := protect(t, body)
	f.start()
	kin := descendants(t, f.run())
	if len(kin) != 2 {
		t.Fatalf("%d processes run, want 2", len(kin))
	}
	f.stop()
	for _, k := range kin {
		if living(k) {
			t.Errorf("process %d lives after the stop", k.PID)
		}
	}
}

func TestStopCommandAndSignal(t *testing.T) {
	dir := t.TempDir()
	f := protect(t, map[string]any{
		"command": []string{"sh", "-c", "trap 'echo int > " + dir + "/end; exit 0' INT; while :; do sleep 0.02; done"},
		"stop":    []map[string]any{{"signal": "SIGINT", "command": []string{"touch", dir + "/asked"}, "timeout": "50ms"}},
	})
	f.start()
	f.stop()
	for _, name := range []string{"asked", "end"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestKillCutsAStopShort(t *testing.T) {
	body, _ := server(t, "-stubborn")
	body["stop"] = []map[string]any{{"kill_after": "20m"}}
	f := protect(t, body)
	f.start()
	run := f.run()
	ctx, cancel := f.context()
	defer cancel()
	stopped := make(chan error, 1)
	stop := &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle}
	go func() {
		_, err := f.plugin.Stop(ctx, stop)
		stopped <- err
	}()
	// The second of two stops with one operation id joins the first; whichever comes first is under way.
	end, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED || living(run.Main) {
		t.Errorf("kill: %v, %v", end, err)
	}
	<-stopped
}

func TestDaemon(t *testing.T) {
	for _, supervisorDies := range []bool{false, true} {
		t.Run(fmt.Sprintf("supervisorDies=%v", supervisorDies), func(t *testing.T) {
			body, _ := server(t, "-detach")
			f := protect(t, body)
			f.start()
			run := f.run()
			f.await("the end of the first process", func() bool { return !living(run.Main) })
			kin := descendants(t, run)
			if len(kin) != 1 {
				t.Fatalf("%d processes run, want the detached one", len(kin))
			}
			if supervisorDies {
				f.await("the exit on record", func() bool { return f.probe().GetHealth() == pluginv1.Health_HEALTH_OK })
				f.signal(run.Supervisor, unix.SIGKILL)
				f.await("the supervisor's end", func() bool { return !living(run.Supervisor) })
			}
			f.health(pluginv1.Health_HEALTH_OK)
			f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
			f.stop()
			if living(kin[0]) {
				t.Error("the detached process lives after the stop")
			}
		})
	}
}

func TestSupervisorKilled(t *testing.T) {
	body, _ := server(t)
	f := protect(t, body)
	f.start()
	run := f.run()
	f.signal(run.Supervisor, unix.SIGKILL)
	f.await("the supervisor's end", func() bool { return !living(run.Supervisor) })
	r := f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	if !strings.Contains(r.GetDetail(), "supervisor is gone") || !living(run.Main) {
		t.Error(r)
	}
	f.health(pluginv1.Health_HEALTH_OK)
	f.start()
	if got := f.run(); got.Main != run.Main {
		t.Errorf("a start took %v for gone", run.Main)
	}
	f.stop()
	if living(run.Main) {
		t.Error("the adopted program lives after the stop")
	}
}

func TestStaleEpoch(t *testing.T) {
	body, _ := server(t)
	f := protect(t, body)
	f.epoch = 7
	f.start()
	stale := func() {
		t.Helper()
		ctx, cancel := f.context()
		defer cancel()
		old := f.caller()
		old.Epoch = 6
		_, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: old, Application: f.app, Handle: f.handle})
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a stale stop got %v", err)
		}
		_, err = f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: old, Application: f.app, Handle: f.handle})
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a stale kill got %v", err)
		}
		_, err = f.plugin.StartApplication(ctx, &pluginv1.StartRequest{Caller: old, Application: f.app})
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a stale start got %v", err)
		}
	}
	stale()
	f.killPlugin()
	stale()
	f.health(pluginv1.Health_HEALTH_OK)
}

func TestStartsWithOneOperationJoin(t *testing.T) {
	body, _ := server(t, "-delay", "200ms")
	f := protect(t, body)
	ctx, cancel := f.context()
	defer cancel()
	req := &pluginv1.StartRequest{Caller: f.caller(), Application: f.app}
	type outcome struct {
		s   plugintest.Started
		err error
	}
	outcomes := make(chan outcome, 2)
	for range 2 {
		go func() {
			s, err := f.plugin.StartApplication(ctx, req)
			outcomes <- outcome{s, err}
		}()
	}
	a, b := <-outcomes, <-outcomes
	if a.err != nil || b.err != nil {
		t.Fatal(a.err, b.err)
	}
	f.handle = a.s.Handle
	if !bytes.Equal(a.s.Handle.GetState(), b.s.Handle.GetState()) || !slices.Equal(a.s.Steps, b.s.Steps) {
		t.Errorf("the two went apart:\n%v %s\n%v %s", a.s.Steps, a.s.Handle.GetState(), b.s.Steps, b.s.Handle.GetState())
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	body, _ := server(t, "-delay", "1h", "-child")
	f := protect(t, body)
	ctx, cancel := f.context()
	defer cancel()
	stream, err := f.plugin.PluginServiceClient.Start(ctx, &pluginv1.StartRequest{Caller: f.caller(), Application: f.app})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetProgress().GetStep() != "exec" {
		t.Fatal(m, err)
	}
	cancel()
	f.await("the end of the start", func() bool {
		ctx, cancel := f.context()
		defer cancel()
		r, err := f.plugin.Recover(ctx, &pluginv1.RecoverRequest{Caller: f.caller(), Application: f.app})
		return err == nil && r.GetState() == pluginv1.RunState_RUN_STATE_STOPPED
	})
}

func TestBatch(t *testing.T) {
	f := protect(t, map[string]any{
		"mode": "batch", "command": []string{"sh", "-c", `echo "$0 $1 $HELLO $ORS_GROUP"`, "run"}, "pass_drives": true,
		"environment": map[string]string{"HELLO": "hello"},
	})
	f.start()
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })
	f.health(pluginv1.Health_HEALTH_OK)
	out, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log"))
	if err != nil || string(out) != "run G: hello rocky\n" {
		t.Errorf("output is %q, %v", out, err)
	}
	f.killPlugin()
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING) // nothing to start again
	f.handle = nil                                 // the core was killed before it had one: it starts what it finds
	f.start()
	if again, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log")); err != nil || !bytes.Equal(again, out) {
		t.Errorf("a second start, and the output is %q, %v", again, err)
	}
	f.stop()
	f.handle = nil
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	if f.probe().GetFinished() {
		t.Error("a run that was stopped counts as finished")
	}
}

// TestBatchWhoseEndIsNotOnRecord: the last words of a supervisor that is late are waited for, and nothing runs twice.
func TestBatchWhoseEndIsNotOnRecord(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	f := protect(t, map[string]any{
		"mode": "batch", "command": []string{"sh", "-c", "echo run; while test ! -e " + flag + "; do sleep 0.02; done"},
	})
	f.start()
	run := f.run()
	f.signal(run.Supervisor, unix.SIGSTOP)
	defer func() { _ = unix.Kill(run.Supervisor.PID, unix.SIGCONT) }()
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.await("its end", func() bool { return !living(run.Main) })
	if r := f.probe(); r.GetHealth() != pluginv1.Health_HEALTH_UNKNOWN {
		t.Errorf("without an exit on record: %v", r)
	}
	started := make(chan plugintest.Started, 1)
	go func() { started <- f.start() }()
	time.Sleep(200 * time.Millisecond)
	f.signal(run.Supervisor, unix.SIGCONT)
	if s := <-started; len(s.Steps) == 0 || s.Steps[0] != "running" {
		t.Errorf("steps are %v", s.Steps)
	}
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })

	// Its exit is on record, and that nothing is left is not yet: a process stands for the supervisor.
	late := exec.Command("sleep", "1h")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = late.Process.Kill()
		_ = late.Wait()
	}()
	run = f.run()
	run.Ended, run.Supervisor = false, supervise.Identity{PID: late.Process.Pid, Start: startOf(t, late.Process.Pid)}
	record, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(run.Dir, "run.json"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.probe(); r.GetHealth() != pluginv1.Health_HEALTH_OK {
		t.Errorf("with an exit on record: %v", r)
	}
	f.start()
	if out, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log")); err != nil || string(out) != "run\n" {
		t.Errorf("output is %q, %v", out, err)
	}
}

// startOf reads the start time of a process.
func startOf(t testing.TB, pid int) (start uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if _, err := fmt.Sscan(fields[19], &start); err != nil {
		t.Fatal(err)
	}
	return start
}

// TestBatchOfAnotherBoot: what a batch run has done does not hold beyond a restart of the server.
func TestBatchOfAnotherBoot(t *testing.T) {
	f := protect(t, map[string]any{"mode": "batch", "command": []string{"echo", "done"}})
	f.start()
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })
	record := filepath.Join(f.app.GetWorkDir(), "supervisor", "run.json")
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	now, before := []byte(f.run().BootID), []byte("11111111-2222-3333-4444-555555555555")
	if err := os.WriteFile(record, bytes.ReplaceAll(b, now, before), 0o600); err != nil {
		t.Fatal(err)
	}
	f.handle.State = bytes.ReplaceAll(f.handle.GetState(), now, before)
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	if r := f.probe(); r.GetFinished() || r.GetHealth() != pluginv1.Health_HEALTH_FAILED {
		t.Errorf("probe: %v", r)
	}
	f.start()
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })
	out, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log"))
	if err != nil || string(out) != "done\ndone\n" {
		t.Errorf("output is %q, %v", out, err)
	}
}

func TestBatchThatFails(t *testing.T) {
	f := protect(t, map[string]any{
		"mode": "batch", "command": []string{program("app"), "-say", "out of paper", "-exit", "3"},
		"exit_codes": map[string]string{"3": "the printer is empty"},
	})
	ctx, cancel := f.context()
	defer cancel()
	// It may have ended before its start has: then the start fails with the same words.
	if _, err := f.tryStart(ctx); err != nil {
		if !strings.Contains(err.Error(), "printer") {
			t.Fatal(err)
		}
		return
	}
	r := f.health(pluginv1.Health_HEALTH_FAILED)
	for _, want := range []string{"exit code 3", "the printer is empty", "out of paper"} {
		if !strings.Contains(r.GetDetail(), want) {
			t.Errorf("%q says nothing of %q", r.GetDetail(), want)
		}
	}
}

func TestStartFails(t *testing.T) {
	never := []map[string]any{{"type": "tcp", "address": "127.0.0.1:1"}}
	for name, c := range map[string]struct {
		body map[string]any
		want string
	}{
		"no program":     {map[string]any{"command": []string{"/nowhere/at/all"}}, "no such file"},
		"no interpreter": {map[string]any{"command": []string{program("script")}}, "interpreter"},
		"no folder": {map[string]any{
			"command": []string{"sleep", "1h"}, "working_directory": "/nowhere",
		}, "working directory"},
		"prepare fails": {map[string]any{
			"command":      []string{"sleep", "1h"},
			"before_start": []map[string]any{{"command": []string{"sh", "-c", "exit 4"}}},
		}, "exit code 4"},
		"prepare hangs": {map[string]any{
			"command":      []string{"sleep", "1h"},
			"before_start": []map[string]any{{"command": []string{"sh", "-c", "sleep 1h & sleep 1h"}, "timeout": "50ms"}},
		}, "did not end within"},
		"ends before ready": {map[string]any{
			"command": []string{program("app"), "-say", "cannot", "-exit", "9"}, "check": never,
			"exit_codes": map[string]string{"9": "no licence"},
		}, "no licence"},
		"never ready": {map[string]any{
			"command": []string{"sh", "-c", "sleep 1h & sleep 1h"}, "check": never,
		}, "did not pass"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(program("script"), []byte("#!/nowhere/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			f := protect(t, c.body)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			_, err := f.tryStart(ctx)
			if err == nil || !strings.Contains(err.Error(), c.want) && status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("start: %v, want %q", err, c.want)
			}
			f.await("nothing left", func() bool {
				ctx, cancel := f.context()
				defer cancel()
				r, err := f.plugin.Recover(ctx, &pluginv1.RecoverRequest{Caller: f.caller(), Application: f.app})
				return err == nil && r.GetState() == pluginv1.RunState_RUN_STATE_STOPPED
			})
		})
	}
}

func TestChecksFail(t *testing.T) {
	body, addr := server(t)
	f := protect(t, body)
	f.start()
	for name, c := range map[string]map[string]any{
		"refused": {"type": "tcp", "address": "127.0.0.1:1"},
		"ill":     {"type": "http", "url": "http://" + addr + "/ill"},
		"status":  {"type": "http", "url": "http://" + addr + "/health", "status": 204},
		"hangs":   {"type": "http", "url": "http://" + addr + "/hang", "timeout": "300ms"},
		"command": {"type": "command", "command": []string{"sh", "-c", "echo wrong; exit 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			body["check"] = []map[string]any{c}
			f.configure(body)
			r := f.health(pluginv1.Health_HEALTH_FAILED) // a starved test machine may say unknown first
			if !strings.Contains(r.GetDetail(), "Check 1") {
				t.Error(r)
			}
		})
	}
}

func TestCoreDies(t *testing.T) {
	body, addr := server(t)
	f := protect(t, body)
	appJSON, err := json.Marshal(f.app)
	if err != nil {
		t.Fatal(err)
	}
	core := exec.Command("/proc/self/exe")
	core.Env = append(os.Environ(), "ORS_TEST_CORE="+programs, "ORS_TEST_APPLICATION="+string(appJSON))
	out, err := core.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	core.Stderr = f.logs
	if err := core.Start(); err != nil {
		t.Fatal(err)
	}
	var told struct {
		Plugin int
		Handle *pluginv1.Handle
	}
	derr := json.NewDecoder(out).Decode(&told)
	_ = core.Process.Kill()
	_ = core.Wait()
	if derr != nil {
		t.Fatal(derr, f.logs)
	}
	f.await("the plugin's end", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", told.Plugin))
		return err != nil || !strings.Contains(string(b), "ors-plugin-generic")
	})
	f.handle = told.Handle
	if !living(f.run().Main) {
		t.Fatal("the application died with the core")
	}
	resp, err := http.Get("http://" + addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	f.recover(pluginv1.RunState_RUN_STATE_RUNNING)
	f.stop()
}

func TestRunsAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change the user")
	}
	f := protect(t, map[string]any{
		"mode": "batch", "command": []string{"sh", "-c", "id -u; echo $USER; pwd"}, "user": "nobody",
	})
	f.start()
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })
	out, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log"))
	if err != nil || string(out) != "65534\nnobody\n/\n" {
		t.Errorf("output is %q, %v", out, err)
	}
}

// TestLimits: what the configuration allows is what the program has.
func TestLimits(t *testing.T) {
	body := map[string]any{
		"mode": "batch", "command": []string{"sh", "-c", "ulimit -n; ulimit -c"}, "systemd": "unit",
		"limits": []map[string]any{{"open_files": 99, "core_mb": 0}},
	}
	f := protect(t, body)
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
	if supervise.SystemdRuns() {
		if err != nil || len(r.GetProblems()) > 0 {
			t.Errorf("with systemd: %v, %v", r.GetProblems(), err)
		}
	} else if err != nil || len(r.GetProblems()) != 1 || r.GetProblems()[0].GetSeverity() != pluginv1.Problem_SEVERITY_WARNING ||
		!strings.Contains(r.GetProblems()[0].GetSummary(), "systemd is not process 1") {
		t.Errorf("without systemd: %v, %v", r.GetProblems(), err)
	}
	f.configure(map[string]any{"command": []string{"true"}, "limits": []map[string]any{{"open_files": 1 << 30}}})
	r, err = f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
	if err != nil || len(r.GetProblems()) != 1 || r.GetProblems()[0].GetAttribute() != "limits[0].open_files" {
		t.Errorf("more than the kernel allows: %v, %v", r.GetProblems(), err)
	}
	f.configure(body)
	f.start()
	f.await("the end of the run", func() bool { return f.probe().GetFinished() })
	out, err := os.ReadFile(filepath.Join(f.app.GetWorkDir(), "output.log"))
	if err != nil || string(out) != "99\n0\n" {
		t.Errorf("output is %q, %v", out, err)
	}
}

func TestReady(t *testing.T) {
	drive := t.TempDir()
	f := protect(t, map[string]any{"command": []string{"true"}})
	f.app.Drives[0].Path = filepath.Join(drive, "absent")
	for name, c := range map[string]struct {
		body map[string]any
		want string
	}{
		"on an absent drive": {map[string]any{"command": []string{filepath.Join(drive, "absent/server")}}, ""},
		"not installed":      {map[string]any{"command": []string{"no-such-program-here"}}, "command"},
		"not executable":     {map[string]any{"command": []string{"/etc/passwd"}}, "command"},
		"no user":            {map[string]any{"command": []string{"true"}, "user": "no-such-user"}, "user"},
		"no folder": {map[string]any{
			"command": []string{"true"}, "working_directory": "/no/such",
		}, "working_directory"},
		"check not installed": {map[string]any{
			"command": []string{"true"}, "check": []map[string]any{{"type": "command", "command": []string{"/no/such"}}},
		}, "check[0].command"},
	} {
		t.Run(name, func(t *testing.T) {
			f.configure(c.body)
			ctx, cancel := f.context()
			defer cancel()
			r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, p := range r.GetProblems() {
				got += p.GetAttribute()
			}
			if got != c.want {
				t.Errorf("problems are %v, want one of %q", r.GetProblems(), c.want)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	body, _ := server(b)
	f := protect(b, body)
	for b.Loop() {
		began := time.Now()
		s := f.start()
		for i, step := range s.Steps {
			b.Logf("%-10s %8.2f ms", step, float64(s.At[i].Sub(began).Microseconds())/1000)
		}
		f.stop()
	}
}
