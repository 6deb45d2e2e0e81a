package failover

// Step is the whole decision of one server: it takes the state and one event and returns the next state and what is
// to be done. It changes nothing that s shares with the caller. The caller writes State.Hard to disk, when it
// changed, before it carries out any of the actions or lets a beat say any of it; when it cannot, it drops both and
// keeps the old state.
func Step(p *Params, s State, e Event) (State, []Action) {
	x := &stepper{p: p, s: s.Clone()}
	x.run(e)
	return x.s, x.out
}

// run reports whether the event itself was taken.
func (x *stepper) run(e Event) bool {
	x.s.Now = max(x.s.Now, e.At)
	taken := x.try(func() { x.take(e) })
	if !taken && e.Kind == Heard {
		x.announced(e.Beat, e.Uptime)
	}
	x.settle()
	return taken
}

// StepUnrecorded is Step for a caller whose disk refuses the hard state: it does only what needs no record, so that a
// loss of storage is acted on all the same. It reports whether e itself was taken.
func StepUnrecorded(p *Params, s State, e Event) (State, []Action, bool) {
	x := &stepper{p: p, s: s.Clone(), unrecorded: true}
	taken := x.run(e)
	return x.s, x.out, taken
}

// Next returns the earliest moment at which time alone would make Step do something.
func Next(p *Params, s *State) Tick {
	next := Never
	at := func(t Tick) {
		if t > s.Now {
			next = min(next, t)
		}
	}
	for i := range s.Units {
		u := &s.Units[i]
		at(u.NextRead)
		if u.ReadOp != 0 {
			at(u.AskedAt + p.AskAgain)
		}
		if u.SwapOp != 0 {
			at(u.SwapAt + p.AskAgain)
		}
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		at(g.Deadline)
		at(g.HoldoffUntil)
		at(g.BlockedUntil)
		if g.FreeSince != Never {
			at(g.FreeSince + p.OwnerWait)
		}
		at(g.Move.Deadline)
		at(g.Move.TellAt)
		at(failbackAt(p, s, i))
		if g.Flaps > 0 {
			at(g.FlapAt[0] + p.Groups[i].FlapWindow)
		}
	}
	at(s.Partner.RestartingUntil)
	at(s.LateUntil)
	at(s.BackAt)
	if s.Hard.Mode.Until != 0 {
		at(s.ModeEnd)
	}
	at(s.Partner.BothAt + p.Timeout)
	if !s.Partner.Ever && p.StartupTimeout > 0 {
		at(s.Started + p.StartupTimeout)
	}
	if s.Partner.Lost {
		at(s.RenewAt)
		at(s.Partner.LostAt + p.ArbitrationDelay)
		if len(s.Units) > 0 {
			at(s.Units[0].SeenFrom + p.RenewTimeout)
		}
	}
	return next
}

// stepper carries one call of Step.
type stepper struct {
	p   *Params
	s   State
	out []Action

	taken      *[]Taken // nil, but for Trace
	unrecorded bool     // the hard state cannot be written: parts that would change it are left undone
}

// try does one part of a step, and reports whether it was done.
func (x *stepper) try(part func()) bool {
	if !x.unrecorded {
		part()
		return true
	}
	before, out, rows := x.s.Clone(), len(x.out), x.rows()
	part()
	if x.s.Hard.Equal(before.Hard) {
		return true
	}
	x.s, x.out = before, x.out[:out]
	if x.taken != nil {
		*x.taken = (*x.taken)[:rows]
	}
	return false
}

func (x *stepper) do(a Action) { x.out = append(x.out, a) }

func (x *stepper) op() uint64 {
	x.s.Op++
	return x.s.Op
}

func (x *stepper) note(group int, step, code, text string) {
	x.do(Action{Kind: Note, Group: group, Step: step, Code: code, Text: text})
}

// take lets one event into the state.
func (x *stepper) take(e Event) {
	switch e.Kind {
	case Passed:
	case Seen:
		x.s.Partner.Evidence = e.Evidence
	case Heard:
		x.heard(e.Beat, e.Uptime)
	case PeerStarted:
		x.peerStarted(e)
	case PeerAway:
		x.announced(Beat{Restarting: max(e.Left, 1)}, e.Uptime)
	case WasLate:
		x.late(e.Text)
	case UnitRead, UnitMute:
		x.unitRead(e)
	case Swapped:
		if u := &x.s.Units[e.Unit]; u.SwapOp == e.Op {
			x.swapEnded(u)
		}
	case DiskAnswered, DiskSilent:
		if g := &x.s.Groups[e.Group]; g.DiskOp == e.Op {
			g.Disk = e.Kind == DiskAnswered
		}
	case OpMove, PeerSaid, ReadyYes, ReadyNo:
		x.moveEvent(e)
	case OpMode, PeerMode, ModeLeft:
		x.modeEvent(e)
	case OpShutdown:
		if !x.s.Leaving {
			x.s.Leaving = true
			x.note(-1, "shutdown", "", "This server is being shut down in order.")
		}
	case OpRestart, OpStay, PeerWaits, Returned:
		x.absence(e)
	case PeerCleared:
		x.forgive(e.Group)
	case OpClear:
		x.forgive(e.Group)
		x.feed(e.Group, e)
	default:
		x.feed(e.Group, e)
	}
}

