package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	Main()
	if pid := os.Getenv(tracerEnv); pid != "" {
		fmt.Println(trace(pid))
		os.Exit(1)
	}
	code := m.Run()
	// A supervisor is reaped a moment after its run is over; under the race detector that takes a second.
	for end := time.Now().Add(patience); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func spec(t *testing.T, argv ...string) Spec {
	t.Helper()
	dir := t.TempDir()
	return Spec{
		Dir: filepath.Join(dir, "supervisor"), Name: "group/app", Argv: argv, Env: []string{"PATH=" + os.Getenv("PATH")},
		Log: filepath.Join(dir, "log"),
	}
}

func start(t *testing.T, s Spec) *Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := Start(ctx, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if st := r.Kill(ctx); st.State != Stopped {
			t.Errorf("clean up: %+v", st)
		}
	})
	return r
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s did not come within %v", what, patience)
		}
	}
}

func TestExitIsOnRecord(t *testing.T) {
	for script, want := range map[string]Exit{
		"exit 7":      {Code: 7},
		"kill -9 $$":  {Code: -1, Signal: "SIGKILL"},
		"kill -15 $$": {Code: -1, Signal: "SIGTERM"},
		"exit 0":      {Code: 0},
	} {
		r := start(t, spec(t, "sh", "-c", script))
		await(t, "the end", func() bool { return r.Status().State == Stopped })
		if r.Exit == nil || r.Exit.Code != want.Code || r.Exit.Signal != want.Signal || time.Since(r.Exit.At) > patience {
			t.Errorf("%s: exit on record is %+v, want %+v", script, r.Exit, want)
		}
		if _, err := os.Stat(r.Cgroup); r.Cgroup != "" && err == nil {
			t.Errorf("%s: the control group %s is left", script, r.Cgroup)
		}
	}
}

