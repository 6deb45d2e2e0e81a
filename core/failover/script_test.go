package failover_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/orscore/ors/core/failover"
)

// A script tells one story to one server: a command a line, and below it, indented, what the server does. -update
// writes the answers anew. While time passes the driver answers reads from the switch, lands swaps, and lets the
// partner's beats come, unless told not to.
//
//	server 1 units=0,1 p=1 c=1 held=3,0 released=0,0 startup=8000 survivor=2   a new agent (again: restarted)
//	    restarts=0 failback=5000 flap=2 flaps=1,0 window=60000 lost boot=1 wrote=1 back=9 peerback=9 mode=3:1:disabled until=1
//	    kept: it finds on disk what the one before has left
//	switch 0 owner=1 n=3 tag=1 by=2     what the switch of unit 0 holds
//	mute 0 | unmute 0                   the switch does not answer this server
//	hold swaps | land swaps             keep swaps on their way | let them reach the switch now
//	hold reads | land reads             keep the switch's answers on their way | let them arrive
//	ended 0                             an older swap of unit 0 ends
//	partner hears p=2 c=2 follows losses=1 held=0:4 leaving restarting=5000 onelink    its beats from now on
//	partner silent | partner restarted [agent]
//	time 500                            let time pass
//	pause 500                           the server does not run for so long: nothing happens on it
//	late | network bad | lines down     a pause | evidence
//	answer 0 Granted some text          the newest action of group 0 ends so
//	stale 0 Granted                     an answer to an older action
//	disk 0 answers | disk 0 silent [stale]
//	move 0 7 [force|health|failback] | ready 0 yes | said 0 7 given text | asks 0 7 auto      planned moves
//	mode disabled|enabled|maintenance 5000      an operator switches the mode: what is not named is off
//	peermode 4 2 disabled|enabled|maintenance 5000     the partner's mode: number, by whom
//	left 5000                           of the maintenance, by the wall clock
//	restart 5000 | waits | stay | returned     this agent announces an absence | the partner has it on record | it is
//	    called off | nothing here needs it any more
//	away 5000                           the partner announces one
//	fail 0 [as well] | clear 0 | cleared 0 | shutdown     cleared: on the partner
//	record fails | record works         whether the hard state can be written
//	show                                where everything stands
type script struct {
	t      teller
	steps  int
	p      failover.Params
	s      failover.State
	keys   []failover.Key
	muted  []bool
	held   bool // swaps stay on their way
	slow   bool // answers of the switch do
	late   []failover.Event
	flight []failover.Action
	todo   []failover.Action // reads and swaps to be answered by the driver
	group  []failover.Action // the newest action of each group
	disk   []uint64
	now    failover.Tick
	beat   *failover.Beat
	follow bool
	one    bool
	last   [2]failover.Tick // newest beat of each link
	ever   bool
	nextB  failover.Tick
	net    failover.Answer
	fails  bool // the hard state cannot be written
	lines  failover.Answer
	out    []string
	rows   map[int]bool
}

// upSince is for how long the operating system has been up when a script begins.
const upSince failover.Tick = 50_000

// teller is told what a script cannot go on with. Its Fatalf does not return.
type teller interface {
	Fatalf(format string, args ...any)
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	rows := map[int]bool{}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, f, (&script{t: t, rows: rows}).play(string(text)))
		})
	}
	for i, r := range failover.Table {
		if !rows[i] {
			t.Errorf("no script takes row %d: %v on %v if [%v] -> %v: %s", i, r.From, r.On, r.If, r.To, r.Why)
		}
	}
}

// play runs a script and returns it with the answers of now.
func (x *script) play(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // an old answer
		}
		b.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		x.out = nil
		x.command(strings.Fields(line))
		for _, o := range x.out {
			b.WriteString("  " + o + "\n")
		}
	}
	return b.String()
}

var answers = map[string]failover.Answer{
	"bad": failover.No, "good": failover.Yes, "down": failover.No, "up": failover.Yes,
}

