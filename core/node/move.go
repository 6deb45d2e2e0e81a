package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/node/loop"
)

// Move carries out a planned move of groups, one after the other, and reports each step. It returns when all have
// ended.
func (n *Node) Move(ctx context.Context, req control.MoveRequest, progress func(control.MoveProgress)) error {
	from := time.Now()
	report := func(p control.MoveProgress) {
		p.At = time.Since(from)
		progress(p)
	}
	groups, err := n.groupsToMove(ctx, req)
	if err != nil {
		return err
	}
	for _, g := range groups {
		n.moveOne(ctx, g, req, report)
	}
	return nil
}

// groupsToMove resolves which groups a request means.
func (n *Node) groupsToMove(ctx context.Context, req control.MoveRequest) ([]int, error) {
	if req.To != "" && n.cfg.ServerByName(req.To) == failover.Nobody {
		return nil, fmt.Errorf("ORS-1028: there is no server %q; the servers are %s and %s: %w", req.To, n.self, n.peer,
			control.ErrRefused)
	}
	var groups []int
	for _, name := range req.Groups {
		g := n.loop.GroupIndex(name)
		if g < 0 {
			return nil, fmt.Errorf("ORS-1022: there is no group %q in the configuration: %w", name, control.ErrRefused)
		}
		groups = append(groups, g)
	}
	if len(groups) > 0 {
		return groups, nil
	}
	owners, err := n.owners(ctx)
	if err != nil {
		return nil, err
	}
	for g := range n.cfg.Groups {
		owner, target := owners[g], n.target(g, owners[g], req)
		if owner != failover.Nobody && owner != target {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

// target of a move: failback goes to the primary, a switchover to where it was asked to go, else to the other server.
func (n *Node) target(g int, owner failover.Server, req control.MoveRequest) failover.Server {
	switch {
	case req.Failback:
		return n.cfg.Groups[g].Primary
	case req.To != "":
		return n.cfg.ServerByName(req.To)
	}
	return owner.Other()
}

// owners reads from the decision's state who owns each group, by the switch.
func (n *Node) owners(ctx context.Context) ([]failover.Server, error) {
	return ask(ctx, n, func() []failover.Server {
		owners := make([]failover.Server, len(n.cfg.Groups))
		for g := range owners {
			owners[g] = n.loop.GroupOwner(g)
		}
		return owners
	})
}

// moveOne moves one group and reports until it has ended.
func (n *Node) moveOne(ctx context.Context, g int, req control.MoveRequest, report func(control.MoveProgress)) {
	name := n.groupName(g)
	end := func(moved bool, step, code, text string) {
		report(control.MoveProgress{Group: name, Step: step, Text: text, Code: code, Finished: true, Moved: moved})
	}
	owner, agreed := n.awaitAgreed(ctx, g, report)
	switch {
	case owner == failover.Nobody:
		end(false, "refused", "ORS-1023", "nobody owns the group, or the switch does not say who does")
		return
	case owner == n.target(g, owner, req):
		end(true, "done", "", "the group is on "+n.cfg.ServerName(owner)+" already")
		return
	case !agreed:
		end(false, "refused", "ORS-1024",
			"the two servers have not agreed in time that nothing is left over from the last loss")
		return
	}
	res, err := n.runMove(ctx, g, owner, req, report)
	switch {
	case err != nil:
		end(false, "failed", "ORS-1025", "the end of the move was not seen: "+err.Error()+"; see status")
	case res.Moved:
		n.awaitOwner(ctx, g, owner.Other())
		end(true, "done", "", res.Text)
	case res.Code == "ORS-1020":
		end(false, "refused", res.Code, res.Text)
	default:
		end(false, "failed", res.Code, res.Text)
	}
}

// awaitAgreed waits for a while until planned moves are possible and the group's owner is known: after a partner's
// return, and after an agent's start, that takes some beats. It returns what it saw last.
func (n *Node) awaitAgreed(ctx context.Context, g int, report func(control.MoveProgress)) (failover.Server, bool) {
	type view struct {
		owner  failover.Server
		agreed bool
	}
	var v view
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	changed, done := n.changed.Subscribe()
	defer done()
	told := false
	for {
		now, err := ask(ctx, n, func() view { return view{n.loop.GroupOwner(g), n.loop.State().Agreed()} })
		if err != nil {
			return v.owner, v.agreed
		}
		if v = now; v.agreed && v.owner != failover.Nobody {
			return v.owner, true
		}
		if !told {
			told = true
			report(control.MoveProgress{Group: n.groupName(g), Step: "waiting",
				Text: "waiting for both servers to agree on the next round"})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v.owner, v.agreed
		}
	}
}

// awaitOwner waits for a moment until the switch has been seen to show a group with a server, so that whoever looks
// next sees it.
func (n *Node) awaitOwner(ctx context.Context, g int, owner failover.Server) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	changed, done := n.changed.Subscribe()
	defer done()
	for {
		now, err := ask(ctx, n, func() failover.Server { return n.loop.GroupOwner(g) })
		if err != nil || now == owner {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// runMove starts the move where the group is and waits for its end. Its own bound is longer than the decision's.
func (n *Node) runMove(ctx context.Context, g int, owner failover.Server, req control.MoveRequest,
	report func(control.MoveProgress)) (loop.MoveResult, error) {
	records, done := n.tails.follow()
	defer done()
	var raw [8]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return loop.MoveResult{}, err
	}
	id := binary.BigEndian.Uint64(raw[:])
	ended := make(chan loop.MoveResult, 1)
	err := n.call(ctx, func() {
		start := n.loop.StartMove
		if req.Force {
			start = n.loop.ForceMove
		}
		start(id, g, owner, req.Reason, func(r loop.MoveResult) { ended <- r })
	})
	if err != nil {
		return loop.MoveResult{}, err
	}
	p := n.loop.Params()
	gp := &p.Groups[g]
	bound := 2*(gp.StopTimeout+gp.AttachTimeout+gp.StartTimeout+p.MoveTimeout+p.DetachTimeout) + 10_000
	ctx, cancel := context.WithTimeout(ctx, time.Duration(bound)*time.Millisecond)
	defer cancel()
	for {
		select {
		case r := <-records:
			// steps that only repeat a phase are for timelines
			if r.Group == n.groupName(g) && (r.Kind != "step" || r.Step != "claimed" && r.Step != "active") {
				report(control.MoveProgress{Group: r.Group, Step: r.Step, Text: r.Text, Code: r.Code})
			}
		case res := <-ended:
			return res, nil
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			_ = n.call(stop, func() { n.loop.ForgetMove(id) })
			cancel()
			return loop.MoveResult{}, ctx.Err()
		}
	}
}