// forgive lets a group try again and move again as if nothing had ever failed.
func (x *stepper) forgive(group int) {
	g := &x.s.Groups[group]
	g.BlockedUntil, g.BlockFor, g.Blocked, g.Fails = x.s.Now, 0, "", 0
	g.Flaps, g.AutoAt, g.AutoWait, g.LastOwner = 0, x.s.Now, 0, Nobody
}

// settle brings everything that depends on time and on what is now known up to date.
func (x *stepper) settle() {
	x.try(x.settleMode)
	if x.s.BackAt <= x.s.Now {
		x.s.BackAt, x.s.Hard.BackBy = 0, 0
	}
	x.try(x.judge)
	x.readUnits()
	x.try(x.arbitrate)
	if !x.agreed() {
		x.s.AgreedAt = Never
	} else if x.s.AgreedAt == Never {
		x.s.AgreedAt = x.s.Now
	}
	for g := range x.s.Groups {
		x.try(func() { x.settleGroup(g) })
	}
	for g := range x.s.Groups {
		x.try(func() { x.settleMove(g) })
		x.try(func() { x.settleFlaps(g) })
		x.try(func() { x.settleFailback(g) })
	}
	x.readUnits()
}

// late forgets what silence and old reads had shown: this server did not run for a while.
func (x *stepper) late(text string) {
	pt := &x.s.Partner
	pt.BothAt = -Never
	x.s.LateUntil = max(x.s.LateUntil, x.s.Now+x.p.Timeout)
	for i := range x.s.Units {
		u := &x.s.Units[i]
		u.Known, u.ReadOp, u.NextRead = false, 0, x.s.Now
	}
	for i := range pt.Evidence.Links {
		pt.Evidence.Links[i].Silent = true
	}
	for g := range x.s.Groups {
		gr := &x.s.Groups[g]
		gr.Deadline = x.deadline(g, gr.Phase) // the time that has passed was not there to answer in
		if gr.Phase == Unknown {
			gr.Disk, gr.DiskOp = false, 0 // the disk is asked again
		}
	}
	x.note(-1, "late", "ORS-1002", text)
}

// judge derives the verdict and what follows from a change of it.
func (x *stepper) judge() {
	pt := &x.s.Partner
	started := x.p.StartupTimeout > 0 && x.s.Now >= x.s.Started+x.p.StartupTimeout
	beats := pt.Evidence.Beats()
	v, why := Judge(JudgeFacts{
		Beats: beats, Left: pt.Left, Restarting: x.s.Now < pt.RestartingUntil,
		Ever: pt.Ever, StartupEnd: started, Late: x.s.Now < x.s.LateUntil, Network: pt.Evidence.Network,
		Lines: pt.Evidence.Lines,
	})
	pt.Up = beats != BeatsNone && pt.Spoke && !pt.Left && x.s.Now < pt.BothAt+x.p.Timeout
	if beats == BeatsNone {
		pt.Beat.HearsUs = false
	}
	if v == pt.Verdict {
		pt.Why = why
		return
	}
	was := pt.Verdict
	pt.Verdict, pt.Why = v, why
	x.note(-1, "verdict", "", why)
	switch {
	case v == VerdictLost:
		pt.Lost, pt.LostAt = true, x.s.Now
		pt.Losses++
		x.s.Hard.Lost = true
		for i := range x.s.Units {
			u := &x.s.Units[i]
			u.ReadOp, u.NextRead = 0, x.s.Now // a read under way was asked before the loss: no decision rests on it
			u.SeenKey, u.SeenFrom = Key{}, x.s.Now
		}
		x.s.RenewAt = x.s.Now + x.p.RenewInterval
		x.s.FinishFrom = Never
		for g := range x.s.Groups {
			x.s.Groups[g].BlockedUntil = x.s.Now // nobody else is left to serve it: it is tried here once more
			x.feed(g, Event{Kind: PeerLost})
		}
	case was == VerdictLost:
		pt.Lost = false // keys are changed by the first beat that says that the partner hears this server
	}
}

