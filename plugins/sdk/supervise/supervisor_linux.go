package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	reportFD    = 3               // where the supervisor tells the plugin how the start goes; closed once it went well
	rotateEvery = 5 * time.Second // how often the size of the log file is looked at
)

// message is one line from the supervisor to the plugin that started it.
type message struct {
	Step  string `json:"step,omitempty"`
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
	Run   *Run   `json:"run,omitempty"` // the command was started: last message
}

// order is what the plugin hands to the supervisor on its standard input.
type order struct {
	ID   string `json:"id"`
	Spec Spec   `json:"spec"`
}

// Main becomes the supervisor, and never returns, when this program was started as one. Otherwise it does nothing. It
// must be called before anything else in main.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != Argument && os.Args[1] != limitArgument {
		return
	}
	if os.Args[1] == limitArgument {
		_, _ = unix.Write(failureFD, []byte(becomeLimited(os.Args[2:]).Error()))
		os.Exit(1)
	}
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type supervisor struct {
	spec      Spec
	run       Run
	report    *os.File
	null, log *os.File
}

func supervise() error {
	closeInherited()
	// Taken, not ignored: what is ignored stays so in the command. The supervisor ends after its command, however it
	// is asked.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	calm()
	s := &supervisor{report: os.NewFile(reportFD, "report")}
	err := s.start()
	if err != nil {
		s.tell(message{Error: err.Error()})
		s.clean()
		return err
	}
	s.tell(message{Run: &s.run})
	_ = s.report.Close()
	s.wait()
	return nil
}

// closeInherited closes what came with the execution besides what the plugin handed over: pipes of the core, files on
// switched storage. What this program has opened itself is marked to be closed at the next execution; what was
// inherited is not.
func closeInherited() {
	unix.CloseOnExec(reportFD)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= reportFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// tell reports to the plugin. It may be gone by now, which changes nothing: a new one finds the record.
func (s *supervisor) tell(m message) {
	b, err := json.Marshal(m)
	if err == nil {
		_, _ = s.report.Write(append(b, '\n'))
	}
}

func (s *supervisor) start() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	rec, err := Load(o.Spec.Dir)
	if err != nil {
		return err
	}
	if rec == nil || rec.ID != o.ID { // whoever looks for this run would not find it
		return errors.New("the record of the run has become another one's: nothing was started")
	}
	s.spec = o.Spec
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	s.run = Run{
		ID: o.ID, Dir: o.Spec.Dir, BootID: boot, Supervisor: self,
		Cgroup: makeCgroup(o.ID), StartedAt: time.Now(),
	}
	if err := s.run.save(); err != nil {
		return err
	}
	if err := s.openFiles(); err != nil {
		return err
	}
	for _, st := range s.spec.Before {
		s.tell(message{Step: "before", Text: "Running " + strings.Join(st.Argv, " ") + "."})
		if err := s.prepare(st); err != nil {
			return err
		}
	}
	pid, err := s.spawn(s.spec.Argv)
	if err != nil {
		return err
	}
	if s.run.Main, err = identify(pid); err != nil {
		return err
	}
	_ = s.log.Close() // the commands have their own descriptor; the file may be on switched storage
	return s.run.save()
}

func (s *supervisor) openFiles() error {
	var err error
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	if err := unix.Dup2(int(s.null.Fd()), 0); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	s.log, err = os.OpenFile(s.spec.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("log file: %s is a symbolic link: name the file that it leads to", s.spec.Log)
	}
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	return nil
}

// spawn starts a program of the run, in a session and, where there is one, the control group of the run.
func (s *supervisor) spawn(argv []string) (int, error) {
	env := append(append([]string{}, s.spec.Env...), MarkerEnv+"="+s.run.ID)
	path, err := LookPath(argv[0], env)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Dir: s.spec.Cwd, Env: env,
		Files: []uintptr{s.null.Fd(), s.log.Fd(), s.log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: credential(s.spec.User)},
	}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	if s.spec.Limits != (Limits{}) {
		return s.forkLimited(path, argv, attr)
	}
	pid, err := s.fork(path, argv, attr)
	if err != nil {
		return 0, fmt.Errorf("start %s%s: %w", path, asUser(s.spec.User), explainExec(path, attr.Dir, err))
	}
	return pid, nil
}

