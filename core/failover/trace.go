package failover

// Taken is one row that a Step took for one group.
type Taken struct {
	Group int
	Row   int // in Table
	From  Phase
	On    EventKind
	Facts Facts // all that held, not only those that the row asks for
}

// Trace is Step, or StepUnrecorded, that also tells which rows were taken, for whoever asks why.
func Trace(p *Params, s State, e Event, unrecorded bool) (State, []Action, []Taken) {
	taken := []Taken{}
	x := &stepper{p: p, s: s.Clone(), taken: &taken, unrecorded: unrecorded}
	x.run(e)
	return x.s, x.out, taken
}

// took notes a row for Trace.
func (x *stepper) took(g, row int, on EventKind) {
	if x.taken != nil {
		*x.taken = append(*x.taken, Taken{Group: g, Row: row, From: x.s.Groups[g].Phase, On: on, Facts: x.facts(g)})
	}
}

func (x *stepper) rows() int {
	if x.taken == nil {
		return 0
	}
	return len(*x.taken)
}

// Known reports whether a value is one of this version's.
func (p Phase) Known() bool { return p < numPhases }

// Known reports whether a value is one of this version's.
func (e EventKind) Known() bool { return e < numEvents }

// Known reports whether a value is one of this version's.
func (a ActionKind) Known() bool { return a < numActions }

// Known reports whether a value is one of this version's.
func (v Verdict) Known() bool { return v < numVerdicts }

// Known reports whether a value is one of this version's.
func (w Word) Known() bool { return int(w) < len(wordNames) }

// roleNames are for people.
var roleNames = [...]string{"none", "asking", "giving", "given", "taking back", "checking", "taking"}

func (r Role) String() string { return roleNames[min(int(r), len(roleNames)-1)] }