func (x *script) command(w []string) {
	num := func(i int) int {
		n, err := strconv.Atoi(w[i])
		if err != nil {
			x.t.Fatalf("%v: %v", w, err)
		}
		return n
	}
	rest := func(i int) string { return strings.Join(w[min(i, len(w)):], " ") }
	switch w[0] {
	case "server":
		x.server(num(1), options(w[2:]))
	case "switch":
		o := options(w[2:])
		x.keys[num(1)] = failover.Key{Owner: failover.Server(o.n("owner")), N: uint32(o.n("n")), Tag: uint32(o.n("tag")),
			By: failover.Server(o.n("by"))}
	case "mute", "unmute":
		x.muted[num(1)] = w[0] == "mute"
	case "hold":
		x.held, x.slow = x.held || w[1] == "swaps", x.slow || w[1] == "reads"
	case "land":
		if w[1] == "reads" {
			x.landReads()
			return
		}
		x.held = false
		flight := x.flight
		x.flight = nil
		for _, a := range flight {
			x.land(a)
		}
	case "partner":
		x.partner(w[1:])
	case "time":
		x.pass(failover.Tick(num(1)))
	case "pause":
		x.now += failover.Tick(num(1))
	case "late":
		x.last = [2]failover.Tick{-failover.Never, -failover.Never}
		x.step(failover.Event{Kind: failover.WasLate, Text: "it did not run for a while"})
	case "network":
		x.net = answers[w[1]]
		x.seen()
	case "lines":
		x.lines = answers[w[1]]
		x.seen()
	case "answer":
		x.answer(num(1), kind(x.t, w[2]), rest(3))
	case "stale":
		x.step(failover.Event{Kind: kind(x.t, w[2]), Group: num(1), Op: x.group[num(1)].Op - 1})
	case "ended":
		x.step(failover.Event{Kind: failover.Swapped, Unit: num(1), Op: x.s.Units[num(1)].SwapOp - 1})
	case "disk":
		k := map[string]failover.EventKind{"answers": failover.DiskAnswered, "silent": failover.DiskSilent}[w[2]]
		op := x.disk[num(1)]
		if rest(3) == "stale" {
			op--
		}
		x.step(failover.Event{Kind: k, Group: num(1), Op: op})
	case "move":
		e := failover.Event{Kind: failover.OpMove, Group: num(1), Move: uint64(num(2))}
		switch rest(3) {
		case "force":
			e.Force = true
		case "health":
			e.Reason = failover.Health
		case "failback":
			e.Reason = failover.Failback
		}
		x.step(e)
	case "mode", "peermode", "left":
		x.mode(w)
	case "asks":
		x.step(failover.Event{Kind: failover.PeerSaid, Group: num(1), Move: uint64(num(2)), Word: failover.WordAsk,
			Auto: rest(3) == "auto"})
	case "ready":
		k := map[string]failover.EventKind{"yes": failover.ReadyYes, "no": failover.ReadyNo}[w[2]]
		op := x.s.Groups[num(1)].Move.Op
		if rest(3) == "stale" {
			op--
		}
		x.step(failover.Event{Kind: k, Group: num(1), Op: op, Text: rest(3)})
	case "said":
		x.step(failover.Event{Kind: failover.PeerSaid, Group: num(1), Move: uint64(num(2)), Word: word(x.t, w[3]),
			Text: rest(4)})
	case "record":
		x.fails = w[1] == "fails"
	case "fail":
		g := num(1)
		e := failover.Event{Kind: failover.AppsFailed, Group: g, Op: x.s.Groups[g].Op, Text: "it failed its checks"}
		if rest(2) == "as well" {
			e.Op-- // what the start before the newest had brought up
		}
		x.step(e)
	case "clear":
		x.step(failover.Event{Kind: failover.OpClear, Group: num(1)})
	case "cleared":
		x.step(failover.Event{Kind: failover.PeerCleared, Group: num(1)})
	case "restart":
		x.step(failover.Event{Kind: failover.OpRestart, Left: failover.Tick(num(1))})
	case "waits":
		x.step(failover.Event{Kind: failover.PeerWaits})
	case "stay":
		x.step(failover.Event{Kind: failover.OpStay})
	case "returned":
		x.step(failover.Event{Kind: failover.Returned})
	case "away":
		x.step(failover.Event{Kind: failover.PeerAway, Left: failover.Tick(num(1))})
	case "shutdown":
		x.step(failover.Event{Kind: failover.OpShutdown})
	case "show":
		x.show()
	default:
		x.t.Fatalf("unknown command %v", w)
	}
}

