package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Script is one schedule: everything that makes a run what it is.
type Script struct {
	Name    string  `json:"name,omitempty"` // what it shows
	Seed    uint64  `json:"seed"`           // of chance: latencies, which frame is lost, …
	Pair    Pair    `json:"pair"`
	Faults  []Fault `json:"faults"`
	Until   MS      `json:"faults_end_ms"`
	Lone    int     `json:"lone,omitempty"`    // when faults end, only this server lives for a while
	Death   int     `json:"death,omitempty"`   // when all is well again, this server loses power and comes back
	Away    bool    `json:"away,omitempty"`    // that happens while the other one's agent is away as announced
	Restart int     `json:"restart,omitempty"` // before that its agent is killed and started again at once
	Calm    MS      `json:"calm_ms"`           // at the end nothing happens for so long
}

// MS is a time in milliseconds.
type MS int64

func (m MS) of() time.Duration { return time.Duration(m) * time.Millisecond }

func ms(d time.Duration) MS { return MS(d / time.Millisecond) }

// Pair is the configuration of a run.
type Pair struct {
	Units     []int    `json:"units"`   // in the fixed order: the group of each
	Primary   []int    `json:"primary"` // by group: 1 or 2
	Interval  MS       `json:"interval_ms"`
	Timeout   MS       `json:"timeout_ms"`
	Startup   MS       `json:"startup_timeout_ms,omitempty"`
	Survivor  int      `json:"survivor"`
	Delay     MS       `json:"arbitration_delay_ms"`
	Links     []string `json:"links"`             // kinds
	Moves     bool     `json:"moves_on_shutdown"` // on_shutdown = "switchover"
	Newer     []bool   `json:"newer,omitempty"`   // by unit: the switch obeys any newer claim
	Status    MS       `json:"status_ms"`         // how often the partner is told how things are
	Restarts  int      `json:"restart_limit"`
	Probe     MS       `json:"probe_ms"`
	Mount     MS       `json:"mount_ms"`              // the longest that a mount takes
	Start     MS       `json:"start_ms"`              // the longest that an application takes to start
	Old       int      `json:"old_version,omitempty"` // server that speaks the previous version of the interconnect
	Automatic bool     `json:"failback_automatic,omitempty"`
	Flap      int      `json:"flap_limit,omitempty"`
	Lines     bool     `json:"modem_lines,omitempty"` // serial links have modem lines
}

// Fault is one thing that goes wrong, or that an operator asks for.
type Fault struct {
	At     MS      `json:"at_ms"`
	Kind   string  `json:"kind"`
	Server int     `json:"server,omitempty"` // 1 or 2
	Other  int     `json:"other,omitempty"`  // unit, group or link
	For    MS      `json:"for_ms,omitempty"`
	Rate   float64 `json:"rate,omitempty"`
	// When is a phase: the fault waits from At on until group Group on Server comes into it.
	When  string `json:"when,omitempty"`
	Group int    `json:"group,omitempty"`
}

func (f Fault) String() string {
	s := f.Kind
	if f.Server != 0 {
		s += fmt.Sprintf(" server%d", f.Server)
	}
	s += fmt.Sprintf(" #%d", f.Other)
	if f.For != 0 {
		s += fmt.Sprintf(" for %v", f.For.of())
	}
	if f.Rate != 0 {
		s += fmt.Sprintf(" rate %.2f", f.Rate)
	}
	if f.When != "" {
		s += fmt.Sprintf(" when group %d is %s", f.Group, f.When)
	}
	return s
}

// layouts are the assignments of units to groups that are tried; units have the order of the groups.
var layouts = [][]int{{0, 1}, {0, 1}, {0, 0, 1}, {0, 1, 1}, {0, 1, 2}, {0, 0, 1, 1}}

