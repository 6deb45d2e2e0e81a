package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"

	"github.com/orscore/ors/plugins/domino/internal/nrpc"
	"github.com/orscore/ors/plugins/sdk/plugintest"
	"github.com/orscore/ors/plugins/sdk/supervise"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const (
	patience = 40 * time.Second // bounds each wait of these tests
	apollo   = "CN=Apollo/OU=Servers/O=Cpqlab"
	apollo2  = "CN=Apollo_2/OU=Servers/O=Cpqlab"
)

// users that a Debian has and that nothing runs as.
var users = []string{"games", "news"}

var programs string // folder with the plugin and the stand-in for a Domino server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: these tests run servers as other users, which needs root")
		return 0
	}
	dir, err := os.MkdirTemp("", "ors-domino-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	_ = os.Chmod(dir, 0o755)
	programs = dir
	for name, pkg := range map[string]string{"ors-plugin-domino": ".", "server": "../../lab/notes/server"} {
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

// fixture is an application with two partitions on one address, as Apollo's in the paper.
type fixture struct {
	testing.TB
	plugin *plugintest.Process
	logs   *syncBuffer
	drive  string
	ip     string
	body   map[string]any
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

var addresses struct {
	sync.Mutex
	last int
}

// protect makes the data directories of two partitions and an application of them under a plugin; at the end nothing of
// either is left. change may change the config block.
func protect(t *testing.T, change func(body map[string]any)) *fixture {
	t.Helper()
	addresses.Lock()
	addresses.last++
	n := addresses.last
	addresses.Unlock()
	drive, err := os.MkdirTemp(programs, "drive-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(drive, 0o755); err != nil {
		t.Fatal(err)
	}
	// An address for each test and process, so that no other one's server is met.
	f := &fixture{TB: t, logs: &syncBuffer{}, epoch: 1, drive: drive, ip: fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()/256%128,
		os.Getpid()%256, n)}
	f.body = map[string]any{
		"program": filepath.Join(programs, "server"),
		"partition": []map[string]any{
			{"name": apollo, "data": f.data(0), "address": f.at(0), "mapper": true, "number": 1, "user": users[0]},
			{"name": apollo2, "data": f.data(1), "address": f.at(1), "number": 2, "user": users[1]},
		},
	}
	if change != nil {
		change(f.body)
	}
	f.ini(0, "ServerName="+apollo, "TCPIP_TcpIpAddress=0,"+f.at(0), "TCPIP_PortMapping00="+apollo2+","+f.at(1))
	f.ini(1, "ServerName="+apollo2, "TCPIP_TcpIpAddress=0,"+f.at(1))
	f.app = &pluginv1.Application{
		Group: "apollo", Name: "domino", Primary: "apollo", WorkDir: t.TempDir(),
		LogFile: filepath.Join(t.TempDir(), "domino.log"),
		Drives:  []*pluginv1.Drive{{Letter: "F:", Path: drive, ConfiguredLetter: "F:"}},
	}
	f.launch()
	t.Cleanup(f.end)
	return f
}

func (f *fixture) end() {
	if f.plugin.Exited() {
		f.launch()
	}
	ctx, cancel := f.context()
	defer cancel()
	end, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		f.Errorf("clean up: %v, %v", end, err)
	}
	if err := f.plugin.Close(); err != nil {
		f.Error(err)
	}
	if f.Failed() {
		f.Log(f.logs.String())
	}
}

func (f *fixture) data(i int) string { return filepath.Join(f.drive, "data"+strconv.Itoa(i+1)) }

func (f *fixture) at(i int) string {
	return net.JoinHostPort(f.ip, []string{"1352", "13520"}[i])
}

// ini writes the notes.ini of a partition, and what else belongs into its data directory.
func (f *fixture) ini(i int, lines ...string) {
	f.Helper()
	dir := f.data(i)
	u, err := supervise.LookupUser(users[i])
	if err != nil {
		f.Fatal(err)
	}
	text := "[Notes]\r\nDirectory=" + dir + "\r\nKeyFilename=server.id\r\nServerSetup=851\r\nPorts=TCPIP\r\n" +
		"TCPIP=TCP, 0, 15, 0\r\nTRANSLOG_Status=1\r\nTRANSLOG_Path=logdir\r\n" + strings.Join(lines, "\r\n") + "\r\n"
	for _, step := range []func() error{
		func() error { return os.MkdirAll(dir, 0o755) },
		func() error { return os.Chown(dir, int(u.UID), int(u.GID)) },
		func() error { return os.WriteFile(filepath.Join(dir, "server.id"), []byte("id"), 0o644) },
		func() error { return os.WriteFile(filepath.Join(dir, "notes.ini"), []byte(text), 0o644) },
		func() error { return os.Chown(filepath.Join(dir, "notes.ini"), int(u.UID), int(u.GID)) },
	} {
		if err := step(); err != nil {
			f.Fatal(err)
		}
	}
}

// launch starts the plugin, with shared memory of its own, so that what is cleared away is not this machine's, and with
// more of its own.
func (f *fixture) launch(more ...string) {
	f.Helper()
	command := slices.Concat([]string{"unshare", "--ipc"}, more, []string{filepath.Join(programs, "ors-plugin-domino")})
	p, err := plugintest.Start(f.logs, command...)
	if err != nil {
		f.Fatalf("%v\n%s", err, f.logs)
	}
	f.plugin = p
	ctx, cancel := f.context()
	defer cancel()
	s, err := p.Schema(ctx, &pluginv1.SchemaRequest{})
	if err != nil {
		f.Fatal(err)
	}
	if f.app.Config, err = plugintest.Config(s.GetSchema(), f.body); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (f *fixture) caller() *pluginv1.Caller {
	f.ops++
	return &pluginv1.Caller{Server: "apollo", BootId: "b", Epoch: f.epoch, OperationId: fmt.Sprintf("op-%d", f.ops)}
}

func (f *fixture) tryStart() (plugintest.Started, error) {
	ctx, cancel := f.context()
	defer cancel()
	s, err := f.plugin.StartApplication(ctx, &pluginv1.StartRequest{Caller: f.caller(), Application: f.app, Previous: f.handle})
	if err == nil {
		f.handle = s.Handle
	}
	return s, err
}

func (f *fixture) start() plugintest.Started {
	f.Helper()
	s, err := f.tryStart()
	if err != nil {
		f.Fatalf("start: %v\nsteps: %q", err, s.Texts)
	}
	return s
}

// refuses wants a start to fail with words, and nothing of it to be left.
func (f *fixture) refuses(words string) {
	f.Helper()
	if s, err := f.tryStart(); err == nil || !strings.Contains(err.Error(), words) {
		f.Errorf("the start said %v, want %q; steps %q", err, words, s.Texts)
	}
	if st := f.recover(); st.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		f.Errorf("left behind: %v", st)
	}
}

func (f *fixture) recover() *pluginv1.RecoverResponse {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Recover(ctx, &pluginv1.RecoverRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) probe() *pluginv1.ProbeResponse {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r, err := f.plugin.Probe(ctx, &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// healthIs probes until the answer is as wanted and holds the words.
func (f *fixture) healthIs(want pluginv1.Health, words string) {
	f.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		r := f.probe()
		if r.GetHealth() == want && strings.Contains(r.GetDetail(), words) {
			return
		}
		if time.Now().After(end) {
			f.Fatalf("health is %v, want %v with %q", r, want, words)
		}
	}
}

func (f *fixture) stop(within time.Duration) *pluginv1.StopResponse {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// pid of a partition's server, as it has written it down.
func (f *fixture) pid(i int) int {
	f.Helper()
	b, err := os.ReadFile(filepath.Join(f.data(i), "pid.nbf"))
	if err != nil {
		f.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		f.Fatal(err)
	}
	return pid
}

// ipc counts the pieces of shared memory and semaphores that the servers' users have.
func (f *fixture) ipc() int {
	f.Helper()
	out, err := exec.Command("nsenter", fmt.Sprintf("--ipc=/proc/%d/ns/ipc", f.plugin.PID), "cat", "/proc/sysvipc/shm",
		"/proc/sysvipc/sem").Output()
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "perms") {
			n++
		}
	}
	return n
}

func (f *fixture) named(i int) string {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	name, err := nrpc.Ask(ctx, f.at(i))
	if err != nil {
		f.Errorf("partition %d: %v", i, err)
	}
	return name
}

func hasStep(s plugintest.Started, step, words string) bool {
	for i := range s.Steps {
		if s.Steps[i] == step && strings.Contains(s.Texts[i], words) {
			return true
		}
	}
	return false
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	s := f.start()
	mapper, mapped := -1, -1
	for i, text := range s.Texts {
		if s.Steps[i] == "consistency check" && strings.HasPrefix(text, apollo+" is open") {
			mapper = i
		}
		if s.Steps[i] == "exec" && strings.HasPrefix(text, apollo2) {
			mapped = i
		}
	}
	if mapper < 0 || mapped < mapper || !hasStep(s, "exec", "as partition 2, under user "+users[1]) {
		t.Errorf("the port mapper does not come first: %q", s.Texts)
	}
	if a, b := f.named(0), f.named(1); a != apollo || b != apollo2 {
		t.Errorf("they are named %q and %q", a, b)
	}
	f.healthIs(pluginv1.Health_HEALTH_OK, apollo2+" answers at "+f.at(1))
	pids := []int{f.pid(0), f.pid(1)}
	if n := f.ipc(); n != 4 {
		t.Errorf("%d pieces of shared memory and semaphores", n)
	}
	for _, name := range []string{"domino.apollo-*.log", "domino.apollo_2-*.log"} {
		logs, err := filepath.Glob(filepath.Join(filepath.Dir(f.app.GetLogFile()), name))
		if err != nil || len(logs) != 1 {
			t.Errorf("consoles %s: %v, %v", name, logs, err)
		}
	}

	again := f.start()
	if hasStep(again, "exec", "") || f.pid(0) != pids[0] {
		t.Errorf("started twice: %q", again.Texts)
	}
	if err := syscall.Kill(f.plugin.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/ipc", pids[0]))
	if err != nil || ns == "" {
		t.Fatal("the servers died with their plugin")
	}
	_ = f.plugin.Close()
	f.launch()
	r := f.recover()
	if r.GetState() != pluginv1.RunState_RUN_STATE_RUNNING || f.pid(0) != pids[0] || f.pid(1) != pids[1] {
		t.Errorf("recovered: %v", r)
	}
	f.handle = r.GetHandle()
	f.healthIs(pluginv1.Health_HEALTH_OK, apollo)

	if end := f.stop(patience); end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Errorf("stop: %v", end)
	}
	for i := range 2 {
		for _, name := range []string{"~notes.lck", "pid.nbf", "lab.running"} {
			if _, err := os.Stat(filepath.Join(f.data(i), name)); err == nil {
				t.Errorf("partition %d has not ended in order: %s is left", i, name)
			}
		}
	}
	if end := f.stop(patience); end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Errorf("stop of what is stopped: %v", end)
	}
	if r := f.recover(); r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Errorf("after the stop: %v", r)
	}
}

