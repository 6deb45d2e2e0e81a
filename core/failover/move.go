package failover

// tellAgain is how often a giver repeats its word, and an answer is waited for.
const tellAgain Tick = 250

// moveEvent takes what concerns planned moves (DESIGN §4.3).
func (x *stepper) moveEvent(e Event) {
	g := &x.s.Groups[e.Group]
	switch e.Kind {
	case OpMove:
		x.askMove(e)
	case PeerSaid:
		if e.Word == WordAsk || e.Word == WordGiven || e.Word == WordCancel {
			x.takerHears(e)
		} else {
			x.giverHears(e)
		}
	case ReadyYes, ReadyNo:
		m := &g.Move
		if m.Role != Checking || m.Op != e.Op {
			return
		}
		if e.Kind == ReadyNo {
			x.endTaking(e.Group, WordRefused, e.Text)
			return
		}
		m.Role, m.Word = Taking, WordReady
		m.Deadline = x.s.Now + x.moveTime(e.Group)
		g.BlockedUntil, g.Blocked = x.s.Now, ""
		x.tell(e.Group, WordReady, "")
	}
}

// moveTime bounds one half of a planned move: the longest that its steps may take, and some more.
func (x *stepper) moveTime(g int) Tick {
	gp := &x.p.Groups[g]
	return gp.StopTimeout + x.p.DetachTimeout + x.p.ClaimTimeout + gp.AttachTimeout + gp.StartTimeout + x.p.MoveTimeout
}

// askMove begins a planned move, or says at once why not.
func (x *stepper) askMove(e Event) {
	g := &x.s.Groups[e.Group]
	refuse := func(text string) {
		x.do(Action{Kind: MoveEnded, Group: e.Group, Move: e.Move, Text: text, Code: "ORS-1020"})
	}
	switch {
	case g.Move.Role != NoMove && g.Move.ID == e.Move:
		return
	case g.Move.Role != NoMove:
		refuse("another planned move of this group is under way")
	case e.Reason == Health && g.Phase != Starting:
		refuse("the group does not fail here any more")
	case e.Reason != Health && g.Phase != Active:
		refuse("the group is not active on this server: it is " + g.Phase.String())
	case !x.agreed():
		refuse("the two servers have not agreed yet that nothing is left over from the last loss; the partner is " +
			x.s.Partner.Verdict.String())
	case x.s.Leaving:
		refuse("this server is being shut down")
	case e.Reason == Operator && x.s.InMaintenance() && !e.Force:
		refuse("the pair is in maintenance: end it first, or say that the move is meant all the same")
	case e.Reason != Operator && (x.s.Off() || x.flapping(e.Group)):
		refuse("nothing moves by itself now")
	default:
		g.Move = Move{ID: e.Move, Role: Asking, Reason: e.Reason, Deadline: x.s.Now + x.p.MoveTimeout, TellAt: x.s.Now}
		x.note(e.Group, "move-asked", "", "A planned move was asked for ("+e.Reason.String()+
			"): the partner has to prove that it is ready.")
	}
}

// takerHears takes the giver's words.
func (x *stepper) takerHears(e Event) {
	g := &x.s.Groups[e.Group]
	m := &g.Move
	switch {
	case e.Word == WordCancel:
		if m.ID == e.Move && (m.Role == Checking || m.Role == Taking && g.Phase == Standby) {
			g.Move = Move{}
		}
	case m.Role != NoMove && m.ID == e.Move:
		if e.Word == WordGiven {
			x.readAll(e.Group)
		}
		if m.Role == Taking {
			x.tell(e.Group, m.Word, m.Text)
		}
	case e.Word == WordGiven && g.Phase == Active:
		x.do(Action{Kind: Tell, Group: e.Group, Move: e.Move, Word: WordDone})
	case g.LastMove.ID == e.Move:
		x.do(Action{Kind: Tell, Group: e.Group, Move: e.Move, Word: g.LastMove.Word, Text: g.LastMove.Text})
	case e.Word == WordGiven && g.Phase == Standby && x.p.Groups[e.Group].Primary != x.p.Self:
		x.do(Action{Kind: Tell, Group: e.Group, Move: e.Move, Word: WordFailed,
			Text: "the partner's agent was started anew meanwhile, and knows nothing of the move"})
	case e.Word == WordGiven:
		// started anew meanwhile: a group that is free comes to its primary by itself
	case (g.Phase == Unknown || g.Phase == Fenced) && !x.s.Leaving:
		// on its way to Standby: the giver asks again, until its own deadline
	case g.Phase != Standby:
		text := "the group is " + g.Phase.String() + " on the partner"
		if x.s.Leaving {
			text = "the partner is being shut down"
		}
		x.do(Action{Kind: Tell, Group: e.Group, Move: e.Move, Word: WordRefused, Text: text})
	case e.Auto && x.flapping(e.Group): // this server has seen more of the group's moves than the other one
		x.do(Action{Kind: Tell, Group: e.Group, Move: e.Move, Word: WordRefused,
			Text: "the group has moved by itself too often: it stays where it is"})
	default:
		if m.Role == Given || m.Role == Return {
			x.endGiving(e.Group, true, "the group runs on the partner", false) // it could not be asked back otherwise
		}
		// an older move that this server was to take has ended on the giver: it gives one at a time
		g.Move = Move{ID: e.Move, Role: Checking, Op: x.op(), Deadline: x.s.Now + x.p.MoveTimeout}
		if e.Auto {
			g.Move.Reason = Health // or another that is not an operator's
		}
		x.do(Action{Kind: CheckReady, Group: e.Group, Op: g.Move.Op, Epoch: x.epoch(e.Group), Deadline: g.Move.Deadline})
	}
}

