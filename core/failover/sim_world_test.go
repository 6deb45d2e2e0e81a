package failover_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"

	"github.com/orscore/ors/core/failover"
)

// The world of the pair simulation: one clock in milliseconds, two servers, one switch a unit, links that lose,
// delay, double and cut beats by direction. Everything that happens is in one queue, so a seed gives the same run
// each time.

const (
	nLinks   = 2
	interval = failover.Tick(200)
)

type tick = failover.Tick

type happening struct {
	at  tick
	seq int
	f   func()
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// unitSwitch is the switch of one unit.
type unitSwitch struct {
	key     failover.Key
	last    failover.Server // the newest owner that was a server
	tenure  int             // grows when the unit goes to another server
	moved   int             // how often since moves were counted from
	changed tick
}

type faultRates struct {
	loss, dup   float64 // beats
	swLoss      float64 // commands to a switch and their answers
	hang        float64 // share of commands and answers that come late
	actionFails float64 // mounts, starts, stops, unmounts and kills that fail
}

type world struct {
	r      *rand.Rand
	now    tick
	seq    int
	queue  agenda
	s      [2]*server
	units  []unitSwitch
	groups int
	cut    [nLinks][2]bool // link, direction: from which server
	mute   [2][]bool       // server, unit: the switch does not answer
	rates  faultRates
	trace  func(string, ...any)
	bad    string
	stats  *counts
	healed tick // when faults ended
}

type counts struct {
	seeds, takeovers, cuts, deaths, winnerDeaths, moves, moved, restarts, shutdowns, steps int
}

func (w *world) log(format string, args ...any) {
	if w.trace != nil {
		w.trace("%8d "+format, append([]any{w.now}, args...)...)
	}
}

func (w *world) fail(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf("at %d: ", w.now) + fmt.Sprintf(format, args...)
		w.log("VIOLATION %s", w.bad)
	}
}

// after lets f happen d from now.
func (w *world) after(d tick, f func()) {
	w.seq++
	heap.Push(&w.queue, happening{w.now + d, w.seq, f})
}

// run lets the world go on for d, or until until holds; it reports whether that held and nothing was violated.
func (w *world) run(d tick, until func() bool) bool {
	end := w.now + d
	for w.bad == "" {
		if until != nil && until() {
			return true
		}
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return until == nil
		}
		h := heap.Pop(&w.queue).(happening)
		w.now = h.at
		h.f()
	}
	return false
}

func (w *world) upTo(n tick) tick             { return tick(w.r.Int64N(int64(n))) }
func (w *world) chance(p float64) bool        { return p > 0 && w.r.Float64() < p }
func (w *world) setCut(on bool)               { w.cut = [nLinks][2]bool{{on, on}, {on, on}} }
func (w *world) open(from int) bool           { return !w.cut[0][from] || !w.cut[1][from] }
func index(s failover.Server) int             { return int(s) - 1 }
func (w *world) of(s failover.Server) *server { return w.s[index(s)] }

// latency of a command to a switch or of its answer.
func (w *world) latency() tick {
	d := 1 + w.upTo(15)
	if w.chance(w.rates.hang) {
		d += w.upTo(4_000)
	}
	return d
}

// put changes a unit's key and looks at what that means.
func (w *world) put(u int, key failover.Key, by *server) {
	x := &w.units[u]
	g := by.p.Units[u].Group
	w.log("unit %d: %v -> %v by %v", u, x.key, key, by.id)
	if key.Owner == failover.Nobody && (by.mounted[g] || by.apps[g]) {
		w.fail("S3: %v released unit %d while mounted %v, running %v", by.id, u, by.mounted[g], by.apps[g])
	}
	if key.Owner != failover.Nobody && key.Owner != by.id {
		w.fail("%v gave unit %d to somebody else: %v", by.id, u, key)
	}
	if key.Owner != failover.Nobody && key.Owner != x.last {
		if x.last != failover.Nobody {
			x.moved++
			w.stats.takeovers++
		}
		x.last = key.Owner
		x.tenure++
	}
	if key.Owner != x.key.Owner {
		x.changed = w.now
	}
	x.key = key
	w.checkMounts()
}

// checkMounts is S1: nothing is written through a mount from before another owner.
func (w *world) checkMounts() {
	for _, s := range w.s {
		for g := range s.mounted {
			if !s.mounted[g] {
				continue
			}
			for i, u := range s.p.Groups[g].Units {
				if w.units[u].key.Owner == s.id && s.tenure[g][i] != w.units[u].tenure {
					w.fail("S1: %v writes to unit %d through a mount from before the other's", s.id, u)
				}
			}
		}
	}
}

// deliver sends one beat over one link.
func (w *world) deliver(from *server, link int, b failover.Beat, seq uint64) {
	to := w.of(from.id.Other())
	if w.cut[link][index(from.id)] || w.chance(w.rates.loss) {
		return
	}
	d := 1 + w.upTo(5)
	if link == 0 {
		d += 5 // a serial line is slower
	}
	if w.chance(w.rates.hang) {
		d += w.upTo(300)
	}
	sent, gen, boot := w.now, from.gen, from.p.Boot
	arrive := func() { to.beatIn(link, b, seq, gen, boot, sent) }
	w.after(d, arrive)
	if w.chance(w.rates.dup) {
		w.after(d+w.upTo(100), arrive)
	}
}