func TestAnotherBootIsSurelyStopped(t *testing.T) {
	s := spec(t, "sleep", "1h")
	r := start(t, s)
	old := *r
	old.BootID = "11111111-2222-3333-4444-555555555555"
	if err := old.save(); err != nil {
		t.Fatal(err)
	}
	if st := Look(s.Dir, nil); st.State != Stopped || !strings.Contains(st.Detail, "restarted") {
		t.Errorf("status is %+v", st)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if st := old.Kill(ctx); st.State != Stopped {
		t.Errorf("kill says %+v", st)
	}
	if err := r.save(); err != nil {
		t.Fatal(err)
	}
	if alive, err := r.Main.alive(); err != nil || !alive {
		t.Error("a process of this boot was killed for a record of another")
	}
}

// TestReusedPid: the number on record has come to mean another process, which must not be touched.
func TestReusedPid(t *testing.T) {
	stranger := exec.Command("sleep", "1h")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	id, err := identify(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	reused := Identity{PID: id.PID, Start: id.Start - 1}
	r := &Run{ID: "00000000000000000000000000000000", Dir: t.TempDir(), BootID: boot, Main: reused, Supervisor: reused}
	if err := r.save(); err != nil {
		t.Fatal(err)
	}
	if st := r.Status(); st.State != Stopped {
		t.Errorf("status is %+v", st)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if st := r.Stop(ctx, StopHow{Signal: "SIGKILL", KillAfter: time.Second}); st.State != Stopped {
		t.Errorf("stop says %+v", st)
	}
	if st := r.Kill(ctx); st.State != Stopped {
		t.Errorf("kill says %+v", st)
	}
	if err := reused.signal(unix.SIGKILL); !errors.Is(err, errNoProcess) {
		t.Errorf("signal got %v", err)
	}
	if alive, err := id.alive(); err != nil || !alive {
		t.Error("the stranger was killed")
	}
}

// TestNoFamilyWithoutAnID: a supervisor that was handed no order ends what is its own, which is nothing, and not what
// carries the marker of another run.
func TestNoFamilyWithoutAnID(t *testing.T) {
	r := start(t, spec(t, "sleep", "1h"))
	for _, remains := range []bool{false, true} {
		if kin, err := (&Run{}).family(remains); err != nil || len(kin) > 0 {
			t.Errorf("a run without an id has the family %v, %v; process %d is another one's", kin, err, r.Main.PID)
		}
	}
}

func TestDamagedRecordIsUnknown(t *testing.T) {
	s := spec(t, "sleep", "1h")
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := Look(s.Dir, nil); st.State != Unknown {
		t.Errorf("status is %+v", st)
	}
	if _, err := Start(context.Background(), s, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("start got %v, want a refusal", err)
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	s := spec(t, "sleep", "1h")
	start(t, s)
	if _, err := Start(context.Background(), s, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start got %v", err)
	}
}

// TestKillDuringPrepare: while a prepare command runs the run counts as running, and a kill ends it for good.
func TestKillDuringPrepare(t *testing.T) {
	s := spec(t, "sleep", "1h")
	s.Before = []Step{{Argv: []string{"sh", "-c", "sleep 1h & sleep 1h"}, Timeout: time.Hour}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := Start(ctx, s, nil)
		failed <- err
	}()
	var r *Run
	await(t, "a prepare command", func() bool {
		r, _ = Load(s.Dir)
		if r == nil {
			return false
		}
		kin, err := r.family(false)
		return err == nil && len(kin) == 3
	})
	if st := r.Status(); st.State != Running || !strings.Contains(st.Detail, "prepared") {
		t.Errorf("status is %+v", st)
	}
	if st := r.Kill(ctx); st.State != Stopped {
		t.Errorf("kill says %+v", st)
	}
	if err := <-failed; err == nil {
		t.Error("the start went well")
	}
	if kin, err := r.family(true); err != nil || len(kin) > 0 {
		t.Errorf("left: %v, %v", kin, err)
	}
}

func TestSupervisorHoldsNothing(t *testing.T) {
	drive := t.TempDir()
	s := spec(t, "sleep", "1h")
	s.Cwd, s.Log = drive, filepath.Join(drive, "log")
	r := start(t, s)
	proc := "/proc/" + strconv.Itoa(r.Supervisor.PID)
	if cwd, err := os.Readlink(proc + "/cwd"); err != nil || cwd != "/" {
		t.Errorf("its working directory is %q, %v", cwd, err)
	}
	held := func() (out []string) {
		fds, err := os.ReadDir(proc + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			to, _ := os.Readlink(proc + "/fd/" + fd.Name())
			if strings.HasPrefix(to, drive) || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") {
				out = append(out, to)
			}
		}
		return out
	}
	await(t, "the end of the report, and nothing else held", func() bool { return len(held()) == 0 })
	sid, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(r.Supervisor.PID), 0, 0)
	if errno != 0 || int(sid) != r.Supervisor.PID {
		t.Errorf("its session is %d, %v", sid, errno)
	}
}

// TestCalm: neither supervisor nor command inherits real-time priority or niceness.
func TestCalm(t *testing.T) {
	if os.Getenv("ORS_TEST_CALM") == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root for real-time priority")
		}
		for _, as := range [][]string{{"chrt", "-r", "5"}, {"nice", "-n", "7"}} {
			cmd := exec.Command(as[0], append(as[1:], "/proc/self/exe", "-test.run", "^TestCalm$")...)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Args[len(cmd.Args)-3] = self
			cmd.Env = append(os.Environ(), "ORS_TEST_CALM=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				if strings.Contains(string(out), "failed to set pid") {
					t.Logf("%s is not permitted here", as[0])
					continue
				}
				t.Errorf("under %v: %v\n%s", as, err, out)
			}
		}
		return
	}
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil || own.Policy == unix.SCHED_NORMAL && own.Nice == 0 {
		t.Fatalf("this process has nothing to give up: %+v, %v", own, err)
	}
	r := start(t, spec(t, "sleep", "1h"))
	for _, id := range []Identity{r.Supervisor, r.Main} {
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(id.PID) + "/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if a, err := unix.SchedGetAttr(tid, 0); err != nil || a.Policy != unix.SCHED_NORMAL || a.Nice != 0 {
				t.Errorf("thread %d of process %d has %+v, %v", tid, id.PID, a, err)
			}
		}
	}
}

func TestRotateLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write := func(s string) {
		t.Helper()
		if _, err := w.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := rotateLog(path, 8); err != nil {
			t.Fatal(err)
		}
	}
	want := func(name, text string) {
		t.Helper()
		if b, err := os.ReadFile(name); err != nil || string(b) != text {
			t.Errorf("%s is %q, %v; want %q", filepath.Base(name), b, err, text)
		}
	}
	write("short")
	want(path, "short")
	write(" and long")
	want(path, "")
	want(path+".1", "short and long")
	write("again")
	want(path, "again")
}

