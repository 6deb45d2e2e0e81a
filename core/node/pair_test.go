package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/decision"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/interconnect/udp"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/node/loop"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/directory"
	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two nodes with real stores, real directory switches and real UDP links. Only applications are the test's:
// what the plugins would run is kept in a world that outlives an agent, as applications do.
type pair struct {
	t     *testing.T
	dir   string
	conf  string
	world *world
	sides map[string]*side
	full  atomic.Bool // the disk under apollo's state directory is full
	dead  atomic.Bool // rocky's mounted drives have given up, until they are mounted anew
}

type side struct {
	name   string
	cancel context.CancelFunc
	ended  chan struct{}
	node   *Node
	links  *interconnect.Interconnect
}

// world holds what runs on each server.
type world struct {
	mu       sync.Mutex
	running  map[string]int // "server/group/app" -> pid
	pid      int
	fail     map[string]string // "server/group/app" -> why a start fails
	sick     map[string]bool
	failures map[string]int            // probes that said so
	passed   map[string]int            // probes that said otherwise
	cut      map[string]bool           // the next start is cut short: its plugin is killed when half of it runs
	finished map[string]int            // starts of what ran already
	missing  bool                      // the plugin's program is not there
	broken   func(server string) error // why nothing can be started there; nil: it can
	starts   []string
	told     []string                 // how the group had come, at each start
	leases   map[string]time.Duration // "server/group/app" -> until when it is heard; 0: without end
	both     []string                 // what was started on one server while the other's could still be heard
}

func (w *world) is(server, app string) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pid, ok := w.running[server+"/"+app]
	return pid, ok
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// apps is the Plugins of one server.
type apps struct {
	w      *world
	server string
}

func (a apps) key(p *pluginv1.Application) string {
	return a.server + "/" + p.GetGroup() + "/" + p.GetName()
}

func (a apps) Schema(string) (*pluginv1.Block, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if a.w.missing {
		return nil, errors.New("ORS-5001: there is no such program")
	}
	return &pluginv1.Block{}, nil
}

func (a apps) Ready(_ context.Context, _ string, r *pluginv1.ReadyRequest) (*pluginv1.ReadyResponse, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if why := a.w.fail[a.key(r.GetApplication())]; strings.HasPrefix(why, "not ready") {
		return &pluginv1.ReadyResponse{Problems: []*pluginv1.Problem{{Severity: pluginv1.Problem_SEVERITY_ERROR, Summary: why}}}, nil
	}
	return &pluginv1.ReadyResponse{}, nil
}

func (a apps) StartApplication(_ context.Context, _ string, r *pluginv1.StartRequest,
	progress func(*pluginv1.Progress)) (*pluginv1.Handle, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	key := a.key(r.GetApplication())
	if why := a.w.fail[key]; why != "" {
		if strings.HasPrefix(why, "in use") {
			return nil, status.Error(codes.AlreadyExists, why)
		}
		return nil, fmt.Errorf("%s", why)
	}
	if a.w.broken != nil {
		if err := a.w.broken(a.server); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(r.GetApplication().GetDrives()[0].GetPath()); err != nil {
		return nil, err // S2: the drive must be there
	}
	other := map[string]string{"rocky": "apollo", "apollo": "rocky"}[a.server] + strings.TrimPrefix(key, a.server)
	if until, ok := a.w.leases[other]; ok && a.w.running[other] != 0 && (until == 0 || bootclock.Until(until) > 0) {
		a.w.both = append(a.w.both, fmt.Sprintf("%s, for %v", other, bootclock.Until(until)))
	}
	if pid, ok := a.w.running[key]; ok {
		a.w.finished[key]++
		return &pluginv1.Handle{Version: 1, State: []byte(fmt.Sprint(pid))}, nil
	}
	a.w.pid++
	a.w.running[key] = a.w.pid
	if a.w.cut[key] {
		delete(a.w.cut, key)
		return nil, errors.New("the plugin has ended")
	}
	a.w.starts = append(a.w.starts, key)
	came := r.GetApplication().GetArrival()
	a.w.told = append(a.w.told, fmt.Sprintf("%s %s from=%s attempt=%d", key, came.GetEvent(), came.GetFrom(), came.GetAttempt()))
	progress(&pluginv1.Progress{Step: "exec", Text: "started"})
	return &pluginv1.Handle{Version: 1, State: []byte(fmt.Sprint(a.w.pid))}, nil
}

func (a apps) Recover(_ context.Context, _ string, r *pluginv1.RecoverRequest) (*pluginv1.RecoverResponse, error) {
	if _, ok := a.w.is(a.server, r.GetApplication().GetGroup()+"/"+r.GetApplication().GetName()); ok {
		return &pluginv1.RecoverResponse{State: pluginv1.RunState_RUN_STATE_RUNNING, Handle: r.GetHandle()}, nil
	}
	return &pluginv1.RecoverResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}

func (a apps) Probe(_ context.Context, _ string, r *pluginv1.ProbeRequest) (*pluginv1.ProbeResponse, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	key := a.key(r.GetApplication())
	if _, ok := a.w.running[key]; !ok || a.w.sick[key] {
		a.w.failures[key]++
		return &pluginv1.ProbeResponse{Health: pluginv1.Health_HEALTH_FAILED, Ended: !ok}, nil
	}
	a.w.passed[key]++
	return &pluginv1.ProbeResponse{Health: pluginv1.Health_HEALTH_OK}, nil
}

func (a apps) end(p *pluginv1.Application) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	delete(a.w.running, a.key(p))
}

