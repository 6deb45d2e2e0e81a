package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

const (
	serverName = "apollo"
	groupName  = "rocky"

	// patience is how long a check waits for what has to come about by itself, such as a probe that notices a death.
	patience = 10 * time.Second
	pause    = 20 * time.Millisecond
	// calm is how long processes must stay as they are before they are believed to be all.
	calm = 100 * time.Millisecond
)

// app is one application that a check makes: with a name, a work folder and epochs of its own.
type app struct {
	*kit
	pb     *pluginv1.Application
	boot   string // identity of the core
	epoch  uint64
	handle *pluginv1.Handle
}

func (k *kit) app() *app {
	k.applications++
	name := fmt.Sprintf("check%d", k.applications)
	return &app{kit: k, boot: "boot-1", epoch: 7, pb: &pluginv1.Application{
		Group: groupName, Name: name, Primary: groupName, Config: k.config, Drives: k.drives,
		WorkDir: filepath.Join(k.dir, "work", name),
	}}
}

// with runs a check on an application that runs, and ends it.
func (k *kit) with(f func(*app) (string, error)) (evidence string, err error) {
	a := k.app()
	defer func() { err = errors.Join(err, a.end()) }()
	if err := a.start(); err != nil {
		return "", err
	}
	return f(a)
}

// caller is a core with a new operation.
func (a *app) caller() *pluginv1.Caller {
	return a.again(fmt.Sprintf("op-%d", a.operations.Add(1)))
}

// again is a core that repeats an operation.
func (a *app) again(operation string) *pluginv1.Caller {
	return &pluginv1.Caller{Server: serverName, BootId: a.boot, Epoch: a.epoch, OperationId: operation}
}

// workDir is made by the core before a start.
func (a *app) workDir() error { return os.MkdirAll(a.pb.GetWorkDir(), 0o700) }

func (a *app) start() error {
	s, err := a.startAs(a.caller(), nil)
	if err == nil {
		a.handle = s.Handle
	}
	return err
}

// startAs calls Start and follows it; step, which may be nil, is told of each message before the last one.
func (a *app) startAs(c *pluginv1.Caller, step func()) (Started, error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.o.StartWithin)
	defer cancel()
	begin := a.logged()
	s, err := a.follow(ctx, c, step)
	return s, a.explain("Start", a.o.StartWithin, begin, err)
}

func (a *app) follow(ctx context.Context, c *pluginv1.Caller, step func()) (Started, error) {
	var s Started
	if err := a.workDir(); err != nil {
		return s, err
	}
	stream, err := a.plugin.service.Start(ctx, &pluginv1.StartRequest{
		Caller: c, Application: a.pb, Previous: a.handle,
	})
	if err != nil {
		return s, err
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && s.Handle == nil:
			return s, errors.New("it ended well, but without a handle")
		case errors.Is(err, io.EOF):
			return s, nil
		case err != nil:
			return s, err
		case s.Handle != nil:
			return s, errors.New("a message came after the handle, which has to be the last one")
		}
		if p := m.GetProgress(); p != nil {
			s.Steps, s.Texts = append(s.Steps, p.GetStep()), append(s.Texts, p.GetText())
			s.At = append(s.At, time.Now())
		}
		if s.Handle = m.GetStarted(); s.Handle == nil && step != nil {
			step()
		}
	}
}

func (a *app) recover() (*pluginv1.RecoverResponse, error) { return a.recoverWith(a.handle) }

func (a *app) recoverWith(h *pluginv1.Handle) (*pluginv1.RecoverResponse, error) {
	r, err := call(a.kit, "Recover", shortCall, a.plugin.service.Recover, &pluginv1.RecoverRequest{
		Caller: a.caller(), Application: a.pb, Handle: h,
	})
	if err == nil && r.GetState() == pluginv1.RunState_RUN_STATE_UNSPECIFIED {
		return r, errors.New("Recover answered without a state: RUNNING, STOPPED and UNKNOWN are the answers")
	}
	return r, err
}

func (a *app) probe() (*pluginv1.ProbeResponse, error) {
	r, err := call(a.kit, "Probe", probeCall, a.plugin.service.Probe, &pluginv1.ProbeRequest{
		Caller: a.caller(), Application: a.pb, Handle: a.handle,
	})
	if err == nil && r.GetHealth() == pluginv1.Health_HEALTH_UNSPECIFIED {
		return r, errors.New("Probe answered without a health: OK, FAILED and UNKNOWN are the answers")
	}
	return r, err
}

func (a *app) stop() error { return a.stopAs(a.caller(), a.o.StopWithin) }

// stopAs demands that a stop ends with STOPPED.
func (a *app) stopAs(c *pluginv1.Caller, within time.Duration) error {
	r, err := call(a.kit, "Stop", within, a.plugin.service.Stop, &pluginv1.StopRequest{
		Caller: c, Application: a.pb, Handle: a.handle,
	})
	return stopped("Stop", r.GetState(), r.GetDetail(), err)
}

func (a *app) kill() error {
	r, err := call(a.kit, "Kill", killCall, a.plugin.service.Kill, &pluginv1.KillRequest{
		Caller: a.caller(), Application: a.pb, Handle: a.handle,
	})
	return stopped("Kill", r.GetState(), r.GetDetail(), err)
}

