package loop

import (
	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/failover"
)

// beginArrivals takes over what the agent before this one has told of the groups, in the same run of the system: with
// another one, nothing of them is left here.
func (v *View) beginArrivals(past []arrival.Notice, lp *Loop) {
	for _, n := range past {
		if g := lp.GroupIndex(n.Group); g >= 0 && n.Server == lp.self && n.Boot == lp.o.BootID {
			v.groups[g].arrival = n
		}
	}
}

// noteArrivals tells that groups come to this server, before anything of them is mounted or started.
func (lp *Loop) noteArrivals(before *failover.State) {
	for g := range lp.state.Groups {
		gr := &lp.state.Groups[g]
		if before.Groups[g].LastOwner == lp.cfg.Self.Other() || gr.LastOwner == lp.cfg.Self.Other() {
			lp.peerHad[g] = true
		}
		was := before.Groups[g].Phase
		if gr.Phase != failover.Attaching || was == failover.Attaching {
			continue
		}
		n := arrival.Notice{
			Step: arrival.Coming, Group: lp.GroupName(g), Server: lp.self, At: lp.now(), Op: gr.Op, Boot: lp.o.BootID,
			Primary: lp.cfg.ServerName(lp.cfg.Groups[g].Primary),
		}
		n.Event, n.From = lp.arrivalOf(g, was, lp.view.Arrival(g))
		n.Text = n.Sentence()
		lp.peerHad[g] = false
		lp.view.setArrival(g, n)
		lp.record(n.Record())
	}
}

// arrivalOf says how a group has come, and from which server. last is what was told of it before.
func (lp *Loop) arrivalOf(g int, was failover.Phase, last arrival.Notice) (event, from string) {
	gr := &lp.state.Groups[g]
	underWay := last.Step == arrival.Coming
	switch {
	case was == failover.Detaching, gr.Move.Role == failover.Return:
		return arrival.Returned, ""
	case gr.Move.Role == failover.Taking && lp.cfg.Groups[g].Primary == lp.cfg.Self:
		return arrival.Failback, lp.peer
	case gr.Move.Role == failover.Taking:
		return arrival.Switchover, lp.peer
	case underWay && !lp.peerHad[g]:
		return last.Event, last.From // it has not got further yet: tried again, maybe by another agent
	case lp.peerHad[g]:
		return arrival.Takeover, lp.peer
	case was == failover.Unknown && (last.Step == arrival.Arrived || last.Step == arrival.Up):
		return arrival.Resumed, last.From
	}
	return arrival.Start, ""
}

// Arrival is how a group has come to this server, with what is known of its drives; zero before it has come.
func (v *View) Arrival(g int) arrival.Notice {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.groups[g].arrival
}

func (v *View) setArrival(g int, n arrival.Notice) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.groups[g].arrival = n
}

// Arrive takes the next step of a group's arrival; change fills in what it brings. It returns false, and changes
// nothing, when the group has not come or has taken that step already.
func (v *View) Arrive(g int, step string, change func(*arrival.Notice)) (arrival.Notice, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.groups[g].arrival
	allowed := map[string][]string{
		arrival.Arrived: {arrival.Coming, arrival.Arrived, arrival.Up, arrival.Leaving, arrival.Left},
		arrival.Up:      {arrival.Arrived},
		arrival.Leaving: {arrival.Arrived, arrival.Up},
		arrival.Left:    {arrival.Leaving},
	}
	for _, before := range allowed[step] {
		if n.Step == before {
			n.Step = step
			change(&n)
			v.groups[g].arrival = n
			return n, true
		}
	}
	return n, false
}