// TestTakeover: a server that was cut off has left locks and open databases. The locks are removed, the check takes its
// time, and steps tell how long.
func TestTakeover(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	f.ini(1, "ServerName="+apollo2, "TCPIP_TcpIpAddress=0,"+f.at(1), "LAB_ConsistencyCheck=2600")
	u, err := supervise.LookupUser(users[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"~notes.lck", "pid.nbf", ".jsc_lock", "shm.nbf", "lab.running"} {
		if err := os.WriteFile(filepath.Join(f.data(1), name), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(f.data(1), name), int(u.UID), int(u.GID)); err != nil {
			t.Fatal(err)
		}
	}
	s := f.start()
	for step, words := range map[string]string{
		"locks":             "removed: ~notes.lck, .jsc_lock, pid.nbf, shm.nbf. Drive F: is this server's under epoch 1",
		"consistency check": "so far. Its console: ",
		"ready":             "All servers",
	} {
		if !hasStep(s, step, words) {
			t.Errorf("no step %q with %q in %q", step, words, s.Texts)
		}
	}
	if !hasStep(s, "consistency check", "Performing consistency check on mail") {
		t.Errorf("the console is not shown: %q", s.Texts)
	}
	f.healthIs(pluginv1.Health_HEALTH_OK, apollo2)
}

// copyOfServer is the program under another path, as in another version of it.
func copyOfServer(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(programs, "server"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(programs, "other-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bin", "server2")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLiveServer: a server that somebody else has started in the data directory is no leftover, whoever it runs as and
// whichever program it is.
func TestLiveServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		program func(t *testing.T) string
		user    string
	}{
		"the same":       {func(*testing.T) string { return filepath.Join(programs, "server") }, users[1]},
		"another user's": {copyOfServer, "backup"},
	} {
		t.Run(name, func(t *testing.T) { liveServer(t, c.program(t), c.user) })
	}
}

func liveServer(t *testing.T, program, userName string) {
	t.Helper()
	f := protect(t, func(b map[string]any) { b["edit_ini"] = true })
	u, err := supervise.LookupUser(userName)
	if err == nil {
		err = os.Chmod(f.data(1), 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	byHand := exec.Command(program)
	byHand.Dir = f.data(1)
	byHand.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWIPC}
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = byHand.Process.Kill()
		_ = byHand.Wait()
	}()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		name, _ := nrpc.Ask(ctx, f.at(1))
		cancel()
		if name == apollo2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the other server does not come up")
		}
	}
	if r := f.recover(); !strings.Contains(r.GetDetail(), fmt.Sprintf("But process %d (%s, user %s) works in ",
		byHand.Process.Pid, program, userName)) {
		t.Errorf("recovered as %v", r)
	}
	f.refusesBeside(byHand.Process.Pid)
	if r := f.recover(); r.GetState() != pluginv1.RunState_RUN_STATE_UNKNOWN {
		t.Errorf("recovered as %v", r)
	}
	ctx, cancel := f.context()
	defer cancel()
	for name, ended := range map[string]func() (pluginv1.RunState, error){
		"stop": func() (pluginv1.RunState, error) {
			r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app})
			return r.GetState(), err
		},
		"kill": func() (pluginv1.RunState, error) {
			r, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app})
			return r.GetState(), err
		},
	} {
		if state, err := ended(); err != nil || state != pluginv1.RunState_RUN_STATE_UNKNOWN {
			t.Errorf("%s while it works there: %v, %v", name, state, err)
		}
	}
	if _, err := os.Stat(filepath.Join(f.data(1), "~notes.lck")); err != nil {
		t.Errorf("its lock is gone: %v", err)
	}
	if f.named(1) != apollo2 {
		t.Error("it was harmed")
	}
}