// TestRotationFollowsNoLink: whoever may write in a log's folder must not have other files written over.
func TestRotationFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	precious, log := filepath.Join(dir, "precious"), filepath.Join(dir, "log")
	for path, text := range map[string]string{precious: "what is somebody else's", log: "long enough to be cut"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(precious, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := rotateLog(log, 8); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(log + ".1"); err != nil || string(b) != "long enough to be cut" {
		t.Errorf("the older log is %q, %v", b, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(precious, link); err != nil {
		t.Fatal(err)
	}
	if err := rotateLog(link, 8); !errors.Is(err, unix.ELOOP) {
		t.Errorf("rotation of a link: %v", err)
	}
	s := supervisor{spec: Spec{Log: link}}
	err := s.openFiles()
	defer s.null.Close()
	if err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a log that is a link: %v", err)
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "what is somebody else's" {
		t.Errorf("the other file is %q, %v", b, err)
	}
}

func TestParseStat(t *testing.T) {
	const tail = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"
	for in, want := range map[string]procStat{
		"17 (sleep) S" + tail:           {ppid: 1, state: 'S', start: 4242},
		"17 (a) b) (c Z) Z" + tail:      {ppid: 1, state: 'Z', start: 4242},
		"17 (name\nwith line) R" + tail: {ppid: 1, state: 'R', start: 4242},
	} {
		if got, err := parseStat([]byte(in)); err != nil || got != want {
			t.Errorf("%q gives %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "17", "17 (x)", "17 (x) S 1 2", "17 (x) SS" + tail, "17 (x) S x" + tail} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("17 (sleep) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"))
	f.Add([]byte(")"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStat(b) })
}

func TestCommand(t *testing.T) {
	env := []string{"PATH=" + os.Getenv("PATH")}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := (Command{Argv: []string{"sh", "-c", "pwd; echo bad >&2; exit 3"}, Env: env}).Run(ctx); err == nil ||
		out != "/\nbad" || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %q, %v", out, err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	out, err := Command{Argv: []string{"sh", "-c", "echo $$; sleep 1h & wait"}, Env: env}.Run(short)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging command got %v", err)
	}
	if pgid, err := strconv.Atoi(out); err == nil {
		await(t, "the end of its children", func() bool { return errors.Is(unix.Kill(-pgid, 0), unix.ESRCH) })
	}
	if _, err := (Command{Argv: []string{"no-such-program-here"}, Env: env}).Run(ctx); err == nil {
		t.Error("a missing program was run")
	}
}

// starved is a supervisor that has its order and has not come to run since: whoever started it has died. The program
// makes the file when it runs.
func starved(t *testing.T) (child *launched, s Spec, program string) {
	t.Helper()
	for range 50 {
		s := spec(t, "sh", "-c", `echo >> "$0"; exec sleep 1h`, filepath.Join(t.TempDir(), "runs"))
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		child, err := launch(order{ID: fmt.Sprintf("%032x", time.Now().UnixNano()), Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		if err := child.run.Supervisor.signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = child.report.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if st := child.run.Kill(ctx); st.State != Stopped {
				t.Errorf("clean up: %+v", st)
			}
		})
		await(t, "a supervisor that does not run", func() bool {
			st, err := readStat(child.run.Supervisor.PID)
			return err == nil && st.state == 'T'
		})
		if _, err := os.Stat(s.Log); err != nil { // it makes the log right after its first record
			return child, s, s.Argv[3]
		}
	}
	t.Skip("the supervisor was always faster")
	return nil, Spec{}, ""
}

// TestOrderIsOnRecord: from the moment at which a supervisor has its order, a run is told of, and no second one begins.
func TestOrderIsOnRecord(t *testing.T) {
	child, s, program := starved(t)
	st := Look(s.Dir, nil)
	if st.State != Running || st.Run.ID != child.run.ID || !strings.Contains(st.Detail, "prepared") {
		t.Fatalf("status is %+v, and process %d has an order", st, child.run.Supervisor.PID)
	}
	if _, err := Start(context.Background(), s, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start got %v", err)
	}
	if err := child.run.Supervisor.signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "the program", func() bool { return Look(s.Dir, nil).Main })
	await(t, "its file", func() bool { b, err := os.ReadFile(program); return err == nil && len(b) > 0 })
	if b, err := os.ReadFile(program); err != nil || string(b) != "\n" {
		t.Errorf("it ran %d times, %v", len(b), err)
	}
}

// TestStopBeforeTheProgram: a stop ends also a supervisor that has not come to start the program.
func TestStopBeforeTheProgram(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Run) Status{
		"stop": func(ctx context.Context, r *Run) Status { return r.Stop(ctx, StopHow{KillAfter: time.Minute}) },
		"kill": func(ctx context.Context, r *Run) Status { return r.Kill(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			child, s, program := starved(t)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			st := Look(s.Dir, nil)
			if st.State != Running {
				t.Fatalf("status is %+v", st)
			}
			if st := end(ctx, st.Run); st.State != Stopped {
				t.Errorf("status is %+v", st)
			}
			if alive, err := child.run.Supervisor.alive(); err != nil || alive {
				t.Errorf("its supervisor lives, %v", err)
			}
			if _, err := os.Stat(program); err == nil {
				t.Error("the program ran")
			}
		})
	}
}

// TestOvertakenOrder: a supervisor whose run is not the one on record starts nothing, and leaves the record alone.
func TestOvertakenOrder(t *testing.T) {
	child, s, program := starved(t)
	other := &Run{ID: "00000000000000000000000000000000", Dir: s.Dir, BootID: child.run.BootID, Ended: true}
	if err := other.save(); err != nil {
		t.Fatal(err)
	}
	if err := child.run.Supervisor.signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor's end", func() bool {
		alive, err := child.run.Supervisor.alive()
		return err == nil && !alive
	})
	if _, err := os.Stat(program); err == nil {
		t.Error("the program ran")
	}
	if rec, err := Load(s.Dir); err != nil || rec.ID != other.ID {
		t.Errorf("the record has become %+v, %v", rec, err)
	}
}