func (a apps) Stop(_ context.Context, _ string, r *pluginv1.StopRequest) (*pluginv1.StopResponse, error) {
	a.end(r.GetApplication())
	return &pluginv1.StopResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}

func (a apps) Kill(_ context.Context, _ string, r *pluginv1.KillRequest) (*pluginv1.KillResponse, error) {
	a.end(r.GetApplication())
	return &pluginv1.KillResponse{State: pluginv1.RunState_RUN_STATE_STOPPED}, nil
}

func (a apps) Renew(_ context.Context, _ string, r *pluginv1.RenewRequest) (*pluginv1.RenewResponse, error) {
	until := time.Duration(r.GetUntilNs())
	if until != 0 && bootclock.Until(until) <= 0 {
		return nil, status.Error(codes.FailedPrecondition, "late")
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.w.leases[a.key(r.GetApplication())] = until
	return &pluginv1.RenewResponse{}, nil
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir(), sides: map[string]*side{}}
	p.world = &world{running: map[string]int{}, fail: map[string]string{}, sick: map[string]bool{}, pid: 100,
		failures: map[string]int{}, passed: map[string]int{}, cut: map[string]bool{}, finished: map[string]int{}, leases: map[string]time.Duration{}}
	t.Cleanup(func() {
		if len(p.world.both) > 0 {
			t.Errorf("started although the other server's could still be heard: %v", p.world.both)
		}
	})
	t.Cleanup(p.audit) // the last thing of a test: both agents have ended
	key := filepath.Join(p.dir, "key")
	if err := config.KeyGenerate(key); err != nil {
		t.Fatal(err)
	}
	p.conf = filepath.Join(p.dir, "config.hcl")
	group := func(name, primary, unit, letter string) string {
		return fmt.Sprintf(`
group %q {
  primary = %q
  storage %q {
    switch "directory" { path = "%s/units" }
    drive %q { filesystem = "directory" }
  }
  application "test" "app" {
    probe { interval = "100ms" }
    config {}
  }
}`, name, primary, unit, p.dir, letter)
	}
	text := fmt.Sprintf(`
pair "test" { unsafe_demo = true }
server "rocky" {}
server "apollo" {}
agent {
  state_dir  = "%[1]s/${self}/state"
  run_dir    = "%[1]s/${self}/run"
  log_dir    = "%[1]s/${self}/log"
  plugin_dir = "%[1]s"
  drive_root = "%[1]s/${self}/drives"
  realtime   = false
}
interconnect {
  interval = "100ms"
  timeout  = "1500ms"
  key_file = %[2]q
  udp "lan" { address = { rocky = "127.0.0.1:%[3]d", apollo = "127.0.0.1:%[4]d" } }
}
`, p.dir, key, freePort(t), freePort(t)) + group("one", "rocky", "u1", "E:") + group("two", "apollo", "u2", "F:")
	if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// start runs the agent of one server.
func (p *pair) start(name string) *side {
	p.t.Helper()
	c, diags := config.Load(p.conf, config.Options{Server: name})
	if diags.HasErrors() {
		p.t.Fatal(diags)
	}
	log := hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Warn, Output: testWriter{p.t}})
	st, err := store.Open(c.Agent.StateDir)
	if err != nil {
		p.t.Fatal(err)
	}
	past, err := st.Read(0, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	var sws []storage.Switch
	for _, u := range c.Units() {
		sw, err := directory.New(directory.Options{Path: u.Storage.Switch.Directory.Path, Unit: u.Storage.Name,
			Self: c.Self, Primary: c.Groups[u.Group].Primary})
		if err != nil {
			p.t.Fatal(err)
		}
		sws = append(sws, sw)
	}
	drives := drive.New(c.Agent.DriveRoot, log)
	me, peer := c.Self-1, c.Self.Other()-1
	addr := c.Interconnect.UDP[0].Address
	links, err := interconnect.New(interconnect.Options{Pair: c.Pair.Name, Self: uint8(c.Self), Key: c.Interconnect.Key,
		Interval: c.Interconnect.Interval, Timeout: c.Interconnect.Timeout, Stale: 2 * time.Second, Boot: loop.BootHash("boot"), Incarnation: st.Incarnation16(),
		Links: []interconnect.Link{udp.New("lan", addr[me], addr[peer], log)}, Log: log})
	if err != nil {
		p.t.Fatal(err)
	}
	var units []ledger.Unit
	for _, u := range c.Units() {
		units = append(units, ledger.Unit{Name: u.Storage.Name, Group: c.Groups[u.Group].Name})
	}
	rec := ledger.New(ledger.Options{Log: st.Ledger(), Self: c.Self, Servers: [2]string{"rocky", "apollo"}, Units: units,
		Boot: "boot", Incarnation: st.Incarnation()})
	n, err := New(Options{Config: c, Switches: sws, Drives: deadDrives{drives, p, name}, Plugins: apps{p.world, name},
		Store: fullDisk{st, p, name}, Ledger: rec, Decisions: st.Decisions(), Interconnect: links, Log: log, Version: "test", BootID: "boot", Incarnation: st.Incarnation(), WorkDir: filepath.Join(c.Agent.RunDir, "apps"),
		LogDir: c.Agent.LogDir, Arrivals: arrival.Newest(past)})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &side{name: name, cancel: cancel, ended: make(chan struct{}), node: n, links: links}
	n.FirstBeat()
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); _ = links.Run(ctx) }()
	go func() { defer wg.Done(); defer cancel(); _ = n.Run(ctx) }()
	go func() {
		wg.Wait()
		for _, sw := range sws {
			_ = sw.Close()
		}
		_ = drives.Close()
		rec.Close()
		_ = st.Close()
		close(s.ended)
	}()
	p.sides[name] = s
	p.t.Cleanup(s.kill)
	return s
}

