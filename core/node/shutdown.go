package node

import (
	"context"
	"fmt"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/drive"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/store"
)

// Shutdown ends this server's part in an orderly way: with on_shutdown = "switchover" its groups are moved first;
// then applications are stopped and drives unmounted, goodbye is said, and Run returns. The storage stays with this
// server.
func (n *Node) Shutdown(ctx context.Context, reason string, progress func(string)) error {
	n.record(store.Record{Kind: "operator", Step: "shutdown", Text: "An orderly shutdown was asked for.", Why: reason})
	if n.cfg.Pair.OnShutdown == "switchover" {
		err := n.Move(ctx, control.MoveRequest{To: n.peer, Reason: "shutdown"}, func(p control.MoveProgress) {
			progress(fmt.Sprintf("%s: %s: %s", p.Group, p.Step, p.Text))
		})
		if err != nil {
			progress("groups stay here: " + err.Error())
		}
	}
	records, done := n.tails.follow()
	defer done()
	if err := n.call(ctx, func() { n.loop.Shutdown() }); err != nil {
		return err
	}
	var longest failover.Tick
	p := n.loop.Params()
	for i := range p.Groups {
		longest = max(longest, p.Groups[i].StopTimeout+p.DetachTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(longest+5_000)*time.Millisecond)
	defer cancel()
	changed, unsubscribe := n.changed.Subscribe()
	defer unsubscribe()
	for {
		left, err := ask(ctx, n, n.loop.NotParked)
		if err != nil {
			return err
		}
		if left == "" {
			break
		}
		select {
		case r := <-records:
			if r.Kind == "group" || r.Kind == "step" {
				progress(r.Group + ": " + r.Text)
			}
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("ORS-1026: not all groups have stopped: %s; the agent goes on; see status", left)
		}
	}
	if err := n.call(ctx, n.loop.TellStatus); err != nil {
		return err
	}
	if err := n.Goodbye(context.WithoutCancel(ctx)); err != nil {
		n.o.Log.Warn("the partner has not confirmed the goodbye", "error", err)
		progress(fmt.Sprintf("%s has not confirmed the goodbye: if it runs, it takes over what belongs to this server",
			n.peer))
	} else {
		progress("goodbye said: the partner takes nothing over")
	}
	n.record(store.Record{Kind: "agent", Step: "ended", Text: "This server has been shut down in order."})
	n.stop()
	return nil
}

// For how long a goodbye is said at most: to a partner that is there, and to one that is back soon as it has announced.
const (
	byeWait     = 2 * time.Second
	byeWaitAway = 10 * time.Second
)

// Goodbye tells the partner that this server leaves in order, so that it takes nothing over. An error says that the
// partner has not confirmed it.
func (n *Node) Goodbye(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, byeWait)
	away, err := ask(asking, n, n.loop.PeerBackIn)
	cancel()
	if err != nil {
		n.o.Log.Warn("it is not known whether the partner is away", "error", err) // goodbye is said all the same
	}
	ctx, cancel = context.WithTimeout(ctx, max(byeWait, min(away, byeWaitAway)))
	defer cancel()
	for {
		err := n.o.Interconnect.Goodbye(ctx)
		if err == nil {
			n.partnerKnows.Store(true)
			return nil
		}
		if away == 0 || !sleepUntil(ctx, n.cfg.Interconnect.Interval, 0) {
			return err
		}
	}
}

// The longest absence that may be announced: the partner takes nothing over before it is over.
const maxRestart = time.Duration(failover.MaxAway) * time.Millisecond

// tellWait is how long an agent that is to be restarted waits at most until the partner has that on record.
const tellWait = 5 * time.Second

// Restart ends the agent for a restart: applications go on, and the partner is told to wait for so long. It returns
// when the partner, if it is there, has that on record; Run then returns.
func (n *Node) Restart(ctx context.Context, r control.RestartRequest) (string, error) {
	if r.Within < time.Second || r.Within > maxRestart {
		return "", fmt.Errorf("ORS-1049: an agent is back within 1s to 10m, not %v: %w", r.Within, control.ErrRefused)
	}
	if !n.restarting.CompareAndSwap(false, true) {
		return "", fmt.Errorf("ORS-1064: another restart of this agent is under way: %w", control.ErrRefused)
	}
	waits, err := n.announce(ctx, r)
	if err != nil {
		_ = n.call(context.WithoutCancel(ctx), func() { n.loop.Stay(err.Error()) })
		n.restarting.Store(false)
		return "", err
	}
	n.successor.Store(&r.Program)
	n.stop()
	if !waits {
		return fmt.Sprintf("the agent ends; applications go on, and %s, which is not heard, does not know of it", n.peer), nil
	}
	return fmt.Sprintf("the agent ends; applications go on, and %s waits %v for it", n.peer, r.Within), nil
}

