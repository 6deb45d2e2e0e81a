//go:build unix

package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/store"
)

// agent is the other side: what the control API asks. It is a scripted Backend over a real journal.
type agent struct {
	control.Broadcast
	store *store.Store

	mu     sync.Mutex
	status control.Status
	moved  []control.MoveRequest
	hold   chan struct{} // Move waits for it when not nil
	ended  chan error    // receives how Move's context stood when it returned
}

func (a *agent) Status(context.Context) control.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *agent) set(change func(*control.Status)) {
	a.mu.Lock()
	change(&a.status)
	a.mu.Unlock()
	a.Notify()
}

func (a *agent) Move(ctx context.Context, r control.MoveRequest, step func(control.MoveProgress)) error {
	if r.To == "nobody" {
		return errors.Join(control.ErrRefused, errors.New("ORS-7010: no such server"))
	}
	a.mu.Lock()
	a.moved = append(a.moved, r)
	a.mu.Unlock()
	step(control.MoveProgress{Group: "rocky", Step: "asked", Text: "asked"})
	if a.hold != nil {
		<-a.hold
	}
	step(control.MoveProgress{At: 1500 * time.Millisecond, Group: "rocky", Step: "done", Finished: true, Moved: true})
	if a.ended != nil {
		a.ended <- ctx.Err()
	}
	return nil
}

func (a *agent) Map(_ context.Context, drive string) ([]string, error) {
	return []string{"wrote " + drive}, nil
}

func (a *agent) Mode(_ context.Context, r control.ModeRequest) (string, error) {
	text := "mode"
	if r.Disabled != nil {
		text += fmt.Sprintf(" disabled=%v", *r.Disabled)
	}
	if r.Maintenance != nil {
		text += fmt.Sprintf(" maintenance=%v", *r.Maintenance)
	}
	return text + " " + r.Reason, nil
}

func (a *agent) UpgradePlugin(_ context.Context, kind string) (string, error) {
	return kind + " upgraded", nil
}

func (a *agent) Restart(_ context.Context, r control.RestartRequest) (string, error) {
	return fmt.Sprintf("back within %v %s %s", r.Within, r.Reason, r.Program), nil
}

func (a *agent) Clear(_ context.Context, group string) (string, error) {
	return "cleared " + group, nil
}

func (a *agent) Shutdown(_ context.Context, reason string, tell func(string)) error {
	tell("stopping: " + reason)
	return nil
}

func (a *agent) Journal() control.Journal { return a.store }