// audit holds what both servers wrote down against the rule that ownership never overlaps: in every test.
func (p *pair) audit() {
	var l [2]*ledger.Ledger
	for i, name := range []string{"rocky", "apollo"} {
		var err error
		if l[i], err = ledger.Read(filepath.Join(p.dir, name, "state")); errors.Is(err, fs.ErrNotExist) {
			return // this test has one server
		} else if err != nil {
			p.t.Fatal(err)
		}
	}
	if r := ledger.Audit(l[0], l[1]); r.Verdict != ledger.Proven {
		p.t.Errorf("%s", r)
	}
	for _, name := range []string{"rocky", "apollo"} {
		p.replay(filepath.Join(p.dir, name, "state"))
	}
}

// replay makes every decision of a server again, and looks for those that its journal names.
func (p *pair) replay(dir string) {
	kept, err := store.ReadLog(dir, store.DecisionsName)
	if err != nil {
		p.t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, rec := range kept.Records {
		d, err := decision.Decode(rec)
		if err != nil {
			p.t.Fatal(err)
		}
		ids[d.ID] = true
		if r, err := d.Replay(); err != nil || !r.Identical {
			p.t.Errorf("decision %s is not made again: %v, %v\n%s", d.ID, r.Differs, err, d.Explain(r))
		}
	}
	journal, err := store.ReadLog(dir, store.JournalName)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range journal.Records {
		if r.Kind == store.KindGroup && r.ID == "" || r.ID != "" && !ids[r.ID] {
			p.t.Errorf("journal, position %d: decision %q is not on record: %+v", r.Pos, r.ID, r)
		}
	}
}

// deadDrives are drives whose filesystems can give up, as one does whose storage was away for a moment.
type deadDrives struct {
	*drive.Drives
	p    *pair
	name string
}

func (d deadDrives) Alive(ctx context.Context, m drive.Mounted) error {
	if d.name == "rocky" && d.p.dead.Load() {
		return &drive.Error{Code: drive.CodeDead, Text: "the filesystem has shut itself down"}
	}
	return d.Drives.Alive(ctx, m)
}

func (d deadDrives) Mount(ctx context.Context, s drive.Spec) (drive.Mounted, error) {
	m, err := d.Drives.Mount(ctx, s)
	if err == nil && d.name == "rocky" {
		d.p.dead.Store(false)
	}
	return m, err
}

// fullDisk is a store whose disk can be full.
type fullDisk struct {
	*store.Store
	p    *pair
	name string
}

func (f fullDisk) SaveHard(v any) error {
	if f.name == "apollo" && f.p.full.Load() {
		return errors.New("no space left on device")
	}
	return f.Store.SaveHard(v)
}

// kill ends an agent without a word, as SIGKILL would.
func (s *side) kill() {
	s.cancel()
	<-s.ended
}

// powerOff ends an agent and everything that runs on its server.
func (p *pair) powerOff(name string) {
	p.sides[name].kill()
	p.world.set(func() {
		for k := range p.world.running {
			if strings.HasPrefix(k, name+"/") {
				delete(p.world.running, k)
			}
		}
	})
	_ = os.RemoveAll(filepath.Join(p.dir, name, "run"))
	_ = os.RemoveAll(filepath.Join(p.dir, name, "drives"))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// wait waits until cond holds.
func (p *pair) wait(what string, cond func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			for _, s := range p.sides {
				st := s.node.Status(context.Background())
				p.t.Logf("%s: %s agreed=%v", s.name, st.Verdict, st.Agreed)
				for _, g := range st.Groups {
					p.t.Logf("  %s owner=%s phase=%s partner=%s units=%+v blocked=%s", g.Name, g.Owner, g.Phase, g.PartnerPhase, g.Units, g.Blocked)
				}
			}
			p.t.Fatalf("not seen in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *pair) waitRunning(server, app string) {
	p.t.Helper()
	p.wait(app+" runs on "+server, func() bool { _, ok := p.world.is(server, app); return ok })
}

func (p *pair) phase(server, group string) string {
	for _, g := range p.sides[server].node.Status(context.Background()).Groups {
		if g.Name == group {
			return g.Phase
		}
	}
	return ""
}

func (p *pair) waitPhase(server, group, phase string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%s is %s on %s", group, phase, server), func() bool { return p.phase(server, group) == phase })
}

func (p *pair) up() {
	p.t.Helper()
	p.start("rocky")
	p.start("apollo")
	p.waitPhase("rocky", "one", "Active")
	p.waitPhase("apollo", "two", "Active")
}

func (p *pair) move(server string, req control.MoveRequest) []control.MoveProgress {
	p.t.Helper()
	var got []control.MoveProgress
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := p.sides[server].node.Move(ctx, req, func(m control.MoveProgress) { got = append(got, m) }); err != nil {
		p.t.Fatal(err)
	}
	return got
}

func last(t *testing.T, steps []control.MoveProgress) control.MoveProgress {
	t.Helper()
	if len(steps) == 0 {
		t.Fatal("the move told nothing")
	}
	return steps[len(steps)-1]
}

func TestTakeoverAndFailback(t *testing.T) {
	p := newPair(t)
	p.up()
	p.powerOff("rocky")
	p.waitRunning("apollo", "one/app")
	p.waitPhase("apollo", "one", "Active")
	p.start("rocky")
	p.waitPhase("rocky", "one", "Standby")
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"one"}, Failback: true})); !m.Moved {
		t.Fatalf("failback: %+v", m)
	}
	p.waitRunning("rocky", "one/app")
	if _, ok := p.world.is("apollo", "one/app"); ok {
		t.Fatal("it still runs on apollo")
	}
	if _, ok := p.world.is("apollo", "two/app"); !ok {
		t.Fatal("apollo's own group was touched")
	}
}

