package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/ledger"
	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/store"
)

// groupWorker carries out what is decided for one group, one action at a time. A newer action cancels the one under
// way and runs when that has returned.
type groupWorker struct {
	n     *Node
	index int
	cfg   *config.Group
	queue chan failover.Action

	serves bool         // as the loop said last; the loop's goroutine's
	until  atomic.Int64 // on the boot clock: for how long the loop lets the group's applications be heard

	mu     sync.Mutex
	cancel context.CancelFunc // of the action under way

	// owned by the worker's goroutine
	mounted  []drive.Mounted
	problems []string // codes of the alarms that its drives have raised
	apps     []*app
}

func newGroupWorker(n *Node, index int) *groupWorker {
	w := &groupWorker{n: n, index: index, cfg: &n.cfg.Groups[index], queue: make(chan failover.Action, 64)}
	for i := range w.cfg.Applications {
		w.apps = append(w.apps, newApp(w, &w.cfg.Applications[i]))
	}
	return w
}

// give hands the worker its next action and cancels the one under way. The loop calls it, so it never waits: a full
// queue would mean 64 actions within the deadlines of one, and the action is then asked for again by its own
// deadline.
func (w *groupWorker) give(a failover.Action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel() // before the new one is in the queue: it must not cancel itself
	}
	select {
	case w.queue <- a:
	default:
		w.n.o.Log.Error("an action was dropped: its group's worker is stuck", "group", w.cfg.Name, "action", a.Kind)
	}
}

// run is the worker's goroutine.
func (w *groupWorker) run(ctx context.Context) {
	defer w.stopProbes()
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-w.queue:
			w.one(ctx, a)
		}
	}
}

func (w *groupWorker) one(ctx context.Context, a failover.Action) {
	w.mu.Lock()
	if len(w.queue) > 0 { // already overtaken
		w.mu.Unlock()
		return
	}
	ctx, cancel := context.WithDeadline(ctx, w.n.loop.When(a.Deadline))
	w.cancel = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.cancel = nil
		w.mu.Unlock()
		cancel()
	}()
	kind, text := w.carryOut(ctx, a)
	w.n.send(failover.Event{Kind: kind, Group: a.Group, Op: a.Op, Text: text})
}

// carryOut does one action and returns the event that answers it.
func (w *groupWorker) carryOut(ctx context.Context, a failover.Action) (failover.EventKind, string) {
	var err error
	var good, bad failover.EventKind
	switch a.Kind {
	case failover.Attach:
		good, bad, err = failover.Attached, failover.AttachFailed, w.attach(ctx, a)
	case failover.StartApps:
		good, bad, err = failover.AppsUp, failover.StartFailed, w.startApps(ctx, a)
	case failover.StopApps:
		good, bad, err = failover.AppsStopped, failover.StopFailed, w.stopApps(ctx, a)
	case failover.Detach:
		good, bad, err = failover.Detached, failover.DetachFailed, w.detach(ctx, a)
	case failover.KillAll:
		good, bad = failover.Cleared, failover.Cleared
		err = w.killAll(ctx, a)
		if err != nil { // not sure that nothing is left: the deadline asks again
			<-ctx.Done()
			return failover.Passed, ""
		}
	}
	if err != nil {
		w.n.o.Log.Warn("an action failed", "group", w.cfg.Name, "action", a.Kind, "error", err)
		return bad, err.Error()
	}
	return good, ""
}

// spec of a drive as this server would mount it.
func (w *groupWorker) spec(s *config.StorageUnit, d *config.Drive) drive.Spec {
	spec := drive.Spec{
		Letter: d.Letter, Volume: d.Volume, Filesystem: d.Filesystem, Options: d.Options, Fsck: d.Fsck,
		OnPrimary: w.cfg.Primary == w.n.cfg.Self, Server: w.n.self, MountTimeout: d.MountTimeout,
	}
	if v := w.switchOf(s).Capabilities().Volume; v != "" {
		spec.Volume, spec.Filesystem = v, "directory"
	}
	return spec
}

func (w *groupWorker) switchOf(s *config.StorageUnit) storage.Switch {
	for _, u := range w.n.cfg.Units() {
		if u.Storage == s {
			return w.n.o.Switches[u.Index]
		}
	}
	return nil // cannot be: Units lists all
}