// serve runs an agent's control API until the test ends.
func serve(t *testing.T, a *agent, p control.Permission) string {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	a.store = st
	dir, err := os.MkdirTemp("", "ors-control-")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "run", "control.sock")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, socket, p, a, hclog.NewNullLogger()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is left behind")
		}
		if err := errors.Join(st.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
			return socket
		}
		select {
		case err := <-done:
			done <- err
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func dial(t *testing.T, socket string) *control.Client {
	t.Helper()
	c, err := control.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestMain(m *testing.M) {
	if socket := os.Getenv("ORS_TEST_ASK"); socket != "" {
		os.Exit(ask(socket))
	}
	goleak.VerifyTestMain(m)
}

// ask is the test program run as another user: it looks, then tries to change something.
func ask(socket string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := control.Dial(ctx, socket)
	if err != nil {
		println("dial:", err.Error())
		return 3
	}
	defer c.Close()
	_, look := c.Status(ctx)
	_, act := c.Clear(ctx, "rocky")
	watch := c.Watch(ctx, func(control.Status) error { return errors.New("seen") })
	println("look:", errors.Is(look, control.ErrNotPermitted), "act:", errors.Is(act, control.ErrNotPermitted),
		"watch:", errors.Is(watch, control.ErrNotPermitted))
	if act != nil {
		println(act.Error())
	}
	return 0
}

func TestCalls(t *testing.T) {
	a := &agent{status: control.Status{Pair: "cpqlab", Groups: []control.Group{{Name: "rocky"}}}}
	socket := serve(t, a, control.Permission{})
	c := dial(t, socket)
	st, err := c.Status(t.Context())
	if err != nil || st.Pair != "cpqlab" || st.Alarms == nil || st.Groups[0].Units == nil {
		t.Fatalf("Status = %+v, %v", st, err)
	}
	var steps []string
	err = c.Move(t.Context(), control.MoveRequest{Groups: []string{"rocky"}, Reason: "why"}, func(p control.MoveProgress) {
		steps = append(steps, p.Step+" "+p.At.String())
	})
	if err != nil || strings.Join(steps, ",") != "asked 0s,done 1.5s" {
		t.Fatalf("Move = %q, %v", steps, err)
	}
	if by := a.moved[0].By; kernelTells && !strings.HasPrefix(by, "uid ") {
		t.Errorf("By = %q", by)
	}
	if err := c.Move(t.Context(), control.MoveRequest{To: "nobody"}, nil); !errors.Is(err, control.ErrRefused) {
		t.Errorf("refused Move = %v", err)
	}
	if lines, err := c.Map(t.Context(), "E:"); err != nil || lines[0] != "wrote E:" {
		t.Errorf("Map = %q, %v", lines, err)
	}
	if text, err := c.Clear(t.Context(), "rocky"); err != nil || text != "cleared rocky" {
		t.Errorf("Clear = %q, %v", text, err)
	}
	off, hour := true, time.Hour
	text, err := c.Mode(t.Context(), control.ModeRequest{Disabled: &off, Maintenance: &hour, Reason: "why"})
	if err != nil || text != "mode disabled=true maintenance=1h0m0s why" {
		t.Errorf("Mode = %q, %v", text, err)
	}
	if text, err = c.Mode(t.Context(), control.ModeRequest{}); err != nil || text != "mode " {
		t.Errorf("Mode of nothing = %q, %v", text, err)
	}
	restart := control.RestartRequest{Within: time.Minute, Reason: "why", Program: "/p"}
	if text, err = c.Restart(t.Context(), restart); err != nil || text != "back within 1m0s why /p" {
		t.Errorf("Restart = %q, %v", text, err)
	}
	if text, err = c.UpgradePlugin(t.Context(), "generic"); err != nil || text != "generic upgraded" {
		t.Errorf("UpgradePlugin = %q, %v", text, err)
	}
	var said string
	if err := c.Shutdown(t.Context(), "test", func(s string) { said = s }); err != nil || said != "stopping: test" {
		t.Errorf("Shutdown = %q, %v", said, err)
	}
}

func TestWatch(t *testing.T) {
	a := &agent{}
	c := dial(t, serve(t, a, control.Permission{}))
	enough := errors.New("enough")
	n := 0
	err := c.Watch(t.Context(), func(st control.Status) error {
		n++
		if st.Sentence == "now" {
			return enough
		}
		a.set(func(s *control.Status) { s.Sentence = "now" })
		return nil
	})
	if !errors.Is(err, enough) || n < 2 {
		t.Fatalf("Watch = %v after %d", err, n)
	}
}

func TestEvents(t *testing.T) {
	a := &agent{}
	c := dial(t, serve(t, a, control.Permission{}))
	for range 5 {
		if err := a.store.Append(&store.Record{Kind: store.KindAgent, Data: map[string]any{"n": 1.0}}); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	take := func(r store.Record) error { got = append(got, r.Pos); return nil }
	if err := c.Events(t.Context(), control.EventsRequest{Last: 2}, take); err != nil || len(got) != 2 || got[0] != 4 {
		t.Fatalf("Events = %v, %v", got, err)
	}
	enough := errors.New("enough")
	err := c.Events(t.Context(), control.EventsRequest{After: 3, Follow: true}, func(r store.Record) error {
		if r.Pos == 5 {
			a.store.Note(store.Record{Kind: store.KindAgent})
		}
		if r.Pos == 6 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("following Events = %v", err)
	}
}

// TestMoveOutlivesOperator: what an operator has begun is finished without him.
func TestMoveOutlivesOperator(t *testing.T) {
	a := &agent{hold: make(chan struct{}), ended: make(chan error, 1)}
	c := dial(t, serve(t, a, control.Permission{}))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Move(ctx, control.MoveRequest{}, func(control.MoveProgress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Move = %v", err)
	}
	close(a.hold)
	select {
	case err := <-a.ended:
		if err != nil {
			t.Fatalf("the move's context ended with its client: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the move did not end")
	}
}

func TestStreamsEndWithAgent(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- control.Serve(ctx, socket, control.Permission{}, &agent{store: st}, hclog.NewNullLogger())
	}()
	var c *control.Client
	for c == nil {
		if c, err = control.Dial(t.Context(), socket); err != nil && !errors.Is(err, control.ErrNoAgent) {
			t.Fatal(err)
		}
	}
	defer c.Close()
	err = c.Watch(t.Context(), func(control.Status) error { cancel(); return nil })
	if err == nil || !strings.Contains(err.Error(), "ORS-7004") {
		t.Errorf("Watch = %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, control.ErrNoAgent) {
		t.Errorf("Status after the end = %v", err)
	}
}

func TestSocketPlace(t *testing.T) {
	dir := t.TempDir()
	if _, err := control.Dial(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, control.ErrNoAgent) ||
		!strings.Contains(err.Error(), "ORS-7001") {
		t.Errorf("Dial without agent = %v", err)
	}
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	live := filepath.Join(dir, "live")
	other, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file := filepath.Join(dir, "file")
	if err := errors.Join(l.Close(), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Dial(t.Context(), stale); !errors.Is(err, control.ErrNoAgent) {
		t.Errorf("Dial to a stale socket = %v", err)
	}
	for _, tc := range []struct{ name, path, want string }{
		{"live", live, "ORS-7003"},
		{"file", file, "ORS-7005"},
		{"long", filepath.Join(dir, strings.Repeat("x", 120)), "ORS-7005"},
	} {
		err := control.Serve(t.Context(), tc.path, control.Permission{}, &agent{}, hclog.NewNullLogger())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Serve = %v, want %q", tc.name, err, tc.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, stale, control.Permission{}, &agent{}, hclog.NewNullLogger()) }()
	var c *control.Client
	for deadline := time.Now().Add(10 * time.Second); c == nil && time.Now().Before(deadline); {
		c, err = control.Dial(t.Context(), stale)
	}
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	_, err = c.Status(t.Context())
	cancel()
	if err := errors.Join(err, c.Close(), <-done); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(file); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

// TestPermissions runs this test program as other users against a real socket.
func TestPermissions(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become other users")
	}
	group, err := user.LookupGroup("games")
	if err != nil {
		t.Skip("needs the system group games")
	}
	gid := atoi(t, group.Gid)
	dir, err := os.MkdirTemp("", "ors-ask-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self := filepath.Join(dir, "ask")
	raw, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(self, raw, 0o755), os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	socket := serve(t, &agent{}, control.Permission{Group: "games"})
	run := func(cred syscall.Credential) string {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "ORS_TEST_ASK="+socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &cred}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	const nobody = 65534
	for _, tc := range []struct {
		name string
		cred syscall.Credential
		want string
	}{
		{"root", syscall.Credential{}, "look: false act: false watch: false"},
		{"member", syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{gid}}, "look: false act: true watch: false"},
		{"primary group", syscall.Credential{Uid: nobody, Gid: gid}, "look: false act: true watch: false"},
		{"stranger", syscall.Credential{Uid: nobody, Gid: nobody}, "ORS-7002"},
	} {
		if out := run(tc.cred); !strings.Contains(out, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, out, tc.want)
		}
	}
	// Even where the file's mode lets a stranger in, the kernel's word keeps him out.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	out := run(syscall.Credential{Uid: nobody, Gid: nobody})
	if !strings.Contains(out, "look: true act: true watch: true") || !strings.Contains(out, "ORS-7002") {
		t.Errorf("stranger at an open socket: %q", out)
	}
}

func TestBroadcast(t *testing.T) {
	var b control.Broadcast
	c, cancel := b.Subscribe()
	b.Notify()
	b.Notify()
	<-c
	select {
	case <-c:
		t.Error("two notes that nobody took must count as one")
	default:
	}
	cancel()
	cancel()
	b.Notify()
	select {
	case <-c:
		t.Error("told after cancel")
	default:
	}
}