// heard takes the partner's beat.
func (x *stepper) heard(b Beat, uptime Tick) {
	pt := &x.s.Partner
	changed := b.Promised != pt.Beat.Promised || (b.HearsUs && (b.Losses != pt.Beat.Losses || !pt.Beat.HearsUs))
	if changed {
		x.reKeyAll()
	}
	x.s.Hard.Lost = false
	x.s.LateUntil = min(x.s.LateUntil, x.s.Now+x.p.Timeout)
	pt.Ever, pt.Spoke, pt.HeardAt = true, true, x.s.Now
	x.announced(b, uptime)
	if b.HearsUs {
		pt.BothAt = x.s.Now
	}
	pt.Beat = b
	x.s.Hard.Promised = max(x.s.Hard.Promised, b.Promised)
	if x.reKeyed() {
		x.s.Hard.Common = max(x.s.Hard.Common, min(x.s.Hard.Promised, b.Promised))
	}
	if b.HeldUnit >= 0 && b.HeldUnit < len(pt.Held) {
		pt.Held[b.HeldUnit] = b.Held
		if b.Held > x.s.Hard.Units[b.HeldUnit].Held && b.Held > 0 {
			x.peerHolds(b.HeldUnit)
		}
	}
}

// announced takes what a beat says about the silence that will follow it. It needs no record, and may be the last word.
func (x *stepper) announced(b Beat, uptime Tick) {
	pt, h := &x.s.Partner, &x.s.Hard
	// a goodbye holds until the partner starts anew: an older beat from a slower link does not undo it
	pt.Left = pt.Left || b.Leaving
	h.PeerLeft = pt.Left
	pt.RestartingUntil = 0
	by := Tick(0)
	if b.Restarting > 0 {
		pt.RestartingUntil = x.s.Now + b.Restarting
		by = (uptime + b.Restarting + awayRound - 1) / awayRound * awayRound
	}
	if by == 0 || by > h.PeerBackBy || by < h.PeerBackBy-2*awayRound {
		h.PeerBackBy, h.PeerAway = by, 0
		if by != 0 {
			h.PeerAway = by - uptime
		}
	}
}

// peerStarted: the partner lives, and its beats are to come. Another agent of the same run of its system has still to
// find what the one before has left, for as long as that one has announced.
func (x *stepper) peerStarted(e Event) {
	pt, until := &x.s.Partner, x.s.Now+x.p.Timeout
	if e.Rebooted {
		x.s.Hard.PeerBackBy, x.s.Hard.PeerAway = 0, 0
	} else {
		until = max(until, pt.RestartingUntil)
	}
	pt.Beat.HearsUs, pt.Up, pt.Left, x.s.Hard.PeerLeft = false, false, false, false
	pt.RestartingUntil, pt.Spoke = until, false
	x.note(-1, "partner-started", "", e.Text)
}

// absence keeps the book of this agent's announced absence. What the partner has on record is never taken back before
// whatever may be heard so long is heard for less: the next agent, too, knows of it until then.
func (x *stepper) absence(e Event) {
	h := &x.s.Hard
	switch e.Kind {
	case OpRestart:
		x.s.Ending, x.s.BackAt = true, max(x.s.BackAt, x.s.Now+min(e.Left, MaxAway))
	case PeerWaits:
		h.BackBy = e.Uptime + x.s.BackAt - x.s.Now // of what was called off nothing is left: settle drops it
	case OpStay:
		x.s.Ending, x.s.BackAt = false, 0
		if h.BackBy > 0 {
			x.s.BackAt = x.s.Now + h.BackBy - e.Uptime
		}
	case Returned:
		if x.s.Found() {
			x.s.BackAt, h.BackBy = 0, 0
		}
	}
}

// peerHolds acts on a beat which says that the partner holds a unit under an epoch newer than ours.
func (x *stepper) peerHolds(unit int) {
	u := &x.s.Units[unit]
	if u.Known && u.Key.Owner == x.p.Self && u.Key.N >= x.s.Partner.Held[unit] {
		return // the switch has shown us a still newer key: the beat is older than that
	}
	x.feed(x.p.Units[unit].Group, Event{Kind: PeerOwns})
}