func TestMoveAskedOnTheServerThatDoesNotOwn(t *testing.T) {
	p := newPair(t)
	p.up()
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"one"}})); !m.Moved {
		t.Fatalf("switchover: %+v", m)
	}
	p.waitPhase("apollo", "one", "Active")
}

func TestMoveToAServerThatIsNotReadyIsRefused(t *testing.T) {
	p := newPair(t)
	p.up()
	pid, _ := p.world.is("rocky", "one/app")
	p.world.set(func() { p.world.fail["apollo/one/app"] = "not ready: no program" })
	m := last(t, p.move("rocky", control.MoveRequest{Groups: []string{"one"}}))
	if m.Moved || !strings.Contains(m.Text, "no program") {
		t.Fatalf("a move to a server that is not ready: %+v", m)
	}
	if now, ok := p.world.is("rocky", "one/app"); !ok || now != pid {
		t.Fatal("the application was touched")
	}
}

func TestMoveThatFailsOnThePartnerComesBack(t *testing.T) {
	p := newPair(t)
	p.up()
	p.world.set(func() { p.world.fail["apollo/one/app"] = "it breaks there" })
	m := last(t, p.move("rocky", control.MoveRequest{Groups: []string{"one"}}))
	if m.Moved || !strings.Contains(m.Text, "came back") {
		t.Fatalf("a move that fails on the partner: %+v", m)
	}
	p.waitRunning("rocky", "one/app")
	p.waitPhase("rocky", "one", "Active")
}

