package supervise

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cleanUp = 5 * time.Second // for ending what a start that failed has left

// Start runs spec under a new supervisor and returns once the command was executed. The prepare commands are told
// through progress. After an error nothing of it runs, or the error says what does.
func Start(ctx context.Context, spec Spec, progress func(step, text string)) (*Run, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the supervisor: %w", err)
	}
	child, err := launchOnce(spec)
	if err != nil {
		return nil, err
	}
	defer child.report.Close()
	run, err := child.follow(ctx, progress)
	if err == nil {
		return run, nil
	}
	kctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	if st := child.run.Kill(kctx); st.State != Stopped {
		return nil, fmt.Errorf("%w; left behind: %s", err, st.Detail)
	}
	return nil, err
}

// launchOnce starts a supervisor when nothing of an earlier run lives. The lock, which ends with its process, keeps
// another plugin from doing the same between the look and the record that ends up on disk.
func launchOnce(spec Spec) (*launched, error) {
	dir, err := os.Open(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("folder of the supervisor: %w", err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%w: another plugin is starting it (lock of %s: %w)", ErrRunning, spec.Dir, err)
	}
	if st := Look(spec.Dir, nil); st.State != Stopped {
		return nil, fmt.Errorf("%w: %s", ErrRunning, st.Detail)
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	return launch(order{ID: hex.EncodeToString(raw[:]), Spec: spec})
}

func (s Spec) check() error {
	switch {
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("folder of the supervisor %q is not absolute", s.Dir)
	case !filepath.IsAbs(s.Log):
		return fmt.Errorf("log file %q is not absolute", s.Log)
	case len(s.Argv) == 0 || s.Argv[0] == "":
		return errors.New("no command to run")
	}
	if s.User != nil && os.Geteuid() != 0 && int(s.User.UID) != os.Geteuid() {
		return fmt.Errorf("cannot run as user %s: only root can change the user", s.User.Name)
	}
	return nil
}

// launched is a supervisor as seen by the plugin that started it.
type launched struct {
	report *os.File
	errs   string // file with what it says on standard error
	run    *Run   // as it was put on record before the supervisor was told what to run
}

// launch executes this program again as a supervisor. A goroutine reaps it for as long as this process lives.
func launch(o order) (*launched, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	errs, err := os.OpenFile(filepath.Join(o.Spec.Dir, "supervisor.err"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("folder of the supervisor: %w", err)
	}
	defer errs.Close()
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	defer inW.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer outW.Close()
	cmd := o.supervisor()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, errs, errs
	cmd.ExtraFiles = []*os.File{outW}
	if err := cmd.Start(); err != nil {
		_ = outR.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	run := &Run{ID: o.ID, Dir: o.Spec.Dir, BootID: boot, StartedAt: time.Now()}
	run.Supervisor, err = identify(cmd.Process.Pid) // not reaped yet, so this is it
	go func() { _ = cmd.Wait() }()
	if err == nil {
		// From the order on, the supervisor may start the program, whatever becomes of this process and however late
		// it comes to run: whoever looks then must find it.
		err = run.save()
	}
	if err == nil {
		_ = inW.SetWriteDeadline(time.Now().Add(cleanUp))
		_, err = inW.Write(b)
	}
	if err != nil {
		_ = outR.Close()
		_ = run.Supervisor.signal(unix.SIGKILL)
		return nil, fmt.Errorf("hand over to the supervisor: %w", err)
	}
	return &launched{report: outR, errs: errs.Name(), run: run}, nil
}

// supervisor is this program, to be executed again as the supervisor of the run. It carries the marker of the run, as
// does what it has forked and is not yet another program.
func (o order) supervisor() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", Argument, o.Spec.Name) // this very program, even if its file was replaced
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Env = []string{"GOMAXPROCS=1", MarkerEnv + "=" + o.ID} // it sleeps; one thread less for each application
	if o.Spec.Unit != nil && SystemdRuns() {
		own := fmt.Sprintf("/proc/%d/exe", os.Getpid()) // systemd-run's own is another one
		cmd.Path, cmd.Err = exec.LookPath("systemd-run")
		cmd.Args = o.Spec.Unit.scope(o.ID, []string{own, Argument, o.Spec.Name})
		cmd.Env = append(cmd.Env, "PATH=/usr/bin:/bin")
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// follow reads the supervisor's reports until the command runs.
func (l *launched) follow(ctx context.Context, progress func(step, text string)) (*Run, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.report.SetReadDeadline(time.Now()) })
	defer stop()
	lines := bufio.NewScanner(l.report)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("report of the supervisor: %w", err)
		}
		switch {
		case m.Error != "":
			return nil, errors.New(m.Error)
		case m.Run != nil:
			return m.Run, nil
		case progress != nil:
			progress(m.Step, m.Text)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start was given up: %w", err)
	}
	return nil, fmt.Errorf("the supervisor ended without a report: %w", errors.Join(lines.Err(), l.why()))
}

// why is what the supervisor, or who should have become it, has said.
func (l *launched) why() error {
	raw, err := os.ReadFile(l.errs)
	if said := strings.TrimSpace(string(raw)); err == nil && said != "" {
		return fmt.Errorf("%.500s", said)
	}
	return fmt.Errorf("nothing was said (see %s)", l.errs)
}

// LookPath finds a program: a name without a slash is looked for in the PATH of env.
func LookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && !fi.IsDir() && fi.Mode()&0o111 != 0 && filepath.IsAbs(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %q is not in PATH %q", name, path)
}
