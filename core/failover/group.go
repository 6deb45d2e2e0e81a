package failover

// answers reports whether an event of kind k answers an action and so must carry the group's newest operation id.
func answers(k EventKind) bool { return k <= Cleared }

// feed gives one event to a group's table.
func (x *stepper) feed(g int, e Event) {
	gr := &x.s.Groups[g]
	if answers(e.Kind) && e.Op != gr.Op {
		return // an answer to an older question
	}
	if e.Kind == AppsFailed && gr.Phase == Starting && e.Op != gr.Op {
		return // the start under way looks after it: several that fail at once are one failure
	}
	row := Match(gr.Phase, e.Kind, x.facts(g))
	if row < 0 {
		return
	}
	x.took(g, row, e.Kind)
	r := &Table[row]
	from := gr.Phase
	again := gr.Row == row && from == r.To && e.Kind == AppsFailed && len(r.Do) == 0
	gr.Phase, gr.Row = r.To, row
	if from != r.To || len(r.Do) > 0 {
		gr.Since, gr.SinceSeq, gr.Deadline = x.s.Now, x.s.Op, x.deadline(g, r.To)
	}
	x.effects(g, from, e)
	text := r.Why
	if e.Text != "" {
		text += " (" + e.Text + ")"
	}
	if !again {
		x.do(Action{Kind: Note, Group: g, Step: r.To.String(), Code: r.Code, Text: text, Op: gr.Op, Epoch: x.epoch(g)})
	}
	for _, k := range r.Do {
		x.act(g, k)
	}
}

// facts are the guard facts of a group now.
func (x *stepper) facts(g int) Facts {
	gr := &x.s.Groups[g]
	if x.s.Now > gr.LastFail+x.p.Groups[g].RestartReset {
		gr.Fails = 0 // of long ago
	}
	var f Facts
	set := func(on bool, fact Facts) {
		if on {
			f |= fact
		}
	}
	set(x.agreed(), Agreed)
	set(x.mayClaim(g), MayClaim)
	set(gr.Fails < x.p.Groups[g].RestartLimit, RestartsLeft)
	set(gr.Disk, DiskAnswers)
	set(x.releaseOpen(g), ReleaseOpen)
	set(x.s.Leaving, Leaving)
	set(x.s.Now < gr.BlockedUntil, IsBlocked)
	set(x.split(g), Split)
	set(x.mayLeave(g), MayLeave)
	set(x.s.InMaintenance(), HandsOff)
	set(gr.Move.Role == Taking && x.agreed(), Undo)
	set(gr.Move.Role == Giving && !x.s.Leaving, Giveaway)
	return f
}

// split: by fresh reads some of the group's units are this server's, and some are not. While it gives its part back,
// what was known before counts on.
func (x *stepper) split(g int) bool {
	ours, others := false, false
	gr := &x.s.Groups[g]
	for _, i := range x.p.Groups[g].Units {
		u := &x.s.Units[i]
		if u.Known && (u.ReadSeq > gr.SinceSeq || gr.Phase == Releasing) {
			ours = ours || u.Key.Owner == x.p.Self
			others = others || u.Key.Owner != x.p.Self
		}
	}
	return ours && others
}

// releaseOpen: the switch still shows, with us, the very key for which a release was asked.
func (x *stepper) releaseOpen(g int) bool {
	for _, i := range x.p.Groups[g].Units {
		h := x.s.Hard.Units[i]
		u := &x.s.Units[i]
		if h.Released == 0 {
			continue
		}
		if u.Known && u.Key.Owner == x.p.Self && u.Key.N == h.Released || !u.Known && h.Asked <= h.Released {
			return true
		}
	}
	return false
}

// mayClaim: the group is free, and it is this server's turn.
func (x *stepper) mayClaim(g int) bool {
	gr := &x.s.Groups[g]
	if !x.agreed() || x.reKeyPending() {
		return false
	}
	switch gr.Move.Role {
	case Taking, Return:
		return true
	case Given:
		return false
	}
	if x.s.Now < gr.HoldoffUntil {
		return false
	}
	if gr.LastOwner == x.p.Self.Other() && (x.s.Off() || x.flapping(g)) {
		return false // that would be a move by itself
	}
	waited := gr.FreeSince != Never && x.s.Now >= gr.FreeSince+x.p.OwnerWait
	return x.p.Groups[g].Primary == x.p.Self || waited
}

// deadline of a phase that has just begun.
func (x *stepper) deadline(g int, ph Phase) Tick {
	gp := &x.p.Groups[g]
	switch ph {
	case Unknown:
		return x.s.Now + x.p.UnknownTimeout
	case Claiming, Releasing:
		return x.s.Now + x.p.ClaimTimeout
	case Attaching:
		return x.s.Now + gp.AttachTimeout
	case Starting:
		return x.s.Now + gp.StartTimeout
	case Stopping:
		return x.s.Now + gp.StopTimeout
	case Detaching:
		return x.s.Now + x.p.DetachTimeout
	case Fenced:
		return x.s.Now + x.p.KillTimeout
	}
	return Never
}