// TestStorageHangs: whether a process works in a directory that answers no look cannot be told, and nothing waits for it. The
// directory is on a file system in user space whose program answers nothing, which only the plugin sees.
func TestStorageHangs(t *testing.T) {
	t.Parallel()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	f := protect(t, nil)
	if err := f.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	f.launch("--mount")
	hang := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", f.plugin.PID), "mount", "-i", "-t", "fuse", "-o",
		"fd=3,rootmode=40000,user_id=0,group_id=0", "hung", f.data(1))
	hang.ExtraFiles = []*os.File{fuse}
	if out, err := hang.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := f.context()
	defer cancel()
	words := "whether a process works in " + f.data(1) + " cannot be told"
	began := time.Now()
	r := f.recover()
	if r.GetState() != pluginv1.RunState_RUN_STATE_UNKNOWN || !strings.Contains(r.GetDetail(), words) {
		t.Errorf("recovered as %v", r)
	}
	k, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app}) // the first look is still under way
	if err != nil || k.GetState() != pluginv1.RunState_RUN_STATE_UNKNOWN || !strings.Contains(k.GetDetail(), words) {
		t.Errorf("killed: %v, %v", k, err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	if err := fuse.Close(); err != nil { // the last one: now each look fails
		t.Fatal(err)
	}
	if r := f.recover(); r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED {
		t.Errorf("with a storage unit that has errors: %v", r)
	}
}

// TestIniIsALink: with edit_ini, root writes nothing that the server's user has linked to.
func TestIniIsALink(t *testing.T) {
	t.Parallel()
	f := protect(t, func(body map[string]any) { body["edit_ini"] = true })
	other := filepath.Join(t.TempDir(), "other.ini")
	ini := filepath.Join(f.data(1), "notes.ini")
	text, err := os.ReadFile(ini)
	if err == nil {
		err = errors.Join(os.WriteFile(other, text[:bytes.IndexByte(text, '\n')+1], 0o644), os.Remove(ini), os.Symlink(other, ini))
	}
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(other)
	f.refuses("it is a link to " + other + ", which is on no drive of the group")
	if after, err := os.ReadFile(other); err != nil || !bytes.Equal(after, before) {
		t.Errorf("it holds %q, %v", after, err)
	}
	if left, _ := filepath.Glob(other + "*"); len(left) != 1 {
		t.Errorf("beside it: %v", left)
	}
}

// TestLiveServerOfAnotherUser: whoever works in the data directory without a terminal may be its server. Who looks around
// there on a terminal is none.
func TestLiveServerOfAnotherUser(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	const games = 5
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = master.Close(), terminal.Close() }()
	work := func(attr syscall.SysProcAttr) *exec.Cmd {
		t.Helper()
		c := exec.Command("sleep", "300")
		c.Dir, c.Stdin = f.data(1), terminal
		attr.Credential, attr.Pdeathsig, attr.Setsid = &syscall.Credential{Uid: games, Gid: games}, syscall.SIGKILL, true
		c.SysProcAttr = &attr
		if err := os.Chmod(f.data(1), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	visitor := work(syscall.SysProcAttr{Setctty: true})
	server := work(syscall.SysProcAttr{})
	defer func() { _, _ = visitor.Process.Kill(), visitor.Wait() }()
	if err := os.WriteFile(filepath.Join(f.data(1), "~notes.lck"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.refusesBeside(server.Process.Pid)
	if _, err := os.Stat(filepath.Join(f.data(1), "~notes.lck")); err != nil {
		t.Errorf("its lock is gone: %v", err)
	}
	_, _ = server.Process.Kill(), server.Wait()
	f.start()
	f.stop(patience)
}

// refusesBeside wants a start to be refused because a process works in the data directory of the second partition.
func (f *fixture) refusesBeside(pid int) {
	f.Helper()
	who, what := fmt.Sprintf("process %d (", pid), fmt.Sprintf(") works in %s and was not started by ORS", f.data(1))
	if _, err := f.tryStart(); err == nil || !strings.Contains(err.Error(), who) || !strings.Contains(err.Error(), what) {
		f.Errorf("start: %v, want %q with %q", err, who, what)
	}
}

func TestNotesIni(t *testing.T) {
	t.Parallel()
	wrong := []string{"ServerName=" + apollo2, "tcpip_tcpipaddress=0,172.25.36.99:1352", "A=\xe4=\xff"}
	for name, c := range map[string]struct {
		lines []string
		words string
	}{
		"unbound":    {[]string{"ServerName=" + apollo2}, "would listen on all addresses of the host (0.0.0.0)"},
		"misprinted": {[]string{"ServerName=" + apollo2, "TCP/IP_TcpIpAddress=0,127.0.0.1"}, "(0.0.0.0)"},
		"elsewhere":  {wrong, `is "0,172.25.36.99:1352", not "0,`},
		"twice": {
			[]string{"ServerName=" + apollo2, "TCPIP_TcpIpAddress=0,127.0.0.1", "TCPIP_TCPIPADDRESS=0,127.0.0.2"}, "is there 2 times",
		},
		"another port": {[]string{"Ports=TCPIP2"}, "TCPIP_TcpIpAddress is missing"}, // the first line of a key counts
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, nil)
			f.ini(1, c.lines...)
			before, err := os.ReadFile(filepath.Join(f.data(1), "notes.ini"))
			if err != nil {
				t.Fatal(err)
			}
			f.refuses(c.words)
			if after, err := os.ReadFile(filepath.Join(f.data(1), "notes.ini")); err != nil || !bytes.Equal(before, after) {
				t.Errorf("notes.ini was changed without being asked: %q, %v", after, err)
			}
		})
	}
	t.Run("server.id", func(t *testing.T) {
		f := protect(t, nil)
		if err := os.Remove(filepath.Join(f.data(0), "server.id")); err != nil {
			t.Fatal(err)
		}
		f.refuses("server.id is missing")
	})
	t.Run("edited", func(t *testing.T) {
		f := protect(t, func(b map[string]any) { b["edit_ini"] = true })
		f.ini(0, "ServerName="+apollo)
		f.ini(1, wrong...)
		before, err := os.ReadFile(filepath.Join(f.data(1), "notes.ini"))
		if err != nil {
			t.Fatal(err)
		}
		s := f.start()
		if !hasStep(s, "notes.ini", "TCPIP_TcpIpAddress, TCPIP_PortMapping00 was written") {
			t.Errorf("steps %q", s.Texts)
		}
		after, err := os.ReadFile(filepath.Join(f.data(1), "notes.ini"))
		want := bytes.Replace(before, []byte("0,172.25.36.99:1352"), []byte("0,"+f.at(1)), 1)
		if err != nil || !bytes.Equal(after, want) {
			t.Errorf("notes.ini is\n%q, want\n%q, %v", after, want, err)
		}
		if old, err := os.ReadFile(filepath.Join(f.data(1), "notes.ini.before-ors")); err != nil || !bytes.Equal(old, before) {
			t.Errorf("the copy is %q, %v", old, err)
		}
	})
}

// TestNoEditForNothing: a start that is refused leaves notes.ini as it was, although an edit was asked for and there is
// something to edit.
func TestNoEditForNothing(t *testing.T) {
	t.Parallel()
	edit := func(b map[string]any) { b["edit_ini"] = true }
	toEdit := []string{"ServerName=" + apollo2, "TCPIP_TcpIpAddress=0,172.25.36.99:1352"}
	for name, c := range map[string]struct {
		more  []string
		taken bool
		words string
	}{
		"harm that stays": {[]string{"DisabledPorts=TCPIP"}, false, "port TCPIP is not among its enabled ports"},
		"port taken":      {nil, true, "its address is taken"},
	} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, edit)
			f.ini(1, append(slices.Clone(toEdit), c.more...)...)
			path := filepath.Join(f.data(1), "notes.ini")
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.taken {
				l, err := net.Listen("tcp", f.at(1))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
			}
			f.refuses(c.words)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("notes.ini is\n%q, was\n%q, %v", after, before, err)
			}
			if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
				t.Errorf("beside it: %v", left)
			}
		})
	}
}