// mode lets an operator or the partner switch the pair's mode.
func (x *script) mode(w []string) {
	num := func(i int) int {
		n, err := strconv.Atoi(w[i])
		if err != nil {
			x.t.Fatalf("%v: %v", w, err)
		}
		return n
	}
	e := failover.Event{Kind: failover.OpMode}
	words := w[1:]
	switch w[0] {
	case "left":
		x.step(failover.Event{Kind: failover.ModeLeft, Left: failover.Tick(num(1))})
		return
	case "peermode":
		e.Kind = failover.PeerMode
		e.Mode.Seq, e.Mode.By = uint32(num(1)), failover.Server(num(2))
		words = w[3:]
	}
	for i, word := range words {
		switch word {
		case "disabled":
			e.Mode.Disabled = true
		case "maintenance":
			e.Left = failover.Tick(num(len(w) - len(words) + i + 1))
			e.Mode.Until = int64(1_000_000 + e.Left)
		}
	}
	x.step(e)
}

type opts map[string]string

func options(w []string) opts {
	o := opts{}
	for _, f := range w {
		k, v, _ := strings.Cut(f, "=")
		o[k] = v
	}
	return o
}

func (o opts) n(k string) int {
	n, _ := strconv.Atoi(o[k])
	return n
}

func (o opts) list(k string, i int) uint32 {
	f := strings.Split(o[k], ",")
	if i >= len(f) {
		return 0
	}
	n, _ := strconv.Atoi(f[i])
	return uint32(n)
}

func kind(t teller, name string) failover.EventKind {
	for k := failover.Granted; k <= failover.Returned; k++ {
		if k.String() == name {
			return k
		}
	}
	t.Fatalf("unknown event %q", name)
	return 0
}

func word(t teller, name string) failover.Word {
	for w := failover.WordAsk; w <= failover.WordCancel; w++ {
		if w.String() == name {
			return w
		}
	}
	t.Fatalf("unknown word %q", name)
	return 0
}

