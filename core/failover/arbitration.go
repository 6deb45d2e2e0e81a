package failover

// Bidding is what the first unit's key tells a server whose partner is lost.
type Bidding uint8

// The outcomes of Decide.
const (
	MayBid  Bidding = iota // the round is open: swap the first unit's key
	HasWon                 // this server has won the newest round
	HasLost                // the partner has won, or the two have never agreed on a round
)

func (b Bidding) String() string { return [...]string{"may bid", "has won", "has lost"}[b] }

// Decide reads the first unit's key. It is asked again before each claim and keeps nothing. promised and common are
// this server's P and C; a round number can be bid for only when both servers have promised it, and only once.
func Decide(self Server, promised, common uint32, first Key) Bidding {
	switch {
	case first.By == self && first.Tag > 0 && first.Tag >= promised:
		return HasWon
	case first.By == self && first.Tag > 0 && first.Tag >= common:
		return MayBid // won an older round than the one promised: prove it again under the newer number
	case first.Tag < common:
		return MayBid
	}
	return HasLost
}

// agreed: both servers hear each other, and have promised a round number that the first unit does not show as used.
// Only then may anything be planned. A first unit of which a swap is on its way shows nothing: it may be this
// server's own bid.
func (x *stepper) agreed() bool { return x.s.Agreed() }

// Agreed is the same for whoever shows or waits for it.
func (s *State) Agreed() bool {
	if len(s.Units) == 0 {
		return false // a pair that has only its interconnect yet: there is nothing to agree on
	}
	first := &s.Units[0]
	return s.Partner.Up && first.settled() && s.Hard.Common > first.Key.Tag && s.Partner.Beat.Common > first.Key.Tag
}

// reKeyAll asks for a change of every key that this server owns, so that each swap still on its way from before fails.
func (x *stepper) reKeyAll() {
	for i := range x.s.Units {
		u := &x.s.Units[i]
		u.ReKey, u.ReKeyed, u.NextRead = true, false, min(u.NextRead, x.s.Now)
	}
}

// reKeyed: every unit that this server owns has been re-keyed since that was asked for, and read back.
func (x *stepper) reKeyed() bool {
	for i := range x.s.Units {
		if x.s.Units[i].ReKey {
			return false
		}
	}
	return true
}

// reKeyPending: a unit of this server's still waits for its new key.
func (x *stepper) reKeyPending() bool { return !x.reKeyed() }

// arbitrate does what the arbitration asks for besides decisions on a fresh first unit (firstRead).
func (x *stepper) arbitrate() {
	if !x.s.Partner.Up {
		return
	}
	for i := range x.s.Units {
		u := &x.s.Units[i]
		g := x.p.Units[i].Group
		ph := x.s.Groups[g].Phase
		busy := ph == Detaching || ph == Releasing || ph == Claiming // a release or claim changes the key as well
		if !u.ReKey || !u.settled() || busy {
			continue
		}
		if u.Key.Owner != x.p.Self {
			u.ReKey = false
			continue
		}
		if u.ReKeyed && u.Key.N > u.KeyFrom {
			u.ReKey, u.ReKeyed = false, false
			continue
		}
		u.ReKeyed, u.KeyFrom = true, u.Key.N
		x.swap(i, u.Key.Claimed(x.p.Self))
	}
	if x.reKeyed() {
		x.s.Hard.Common = max(x.s.Hard.Common, min(x.s.Hard.Promised, x.s.Partner.Beat.Promised))
	}
}

// settled: the unit's key was read after the last swap of it ended, and none is under way.
func (u *Unit) settled() bool { return u.Known && u.SwapOp == 0 && u.ReadSeq > u.SwapSeq }

// swapEnded lets a unit be read anew, whatever the swap's answer was.
func (x *stepper) swapEnded(u *Unit) {
	u.SwapOp, u.SwapSeq, u.ReadOp, u.NextRead = 0, x.s.Op, 0, x.s.Now
}

// swap asks for one change of a key; its answer is not used, the key is read again.
func (x *stepper) swap(unit int, next Key) {
	u := &x.s.Units[unit]
	u.SwapOp, u.SwapAt = x.op(), x.s.Now
	h := &x.s.Hard.Units[unit]
	h.Asked = max(h.Asked, next.N)
	x.do(Action{
		Kind: Swap, Unit: unit, Group: x.p.Units[unit].Group, Op: u.SwapOp, Epoch: next.N,
		Deadline: x.s.Now + x.p.AskAgain, Swaps: []KeySwap{{Unit: unit, Old: u.Key, New: next}},
	})
}