// unitRead takes an answer to Inspect; one to an older question is dropped.
func (x *stepper) unitRead(e Event) {
	u := &x.s.Units[e.Unit]
	if u.ReadOp == 0 || u.ReadOp != e.Op {
		return
	}
	u.ReadOp = 0
	u.NextRead = x.s.Now + x.pace()
	if e.Kind == UnitMute {
		if !u.Mute {
			x.note(x.p.Units[e.Unit].Group, "switch-mute", "ORS-1001", e.Text)
		}
		u.Mute, u.Known = true, false
		return
	}
	if u.Mute {
		x.note(x.p.Units[e.Unit].Group, "switch-answers", "", "The switch answers again.")
	}
	changed := !u.Known || u.Key != e.Key
	if u.Key != e.Key && u.ReadAt != 0 { // the read before has shown another one
		u.After = u.ReadAt
	}
	u.ReadAt = u.AskedAt
	u.Mute, u.Known, u.Key, u.ReadSeq = false, true, e.Key, e.Op
	h := &x.s.Hard.Units[e.Unit]
	if e.Key.Owner == x.p.Self {
		x.passedKey(u)
		if x.held(x.p.Units[e.Unit].Group) {
			h.Held = e.Key.N
		}
	} else {
		// what was held is forgotten when the group is cleared: a loss is acted on even without a disk to record it
		u.ReKey = false
	}
	if changed && e.Unit > 0 && x.s.Partner.Lost {
		x.s.Units[0].NextRead = x.s.Now // decide again, from a fresh first unit
	}
	x.ownerEvent(x.p.Units[e.Unit].Group)
	if e.Unit == 0 {
		x.try(x.firstRead)
	}
}

// passedKey notes that an owner's key has been changed since that was asked for.
func (x *stepper) passedKey(u *Unit) {
	if !u.ReKey {
		return
	}
	if u.ReKeyed && u.Key.N > u.KeyFrom {
		u.ReKey, u.ReKeyed = false, false
	}
}

// held reports whether a group is in a phase in which a unit that the switch shows with us is held by us.
func (x *stepper) held(g int) bool {
	ph := x.s.Groups[g].Phase
	return ph != Standby && ph != Claiming && ph != Fenced && ph != Releasing && ph != Unknown
}

// pace is the time to the next read of a unit.
func (x *stepper) pace() Tick {
	if x.s.Partner.Lost {
		return x.p.InspectBusy
	}
	for i := range x.s.Groups {
		g := &x.s.Groups[i]
		settled := g.Phase == Active || g.Phase == Faulted || g.Phase == Parked || g.Phase == Standby && g.FreeSince == Never
		if !settled || g.Move.Role != NoMove {
			return x.p.InspectBusy
		}
	}
	if x.s.FinishFrom != Never {
		return x.p.InspectBusy
	}
	for i := range x.s.Units {
		if x.s.Units[i].ReKey && x.s.Units[i].Key.Owner == x.p.Self {
			return x.p.InspectBusy
		}
	}
	return x.p.InspectQuiet
}

// readUnits asks for the keys that are due.
func (x *stepper) readUnits() {
	for i := range x.s.Units {
		u := &x.s.Units[i]
		if u.SwapOp != 0 && x.s.Now >= u.SwapAt+x.p.AskAgain {
			x.swapEnded(u)
		}
		if u.ReadOp != 0 && x.s.Now < u.AskedAt+x.p.AskAgain {
			continue
		}
		if x.s.Now < u.NextRead {
			continue
		}
		u.ReadOp, u.AskedAt = x.op(), x.s.Now
		u.NextRead = x.s.Now + x.p.AskAgain
		x.do(Action{Kind: Inspect, Unit: i, Group: x.p.Units[i].Group, Op: u.ReadOp, Deadline: x.s.Now + x.p.AskAgain})
	}
}

// owner sums up what the switch shows of a group's units, by reads that were asked after the group's phase began: no
// phase acts on what the switch showed before it. A single unit with the partner is enough; the rest takes all units.
func (x *stepper) owner(g int) (kind EventKind, known bool) {
	kind, known = OwnerSelf, true
	for _, i := range x.p.Groups[g].Units {
		u := &x.s.Units[i]
		fresh := u.Known && u.ReadSeq > x.s.Groups[g].SinceSeq
		switch {
		case !fresh:
			known = false
		case u.Key.Owner == x.p.Self.Other():
			return OwnerPeer, true
		case u.Key.Owner == Nobody:
			kind = OwnerNone
		}
	}
	return kind, known
}

// ownerEvent feeds a group what the switch shows of it.
func (x *stepper) ownerEvent(g int) {
	x.ownedBy(g)
	gr := &x.s.Groups[g]
	kind, known := x.owner(g)
	if !known {
		return
	}
	switch {
	case kind != OwnerNone:
		gr.FreeSince = Never
	case gr.FreeSince == Never:
		gr.FreeSince = x.s.Now
	}
	x.feed(g, Event{Kind: kind})
}

// epoch of a group: the newest of its units.
func (x *stepper) epoch(g int) uint32 {
	var n uint32
	for _, i := range x.p.Groups[g].Units {
		n = max(n, x.s.Units[i].Key.N, x.s.Hard.Units[i].Held)
	}
	return n
}