// server starts the agent. Clocks go on; the switch keeps what it holds.
func (x *script) server(self int, o opts) {
	var layout []int
	for _, f := range strings.Split(o["units"], ",") {
		g, _ := strconv.Atoi(f)
		layout = append(layout, g)
	}
	x.p = pairParams(failover.Server(self), layout, failover.Tick(o.n("startup")))
	if s := o.n("survivor"); s > 0 {
		x.p.Survivor = failover.Server(s)
	}
	for g := range x.p.Groups {
		gp := &x.p.Groups[g]
		_, gp.Failback = o["failback"]
		gp.FailbackDelay, gp.FlapLimit = failover.Tick(o.n("failback")), o.n("flap")
		if w := o.n("window"); w > 0 {
			gp.FlapWindow = failover.Tick(w)
		}
	}
	for g := range x.p.Groups {
		if r, given := o["restarts"]; given {
			x.p.Groups[g].RestartLimit, _ = strconv.Atoi(r)
		}
	}
	x.p.Boot, x.p.Uptime = uint32(o.n("boot")), upSince
	hard := failover.Hard{Promised: uint32(o.n("p")), Common: uint32(o.n("c")), Boot: uint32(o.n("wrote"))}
	_, hard.Lost = o["lost"]
	hard.BackBy, hard.PeerBackBy = failover.Tick(o.n("back")), failover.Tick(o.n("peerback"))
	for g := range x.p.Groups {
		hard.Flaps = append(hard.Flaps, int(o.list("flaps", g)))
	}
	if f := strings.Split(o["mode"], ":"); len(f) > 1 {
		seq, _ := strconv.Atoi(f[0])
		by, _ := strconv.Atoi(f[1])
		hard.Mode = failover.Mode{Seq: uint32(seq), By: failover.Server(by), Disabled: len(f) > 2,
			Until: int64(o.n("until"))}
	}
	for i := range layout {
		h := failover.HardUnit{Held: o.list("held", i), Released: o.list("released", i), Asked: o.list("held", i)}
		hard.Units = append(hard.Units, h)
	}
	if _, kept := o["kept"]; kept {
		hard = x.s.Hard // what the agent before had on disk
	}
	if x.keys == nil {
		x.keys = make([]failover.Key, len(layout))
		x.muted = make([]bool, len(layout))
	}
	x.group, x.disk = make([]failover.Action, len(x.p.Groups)), make([]uint64, len(x.p.Groups))
	x.s = failover.New(&x.p, hard, x.now)
	x.todo, x.flight, x.beat, x.ever = nil, nil, nil, false
	x.last = [2]failover.Tick{-failover.Never, -failover.Never}
}

func (x *script) partner(w []string) {
	if w[0] == "silent" {
		x.beat = nil
		return
	}
	if w[0] == "restarted" {
		agent := len(w) > 1 && w[1] == "agent"
		x.step(failover.Event{Kind: failover.PeerStarted, Text: "another boot id", Rebooted: !agent})
		return
	}
	o := options(w)
	_, hears := o["hears"]
	_, leaving := o["leaving"]
	_, x.follow = o["follows"]
	_, x.one = o["onelink"]
	b := failover.Beat{HearsUs: hears, Leaving: leaving, Restarting: failover.Tick(o.n("restarting")),
		Losses: uint8(o.n("losses")), Promised: uint32(o.n("p")), Common: uint32(o.n("c"))}
	if u, n, ok := strings.Cut(o["held"], ":"); ok {
		b.HeldUnit, _ = strconv.Atoi(u)
		held, _ := strconv.Atoi(n)
		b.Held = uint32(held)
	}
	x.beat, x.nextB = &b, x.now
	x.hear()
}

// hear lets one beat come over every link that works.
func (x *script) hear() {
	b := *x.beat
	if x.follow {
		b.Promised = max(b.Promised, x.s.Hard.Promised)
		b.Common = b.Promised
	}
	x.last[0], x.ever = x.now, true
	if !x.one {
		x.last[1] = x.now
	}
	x.nextB = x.now + interval
	x.seen()
	x.step(failover.Event{Kind: failover.Heard, Beat: b})
}

// seen tells the evidence if it has changed.
func (x *script) seen() {
	e := failover.Evidence{Network: x.net, Lines: x.lines}
	for _, at := range x.last {
		e.Links = append(e.Links, failover.LinkEvidence{Silent: x.now-at >= x.p.Timeout, Ever: x.ever})
	}
	if !same(e, x.s.Partner.Evidence) || e.Lines != x.s.Partner.Evidence.Lines {
		x.step(failover.Event{Kind: failover.Seen, Evidence: e})
	}
}

// pass lets time go on to the next moment that matters, again and again.
func (x *script) pass(d failover.Tick) {
	end := x.now + d
	for {
		x.serve()
		next := min(end, failover.Next(&x.p, &x.s))
		for _, at := range x.last {
			if t := at + x.p.Timeout; t > x.now {
				next = min(next, t)
			}
		}
		if x.beat != nil {
			next = min(next, x.nextB)
		}
		x.now = max(x.now, next)
		if x.beat != nil && x.now >= x.nextB {
			x.hear()
		} else {
			x.seen()
			x.step(failover.Event{Kind: failover.Passed})
		}
		if x.now >= end {
			x.serve()
			return
		}
	}
}