// giverHears takes the taker's answers.
func (x *stepper) giverHears(e Event) {
	g := &x.s.Groups[e.Group]
	m := &g.Move
	if m.ID != e.Move || m.Role == NoMove {
		return
	}
	switch {
	case e.Word == WordReady && m.Role == Asking && x.reKeyPending():
		// a key that is being changed cannot be released; the partner is asked again, and answers again
	case e.Word == WordReady && m.Role == Asking:
		m.Role, m.Deadline = Giving, x.s.Now+x.moveTime(e.Group)
		x.note(e.Group, "move-ready", "", "The partner is ready to take the group.")
		x.feed(e.Group, Event{Kind: OpGive})
		if g.Phase != Stopping {
			x.endGiving(e.Group, false, "the two servers no longer agree", true)
		}
	case e.Word == WordRefused && m.Role == Asking:
		x.endGiving(e.Group, false, "the partner is not ready: "+e.Text, false)
	case e.Word == WordDone && m.Role == Given:
		x.endGiving(e.Group, true, "the group runs on the partner", false)
	case (e.Word == WordFailed || e.Word == WordRefused) && m.Role == Given:
		if e.Word == WordFailed {
			x.moveLeft(e.Group, x.p.Self.Other()) // there, and soon back: nobody may have read the switch in between
		}
		x.takeBack(e.Group, e.Text)
		g.BlockedUntil = x.s.Now
		x.note(e.Group, "move-returns", "ORS-1021", "The partner could not bring the group up: it comes back. ("+e.Text+")")
	}
}

// settleMove does what time and phases ask of a planned move.
func (x *stepper) settleMove(gi int) {
	g := &x.s.Groups[gi]
	m := &g.Move
	switch m.Role {
	case Asking:
		switch {
		case m.Reason == Health && g.Phase == Active:
			x.endGiving(gi, false, "the group came up here meanwhile", true)
		case m.Reason == Health && g.Phase != Starting || m.Reason != Health && g.Phase != Active:
			x.endGiving(gi, false, "the group did not stay here as it was", true)
		case x.s.Partner.Lost:
			x.endGiving(gi, false, "the partner was lost", true)
		case x.s.Now >= m.Deadline:
			x.endGiving(gi, false, "the partner gave no answer in time", true)
		default:
			x.tellDue(gi, WordAsk)
		}
	case Giving:
		switch {
		case g.Phase == Standby:
			m.Role, m.Deadline, m.TellAt = Given, x.s.Now+x.moveTime(gi), x.s.Now
			x.tellDue(gi, WordGiven)
		case g.Phase == Faulted:
			x.endGiving(gi, false, "the group could not be stopped or unmounted here", true)
		case g.Phase == Starting || g.Phase == Attaching:
			x.endGiving(gi, false, "the group goes on here: "+m.Text, true)
		case g.Phase == Active || g.Phase == Fenced || x.s.Now >= m.Deadline:
			x.endGiving(gi, false, "the group was not given away", true)
		default:
			x.tellDue(gi, WordAsk)
		}
	case Given:
		switch {
		case g.Phase == Active:
			x.endGiving(gi, false, "the group came back here", true)
		case x.s.Partner.Lost:
			x.endGiving(gi, false, "the partner was lost before the group ran there", true)
		case x.s.Now >= m.Deadline:
			x.takeBack(gi, "the partner did not say in time that the group runs there")
		default:
			x.tellDue(gi, WordGiven)
		}
	case Return:
		switch {
		case g.Phase == Active:
			x.endGiving(gi, false, "it came back here: "+m.Text, true)
		case x.s.Partner.Lost:
			x.endGiving(gi, false, "the partner was lost before the group was back: "+m.Text, true)
		case x.takenAgain(gi):
			x.endGiving(gi, false, "the partner has the storage, and goes on with the group by itself: "+m.Text, false)
		case x.s.Now >= m.Deadline:
			x.endGiving(gi, false, "it could not be brought back in time: "+m.Text, true)
		}
	case Checking:
		switch {
		case x.s.Partner.Lost:
			x.endTaking(gi, WordRefused, "the partner was lost")
		case x.s.Now >= m.Deadline:
			x.endTaking(gi, WordRefused, "readiness was not proven in time")
		}
	case Taking:
		x.settleTaking(gi)
	}
}