// say carries a word about a planned move.
func (w *world) say(from *server, a failover.Action) {
	to := w.of(from.id.Other())
	if !w.open(index(from.id)) || w.chance(w.rates.loss) {
		return
	}
	sent := w.now
	times := 1
	if w.chance(w.rates.dup) {
		times = 2
	}
	for range times {
		d := 1 + w.upTo(10)
		if w.chance(w.rates.hang) {
			d += w.upTo(500)
		}
		w.after(d, func() {
			if to.bootAt > sent {
				return // of an older session
			}
			to.input(to.gen, func() {
				to.step(failover.Event{Kind: failover.PeerSaid, Group: a.Group, Move: a.Move, Word: a.Word, Text: a.Text})
			})
		})
	}
}

// tellAway tells the partner of the restart that a server has announced, and that server when the partner has it on
// record.
func (w *world) tellAway(from *server) {
	to, gen, left := w.of(from.id.Other()), from.gen, from.st.BackAt-from.clock()
	if left <= 0 || !w.open(index(from.id)) || w.chance(w.rates.loss) {
		return
	}
	sent := w.now
	w.after(1+w.upTo(20), func() {
		if to.bootAt > sent {
			return // of an older session
		}
		to.input(to.gen, func() {
			to.step(failover.Event{Kind: failover.PeerAway, Left: left})
			if !to.core || to.disk.PeerBackBy != to.st.Hard.PeerBackBy || !w.open(index(to.id)) || w.chance(w.rates.loss) {
				return
			}
			w.after(1+w.upTo(20), func() {
				from.input(gen, func() { from.step(failover.Event{Kind: failover.PeerWaits}) })
			})
		})
	})
}

// tellMode carries a server's mode to its partner.
func (w *world) tellMode(from *server) {
	to := w.of(from.id.Other())
	m := from.st.Hard.Mode
	if m.Seq == 0 || !w.open(index(from.id)) || w.chance(w.rates.loss) {
		return
	}
	sent, left := w.now, max(0, from.st.ModeEnd-from.clock())
	w.after(1+w.upTo(20), func() {
		if to.bootAt > sent {
			return // of an older session
		}
		to.input(to.gen, func() {
			m := m
			if m.Until != 0 {
				m.Until = int64(w.now + to.wall + left)
			}
			to.step(failover.Event{Kind: failover.PeerMode, Mode: m, Left: left})
		})
	})
}

// owner of a group by its switches: Nobody also when it is split.
func (w *world) owner(g int) failover.Server {
	var o failover.Server
	for i, u := range w.s[0].p.Groups[g].Units {
		if i > 0 && w.units[u].key.Owner != o {
			return failover.Nobody
		}
		o = w.units[u].key.Owner
	}
	return o
}

// runsOn is the server on which a group is active with its applications, Nobody when it is not exactly there.
func (w *world) runsOn(g int) failover.Server {
	o := w.owner(g)
	if o == failover.Nobody {
		return o
	}
	if s := w.of(o); s.works() && s.st.Groups[g].Phase == failover.Active && s.apps[g] && s.mounted[g] {
		return o
	}
	return failover.Nobody
}

// settled: every group runs once, the partner's side is Standby, and both agree, and no move is under way.
func (w *world) settled() bool {
	for g := range w.groups {
		o := w.runsOn(g)
		if o == failover.Nobody || w.of(o.Other()).apps[g] || w.of(o.Other()).st.Groups[g].Phase != failover.Standby {
			return false
		}
	}
	round := w.units[0].key.Tag // as the switch shows it now: what a server has read of it may be older
	if w.s[0].st.Off() || w.s[1].st.Off() || w.s[0].st.Hard.Mode.Seq != w.s[1].st.Hard.Mode.Seq {
		return false
	}
	for _, s := range w.s {
		if !s.st.Agreed() || s.st.Hard.Common <= round || len(s.moves) > 0 || s.st.BackAt > 0 {
			return false
		}
	}
	return true
}

// allOn: every group runs on s.
func (w *world) allOn(s failover.Server) bool {
	for g := range w.groups {
		if w.runsOn(g) != s {
			return false
		}
	}
	return true
}

func (w *world) String() string {
	out := ""
	for _, s := range w.s {
		out += fmt.Sprintf("\n  %v on=%v core=%v paused=%v verdict=%v up=%v lost=%v P=%d C=%d agreed=%v",
			s.id, s.on, s.core, s.paused,
			s.st.Partner.Verdict, s.st.Partner.Up, s.st.Partner.Lost, s.st.Hard.Promised, s.st.Hard.Common, s.st.Agreed())
		for g := range w.groups {
			gr := &s.st.Groups[g]
			out += fmt.Sprintf(" g%d=%v(mounted %v apps %v role %d blocked %v fails %d)",
				g, gr.Phase, s.mounted[g], s.apps[g], gr.Move.Role,
				s.st.Now < gr.BlockedUntil, gr.Fails)
		}
	}
	for u := range w.units {
		out += fmt.Sprintf("\n  unit %d %v", u, w.units[u].key)
	}
	return out
}