// serve answers reads and lands swaps that wait.
func (x *script) serve() {
	for len(x.todo) > 0 {
		a := x.todo[0]
		x.todo = x.todo[1:]
		switch {
		case a.Kind == failover.Inspect && x.muted[a.Unit]:
			x.step(failover.Event{Kind: failover.UnitMute, Unit: a.Unit, Op: a.Op, Text: "no answer"})
		case a.Kind == failover.Inspect && x.slow:
			x.late = append(x.late, failover.Event{Kind: failover.UnitRead, Unit: a.Unit, Op: a.Op, Key: x.keys[a.Unit]})
		case a.Kind == failover.Inspect:
			x.step(failover.Event{Kind: failover.UnitRead, Unit: a.Unit, Op: a.Op, Key: x.keys[a.Unit]})
		case x.held:
			x.flight = append(x.flight, a)
		default:
			x.land(a)
			if a.Kind == failover.Swap {
				x.step(failover.Event{Kind: failover.Swapped, Unit: a.Unit, Op: a.Op})
			}
		}
	}
}

// landReads lets the answers of the switch arrive, in their order.
func (x *script) landReads() {
	x.slow = false
	late := x.late
	x.late = nil
	for _, e := range late {
		x.step(e)
	}
}

// land lets the swaps of an action reach the switch.
func (x *script) land(a failover.Action) bool {
	for _, k := range a.Swaps {
		if x.keys[k.Unit] != k.Old {
			x.out = append(x.out, fmt.Sprintf("%5d the switch refuses unit %d: it holds %v", x.now, k.Unit, x.keys[k.Unit]))
			return false
		}
		x.keys[k.Unit] = k.New
	}
	return true
}

// answer ends the newest action of a group; a claim or release that succeeded has changed the switch.
func (x *script) answer(g int, k failover.EventKind, text string) {
	a := x.group[g]
	if k == failover.Granted || k == failover.Released {
		if !x.land(a) {
			x.t.Fatalf("%v of group %d cannot be: the switch refuses", k, g)
		}
	}
	x.step(failover.Event{Kind: k, Group: g, Op: a.Op, Text: text})
}

// maxScriptSteps is more than any script needs: a decision that asks for the same again and again is found out.
const maxScriptSteps = 20_000

func (x *script) step(e failover.Event) {
	e.At, e.Uptime = x.now, x.now+upSince
	if x.steps++; x.steps > maxScriptSteps {
		x.t.Fatalf("the script does not end")
	}
	before := x.s
	next, actions := failover.Step(&x.p, x.s, e)
	if x.fails && !next.Hard.Equal(before.Hard) {
		next, actions, _ = failover.StepUnrecorded(&x.p, x.s, e)
	}
	x.s = next
	say := func(format string, args ...any) {
		x.out = append(x.out, fmt.Sprintf("%5d ", x.now)+fmt.Sprintf(format, args...))
	}
	if h, b := next.Hard, before.Hard; h.Promised != b.Promised || h.Common != b.Common {
		say("promised %d, common %d", h.Promised, h.Common)
	}
	for _, a := range actions {
		line := x.take(a)
		if a.Kind == failover.Tell && x.told(line) >= 3 {
			continue // a word that is repeated until it is answered is shown three times
		}
		if line != "" {
			say("%s", line)
		}
	}
	for g := range next.Groups {
		if r := next.Groups[g].Row; r >= 0 && (r != before.Groups[g].Row || e.Kind == failover.OpClear) {
			x.rows[r] = true
		}
	}
}

// told counts the lines of this command that say the same at any time.
func (x *script) told(line string) int {
	n := 0
	for _, o := range x.out {
		if strings.HasSuffix(o, " "+line) {
			n++
		}
	}
	return n
}