func TestAgentRestartLeavesApplicationsAlone(t *testing.T) {
	p := newPair(t)
	p.up()
	pid, _ := p.world.is("rocky", "one/app")
	p.sides["rocky"].kill()
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
	if now, ok := p.world.is("rocky", "one/app"); !ok || now != pid {
		t.Fatalf("the application has pid %d, had %d", now, pid)
	}
}

func TestOrderlyShutdownMovesNothing(t *testing.T) {
	p := newPair(t)
	p.up()
	var told []string
	if err := p.sides["rocky"].node.Shutdown(context.Background(), "test", func(s string) { told = append(told, s) }); err != nil {
		t.Fatal(err, told)
	}
	<-p.sides["rocky"].ended
	p.wait("apollo knows that rocky has left", func() bool {
		return p.sides["apollo"].node.Status(context.Background()).Verdict == failover.VerdictLeft.String()
	})
	time.Sleep(3 * time.Second) // two time-outs in which nothing may happen
	if _, ok := p.world.is("apollo", "one/app"); ok {
		t.Fatal("an orderly shutdown was taken for a failure")
	}
	p.start("rocky")
	p.waitPhase("rocky", "one", "Active")
}

func TestFailedApplicationIsRestartedInPlaceThenMoves(t *testing.T) {
	p := newPair(t)
	p.up()
	pid, _ := p.world.is("rocky", "one/app")
	p.world.set(func() { delete(p.world.running, "rocky/one/app") })
	p.wait("a restart in place", func() bool { now, ok := p.world.is("rocky", "one/app"); return ok && now != pid })
	p.waitPhase("rocky", "one", "Active")
	p.world.set(func() { p.world.sick["rocky/one/app"] = true })
	p.waitPhase("apollo", "one", "Active")
}

// Without a record nothing is done: an agent whose state directory is full takes nothing over, says so, and does when
// it can.
func TestFullDiskUnderTheStateRefusesToAct(t *testing.T) {
	p := newPair(t)
	p.up()
	p.full.Store(true)
	p.powerOff("rocky")
	p.wait("apollo says that it cannot write", func() bool {
		for _, a := range p.sides["apollo"].node.Status(context.Background()).Alarms {
			if a.Code == "ORS-1030" {
				return true
			}
		}
		return false
	})
	time.Sleep(2 * time.Second)
	if _, ok := p.world.is("apollo", "one/app"); ok {
		t.Fatal("it acted without a record")
	}
	if _, ok := p.world.is("apollo", "two/app"); !ok {
		t.Fatal("what ran was touched")
	}
	p.full.Store(false)
	p.waitPhase("apollo", "one", "Active")
}

// A server that cannot record what it does is not ready to take a group, and gives none away. When there is room again it finds out by
// itself, also where nothing is left to be written: the alarm ends.
func TestFullDiskIsNoticedToHaveRoomAgain(t *testing.T) {
	p := newPair(t)
	p.up()
	alarmed := func() bool {
		for _, a := range p.sides["apollo"].node.Status(context.Background()).Alarms {
			if a.Code == "ORS-1030" {
				return true
			}
		}
		return false
	}
	p.full.Store(true)
	m := last(t, p.move("rocky", control.MoveRequest{Groups: []string{"one"}}))
	if m.Moved || m.Code != "ORS-1021" || !strings.Contains(m.Text, "state directory") {
		t.Fatalf("it moved to a server that can record nothing: %+v", m)
	}
	if p.phase("rocky", "one") != "Active" {
		t.Fatal("the group was touched")
	}
	p.wait("apollo says that it cannot write", alarmed)
	for _, asked := range []string{"apollo", "rocky"} {
		m = last(t, p.move(asked, control.MoveRequest{Groups: []string{"two"}}))
		if m.Moved || m.Code != "ORS-1020" || !strings.Contains(m.Text, "state directory") {
			t.Fatalf("asked on %s: a server that can record nothing gave a group away: %+v", asked, m)
		}
		if p.phase("apollo", "two") != "Active" {
			t.Fatalf("asked on %s: the group was touched", asked)
		}
	}
	p.full.Store(false) // nothing is left that apollo would want to write
	p.wait("the alarm's end", func() bool { return !alarmed() })
}