func stopped(name string, state pluginv1.RunState, detail string, err error) error {
	if err != nil {
		return err
	}
	if state != pluginv1.RunState_RUN_STATE_STOPPED {
		return fmt.Errorf("%s answered %s (%s), so that the core could not unmount", name, short(state), detail)
	}
	return nil
}

// short is the name of a state without its prefix.
func short(s fmt.Stringer) string {
	name := s.String()
	for _, prefix := range []string{"RUN_STATE_", "HEALTH_", "SEVERITY_"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name
}

// wantState asks until Recover gives one of the answers, because "unknown" and what was a moment ago are no lies.
func (a *app) wantState(h *pluginv1.Handle, want ...pluginv1.RunState) (*pluginv1.RecoverResponse, error) {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		r, err := a.recoverWith(h)
		if err != nil || slices.Contains(want, r.GetState()) {
			return r, err
		}
		if time.Now().After(end) || a.ctx.Err() != nil {
			return r, fmt.Errorf("for %v Recover answered %s (%s) and not %s", patience, short(r.GetState()),
				r.GetDetail(), short(want[0]))
		}
	}
}

// wantHealth asks until Probe gives one of the answers.
func (a *app) wantHealth(want ...pluginv1.Health) (*pluginv1.ProbeResponse, error) {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		r, err := a.probe()
		if err != nil || slices.Contains(want, r.GetHealth()) {
			return r, err
		}
		if time.Now().After(end) || a.ctx.Err() != nil {
			return r, fmt.Errorf("for %v Probe answered %s (%s) and not %s", patience, short(r.GetHealth()),
				r.GetDetail(), short(want[0]))
		}
	}
}

// running demands that the application is found running.
func (a *app) running() error {
	r, err := a.wantState(a.handle, pluginv1.RunState_RUN_STATE_RUNNING)
	if err == nil && len(r.GetHandle().GetState()) > 0 {
		a.handle = r.GetHandle()
	}
	return err
}

// gone demands that nothing of the application runs, in the plugin's words and in the kernel's.
func (a *app) gone() error {
	if err := a.noProcess(calm); err != nil {
		return err
	}
	_, err := a.wantState(a.handle, pluginv1.RunState_RUN_STATE_STOPPED)
	return err
}

// noProcess demands that no process is there, nor comes within a while. One that ends by itself at once is none.
func (a *app) noProcess(watch time.Duration) error {
	var left []living
	for begin := time.Now(); ; time.Sleep(pause) {
		var err error
		if left, err = a.seen.processes(); err != nil {
			return err
		}
		late := time.Since(begin) > watch
		if late && (len(left) == 0 || time.Since(begin) > watch+time.Second) {
			break
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("it was said to be STOPPED, and lives: %s", list(left))
	}
	return nil
}

// settled lists the application's processes once they stay the same.
func (a *app) settled() ([]living, error) {
	same := func(x, y living) bool { return x.member == y.member }
	last, err := a.seen.processes()
	for end := time.Now().Add(patience); err == nil && time.Now().Before(end); {
		time.Sleep(calm)
		var now []living
		if now, err = a.seen.processes(); err == nil && slices.EqualFunc(last, now, same) {
			return now, nil
		}
		last = now
	}
	return last, err
}

// processes are those of the application; a check that needs some is skipped where there are none.
func (a *app) processes() ([]living, error) {
	all, err := a.settled()
	if err == nil && len(all) == 0 {
		return nil, skipped("The application has no process here that came from the plugin.")
	}
	return all, err
}

// lost names those of some processes that live no more.
func lost(before []living) []living {
	return slices.DeleteFunc(slices.Clone(before), func(p living) bool { return p.alive() })
}

func list(all []living) string {
	var out []string
	for _, p := range all {
		out = append(out, p.describe())
	}
	return strings.Join(out, ", ")
}

// survived demands that processes still live and that the application is found.
func (a *app) survived(before []living) error {
	time.Sleep(calm)
	if dead := lost(before); len(dead) > 0 {
		return fmt.Errorf("the application did not survive: it lost %s", list(dead))
	}
	if a.plugin == nil || a.plugin.ended() {
		if err := a.launch(); err != nil {
			return err
		}
	}
	return a.running()
}

// refused demands that a call with an epoch that has passed is refused.
func refused(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s under an epoch older than the newest was not refused", name)
	}
	if got := status.Code(errors.Unwrap(err)); got != codes.FailedPrecondition {
		return fmt.Errorf("%s under an older epoch has to be refused with FailedPrecondition, not so: %w", name, err)
	}
	return nil
}

// end leaves nothing of the application behind, whatever the check has found.
func (a *app) end() error {
	if a.plugin == nil || a.plugin.ended() {
		if err := a.launch(); err != nil {
			a.sweep()
			return nil // the next check says so
		}
	}
	err := a.kill()
	if err == nil {
		err = a.noProcess(calm)
	}
	a.sweep()
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// sweep kills what a plugin has left.
func (a *app) sweep() {
	left, err := a.seen.processes()
	for _, p := range left {
		p.kill()
	}
	for end := time.Now().Add(patience); err == nil && len(left) > 0 && time.Now().Before(end); time.Sleep(pause) {
		left, err = a.seen.processes()
	}
}

func sameHandle(x, y *pluginv1.Handle) bool { return proto.Equal(x, y) }