// take notes an action for the driver and tells it in words; reads are not told.
func (x *script) take(a failover.Action) string {
	switch a.Kind {
	case failover.Inspect:
		x.todo = append(x.todo, a)
		return ""
	case failover.Swap:
		x.todo = append(x.todo, a)
		return fmt.Sprintf("swap unit %d: %v -> %v", a.Unit, a.Swaps[0].Old, a.Swaps[0].New)
	case failover.ReKey:
		x.todo = append(x.todo, a)
	case failover.Witness:
		x.disk[a.Group] = a.Op
		return fmt.Sprintf("g%d Witness", a.Group)
	case failover.Note:
		i := slices.IndexFunc(failover.Table, func(r failover.Row) bool {
			return a.Group >= 0 && strings.HasPrefix(a.Text, r.Why) && a.Step == r.To.String()
		})
		if i >= 0 {
			x.rows[i] = true
			return strings.TrimSpace(fmt.Sprintf("g%d -> %s %s", a.Group, a.Step, a.Code)) + " " + a.Text
		}
		return strings.TrimSpace("note "+a.Step+" "+a.Code) + ": " + a.Text
	case failover.Tell:
		said := a.Word.String()
		if a.Auto {
			said += " (automatic)"
		}
		return strings.TrimSpace(fmt.Sprintf("g%d tells the partner, move %d: %s %s", a.Group, a.Move, said, a.Text))
	case failover.MoveEnded:
		return fmt.Sprintf("g%d move %d ended, moved %v: %s", a.Group, a.Move, a.Moved, a.Text)
	case failover.CheckReady:
		return fmt.Sprintf("g%d CheckReady", a.Group)
	case failover.MoveWanted:
		return fmt.Sprintf("g%d MoveWanted %v: %s", a.Group, a.Reason, a.Text)
	default:
		x.group[a.Group] = a
	}
	line := fmt.Sprintf("g%d %v", a.Group, a.Kind)
	for _, k := range a.Swaps {
		line += fmt.Sprintf(" unit %d: %v -> %v", k.Unit, k.Old, k.New)
	}
	if a.Delay > 0 {
		line += fmt.Sprintf(" after %d", a.Delay)
	}
	return line
}

func (x *script) show() {
	say := func(format string, args ...any) { x.out = append(x.out, fmt.Sprintf(format, args...)) }
	pt := &x.s.Partner
	if m := x.s.Hard.Mode; m.Seq > 0 {
		say("mode %d by %d: disabled %v, maintenance %v", m.Seq, m.By, m.Disabled, x.s.InMaintenance())
	}
	say("partner %v, up %v, lost %v, agreed %v; promised %d, common %d", pt.Verdict, pt.Up, pt.Lost, x.s.Agreed(),
		x.s.Hard.Promised, x.s.Hard.Common)
	if n := pt.Losses; n > 1 {
		say("told to the partner: lost %d times", n-1)
	}
	for u, k := range x.keys {
		say("unit %d %v", u, k)
	}
	for u, h := range x.s.Hard.Units {
		say("on disk of unit %d: asked %d, held %d, released %d", u, h.Asked, h.Held, h.Released)
	}
	if at := x.s.BackAt; at != 0 {
		say("the partner is told to wait until %d", at)
	}
	if at := pt.RestartingUntil; at > x.s.Now {
		say("the partner is waited for until %d", at)
	}
	if by := x.s.Hard.PeerBackBy; by != 0 {
		say("on disk: the partner is to be back by %d", by)
	}
	if x.s.Hard.PeerLeft {
		say("on disk: the partner has said goodbye")
	}
	if by := x.s.Hard.BackBy; by != 0 {
		say("on disk: an agent is to be here by %d", by)
	}
	for g := range x.s.Groups {
		line := x.s.Groups[g].Phase.String()
		if n := x.s.Hard.Flaps[g]; n > 0 {
			line += fmt.Sprintf(", automatic moves %d", n)
		}
		say("group %d %s", g, line)
	}
}
