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
	if st := Look(spec.Dir, nil); st.State != Stopped {
		return nil, fmt.Errorf("%w: %s", ErrRunning, st.Detail)
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the supervisor: %w", err)
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	child, err := launch(order{ID: id, Spec: spec})
	if err != nil {
		return nil, err
	}
	defer child.report.Close()
	run, err := child.follow(ctx, progress)
	if err == nil {
		return run, nil
	}
	left := &Run{ID: id, Dir: spec.Dir, BootID: child.bootID, Supervisor: child.self}
	if rec, lerr := Load(spec.Dir); lerr == nil && rec != nil && rec.ID == id {
		left = rec
	}
	kctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	if st := left.Kill(kctx); st.State != Stopped {
		return nil, fmt.Errorf("%w; left behind: %s", err, st.Detail)
	}
	return nil, err
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
	self   Identity
	bootID string
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
	cmd := exec.Command("/proc/self/exe", Argument, o.Spec.Name) // this very program, even if its file was replaced
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Env = []string{"GOMAXPROCS=1"} // it sleeps; one thread less for each application
	if o.Spec.Unit != nil && SystemdRuns() {
		own := fmt.Sprintf("/proc/%d/exe", os.Getpid()) // systemd-run's own is another one
		cmd = exec.Command("systemd-run")
		cmd.Args = o.Spec.Unit.scope(o.ID, []string{own, Argument, o.Spec.Name})
		cmd.Env = []string{"GOMAXPROCS=1", "PATH=/usr/bin:/bin"}
	}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, errs, errs
	cmd.ExtraFiles = []*os.File{outW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = outR.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	self, err := identify(cmd.Process.Pid) // not reaped yet, so this is it
	go func() { _ = cmd.Wait() }()
	if err == nil {
		_ = inW.SetWriteDeadline(time.Now().Add(cleanUp))
		_, err = inW.Write(b)
	}
	if err != nil {
		_ = outR.Close()
		_ = self.signal(unix.SIGKILL)
		return nil, fmt.Errorf("hand over to the supervisor: %w", err)
	}
	return &launched{report: outR, errs: errs.Name(), self: self, bootID: boot}, nil
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