// takeBack lets the giver bring a group back that the partner could not bring up.
func (x *stepper) takeBack(gi int, text string) {
	m := &x.s.Groups[gi].Move
	m.Role, m.Text, m.Deadline, m.Op = Return, text, x.s.Now+x.moveTime(gi), x.s.Op
	x.readAll(gi)
}

// takenAgain: by reads asked since the group was to come back, the partner has a unit of it.
func (x *stepper) takenAgain(gi int) bool {
	for _, i := range x.p.Groups[gi].Units {
		u := &x.s.Units[i]
		if u.Known && u.ReadSeq > x.s.Groups[gi].Move.Op && u.Key.Owner == x.p.Self.Other() {
			return true
		}
	}
	return false
}

func (x *stepper) settleTaking(gi int) {
	g := &x.s.Groups[gi]
	m := &g.Move
	switch {
	case g.Phase == Active:
		x.endTaking(gi, WordDone, "")
	case g.Phase == Standby && x.s.Now < g.BlockedUntil:
		x.endTaking(gi, WordFailed, g.Blocked)
	case g.Phase == Faulted || g.Phase == Fenced:
		x.endTaking(gi, WordFailed, "the group is "+g.Phase.String()+" on the partner")
	case x.s.Partner.Lost && g.Phase == Standby:
		x.endTaking(gi, WordFailed, "the partner was lost before it had given the storage")
	case x.s.Now >= m.Deadline && g.Phase == Standby:
		x.endTaking(gi, WordFailed, "the storage was not given in time")
	}
}

// endGiving ends a move on the giver's side.
func (x *stepper) endGiving(gi int, moved bool, text string, cancel bool) {
	g := &x.s.Groups[gi]
	id := g.Move.ID
	switch {
	case moved:
		x.moveLeft(gi, x.p.Self.Other())
		g.AutoWait = 0
	case g.Phase == Active:
		x.moveLeft(gi, x.p.Self) // while it is known whose move it was
	}
	if cancel {
		x.do(Action{Kind: Tell, Group: gi, Move: id, Word: WordCancel, Text: text})
	}
	g.Move = Move{}
	code := "ORS-1021"
	if moved {
		code = ""
	}
	x.note(gi, "move-ended", code, text)
	x.readAll(gi)
	x.do(Action{Kind: MoveEnded, Group: gi, Move: id, Moved: moved, Text: text, Code: code})
}

// endTaking ends a move on the taker's side and keeps its outcome for a giver that asks again.
func (x *stepper) endTaking(gi int, w Word, text string) {
	g := &x.s.Groups[gi]
	if w == WordDone {
		x.moveLeft(gi, x.p.Self)
	} else {
		x.moveLeft(gi, x.p.Self.Other())
	}
	g.LastMove = Move{ID: g.Move.ID, Word: w, Text: text}
	g.Move = Move{}
	x.do(Action{Kind: Tell, Group: gi, Move: g.LastMove.ID, Word: w, Text: text})
}

func (x *stepper) tell(gi int, w Word, text string) {
	m := &x.s.Groups[gi].Move
	m.Word, m.Text = w, text
	x.do(Action{Kind: Tell, Group: gi, Move: m.ID, Word: w, Text: text, Auto: m.Reason != Operator})
}

func (x *stepper) tellDue(gi int, w Word) {
	m := &x.s.Groups[gi].Move
	if x.s.Now < m.TellAt {
		return
	}
	m.TellAt = x.s.Now + tellAgain
	x.tell(gi, w, "")
}

// readAll lets all units of a group be read at once.
func (x *stepper) readAll(g int) {
	for _, i := range x.p.Groups[g].Units {
		x.s.Units[i].NextRead = x.s.Now
	}
}