// TestOneLaunchAtATime: two plugins that find nothing running do not both start it.
func TestOneLaunchAtATime(t *testing.T) {
	s := spec(t, "sleep", "1h")
	runs := make(chan *Run, 4)
	for range cap(runs) {
		go func() { r, _ := Start(context.Background(), s, nil); runs <- r }()
	}
	var got []*Run
	for range cap(runs) {
		if r := <-runs; r != nil {
			got = append(got, r)
			defer r.Kill(context.Background())
		}
	}
	if len(got) != 1 {
		t.Errorf("%d starts went well", len(got))
	}
}

// tracerEnv makes this test's binary hold a process: what is traced cannot be reaped before its tracer has seen its
// end, as what waits in the kernel cannot.
const tracerEnv = "ORS_TEST_TRACE"

func trace(pid string) error {
	runtime.LockOSThread()
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	if err := unix.PtraceSeize(n); err != nil {
		return err
	}
	fmt.Println("held")
	select {}
}

// TestCommandThatTheKernelHolds: a command that cannot be killed does not keep the one that waits for it.
func TestCommandThatTheKernelHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	c := Command{
		Argv: []string{"sh", "-c", `echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 1h`, file},
		Env:  []string{"PATH=" + os.Getenv("PATH")},
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan error, 1)
	go func() { _, err := c.Run(ctx); got <- err }()
	await(t, "the command", func() bool { _, err := os.Stat(file); return err == nil })
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tracer := exec.Command("/proc/self/exe")
	tracer.Env = append(os.Environ(), tracerEnv+"="+strings.TrimSpace(string(raw)))
	said, err := tracer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { _ = tracer.Process.Kill(); _ = tracer.Wait() })
	defer release()
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "held\n" {
		t.Skipf("processes cannot be traced here: %q, %v", line, err)
	}
	cancel()
	select {
	case err := <-got:
		if !errors.Is(err, ErrHeld) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the command is waited for without end")
	}
	if _, err := c.Run(context.Background()); !errors.Is(err, ErrHeld) {
		t.Errorf("beside a command that is held, another one: %v", err)
	}
	release()
	await(t, "another run after the end of the first", func() bool {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := c.Run(done)
		return errors.Is(err, context.Canceled)
	})
}

// TestStopOfAWrapper: a shell that is told to end leaves its program behind, which is told, too, before it is killed.
func TestStopOfAWrapper(t *testing.T) {
	file := filepath.Join(t.TempDir(), "asked")
	server := `trap 'echo > "$0"; exit 0' TERM; echo > "$0.up"; while :; do sleep 0.02; done`
	r := start(t, spec(t, "sh", "-c", `sh -c "$1" "$0"; true`, file, server))
	await(t, "the program", func() bool { _, err := os.Stat(file + ".up"); return err == nil })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if st := r.Stop(ctx, StopHow{Signal: "SIGTERM", KillAfter: time.Minute}); st.State != Stopped {
		t.Errorf("stop says %+v", st)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("the program was killed, and not asked:", err)
	}
}

// TestCommandEndsWithThePlugin: nobody asks for the result of a check any more when the plugin has been killed.
func TestCommandEndsWithThePlugin(t *testing.T) {
	mark := os.Getenv("ORS_TEST_MARK")
	if mark != "" {
		_, err := Command{Argv: []string{"/bin/sh", "-c", "echo $$ >" + mark + "; exec sleep 1h"}}.Run(context.Background())
		t.Fatalf("it has ended: %v", err)
	}
	mark = filepath.Join(t.TempDir(), "pid")
	plugin := exec.Command("/proc/self/exe", "-test.run", "^TestCommandEndsWithThePlugin$")
	plugin.Env = append(os.Environ(), "ORS_TEST_MARK="+mark)
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	await(t, "the command's start", func() bool {
		raw, _ := os.ReadFile(mark)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		return pid > 0
	})
	id, err := identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = plugin.Process.Kill()
	_ = plugin.Wait()
	await(t, "the command's end", func() bool {
		lives, err := id.alive()
		return err == nil && !lives
	})
}
