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
	bye, cancelBye := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancelBye()
	if err := n.o.Interconnect.Goodbye(bye); err != nil {
		n.o.Log.Warn("goodbye was not said on every link", "error", err)
	}
	progress("goodbye said: the partner takes nothing over")
	n.record(store.Record{Kind: "agent", Step: "ended", Text: "This server has been shut down in order."})
	n.stop()
	return nil
}

// The longest absence that may be announced: the partner takes nothing over before it is over.
const maxRestart = 10 * time.Minute

// Restart ends the agent for a restart: applications go on, and the partner is told to wait for so long. It returns
// when that has been said for three intervals; Run then returns.
func (n *Node) Restart(ctx context.Context, r control.RestartRequest) (string, error) {
	if r.Within < time.Second || r.Within > maxRestart {
		return "", fmt.Errorf("ORS-1049: an agent is back within 1s to 10m, not %v: %w", r.Within, control.ErrRefused)
	}
	if err := n.call(ctx, func() { n.loop.Restart(r.Within, r.Reason) }); err != nil {
		return "", err
	}
	if !sleepUntil(ctx, 3*n.cfg.Interconnect.Interval, 0) {
		return "", ctx.Err()
	}
	n.successor.Store(&r.Program)
	n.stop()
	return fmt.Sprintf("the agent ends; applications go on, and %s waits %v for it", n.peer, r.Within), nil
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