// claim takes a unit by arbitration: a foreign or free one only when nothing of its group is left here.
// It reports whether a swap was sent.
func (x *stepper) claim(unit int, tag uint32) bool {
	u := &x.s.Units[unit]
	g := &x.s.Groups[x.p.Units[unit].Group]
	if !u.settled() {
		return false
	}
	if u.Key.Owner == x.p.Self && (g.Phase == Releasing || g.Phase == Claiming) {
		return false // its own swap is on its way
	}
	if u.Key.Owner != x.p.Self && g.Phase != Standby {
		return false // left-overs first
	}
	if u.Key.Owner != x.p.Self && x.s.Off() {
		return false // what is this server's own is defended even then
	}
	if unit > 0 && u.Key.Owner != x.p.Self && x.s.Now < g.BlockedUntil {
		return false // the first unit is bid for even then: the others hang on it
	}
	if tag < u.Key.Tag {
		return false // a newer round was won on it: the first unit's key is not what it was when that was won
	}
	x.swap(unit, u.Key.Won(x.p.Self, tag))
	return true
}

// firstRead decides on the first unit's key, fresh from the switch.
func (x *stepper) firstRead() {
	first := &x.s.Units[0]
	if x.s.Partner.Up {
		x.finishRound(first.Key)
		return
	}
	if !x.s.Partner.Lost { // a read that was under way at the loss is dropped, so this one was asked after it
		return
	}
	bidding := Decide(x.p.Self, x.s.Hard.Promised, x.s.Hard.Common, first.Key)
	died := bidding == HasLost && !x.s.Off() && x.winnerDied(first)
	if died {
		bidding = MayBid
		x.s.Hard.Promised = max(x.s.Hard.Promised, first.Key.Tag+1)
	}
	switch bidding {
	case MayBid:
		if x.s.Now >= x.s.Partner.LostAt+x.wait() {
			if x.claim(0, x.s.Hard.Promised) {
				if died {
					x.note(-1, "winner-died", "",
						"The winner of the last round has not renewed the first storage unit: the next round is open.")
				}
				x.note(-1, "bid", "", "The partner is lost: bidding for the first storage unit.")
			}
		} else {
			first.NextRead = x.s.Partner.LostAt + x.wait()
		}
	case HasWon:
		x.won(first)
	}
}

// wait is how long this server leaves the bid to the other one. Who owns everything goes first: then nothing moves.
func (x *stepper) wait() Tick {
	goesFirst := x.p.Survivor
	if all := x.ownsAll(); all != Nobody {
		goesFirst = all
	}
	if goesFirst == x.p.Self || x.s.Partner.Evidence.Lines == No {
		return 0
	}
	return x.p.ArbitrationDelay
}

// ownsAll returns the server to which all units belong, Nobody when there is none.
func (x *stepper) ownsAll() Server {
	owner := x.s.Units[0].Key.Owner
	for i := range x.s.Units {
		if u := &x.s.Units[i]; !u.Known || u.Key.Owner != owner {
			return Nobody
		}
	}
	return owner
}

// won claims every further unit under the round that was won, own ones included, and renews the first.
func (x *stepper) won(first *Unit) {
	if first.Key.Owner != x.p.Self {
		x.claim(0, first.Key.Tag)
	} else if x.s.Now >= x.s.RenewAt {
		x.s.RenewAt = x.s.Now + x.p.RenewInterval
		x.claim(0, first.Key.Tag)
	}
	for i := 1; i < len(x.s.Units); i++ {
		u := &x.s.Units[i]
		if u.Known && u.Key.Owner == x.p.Self && u.Key.Tag == first.Key.Tag && u.Key.By == x.p.Self {
			continue
		}
		x.claim(i, first.Key.Tag)
	}
}

// winnerDied: the first unit has not been re-keyed for so long that the winner of the round no longer can.
func (x *stepper) winnerDied(first *Unit) bool {
	if x.s.Hard.Common == 0 {
		return false
	}
	if first.SeenKey != first.Key {
		first.SeenKey, first.SeenFrom = first.Key, x.s.Now
		return false
	}
	return x.s.Now >= first.SeenFrom+x.p.RenewTimeout
}

// finishRound runs while both servers hear each other: a round that was won is finished for a while, then the winner
// proposes the next number.
func (x *stepper) finishRound(first Key) {
	won := first.By == x.p.Self && first.Tag > 0 && first.Tag >= x.s.Hard.Promised && first.Owner == x.p.Self
	if won && x.s.FinishFrom == Never {
		x.s.FinishFrom = x.s.Now
	}
	if won && x.s.Now < x.s.FinishFrom+x.p.FinishWindow {
		for i := 1; i < len(x.s.Units); i++ {
			u := &x.s.Units[i]
			if !u.Known || (u.Key.Owner != x.p.Self && u.Key.Tag < first.Tag) {
				x.claim(i, first.Tag)
				return
			}
		}
	}
	x.s.FinishFrom = Never
	if first.Tag >= x.s.Hard.Common && (first.By == x.p.Self || first.By == Nobody) {
		x.s.Hard.Promised = max(x.s.Hard.Promised, first.Tag+1)
	}
}