// announce announces a restart and reports whether the partner waits. One that may take the end for a loss must.
func (n *Node) announce(ctx context.Context, r control.RestartRequest) (waits bool, err error) {
	// Until what the agent before has announced is taken back, no shorter time can be announced.
	for end := time.Now().Add(2 * leaseAnswer); time.Now().Before(end); {
		stands, err := ask(ctx, n, n.loop.Announced)
		if err != nil {
			return false, err
		}
		if stands <= r.Within+time.Second || !sleepUntil(ctx, 20*time.Millisecond, 0) {
			break
		}
	}
	known := make(chan struct{})
	var must bool
	if err := n.call(ctx, func() {
		n.loop.Restart(r.Within, r.Reason, func() { close(known) })
		must = n.loop.MustBeTold()
	}); err != nil {
		return false, err
	}
	least := time.Now().Add(3 * n.cfg.Interconnect.Interval) // so often it has been said on every link
	within := time.Until(least)
	if must {
		within = max(within, min(tellWait, r.Within/2))
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-known:
		if !sleepUntil(ctx, time.Until(least), 0) {
			return false, ctx.Err()
		}
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
	}
	up, err := ask(ctx, n, func() bool { return n.loop.State().Partner.Up })
	if err == nil && must && !up {
		err = fmt.Errorf("ORS-1064: %s has not confirmed that it waits for this agent; the agent goes on: %w", n.peer,
			control.ErrRefused)
	}
	return up, err // one that is there and does not answer is of a version that knows of beats only
}

// Successor is what is to follow when Run has returned: nothing, where no restart was asked for; otherwise the program
// that takes the agent's place, or empty where whoever keeps the agent running starts it again.
func (n *Node) Successor() (program string, restart bool) {
	if p := n.successor.Load(); p != nil {
		return *p, true
	}
	return "", false
}

// Clear lets a group that is blocked or faulted try again.
func (n *Node) Clear(ctx context.Context, group string) (string, error) {
	g := n.loop.GroupIndex(group)
	if g < 0 {
		return "", fmt.Errorf("ORS-1022: there is no group %q in the configuration: %w", group, control.ErrRefused)
	}
	return ask(ctx, n, func() string { return n.loop.Clear(g) })
}

// The longest maintenance that may be asked for.
const maxMaintenance = 30 * 24 * time.Hour

// Mode switches the mode of the pair and says how it is then.
func (n *Node) Mode(ctx context.Context, r control.ModeRequest) (string, error) {
	if r.Maintenance != nil && (*r.Maintenance < 0 || *r.Maintenance > maxMaintenance) {
		return "", fmt.Errorf("ORS-1048: a maintenance lasts up to 720h, not %v: %w", *r.Maintenance, control.ErrRefused)
	}
	type answer struct {
		text     string
		recorded bool
	}
	a, err := ask(ctx, n, func() answer {
		recorded := n.loop.SetMode(r.Disabled, r.Maintenance, r.Reason)
		return answer{n.loop.ModeText(), recorded}
	})
	if err == nil && !a.recorded {
		err = fmt.Errorf("ORS-1030: the state directory cannot be written, so the mode stays: %w", control.ErrRefused)
	}
	return a.text, err
}

// Map writes the map files of the drives that are mounted here; letter selects one, empty means all.
func (n *Node) Map(_ context.Context, letter string) ([]string, error) {
	var lines []string
	for g := range n.cfg.Groups {
		w := n.workers[g]
		mounted := n.view.Mounted(g)
		i := 0
		for s := range w.cfg.Storage {
			for d := range w.cfg.Storage[s].Drives {
				if i >= len(mounted) {
					break
				}
				m := mounted[i]
				i++
				if letter != "" && m.Letter != letter {
					continue
				}
				spec := w.spec(&w.cfg.Storage[s], &w.cfg.Storage[s].Drives[d])
				if err := n.o.Drives.WriteMap(m, spec); err != nil {
					return lines, err
				}
				lines = append(lines, fmt.Sprintf("Creating primary map file %s on %s", drive.MapFileName, m.Letter))
			}
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("ORS-1027: No drive letters connected to primary controller: drive %q is not mounted on %s",
			letter, n.self)
	}
	return lines, nil
}