func drawPair(r *rand.Rand) Pair {
	p := Pair{Units: layouts[r.IntN(len(layouts))], Survivor: 1 + r.IntN(2), Old: []int{0, 0, 1, 2}[r.IntN(4)]}
	groups := 0
	for _, g := range p.Units {
		groups = max(groups, g+1)
	}
	first := r.IntN(2)
	for g := range groups {
		p.Primary = append(p.Primary, 1+(g+first)%2)
	}
	p.Interval = []MS{20, 50, 100, 200, 200, 500, 1000, 2000, 5000, 5000}[r.IntN(10)]
	p.Timeout = p.Interval * MS(3+r.IntN(10))
	p.Timeout = min(max(p.Timeout, 200), 60_000)
	p.Delay = p.Interval * MS(r.IntN(3))
	if r.IntN(2) == 0 {
		p.Startup = p.Timeout + 2000 + MS(r.IntN(20_000))
	}
	p.Links = [][]string{{"serial", "udp"}, {"serial", "udp"}, {"udp", "udp"}, {"udp"}, {"serial"},
		{"serial", "udp", "udp"}}[r.IntN(6)]
	p.Moves = r.IntN(4) == 0
	if r.IntN(3) == 0 {
		for range p.Units {
			p.Newer = append(p.Newer, r.IntN(2) == 0)
		}
	}
	p.Status = []MS{1_000, 600_000, 600_000, 3_600_000, 3_600_000, 3_600_000}[r.IntN(6)]
	p.Automatic = r.IntN(4) == 0
	p.Flap = r.IntN(4)
	p.Lines = r.IntN(2) == 0
	p.Restarts = r.IntN(3)
	p.Probe = []MS{500, 1000, 5000}[r.IntN(3)]
	p.Mount = []MS{50, 300, 2000}[r.IntN(3)]
	p.Start = []MS{50, 300, 3000}[r.IntN(3)]
	return p
}

// Draw makes the schedule of a seed.
func Draw(seed uint64) Script {
	r := rand.New(rand.NewPCG(seed, 0x0751))
	s := Script{Seed: seed, Pair: drawPair(r)}
	calm := MS(0)
	if r.IntN(48) == 0 { // a long quiet life: what takes hours to go wrong must not
		p := &s.Pair
		p.Interval = []MS{2_000, 5_000, 5_000, 10_000}[r.IntN(4)]
		p.Timeout, p.Delay = min(p.Interval*MS(3+r.IntN(5)), 60_000), p.Interval
		if p.Startup != 0 {
			p.Startup = max(p.Startup, p.Timeout)
		}
		calm = p.Interval * MS(5_000+r.IntN(10_000))
	}
	s.Until = 20_000 + MS(r.IntN(100_000)) + s.Pair.Timeout*5
	s.Calm = 10_000 + s.Pair.Timeout*3 + calm
	if r.IntN(3) == 0 {
		s.Lone = 1 + r.IntN(2)
	}
	if r.IntN(3) == 0 {
		s.Death, s.Away = 1+r.IntN(2), r.IntN(2) == 0
	}
	if r.IntN(3) == 0 {
		s.Restart = 1 + r.IntN(2)
	}
	s.Faults = drawFaults(r, &s)
	return s
}

// class is one kind of fault.
type class struct {
	name   string
	weight int // beside the others, times what the seed draws
	draw   func(r *rand.Rand, p *Pair, f *Fault)
}

func anyServer(r *rand.Rand, _ *Pair, f *Fault) { f.Server = 1 + r.IntN(2) }

func anyUnit(r *rand.Rand, p *Pair, f *Fault) {
	f.Server, f.Other = 1+r.IntN(2), r.IntN(len(p.Units))
	f.For = span(r, p)
}

func anyGroup(r *rand.Rand, p *Pair, f *Fault) {
	f.Server, f.Other = 1+r.IntN(2), r.IntN(len(p.Primary))
	f.For = span(r, p)
}

func anyLink(r *rand.Rand, p *Pair, f *Fault) {
	f.Other, f.For = r.IntN(len(p.Links)), span(r, p)
}

func linkRate(rates ...float64) func(r *rand.Rand, p *Pair, f *Fault) {
	return func(r *rand.Rand, p *Pair, f *Fault) {
		anyLink(r, p, f)
		f.Rate = rates[r.IntN(len(rates))]
	}
}

// span is a time about the time-outs: much shorter, about as long, much longer.
func span(r *rand.Rand, p *Pair) MS {
	switch r.IntN(4) {
	case 0:
		return 1 + MS(r.Int64N(int64(p.Timeout)/2+1))
	case 1:
		return p.Timeout/2 + MS(r.Int64N(int64(p.Timeout)+1))
	case 2:
		return p.Timeout + MS(r.Int64N(int64(p.Timeout)*4+1))
	}
	return 500 + MS(r.Int64N(int64(p.Timeout)*10+15_000))
}