// effects changes what a group remembers besides its phase.
func (x *stepper) effects(g int, from Phase, e Event) {
	gr := &x.s.Groups[g]
	switch e.Kind {
	case Granted, Released, Cleared:
		x.keysAfter(g, e.Kind)
	case StartFailed, AppsFailed:
		if gr.Phase == Active {
			break // in maintenance
		}
		gr.Fails++
		gr.Fault = e.Text
		gr.LastFail = x.s.Now
	}
	switch {
	case e.Kind == Released:
		gr.HoldoffUntil, gr.Fails = x.s.Now+x.p.Holdoff, 0
	case e.Kind == Cleared:
		gr.Fails = 0
	case e.Kind == Denied:
		gr.HoldoffUntil = x.s.Now + x.p.Holdoff/4
	case gr.Phase == Unknown:
		gr.Disk = false
	case gr.Phase == Active && from == Starting:
		gr.BlockFor, gr.Fault = 0, ""
	}
	if gr.Move.Role == Giving && (gr.Phase == Starting || gr.Phase == Attaching) {
		switch from {
		case Stopping:
			gr.Move.Text = "it could not be stopped"
		case Detaching:
			gr.Move.Text = "it could not be unmounted"
		default:
			gr.Move.Text = "its storage was not given back"
		}
		if e.Text != "" {
			gr.Move.Text += ": " + e.Text
		}
	}
	if gr.Phase == Attaching {
		for _, i := range x.p.Groups[g].Units {
			if u := &x.s.Units[i]; u.Known && u.Key.Owner == x.p.Self {
				x.s.Hard.Units[i].Held = u.Key.N
			}
		}
	}
	gaveUp := gr.Phase == Detaching && from == Attaching && e.Kind != OpShutdown ||
		gr.Phase == Stopping && (e.Kind == StartFailed || e.Kind == AppsFailed || e.Kind == Timeout)
	if gaveUp {
		x.block(g, e)
	}
	x.rereadOn(g, e.Kind)
}

// keysAfter notes what a confirmed claim or release, or a cleared group, means for the keys: they are read again
// before anything is decided on them.
func (x *stepper) keysAfter(g int, k EventKind) {
	for _, i := range x.p.Groups[g].Units {
		u, h := &x.s.Units[i], &x.s.Hard.Units[i]
		h.Held = 0
		switch {
		case k == Granted && u.Key.Owner != x.p.Self:
			u.Key = u.Key.Claimed(x.p.Self)
		case k == Released && u.Key.Owner == x.p.Self:
			u.Key = u.Key.Released()
		}
		if k == Granted {
			h.Held = u.Key.N
		}
	}
}

// block keeps a group that could not be brought up from being tried here again at once.
func (x *stepper) block(g int, e Event) {
	gr := &x.s.Groups[g]
	gr.BlockFor = min(max(gr.BlockFor*2, x.p.BlockFirst), x.p.BlockMax)
	gr.BlockedUntil = x.s.Now + gr.BlockFor
	gr.Blocked = e.Text
	if gr.Blocked == "" {
		gr.Blocked = "no answer in time"
	}
}

// rereadOn lets the units of a group be read at once after something that changed them, or may have.
func (x *stepper) rereadOn(g int, k EventKind) {
	switch k {
	case Granted, Denied, Released, ReleaseFailed, Timeout, OpClear, Cleared:
		for _, i := range x.p.Groups[g].Units {
			x.s.Units[i].NextRead = x.s.Now
			x.s.Units[i].ReadOp = 0
		}
	}
}

// act sends one action of a row.
func (x *stepper) act(g int, k ActionKind) {
	if k == MoveWanted {
		x.wantMove(g, Health, "Restarting in place did not help.")
		return
	}
	gr := &x.s.Groups[g]
	a := Action{Kind: k, Group: g, Op: x.op(), Epoch: x.epoch(g), Deadline: gr.Deadline}
	switch k {
	case Witness:
		gr.DiskOp = a.Op // not the group's newest: its answer is no event of the table
		a.Deadline = x.s.Now + x.p.UnknownTimeout
		x.do(a)
		return
	case Claim, ReKey, Release:
		a.Swaps = x.swaps(g, k)
		a.Epoch = x.epoch(g) + 1
	case StartApps:
		if n := gr.Fails; n > 0 {
			a.Delay = min(Tick(100)<<min(n, 8), 10_000, max(0, (gr.Deadline-x.s.Now)/2))
		}
	}
	gr.Op = a.Op // an answer to ReKey finds no row
	x.do(a)
}

// swaps lists the compare-and-swaps of a claim, re-key or release, and writes into the hard state what is about to be
// asked.
func (x *stepper) swaps(g int, k ActionKind) []KeySwap {
	var out []KeySwap
	for _, i := range x.p.Groups[g].Units {
		u, h := &x.s.Units[i], &x.s.Hard.Units[i]
		next := u.Key.Claimed(x.p.Self)
		if k == Release {
			if u.Key.Owner != x.p.Self {
				continue // part of a group that was only half ours
			}
			next = u.Key.Released()
			h.Released = u.Key.N
		}
		h.Asked = max(h.Asked, next.N)
		out = append(out, KeySwap{Unit: i, Old: u.Key, New: next})
	}
	return out
}

// settleGroup does what time alone asks of a group.
func (x *stepper) settleGroup(g int) {
	gr := &x.s.Groups[g]
	if x.s.Leaving {
		x.feed(g, Event{Kind: OpShutdown})
	}
	if gr.Phase == Unknown && gr.DiskOp == 0 {
		x.act(g, Witness)
	}
	if gr.Phase != Standby && x.s.Now >= gr.Deadline {
		x.feed(g, Event{Kind: Timeout})
	}
	if gr.Phase == Standby || gr.Phase == Unknown {
		if kind, known := x.owner(g); known {
			x.feed(g, Event{Kind: kind})
		}
	}
}