// eachDrive calls f for every drive of the group in the order of the configuration, until it fails.
func (w *groupWorker) eachDrive(f func(s *config.StorageUnit, d *config.Drive) error) error {
	for i := range w.cfg.Storage {
		s := &w.cfg.Storage[i]
		for j := range s.Drives {
			if err := f(s, &s.Drives[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// attach mounts the group's drives. Each mount is repeated within the deadline only where the volume is not there yet.
func (w *groupWorker) attach(ctx context.Context, a failover.Action) error {
	from := time.Now()
	w.mounted = nil
	w.forgetProblems()
	w.n.o.Ledger.Group(ledger.Attach, w.cfg.Name, a.Op)
	err := w.eachDrive(func(s *config.StorageUnit, d *config.Drive) error {
		var m drive.Mounted
		err := around("mount", func() (err error) {
			m, err = w.n.o.Drives.Mount(ctx, w.spec(s, d))
			return err
		})
		if err != nil {
			return fmt.Errorf("drive %s of %s: %w", d.Letter, s.Name, err)
		}
		w.mounted = append(w.mounted, m)
		w.drivesProblems(m)
		return nil
	})
	w.n.view.Drives(w.index, w.mounted)
	if err != nil {
		return err
	}
	for i, m := range w.mounted {
		w.n.o.Log.Info("drive mounted", "group", w.cfg.Name, "drive", m.Letter, "path", m.Path, "number", i+1)
	}
	w.n.stepRecord(w.index, "attached", a.Op, w.lettersText(), took(from))
	w.arrive(arrival.Arrived, "")
	return nil
}

// drivesProblems tells what is wrong with a drive that is mounted all the same: a map file that cannot be written, a
// letter that was taken. The alarm holds until the group is attached anew.
func (w *groupWorker) drivesProblems(m drive.Mounted) {
	for _, p := range m.Problems {
		text := fmt.Sprintf("Drive %s: %v", m.Letter, p.Text)
		w.n.alarm(p.Code, w.cfg.Name, text, p.Next)
		w.problems = append(w.problems, p.Code)
		w.n.record(store.Record{Kind: "drive", Group: w.cfg.Name, Code: p.Code, Text: p.Error()})
	}
}

// forgetProblems ends the alarms of the drives as they were mounted before.
func (w *groupWorker) forgetProblems() {
	for _, code := range w.problems {
		w.n.view.ClearAlarm(code, w.cfg.Name)
	}
	w.problems = nil
}

func (w *groupWorker) lettersText() string {
	text := "Drives mounted:"
	for _, m := range w.mounted {
		text += " " + m.Letter
	}
	return text + "."
}

// findMounted brings what is mounted up to date from the system, for a worker that has not mounted it itself.
func (w *groupWorker) findMounted(ctx context.Context) error {
	var found []drive.Mounted
	err := w.eachDrive(func(s *config.StorageUnit, d *config.Drive) error {
		m, ok, err := w.n.o.Drives.Find(ctx, w.spec(s, d))
		if err != nil {
			return fmt.Errorf("drive %s of %s: %w", d.Letter, s.Name, err)
		}
		if ok {
			found = append(found, m)
		}
		return nil
	})
	if err == nil {
		w.mounted = found
	}
	return err
}

// detach unmounts the group's drives, last first. A busy drive is tried again until shortly before the deadline.
func (w *groupWorker) detach(ctx context.Context, a failover.Action) error {
	from := time.Now()
	if err := w.findMounted(ctx); err != nil {
		return err
	}
	for len(w.mounted) > 0 {
		last := len(w.mounted) - 1
		if err := w.unmountOne(ctx, w.mounted[last]); err != nil {
			w.n.view.Drives(w.index, w.mounted)
			return err
		}
		w.mounted = w.mounted[:last]
	}
	w.forgetProblems()
	w.n.view.Drives(w.index, nil)
	w.n.o.Ledger.Group(ledger.Detached, w.cfg.Name, a.Op)
	w.n.stepRecord(w.index, "detached", a.Op, "All drives are unmounted.", took(from))
	w.arrive(arrival.Left, "All drives are unmounted.")
	return nil
}

func (w *groupWorker) unmountOne(ctx context.Context, m drive.Mounted) error {
	for {
		err := around("unmount", func() error { return w.n.o.Drives.Unmount(ctx, m) })
		var busy *drive.BusyError
		if err == nil || !errors.As(err, &busy) || !sleepUntil(ctx, 200*time.Millisecond, time.Second) {
			return err
		}
	}
}

// sleepUntil waits for d, unless ctx would end within spare after that; it reports whether it waited.
func sleepUntil(ctx context.Context, d, spare time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d+spare {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// witness asks the mounted drives, not the switch: the last evidence of a server whose switch is mute.
func (w *groupWorker) witness(ctx context.Context, a failover.Action) {
	mounts := 0
	err := w.eachDrive(func(s *config.StorageUnit, d *config.Drive) error {
		m, ok, err := w.n.o.Drives.Find(ctx, w.spec(s, d))
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("drive %s is not mounted", d.Letter)
		}
		mounts++
		return w.n.o.Drives.Alive(ctx, m)
	})
	kind := failover.DiskAnswered
	if err != nil || mounts == 0 {
		kind = failover.DiskSilent
	}
	w.n.send(failover.Event{Kind: kind, Group: w.index, Op: a.Op})
}

// checkReady proves, as far as that can be without the storage, that the group could be started here.
func (w *groupWorker) checkReady(ctx context.Context, a failover.Action) {
	err := around("ready", func() error { return w.ready(ctx, a.Epoch) })
	kind, text := failover.ReadyYes, ""
	if err != nil {
		kind, text = failover.ReadyNo, err.Error()
	}
	w.n.send(failover.Event{Kind: kind, Group: w.index, Op: a.Op, Text: text})
}

func (w *groupWorker) ready(ctx context.Context, epoch uint32) error {
	var errs []error
	unwritten, err := ask(ctx, w.n, w.n.loop.Writable)
	if err := errors.Join(unwritten, err); err != nil { // what cannot be recorded would not be done
		errs = append(errs, fmt.Errorf("state directory: %w", err))
	}
	for i := range w.cfg.Storage {
		s := &w.cfg.Storage[i]
		if _, err := w.switchOf(s).Inspect(ctx); err != nil {
			errs = append(errs, fmt.Errorf("storage %s: %w", s.Name, err))
		}
	}
	for _, ap := range w.apps {
		if err := ap.ready(ctx, epoch); err != nil {
			errs = append(errs, fmt.Errorf("application %s: %w", ap.cfg.Name, err))
		}
	}
	return errors.Join(errs...)
}
