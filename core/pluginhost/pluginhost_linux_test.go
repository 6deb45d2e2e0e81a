package pluginhost

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

var program string // the built test plugin

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "orsp")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "plugin")
		build := exec.Command("go", "build", "-o", program, "./testdata/plugin")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the test plugin: %v\n%s", err, out)
			return 1
		}
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// quick are limits that let a test see in a moment what takes minutes in life. What must not happen within a limit
// has a long one.
var quick = limits{
	start: 20 * time.Second, stop: 2 * time.Second, dead: 3 * time.Second,
	healthEvery: time.Hour, health: 2 * time.Second,
	recheck: time.Hour, budget: 4, window: time.Hour, backoffFirst: time.Millisecond, backoffMost: 5 * time.Millisecond,
}

// newRig makes a host with a program for each kind.
func newRig(t testing.TB, lim limits, pins map[string]Pin, kinds ...string) *Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "orsp") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{
		Dir: filepath.Join(dir, "plugins"), RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "log"),
		Server: "rocky", BootID: "boot-7", Pins: pins, KnownDir: filepath.Join(dir, "known"),
	})
	h.lim = lim
	if err := os.Mkdir(h.o.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		install(t, h, k)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if left, _ := os.ReadDir(h.o.RunDir); len(left) > 0 {
			t.Errorf("left in the run folder: %v", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return h
}

func install(t testing.TB, h *Host, kind string) {
	t.Helper()
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.program(kind), raw, 0o755); err != nil {
		t.Fatal(err)
	}
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func statusOf(t testing.TB, h *Host, kind string) PluginStatus {
	t.Helper()
	for _, s := range h.Status() {
		if s.Kind == kind && s.Application == "" {
			return s
		}
	}
	t.Fatalf("no status of %q", kind)
	return PluginStatus{}
}

func application(name, do, file string) *pluginv1.Application {
	config, _ := json.Marshal(map[string]string{"do": do, "file": file})
	return &pluginv1.Application{Group: "g", Name: name, Config: config}
}

func probe(ctx context.Context, h *Host, kind, do string) (string, error) {
	r, err := h.Probe(ctx, kind, &pluginv1.ProbeRequest{Application: application("a", do, "")})
	return r.GetDetail(), err
}

func codeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestCalls(t *testing.T) {
	t.Setenv("ORS_TEST_SECRET", "hidden")
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	s := statusOf(t, h, "good")
	if s.State != StateRunning || s.Version != "1.2.3" || s.PID == 0 || s.Detail != "" || len(s.SHA256) != 64 || s.Pinned {
		t.Fatalf("status %+v", s)
	}
	if i, err := h.Info("good"); err != nil || i.GetKind() != "good" {
		t.Fatalf("info %v, %v", i, err)
	}
	if b, err := h.Schema("good"); err != nil || b.GetAttributes()[0].GetName() != "do" {
		t.Fatalf("schema %v, %v", b, err)
	}
	app := application("a", "", "")
	if r, err := h.Validate(ctx, "good", &pluginv1.ValidateRequest{Application: app}); err != nil ||
		r.GetProblems()[0].GetSummary() != "a" {
		t.Fatalf("validate %v, %v", r, err)
	}
	q := &pluginv1.ReadyRequest{Application: app, Caller: &pluginv1.Caller{Epoch: 3}}
	if r, err := h.Ready(ctx, "good", q); err != nil || r.GetProblems()[0].GetSummary() != "rocky boot-7" {
		t.Fatalf("ready %v, %v", r, err)
	}
	if q.GetCaller().GetServer() != "" {
		t.Fatal("the caller's request was changed")
	}
	if r, err := h.Recover(ctx, "good", &pluginv1.RecoverRequest{Application: app}); err != nil ||
		r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Fatalf("recover %v, %v", r, err)
	}
	if r, err := h.Stop(ctx, "good", &pluginv1.StopRequest{Application: app}); err != nil ||
		r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Fatalf("stop %v, %v", r, err)
	}
	if r, err := h.Kill(ctx, "good", &pluginv1.KillRequest{Application: app}); err != nil ||
		r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Fatalf("kill %v, %v", r, err)
	}
	env, err := probe(ctx, h, "good", "environment")
	if err != nil || strings.Contains(env, "ORS_TEST_SECRET") || !strings.Contains(env, "ORS_SERVER=rocky") ||
		!strings.Contains(env, "PATH=") {
		t.Fatalf("environment %q, %v", env, err)
	}
	sid, err := unix.Getsid(s.PID)
	if err != nil || sid != s.PID {
		t.Fatalf("session %d of pid %d, %v", sid, s.PID, err)
	}
}

