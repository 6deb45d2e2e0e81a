package main

import (
	"context"
	"encoding/json"
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
	"time"

	"github.com/orscore/ors/plugins/sdk/supervise"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// app is one protected program. It is under a supervisor, or, for faults that a supervisor would not allow, bare: known
// by nothing but the pid in a file.
type app struct {
	dir string

	turn sync.Mutex // held by whoever changes the application

	mu       sync.Mutex
	cut      context.CancelFunc // cuts a start short
	done     map[string]any     // result of the last operation of each verb, under "verb id"
	epoch    uint64
	boot     string
	sequence uint64
}

func bare() bool {
	return is("starts-beside", "takes-its-application-along", "lends-its-output", "trusts-pid", "stops-politely",
		"kill-waits-for-stop")
}

type body struct {
	Command []string `json:"command"`
}

func check(config []byte) error {
	_, err := parse(config)
	return err
}

func parse(config []byte) (body, error) {
	var b body
	if err := json.Unmarshal(config, &b); err != nil {
		return b, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	if len(b.Command) == 0 {
		return b, errors.New("there is no command")
	}
	return b, nil
}

// change runs one operation, and none twice.
func (a *app) change(verb, id string, act func(context.Context) (any, error)) (any, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !is("starts-after-kill") && (verb != "start" || !is("starts-beside")) {
		a.turn.Lock()
		defer a.turn.Unlock()
	}
	a.mu.Lock()
	if r, ok := a.done[verb+" "+id]; ok && !(is("repeats-stop") && verb == "stop") {
		a.mu.Unlock()
		return r, nil
	}
	if verb == "start" {
		a.cut = cancel
	}
	a.mu.Unlock()
	r, err := act(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		for key := range a.done {
			if strings.HasPrefix(key, verb+" ") {
				delete(a.done, key)
			}
		}
		a.done[verb+" "+id] = r
	}
	return r, err
}

func (a *app) cutShort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut()
}

func (a *app) start(ctx context.Context, config []byte, tell func() error) (*pluginv1.Handle, error) {
	b, err := parse(config)
	if err != nil {
		return nil, err
	}
	if alive, _ := a.alive(); alive {
		if is("starts-twice") {
			_, err := detached(b.Command, nil)
			return a.handle(), err
		}
		if is("copies-after-broken-start") && !a.started() {
			if _, err := detached(b.Command, nil); err != nil {
				return nil, err
			}
		}
		return a.handle(), nil
	}
	if !is("tells-no-step") {
		if err := tell(); err != nil {
			return nil, err
		}
	}
	wait := 20 * time.Millisecond
	if is("starts-after-kill") {
		ctx, wait = context.Background(), 500*time.Millisecond
	}
	select {
	case <-ctx.Done():
		if is("starts-late") {
			time.AfterFunc(300*time.Millisecond, func() { _ = a.run(context.Background(), b.Command) })
		}
		return nil, errGivenUp
	case <-time.After(wait):
	}
	if err := a.run(ctx, b.Command); err != nil {
		return nil, err
	}
	if is("guesses-after-broken-start", "copies-after-broken-start") {
		time.Sleep(100 * time.Millisecond)
	}
	return a.handle(), os.WriteFile(filepath.Join(a.dir, "started"), nil, 0o600)
}

func (a *app) run(ctx context.Context, command []string) error {
	if !bare() {
		_, err := supervise.Start(ctx, supervise.Spec{
			Dir: a.dir, Name: filepath.Base(a.dir), Argv: command, Env: []string{"PATH=" + os.Getenv("PATH")},
			Log: filepath.Join(a.dir, "output.log"),
		}, func(string, string) {})
		return err
	}
	var out *os.File
	if is("lends-its-output") {
		out = os.NewFile(1, "stdout")
	}
	cmd, err := detached(command, out)
	if err != nil {
		return err
	}
	return os.WriteFile(a.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// detached starts a program in a session of its own.
func detached(command []string, out *os.File) (*exec.Cmd, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out != nil {
		cmd.Stdout = out
	}
	started := make(chan error)
	go func() {
		if is("takes-its-application-along") {
			runtime.LockOSThread() // the signal comes when the thread ends
			cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return cmd, <-started
}

func (a *app) pidFile() string { return filepath.Join(a.dir, "pid") }

func (a *app) pid() int {
	b, err := os.ReadFile(a.pidFile())
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(b))
	return pid
}

// state is the letter of a process's state in /proc; 0 when there is none.
func state(pid int) byte {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if i := strings.LastIndexByte(string(b), ')'); err == nil && i > 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}

func (a *app) alive() (bool, string) {
	if bare() {
		pid := a.pid()
		st := state(pid)
		return pid > 0 && st != 0 && st != 'Z', fmt.Sprintf("Process %d is in state %q.", pid, st)
	}
	st := supervise.Look(a.dir, nil)
	return st.State != supervise.Stopped, st.Detail
}

func (a *app) frozen() bool {
	run, err := supervise.Load(a.dir)
	return err == nil && run != nil && state(run.Main.PID) == 'T'
}

// started says whether it was ever started here.
func (a *app) started() bool {
	_, err := os.Stat(filepath.Join(a.dir, "started"))
	return err == nil
}

func (a *app) handle() *pluginv1.Handle {
	version := uint32(2)
	if is("release-1") {
		version = 1
	}
	return &pluginv1.Handle{Version: version, State: []byte(a.dir)}
}

func (a *app) stop(ctx context.Context) error {
	if !bare() {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		st := supervise.Look(a.dir, nil)
		if st.Run != nil {
			st = st.Run.Stop(ctx, supervise.StopHow{Signal: "SIGTERM", KillAfter: time.Second})
		}
		if st.State != supervise.Stopped {
			return errors.New(st.Detail)
		}
		return nil
	}
	if is("stops-politely", "kill-waits-for-stop") {
		return a.end(syscall.SIGTERM, time.Minute)
	}
	return a.kill()
}

func (a *app) kill() error {
	if bare() {
		return a.end(syscall.SIGKILL, 10*time.Second)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if st := supervise.Look(a.dir, nil); st.Run != nil {
		if st = st.Run.Kill(ctx); st.State != supervise.Stopped {
			return errors.New(st.Detail)
		}
	}
	return nil
}

func (a *app) end(sig syscall.Signal, most time.Duration) error {
	alive, _ := a.alive()
	if !alive {
		return nil
	}
	_ = syscall.Kill(a.pid(), sig)
	for end := time.Now().Add(most); alive; alive, _ = a.alive() {
		if time.Now().After(end) {
			return errors.New("it does not end")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func (a *app) newestEpoch() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if is("epoch-in-memory") {
		return a.epoch
	}
	b, err := os.ReadFile(filepath.Join(a.dir, "epoch"))
	if err != nil {
		return a.epoch
	}
	n, _ := strconv.ParseUint(string(b), 10, 64)
	return max(n, a.epoch)
}

func (a *app) noteEpoch(epoch uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if epoch <= a.epoch {
		return nil
	}
	a.epoch = epoch
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.dir, "epoch"), []byte(strconv.FormatUint(epoch, 10)), 0o600)
}

// inOrder notes a renewal, and says whether it is newer than those before it.
func (a *app) inOrder(boot string, sequence uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if boot == a.boot && sequence <= a.sequence {
		return false
	}
	a.boot, a.sequence = boot, sequence
	return true
}