func timed(r *rand.Rand, p *Pair, f *Fault) {
	anyServer(r, p, f)
	f.For = span(r, p)
}

// classes are all kinds of faults. Each name is counted in a run's report.
var classes = []class{
	{"agent-killed", 6, timed},
	{"power-lost", 5, timed},
	{"both-lost", 1, timed},
	{"server-paused", 5, timed},
	{"agent-stopped", 4, timed},
	{"agent-starved", 3, timed},
	{"clock-step", 2, func(r *rand.Rand, p *Pair, f *Fault) {
		anyServer(r, p, f)
		f.For = []MS{3_600_000, -3_600_000}[r.IntN(2)]
	}},
	{"link-cut", 5, anyLink},
	{"link-cut-one-way", 4, func(r *rand.Rand, p *Pair, f *Fault) {
		anyLink(r, p, f)
		f.Server = 1 + r.IntN(2)
	}},
	{"all-links-cut", 6, timed},
	{"all-links-cut-one-way", 2, timed},
	{"frames-lost", 3, linkRate(0.05, 0.3, 0.6)},
	{"frames-doubled", 2, linkRate(0.1, 0.5)},
	{"frames-reordered", 2, linkRate(0.1, 0.5)},
	{"frames-delayed", 2, linkRate(0.1, 0.5)},
	{"frames-garbled", 2, linkRate(0.05, 0.3)},
	{"frames-replayed", 2, linkRate(0.1, 0.5)},
	{"frames-reflected", 1, linkRate(0.1, 0.5)},
	{"state-torn", 2, timed},
	{"state-fails", 2, timed},
	{"disk-full", 2, timed},
	{"state-lost", 1, timed},
	{"switch-mute", 5, anyUnit},
	{"switch-slow", 3, anyUnit},
	{"switch-late", 3, anyUnit},
	{"switch-lossy", 3, func(r *rand.Rand, p *Pair, f *Fault) {
		anyUnit(r, p, f)
		f.Rate = []float64{0.02, 0.2, 0.5}[r.IntN(3)]
	}},
	{"switch-fails-mid-claim", 2, anyUnit},
	{"switch-restarts", 1, anyUnit},
	{"mount-fails", 3, anyGroup},
	{"unmount-fails", 2, anyGroup},
	{"app-starts-slowly", 2, anyGroup},
	{"app-fails", 3, anyGroup},
	{"app-hangs", 2, anyGroup},
	{"app-ignores-stop", 2, anyGroup},
	{"app-dies", 3, anyGroup},
	{"kill-fails", 1, anyGroup},
	{"plugin-dies", 2, anyGroup},
	{"network-check-fails", 2, timed},
	{"op-move", 8, anyGroup},
	{"op-failback", 3, anyServer},
	{"op-clear", 3, anyGroup},
	{"op-shutdown", 3, timed},
	{"op-disable", 2, timed},
	{"op-maintenance", 2, timed},
	{"op-restart", 3, timed},
}

// phasesToHit are those that a fault may wait for.
var phasesToHit = []string{
	"Claiming", "Attaching", "Starting", "Active", "Stopping", "Detaching", "Releasing", "Fenced", "Unknown", "Standby",
}

// drawFaults draws how often each class comes in this seed, and then the faults.
func drawFaults(r *rand.Rand, s *Script) []Fault {
	weights := make([]int, len(classes))
	total := 0
	for i := range classes {
		weights[i] = classes[i].weight * []int{0, 0, 1, 2, 8}[r.IntN(5)]
		total += weights[i]
	}
	if total == 0 {
		return nil
	}
	gap := int64(max(s.Pair.Timeout/2, 500)) * int64(1+r.IntN(6))
	if n := int64(s.Until) / gap; n > 60 {
		gap = int64(s.Until) / 60
	}
	var out []Fault
	for at := MS(r.Int64N(2*gap + 1)); at < s.Until; at += 1 + MS(r.Int64N(2*gap)) {
		pick := r.IntN(total)
		i := 0
		for ; pick >= weights[i]; i++ {
			pick -= weights[i]
		}
		f := Fault{At: at, Kind: classes[i].name}
		classes[i].draw(r, &s.Pair, &f)
		if f.Server != 0 && r.IntN(4) == 0 {
			f.When, f.Group = phasesToHit[r.IntN(len(phasesToHit))], r.IntN(len(s.Pair.Primary))
		}
		out = append(out, f)
	}
	return out
}
