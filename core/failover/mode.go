package failover

// Mode is what operators have switched for the whole pair. Each change has a number; the newest one holds on both
// servers, whichever it was made on.
type Mode struct {
	Seq      uint32 `json:"seq,omitempty"`
	By       Server `json:"by,omitempty"`       // where the change was made; breaks the tie of two at once
	Disabled bool   `json:"disabled,omitempty"` // nothing moves by itself
	// end of the maintenance by this server's wall clock, in milliseconds since 1970; 0: none. Only a start reads it:
	// while the agent runs, its own clock counts, so that setting the wall clock neither ends nor extends anything.
	Until int64 `json:"maintenance_until,omitempty"`
}

func (m Mode) newer(o Mode) bool { return m.Seq > o.Seq || m.Seq == o.Seq && m.By > o.By }

// InMaintenance means that what runs goes on, failed checks restart nothing, and nothing moves.
func (s *State) InMaintenance() bool { return s.Hard.Mode.Until != 0 && s.Now < s.ModeEnd }

// Off means that nothing moves by itself, whatever happens to the partner.
func (s *State) Off() bool { return s.Hard.Mode.Disabled || s.InMaintenance() }

// modeEvent takes a change of the mode, here or on the partner, and what is left of a maintenance.
func (x *stepper) modeEvent(e Event) {
	m := &x.s.Hard.Mode
	next := e.Mode
	switch e.Kind {
	case ModeLeft:
		if x.s.ModeByWall {
			x.s.ModeEnd = x.s.Now + max(0, e.Left)
		}
		return
	case OpMode:
		next.Seq, next.By = m.Seq+1, x.p.Self
	case PeerMode:
		if next.Seq == m.Seq && next.By == m.By && x.s.ModeByWall {
			x.s.ModeEnd, x.s.ModeByWall = x.s.Now+max(0, e.Left), false // its clock has run on, this one was read anew
		}
		if !next.newer(*m) {
			return
		}
	}
	was, maintained := *m, x.s.InMaintenance()
	*m, x.s.ModeEnd, x.s.ModeByWall, x.s.ModeOver = next, x.s.Now+max(0, e.Left), false, false
	switch {
	case next.Disabled && !was.Disabled:
		x.note(-1, "disabled", "ORS-1045", "Switchover is disabled: nothing is taken over or moved by itself.")
	case was.Disabled && !next.Disabled:
		x.note(-1, "enabled", "", "Switchover is enabled again.")
	}
	switch {
	case x.s.InMaintenance():
		x.note(-1, "maintenance", "ORS-1046",
			"Maintenance has begun: nothing is taken over or moved, and failed checks restart nothing.")
	case maintained:
		x.note(-1, "maintenance-off", "", "Maintenance was ended by an operator.")
	}
	x.s.ModeOver = !x.s.InMaintenance()
	x.readEverything()
}

// settleMode ends a maintenance whose time is over.
func (x *stepper) settleMode() {
	if x.s.Hard.Mode.Until == 0 || x.s.ModeOver || x.s.InMaintenance() {
		return
	}
	x.s.ModeOver = true
	x.note(-1, "maintenance-over", "", "The time of the maintenance is over: it has ended by itself.")
	x.readEverything()
}

// readEverything lets all units be read at once: what was not to be done may be due now.
func (x *stepper) readEverything() {
	for i := range x.s.Units {
		x.s.Units[i].NextRead = min(x.s.Units[i].NextRead, x.s.Now)
	}
}