// TestEnds: a server that does not end when it is asked is killed, and what it leaves in shared memory is cleared away.
// It is alone: nothing is cleared away while another process of the servers' users lives.
func TestEnds(t *testing.T) {
	f := protect(t, nil)
	f.ini(1, "ServerName="+apollo2, "TCPIP_TcpIpAddress=0,"+f.at(1), "LAB_Deaf=1")
	f.start()
	end := f.stop(4 * time.Second)
	if end.GetState() != pluginv1.RunState_RUN_STATE_STOPPED ||
		!strings.Contains(end.GetDetail(), "2 pieces of its shared memory, semaphores and queues were removed") {
		t.Errorf("stop: %v", end)
	}
	if n := f.ipc(); n != 0 {
		t.Errorf("%d pieces of shared memory and semaphores are left", n)
	}
	f.handle = nil
	f.start() // its locks are those of a run that was cut off
	ctx, cancel := f.context()
	defer cancel()
	k, err := f.plugin.Kill(ctx, &pluginv1.KillRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || k.GetState() != pluginv1.RunState_RUN_STATE_STOPPED || f.ipc() != 0 {
		t.Errorf("kill: %v, %v; %d pieces are left", k, err, f.ipc())
	}
}

// TestFailure: whose work it is to restart a server decides what a probe makes of one that is gone.
// TestOnePartitionHangs: a server that does not end is killed, and leaves its port mapper the time to end in order.
func TestOnePartitionHangs(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	f.start()
	if err := syscall.Kill(f.pid(1), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r := f.stop(12 * time.Second)
	mapper, mapped, _ := strings.Cut(r.GetDetail(), apollo2)
	if !strings.Contains(mapper, "exit code 0") || !strings.Contains(mapped, "SIGKILL") {
		t.Errorf("stopped: %s", r.GetDetail())
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	for who, want := range map[string]pluginv1.Health{
		"domino": pluginv1.Health_HEALTH_UNKNOWN, "ors": pluginv1.Health_HEALTH_FAILED,
	} {
		t.Run(who, func(t *testing.T) {
			f := protect(t, func(b map[string]any) { b["on_failure"] = who })
			f.start()
			if err := syscall.Kill(f.pid(1), syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			f.healthIs(pluginv1.Health_HEALTH_UNKNOWN, "it takes the connection and does not answer")
			if err := syscall.Kill(f.pid(1), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			f.healthIs(want, apollo2+" has ended.")
			if said := f.probe().GetDetail(); strings.Contains(said, "left to Domino's fault recovery") != (who == "domino") {
				t.Errorf("the probe said %q", said)
			}
			if r := f.recover(); r.GetState() != pluginv1.RunState_RUN_STATE_RUNNING {
				t.Errorf("its neighbour runs, and recover says %v", r)
			}
			f.start()
			f.healthIs(pluginv1.Health_HEALTH_OK, apollo2)
		})
	}
}

// TestStartCutShort: a plugin that is killed while the port mapper checks its databases has not started the other
// partition. The probe says that it failed, whoever restarts servers, and the next start finishes it.
func TestStartCutShort(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	f.ini(0, "ServerName="+apollo, "TCPIP_TcpIpAddress=0,"+f.at(0), "TCPIP_PortMapping00="+apollo2+","+f.at(1),
		"LAB_ConsistencyCheck=2000")
	crashed := filepath.Join(f.data(0), "lab.running")
	if err := errors.Join(os.WriteFile(crashed, nil, 0o666), os.Chmod(crashed, 0o666)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.tryStart()
	}()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(f.data(0), "pid.nbf")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the port mapper does not run")
		}
	}
	if err := syscall.Kill(f.plugin.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-done
	_ = f.plugin.Close()
	f.launch()
	r := f.recover()
	if r.GetState() != pluginv1.RunState_RUN_STATE_RUNNING {
		t.Fatalf("recover: %v", r)
	}
	f.handle = r.GetHandle()
	f.healthIs(pluginv1.Health_HEALTH_FAILED, apollo2+" has ended. It was never started")
	f.start()
	f.healthIs(pluginv1.Health_HEALTH_OK, apollo2)
}

// TestWhoAnswers: up is not the same as the right one.
func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	t.Run("another name", func(t *testing.T) {
		f := protect(t, nil)
		f.ini(1, "ServerName=CN=Other/O=Cpqlab", "TCPIP_TcpIpAddress=0,"+f.at(1))
		f.refuses("another server answers: CN=Other/O=Cpqlab")
	})
	t.Run("no name", func(t *testing.T) {
		f := protect(t, nil)
		f.ini(1, "ServerName="+apollo2, "TCPIP_TcpIpAddress=0,"+f.at(1), "LAB_Nameless=1")
		f.start()
		f.healthIs(pluginv1.Health_HEALTH_OK, "that does not say its name: up, unverified")
	})
	t.Run("not asked", func(t *testing.T) {
		f := protect(t, func(b map[string]any) { b["probe"] = "tcp" })
		f.start()
		f.healthIs(pluginv1.Health_HEALTH_OK, "which server it is was not asked")
	})
	t.Run("taken", func(t *testing.T) {
		f := protect(t, nil)
		l, err := net.Listen("tcp", f.at(1))
		if err != nil {
			t.Fatal(err)
		}
		f.refuses("its address is taken")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		f.start()
	})
	t.Run("address elsewhere", func(t *testing.T) {
		f := protect(t, func(b map[string]any) {
			b["partition"] = b["partition"].([]map[string]any)[:1]
			b["partition"].([]map[string]any)[0]["address"] = "203.0.113.7:1352"
		})
		f.ini(0, "ServerName="+apollo, "TCPIP_TcpIpAddress=0,203.0.113.7:1352")
		f.refuses("203.0.113.7 is not on this server: start it after")
	})
	t.Run("http", func(t *testing.T) {
		status := make(chan int, 100)
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-status) }))
		defer web.Close()
		f := protect(t, func(b map[string]any) {
			b["on_failure"] = "ors"
			b["partition"].([]map[string]any)[0]["http"] = web.URL
		})
		f.start()
		status <- http.StatusUnauthorized
		f.healthIs(pluginv1.Health_HEALTH_OK, "So does its HTTP task")
		status <- http.StatusServiceUnavailable
		f.healthIs(pluginv1.Health_HEALTH_FAILED, "503")
	})
}

// TestReady: what is on the drive is looked at when it is there, and only then.
func TestReady(t *testing.T) {
	t.Parallel()
	f := protect(t, nil)
	ask := func() []string {
		ctx, cancel := f.context()
		defer cancel()
		r, err := f.plugin.Ready(ctx, &pluginv1.ReadyRequest{Caller: f.caller(), Application: f.app})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range r.GetProblems() {
			if p.GetSeverity() == pluginv1.Problem_SEVERITY_ERROR {
				all = append(all, p.GetAttribute()+": "+p.GetSummary())
			}
		}
		return all
	}
	if got := ask(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	f.ini(1, "ServerName="+apollo2, "TRANSLOG_Path=/var/translog", "TCPIP_PortMapping00="+apollo+","+f.at(0))
	got := ask()
	for _, words := range []string{"partition[1].data: " + f.data(1) + "/notes.ini: TCPIP_TcpIpAddress is missing", "lines that only a port mapper has"} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, words) }) {
			t.Errorf("%q is not among %q", words, got)
		}
	}
	for i := range 2 {
		if err := os.RemoveAll(f.data(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(); len(got) > 0 {
		t.Errorf("with the drive away: %q", got)
	}
}