// fork executes a program, in the control group of the run where there is one.
func (s *supervisor) fork(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	if s.run.Cgroup != "" {
		done, ok := cgroupAttr(s.run.Cgroup, attr.Sys)
		defer done()
		if ok {
			if pid, err := syscall.ForkExec(path, argv, attr); err == nil {
				return pid, nil
			}
			attr.Sys.UseCgroupFD = false // an old kernel or a forbidden group: the run is followed without it
		}
	}
	return syscall.ForkExec(path, argv, attr)
}

// explainExec tells a missing folder from a missing program: the kernel says the same of both.
func explainExec(path, dir string, err error) error {
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if _, derr := os.Stat(dir); derr != nil {
		return fmt.Errorf("working directory: %w", derr)
	}
	if _, perr := os.Stat(path); perr == nil {
		return fmt.Errorf("its interpreter or loader is missing: %w", err)
	}
	return err
}

// prepare runs one prepare command to its end.
func (s *supervisor) prepare(st Step) error {
	pid, err := s.spawn(st.Argv)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	ended, late := false, false
	timer := time.AfterFunc(st.Timeout, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended { // still ours to reap, so the number means this group of processes and no other
			late = true
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
	})
	defer timer.Stop()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	mu.Lock()
	ended = true
	mu.Unlock()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case late:
		return fmt.Errorf("prepare command %q did not end within %v and was killed", st.Argv, st.Timeout)
	case !ws.Exited() || ws.ExitStatus() != 0:
		return fmt.Errorf("prepare command %q %v", st.Argv, exitOf(ws))
	}
	return nil
}

func exitOf(ws unix.WaitStatus) Exit {
	e := Exit{Code: ws.ExitStatus(), At: time.Now()}
	if ws.Signaled() {
		e.Code, e.Signal = -1, unix.SignalName(ws.Signal())
	}
	return e
}

// wait reaps everything below this process until nothing is left, and puts it on record.
func (s *supervisor) wait() {
	stop := s.rotate()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // ECHILD: no descendant is left
			break
		}
		if pid == s.run.Main.PID && s.run.Exit == nil {
			e := exitOf(ws)
			s.run.Exit = &e
			s.record()
		}
	}
	stop()
	removeCgroup(s.run.Cgroup)
	s.run.Ended = true
	s.record()
}

func (s *supervisor) record() {
	if err := s.run.save(); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
	}
}

// clean ends what a failed start left.
func (s *supervisor) clean() {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		killCgroup(s.run.group())
		if members, err := s.run.family(false); err == nil {
			for _, m := range members {
				_ = m.signal(unix.SIGKILL)
			}
		}
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			break
		}
		if pid == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	removeCgroup(s.run.Cgroup)
	if s.run.ID != "" {
		s.run.Ended = true
		s.record()
	}
}

// rotate keeps the log file bounded until the returned function is called.
func (s *supervisor) rotate() (stop func()) {
	if s.spec.LogMaxBytes <= 0 {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(rotateEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				if err := rotateLog(s.spec.Log, s.spec.LogMaxBytes); err != nil {
					fmt.Fprintln(os.Stderr, "supervisor: log file:", err)
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// rotateLog copies a log that has grown beyond most to path.1 and cuts it to nothing. Writers have it open for
// appending, so they go on at its new end. No link is followed: whoever may write in the folder could have other files
// written over.
func rotateLog(path string, most int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() <= most || !fi.Mode().IsRegular() {
		return err
	}
	if err := os.Remove(path + ".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fi.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(old, f); err != nil {
		_ = old.Close()
		return err
	}
	if err := old.Close(); err != nil {
		return err
	}
	return f.Truncate(0)
}

// calm gives up what this process may have inherited from the recovery agent: real-time priority, niceness,
// protection from the out-of-memory killer, file mode mask. The command must not run with any of it.
func calm() {
	unix.Umask(0o022)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	// New threads take over what their parent has: look until a round changes nothing.
	for range 5 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		changed := false
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			a, err := unix.SchedGetAttr(tid, 0)
			if err != nil || a.Policy == unix.SCHED_NORMAL && a.Nice == 0 {
				continue
			}
			normal := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
			changed = unix.SchedSetAttr(tid, normal, 0) == nil || changed
		}
		if !changed {
			return
		}
	}
}