func TestStartApplication(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	var steps []string
	handle, err := h.StartApplication(ctx, "good", &pluginv1.StartRequest{Application: application("a", "", "")},
		func(p *pluginv1.Progress) { steps = append(steps, p.GetStep()) })
	if err != nil || handle.GetVersion() != 1 || !slices.Equal(steps, []string{"exec"}) {
		t.Fatalf("handle %v, steps %v, %v", handle, steps, err)
	}
	_, err = h.StartApplication(ctx, "good", &pluginv1.StartRequest{Application: application("no handle", "", "")}, nil)
	if codeOf(err) != CodeCall {
		t.Fatalf("a start without a handle: %v", err)
	}
	// A start that takes too long is the application's business: the plugin stays.
	pid := statusOf(t, h, "good").PID
	for range 3 {
		_, err = h.StartApplication(within(t, 50*time.Millisecond), "good",
			&pluginv1.StartRequest{Application: application("a", "hang", "")}, nil)
		if codeOf(err) != CodeHung {
			t.Fatalf("a start that hangs: %v", err)
		}
	}
	if answer, err := probe(ctx, h, "good", ""); err != nil || answer != strconv.Itoa(pid) {
		t.Fatalf("answered by %s, not %d: %v", answer, pid, err)
	}
}

func TestMutualTLS(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	in, err := h.instance("good", "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := in.acquire(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	var who peer.Peer
	if _, err := p.service.Info(ctx, &pluginv1.InfoRequest{}, grpc.Peer(&who)); err != nil {
		t.Fatal(err)
	}
	if _, ok := who.AuthInfo.(credentials.TLSInfo); !ok {
		t.Fatalf("the connection is not TLS: %T", who.AuthInfo)
	}
	info, err := os.Stat(h.sockets.path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("folder of the sockets: %v, %v", info.Mode(), err)
	}
}

// wrap makes a program that runs the installed one of a kind as a shell script says, with its path as $1.
func wrap(t testing.TB, h *Host, kind, script string) {
	t.Helper()
	inner := filepath.Join(h.o.Dir, "inner", filepath.Base(h.program(kind)))
	err := errors.Join(os.MkdirAll(filepath.Dir(inner), 0o755), os.Rename(h.program(kind), inner),
		os.WriteFile(h.program(kind), []byte("#!/bin/sh\nset -- "+inner+"\n"+script+"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
}

// TestWithoutTLS: a plugin that speaks none is known by its process, which the kernel names.
func TestWithoutTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	s.Close()
	pemBytes := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.TLS.Certificates[0].Certificate[0]})
	unasked := "PLUGIN_CLIENT_CERT='" + string(pemBytes) + "' exec \"$1\""
	for _, c := range []struct {
		name, script string
		noTLS        bool
		says         string // why it is not spoken to; empty: it is
	}{
		{"as agreed", `unset PLUGIN_CLIENT_CERT; exec "$1"`, true, ""},
		{"asked for none", `exec "$1"`, true, ""},
		{"not agreed", `unset PLUGIN_CLIENT_CERT; exec "$1"`, false, "write `tls = false`"},
		{"another process serves", `setpriv --pdeathsig KILL "$1" & wait`, true, "listens on the socket, and not"},
		{"TLS though not agreed", unasked, true, "it did not say what it is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newRig(t, quick, map[string]Pin{"good": {NoTLS: c.noTLS}}, "good")
			wrap(t, h, "good", c.script)
			ctx := background(t)
			h.Start(ctx, []string{"good"})
			_, err := probe(ctx, h, "good", "")
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v; wanted: %q", err, c.says)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	tests := []struct {
		name, kind string
		pin        Pin
		prepare    func(t *testing.T, h *Host)
		state      State
		code, text string
	}{
		{name: "missing", kind: "absent", state: StateMissing, code: CodeMissing, text: "there is no program"},
		{name: "wrong hash", kind: "good", pin: Pin{SHA256: zeros}, state: StateRefused, code: CodeHash, text: zeros},
		{name: "wrong version", kind: "good", pin: Pin{Version: ">= 2.0"}, state: StateRefused, code: CodeVersion,
			text: `wants ">= 2.0"`},
		{name: "wrong kind", kind: "wrongkind", state: StateRefused, code: CodeWrongKind,
			text: `serves the kind "something"`},
		{name: "crash", kind: "crash", state: StateBackoff, code: CodeStart, text: "no licence found"},
		{name: "garbage", kind: "garbage", state: StateBackoff, code: CodeStart, text: "hello, this is no handshake"},
		{name: "hang", kind: "hang", state: StateBackoff, code: CodeStart, text: "did not start"},
		{name: "mute", kind: "mute", state: StateBackoff, code: CodeStart, text: "did not say what"},
		{name: "no program", kind: "good", state: StateBackoff, code: CodeStart, text: "exec format error",
			prepare: func(t *testing.T, h *Host) {
				if err := os.WriteFile(h.program("good"), []byte{1, 2, 3}, 0o755); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "writable file", kind: "good", state: StateRefused, code: CodeMode, text: "may be written by everybody",
			prepare: func(t *testing.T, h *Host) { chmod(t, h.program("good"), 0o757) }},
		{name: "writable folder", kind: "good", state: StateRefused, code: CodeMode, text: "chmod o-w",
			prepare: func(t *testing.T, h *Host) { chmod(t, h.o.Dir, 0o757) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // those that hang are waited for
			lim := quick
			lim.start, lim.budget = 8*time.Second, 1
			h := newRig(t, lim, map[string]Pin{tt.kind: tt.pin})
			if tt.kind != "absent" {
				install(t, h, tt.kind)
			}
			install(t, h, "fine")
			if tt.prepare != nil {
				tt.prepare(t, h)
			}
			h.Start(background(t), []string{tt.kind, "fine"})
			first, _ := h.instance(tt.kind, "")
			eventually(t, string(tt.state), func() bool { return first.status().State == tt.state })
			s := statusOf(t, h, tt.kind)
			named := fmt.Sprintf("plugin %q", tt.kind)
			if !strings.Contains(s.Detail, tt.text) || !strings.Contains(s.Detail, named) || s.PID != 0 {
				t.Fatalf("status %+v", s)
			}
			_, err := probe(background(t), h, tt.kind, "")
			want := tt.code
			if tt.state == StateBackoff {
				want = CodeBudget
			}
			if codeOf(err) != want {
				t.Fatalf("call: %v, want %s", err, want)
			}
			if tt.name != "writable folder" {
				if _, err := probe(background(t), h, "fine", ""); err != nil {
					t.Fatalf("the other plugin suffers: %v", err)
				}
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestPinned(t *testing.T) {
	sum, err := fileSum(program)
	if err != nil {
		t.Fatal(err)
	}
	h := newRig(t, quick, map[string]Pin{"good": {SHA256: strings.ToUpper(sum), Version: "~> 1.2"}}, "good")
	h.Start(background(t), []string{"good"})
	if s := statusOf(t, h, "good"); s.State != StateRunning || !s.Pinned || s.SHA256 != sum {
		t.Fatalf("status %+v", s)
	}
}

// A program that is installed later is found by the next call.
func TestInstalledLater(t *testing.T) {
	h := newRig(t, quick, nil)
	h.Start(background(t), []string{"good"})
	if s := statusOf(t, h, "good"); s.State != StateMissing {
		t.Fatalf("status %+v", s)
	}
	install(t, h, "good")
	if _, err := probe(background(t), h, "good", ""); err != nil {
		t.Fatal(err)
	}
}

func TestKilledIsRelaunched(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	h.Start(background(t), []string{"good"})
	old := statusOf(t, h, "good").PID
	signal(t, old, unix.SIGKILL)
	eventually(t, "another process runs, without a call", func() bool {
		s := statusOf(t, h, "good")
		return s.State == StateRunning && s.PID != old && s.PID != 0
	})
	if s := statusOf(t, h, "good"); s.Launches != 2 {
		t.Fatalf("status %+v", s)
	}
}

func signal(t *testing.T, pid int, s unix.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process: %d", pid)
	}
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	if s == unix.SIGSTOP { // the kernel stops a process's threads one by one
		eventually(t, "every thread is stopped", func() bool { return stopped(t, pid) })
	}
}

func stopped(t *testing.T, pid int) bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if err == nil && !strings.Contains(string(raw), ") T ") {
			return false
		}
	}
	return true
}

func TestKilledDuringCall(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	old := statusOf(t, h, "good").PID

	mark := filepath.Join(t.TempDir(), "asked")
	type answer struct {
		detail string
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := h.Probe(ctx, "good", &pluginv1.ProbeRequest{Application: application("a", "hang once", mark)})
		answered <- answer{r.GetDetail(), err}
	}()
	eventually(t, "the plugin has the call", func() bool { _, err := os.Stat(mark); return err == nil })
	signal(t, old, unix.SIGKILL)
	if a := <-answered; a.err != nil || a.detail == strconv.Itoa(old) {
		t.Fatalf("a probe is repeated by the next process: %+v", a)
	}

	// A start is not repeated: what it has left behind has to be looked at first.
	mark = filepath.Join(t.TempDir(), "asked")
	old = statusOf(t, h, "good").PID
	failed := make(chan error, 1)
	go func() {
		q := &pluginv1.StartRequest{Application: application("a", "hang once", mark)}
		_, err := h.StartApplication(ctx, "good", q, nil)
		failed <- err
	}()
	eventually(t, "the plugin has the call", func() bool { _, err := os.Stat(mark); return err == nil })
	signal(t, old, unix.SIGKILL)
	if err := <-failed; codeOf(err) != CodeCall || !strings.Contains(err.Error(), "its process ended during Start") {
		t.Fatalf("start: %v", err)
	}
}

func TestStoppedPlugin(t *testing.T) {
	t.Run("seen by calls", func(t *testing.T) {
		lim := quick
		lim.health = time.Hour // only the calls count here
		h := newRig(t, lim, nil, "good")
		h.Start(background(t), []string{"good"})
		old := statusOf(t, h, "good").PID
		signal(t, old, unix.SIGSTOP)
		for range 2 {
			_, err := probe(within(t, 100*time.Millisecond), h, "good", "")
			if code := codeOf(err); code != CodeHung && code != CodeCall {
				t.Fatalf("a call to a stopped plugin: %v", err)
			}
		}
		eventually(t, "another process runs", func() bool { s := statusOf(t, h, "good"); return s.PID != 0 && s.PID != old })
	})
	t.Run("seen by a health check after one call", func(t *testing.T) {
		h := newRig(t, quick, nil, "good")
		h.Start(background(t), []string{"good"})
		old := statusOf(t, h, "good").PID
		signal(t, old, unix.SIGSTOP)
		if _, err := probe(within(t, 100*time.Millisecond), h, "good", ""); codeOf(err) != CodeHung {
			t.Fatalf("a call to a stopped plugin: %v", err)
		}
		eventually(t, "another process runs", func() bool { s := statusOf(t, h, "good"); return s.PID != 0 && s.PID != old })
	})
	t.Run("seen without calls", func(t *testing.T) {
		lim := quick
		lim.healthEvery = 50 * time.Millisecond
		h := newRig(t, lim, nil, "good")
		h.Start(background(t), []string{"good"})
		old := statusOf(t, h, "good").PID
		signal(t, old, unix.SIGSTOP)
		eventually(t, "another process runs", func() bool { s := statusOf(t, h, "good"); return s.PID != 0 && s.PID != old })
	})
	t.Run("at close", func(t *testing.T) {
		lim := quick
		lim.stop = 100 * time.Millisecond
		h := newRig(t, lim, nil, "good")
		h.Start(background(t), []string{"good"})
		signal(t, statusOf(t, h, "good").PID, unix.SIGSTOP) // the clean-up proves that Close returns
	})
}

// A slow call is no sign of a hung plugin while others are answered.
func TestSlowCallKeepsPlugin(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	h.Start(background(t), []string{"good"})
	old := statusOf(t, h, "good").PID
	for range 3 {
		if _, err := probe(within(t, 50*time.Millisecond), h, "good", "hang"); codeOf(err) != CodeHung {
			t.Fatalf("a call that hangs: %v", err)
		}
		if answer, err := probe(background(t), h, "good", ""); err != nil || answer != strconv.Itoa(old) {
			t.Fatalf("answered by %s, not %d: %v", answer, old, err)
		}
	}
}

func TestBudgetRecovers(t *testing.T) {
	lim := quick
	lim.budget, lim.window = 3, 6*time.Second
	h := newRig(t, lim, nil, "crash")
	h.Start(background(t), []string{"crash"})
	eventually(t, "the budget is used up", func() bool { return statusOf(t, h, "crash").State == StateBackoff })
	_, err := probe(background(t), h, "crash", "")
	if codeOf(err) != CodeBudget || !strings.Contains(err.Error(), "no licence found") {
		t.Fatalf("over budget: %v", err)
	}
	if s := statusOf(t, h, "crash"); s.Launches != 3 {
		t.Fatalf("status %+v", s)
	}
	eventually(t, "tried again by itself", func() bool { return statusOf(t, h, "crash").Launches > 3 })
}

// Whoever inherits a plugin's standard output must not keep the host from seeing that the plugin is dead.
func TestChildHoldsOutput(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	old := statusOf(t, h, "good").PID
	answer, err := probe(ctx, h, "good", "leave a child")
	child, bad := strconv.Atoi(answer)
	if err != nil || bad != nil {
		t.Fatalf("%q, %v", answer, err)
	}
	fd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer func() { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) }()
	signal(t, old, unix.SIGKILL)
	eventually(t, "another process runs", func() bool { s := statusOf(t, h, "good"); return s.PID != 0 && s.PID != old })
}

func TestIsolated(t *testing.T) {
	h := newRig(t, quick, map[string]Pin{"good": {Isolate: true}}, "good")
	ctx := background(t)
	h.Start(ctx, []string{"good"})
	pids := make(map[string]bool)
	for _, name := range []string{"one", "two", "one"} {
		r, err := h.Probe(ctx, "good", &pluginv1.ProbeRequest{Application: application(name, "", "")})
		if err != nil {
			t.Fatal(err)
		}
		pids[r.GetDetail()] = true
	}
	if len(pids) != 2 {
		t.Fatalf("processes %v, want two", pids)
	}
	var names []string
	for _, s := range h.Status() {
		names = append(names, s.Application)
	}
	if !slices.Equal(names, []string{"", "g/one", "g/two"}) {
		t.Fatalf("status of %v", names)
	}
}

func TestOutputGoesToLog(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	h.Start(background(t), []string{"good"})
	if _, err := probe(background(t), h, "good", "print"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both outputs are in the log", func() bool {
		raw, _ := os.ReadFile(h.logPath("good", ""))
		return strings.Contains(string(raw), "plugin good begins") && strings.Contains(string(raw), "printed by the plugin")
	})
}

func TestClosed(t *testing.T) {
	h := newRig(t, quick, nil, "good")
	h.Start(background(t), []string{"good"})
	pid := statusOf(t, h, "good").PID
	if err := h.Close(background(t)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Fatalf("the process is still there: %v", err)
	}
	if _, err := probe(background(t), h, "good", ""); codeOf(err) != CodeClosed {
		t.Fatalf("a call after Close: %v", err)
	}
}

func TestLeftOverFolders(t *testing.T) {
	dir := t.TempDir()
	alive, err := newSocketFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := newSocketFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.lock.Close(); err != nil { // as the kernel does when its host dies
		t.Fatal(err)
	}
	next, err := newSocketFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of a dead host is left: %v", err)
	}
	if _, err := os.Stat(alive.path); err != nil {
		t.Errorf("the folder of a living host is gone: %v", err)
	}
	if err := errors.Join(alive.remove(), next.remove()); err != nil {
		t.Error(err)
	}
}

func TestNoRealTimePriority(t *testing.T) {
	done := make(chan struct{})
	go func() { // its thread ends with it: it stays locked
		defer close(done)
		runtime.LockOSThread()
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
			t.Logf("real-time priority is not to be had here: %v", err)
			return
		}
		cmd := exec.Command("sleep", "60")
		if err := atOrdinaryPriority(cmd.Start); err != nil {
			t.Error(err)
			return
		}
		a, err := unix.SchedGetAttr(cmd.Process.Pid, 0)
		if err != nil || a.Policy != unix.SCHED_NORMAL {
			t.Errorf("policy %+v, %v", a, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	<-done
}

// BenchmarkLaunch measures from launch to the first answer, mutual TLS and the program's hash included.
func BenchmarkLaunch(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		h := newRig(b, defaultLimits, nil, "good")
		begin := time.Now()
		h.Start(background(b), []string{"good"})
		if _, err := probe(background(b), h, "good", ""); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		b.StopTimer()
		if err := h.Close(background(b)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