// A unit whose drive cannot be mounted blocks its own group, says why and what is next, and leaves the others alone;
// an operator's clear tries at once.
func TestUnitThatCannotBeMounted(t *testing.T) {
	p := newPair(t)
	p.up()
	inTheWay := filepath.Join(p.dir, "apollo", "drives", "E")
	if err := os.MkdirAll(filepath.Join(inTheWay, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.powerOff("rocky")
	var blocked control.Group
	p.wait("group one is blocked", func() bool {
		for _, g := range p.sides["apollo"].node.Status(context.Background()).Groups {
			if g.Name == "one" {
				blocked = g
			}
		}
		return blocked.Blocked != "" && blocked.Phase == "Standby"
	})
	if !strings.Contains(blocked.Blocked, "drive E:") || !strings.Contains(blocked.Next, "orscore clear one") {
		t.Fatalf("blocked %q, next %q", blocked.Blocked, blocked.Next)
	}
	if _, ok := p.world.is("apollo", "two/app"); !ok {
		t.Fatal("the other group was touched")
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sides["apollo"].node.Clear(context.Background(), "one"); err != nil {
		t.Fatal(err)
	}
	p.waitPhase("apollo", "one", "Active")
}

// A plugin that is missing lets its groups wait, says so, and does not leave them half stopped; when it is there they
// come up.
func TestPluginMissing(t *testing.T) {
	p := newPair(t)
	p.world.set(func() { p.world.missing = true })
	p.start("rocky")
	p.start("apollo")
	p.wait("group one says why it does not come up", func() bool {
		for _, g := range p.sides["rocky"].node.Status(context.Background()).Groups {
			if g.Name == "one" {
				return strings.Contains(g.Blocked, "ORS-5001") && g.Phase == "Starting"
			}
		}
		return false
	})
	p.world.set(func() { p.world.missing = false })
	for _, s := range p.sides {
		for _, g := range []string{"one", "two"} {
			if _, err := s.node.Clear(context.Background(), g); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.wait("both groups run somewhere", func() bool {
		running := 0
		for _, s := range p.sides {
			for _, g := range s.node.Status(context.Background()).Groups {
				if g.Phase == "Active" {
					running++
				}
			}
		}
		return running == 2
	})
}

// Two servers with different keys do not hear each other, claim nothing, and say why.
func TestDifferentKeysAreSaid(t *testing.T) {
	p := newPair(t)
	p.start("rocky")
	key := filepath.Join(p.dir, "key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := config.KeyGenerate(key); err != nil {
		t.Fatal(err)
	}
	p.start("apollo")
	for _, server := range []string{"rocky", "apollo"} {
		p.wait(server+" says that the keys differ", func() bool {
			for _, a := range p.sides[server].node.Status(context.Background()).Alarms {
				if a.Code == "ORS-3001" {
					return true
				}
			}
			return false
		})
	}
	if len(p.world.starts) > 0 {
		t.Fatalf("started: %v", p.world.starts)
	}
}

// A map file that cannot be written is said, and the drive works all the same.
func TestUnwritableMapFileIsSaid(t *testing.T) {
	p := newPair(t)
	// The unit's first use makes its folder; a folder in the map file's place cannot be replaced by a file.
	p.up()
	p.powerOff("rocky")
	p.waitPhase("apollo", "one", "Active")
	inTheWay := filepath.Join(p.dir, "units", "u1", "port3", drive.MapFileName)
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(inTheWay, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.start("rocky")
	p.waitPhase("rocky", "one", "Standby")
	if m := last(t, p.move("apollo", control.MoveRequest{Groups: []string{"one"}, Failback: true})); !m.Moved {
		t.Fatalf("failback: %+v", m)
	}
	p.wait("rocky says that the map file cannot be written", func() bool {
		for _, a := range p.sides["rocky"].node.Status(context.Background()).Alarms {
			if a.Group == "one" && strings.HasPrefix(a.Code, "ORS-41") {
				return true
			}
		}
		return false
	})
}
