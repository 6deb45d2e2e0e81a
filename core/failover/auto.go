package failover

// MaxFlaps is how many automatic moves of a group are remembered, and so the highest FlapLimit.
const MaxFlaps = 8

// Flapping tells whether the group has moved by itself as often as it may within the window; it then stays put until
// the returned moment.
func (s *State) Flapping(p *Params, g int) (until Tick, yes bool) {
	gr, gp := &s.Groups[g], &p.Groups[g]
	if gp.FlapLimit == 0 || gr.Flaps < gp.FlapLimit {
		return 0, false
	}
	return gr.FlapAt[gr.Flaps-gp.FlapLimit] + gp.FlapWindow, true
}

func (x *stepper) flapping(g int) bool {
	_, yes := x.s.Flapping(x.p, g)
	return yes
}

// flapped counts one automatic move of a group.
func (x *stepper) flapped(g int) {
	gr := &x.s.Groups[g]
	if gr.Flaps == MaxFlaps {
		copy(gr.FlapAt[:], gr.FlapAt[1:])
		gr.Flaps--
	}
	gr.FlapAt[gr.Flaps] = x.s.Now
	gr.Flaps++
	x.s.Hard.Flaps[g] = gr.Flaps
	if x.flapping(g) {
		x.note(g, "flapping", "ORS-1044", "The group has moved by itself too often: it stays where it is.")
	}
}

// settleFlaps forgets automatic moves that are longer ago than the window.
func (x *stepper) settleFlaps(g int) {
	gr := &x.s.Groups[g]
	for gr.Flaps > 0 && x.s.Now >= gr.FlapAt[0]+x.p.Groups[g].FlapWindow {
		copy(gr.FlapAt[:], gr.FlapAt[1:])
		gr.Flaps--
	}
	x.s.Hard.Flaps[g] = gr.Flaps
}

// ownedBy notes to whom the switch connects a group. That a server has it which did not have it before counts as an
// automatic move, unless the round was won by arbitration (the other server was lost) or an operator moves it.
func (x *stepper) ownedBy(g int) {
	gr := &x.s.Groups[g]
	owner, tag := Nobody, uint32(0)
	for n, i := range x.p.Groups[g].Units {
		u := &x.s.Units[i]
		if !u.Known || n > 0 && u.Key.Owner != owner {
			return
		}
		owner, tag = u.Key.Owner, max(tag, u.Key.Tag)
	}
	if owner == Nobody {
		return
	}
	byOperator := gr.Move.Role != NoMove && gr.Move.Reason == Operator
	if gr.LastOwner == owner.Other() && gr.LastTag == tag && !byOperator {
		x.flapped(g)
	}
	gr.LastOwner, gr.LastTag = owner, tag
}

// moveLeft notes where a planned move has left a group, before the switch is read again.
func (x *stepper) moveLeft(g int, owner Server) {
	gr := &x.s.Groups[g]
	if gr.Move.Reason != Operator && gr.LastOwner == owner.Other() {
		x.flapped(g)
	}
	gr.LastOwner = owner
}

// mayLeave: the partner may be asked to take the group, because it does not run well here.
func (x *stepper) mayLeave(g int) bool {
	gr := &x.s.Groups[g]
	return x.agreed() && gr.Move.Role == NoMove && !x.s.Leaving && !x.s.Off() && !x.flapping(g) && x.s.Now >= gr.AutoAt
}

// wantMove asks for a planned move; until the next may be asked for, the time grows.
func (x *stepper) wantMove(g int, why Reason, text string) {
	gr := &x.s.Groups[g]
	gr.AutoWait = min(max(gr.AutoWait*2, x.p.BlockFirst), x.p.BlockMax)
	gr.AutoAt = x.s.Now + gr.AutoWait
	x.do(Action{Kind: MoveWanted, Group: g, Reason: why, Text: text})
}

// failbackAt is the moment at which a group goes back to its primary by itself; Never: it does not.
func failbackAt(p *Params, s *State, g int) Tick {
	gr, gp := &s.Groups[g], &p.Groups[g]
	_, flapping := s.Flapping(p, g)
	if !gp.Failback || gp.Primary == p.Self || gr.Phase != Active || gr.Move.Role != NoMove || s.AgreedAt == Never ||
		s.Leaving || s.Off() || flapping {
		return Never
	}
	return max(max(gr.Since, s.AgreedAt)+gp.FailbackDelay, gr.AutoAt)
}

// settleFailback asks for the way back when it is due.
func (x *stepper) settleFailback(g int) {
	if x.s.Now >= failbackAt(x.p, &x.s, g) {
		x.wantMove(g, Failback, "The group's primary has been back for the failback delay.")
	}
}
