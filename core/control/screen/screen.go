// Package screen shows the pair on one screen of text: the face of `orscore status`.
//
// It is a pure function of a control.Status and the terminal's abilities. It must never invent or hide a state: what
// the agent does not know is shown as unknown, and text from plugins and partners reaches the terminal without
// control characters.
package screen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/core/control"
)

// Options are the terminal's abilities.
type Options struct {
	Width   int  // columns; below 40 counts as 40, 0 as 80
	Height  int  // lines; 0: as many as it takes
	Colour  bool // ANSI colours
	Unicode bool // symbols and lines beyond ASCII
}

// Render returns the screen, one string a line, none wider than the terminal. Where it would be higher than the
// terminal, healthy groups are shown without what they are made of; what is still too much is cut off at the end, and
// the last line says so.
func Render(st control.Status, o Options) []string {
	if o.Width <= 0 {
		o.Width = 80
	}
	o.Width = max(o.Width, 40)
	p := &page{o: o, now: st.At}
	p.all(&st)
	if o.Height > 0 && len(p.lines) > o.Height {
		p.brief, p.lines = true, nil
		p.all(&st)
	}
	if over := len(p.lines) - o.Height; o.Height > 0 && over > 0 {
		p.lines = p.lines[:o.Height-1]
		p.line(span{dim, fmt.Sprintf("%s %d more lines: make the window higher", p.ellipsis(), over+1)})
	}
	return p.lines
}

func (p *page) all(st *control.Status) {
	p.header(st)
	p.alarms(st)
	p.groups(st)
	p.servers(st)
	p.links(st.Links)
	p.plugins(st.Plugins)
	p.programs(st.Programs)
}

func (p *page) header(st *control.Status) {
	left := []span{{bold, "ORS"}, {plain, "  pair "}, {bold, st.Pair}, {plain, ", seen from " + st.Self}}
	p.ends(left, span{dim, st.At.Format("2006-01-02 15:04:05")})
	state := running
	switch {
	case st.Normal:
	case st.Verdict == "alive" || st.Verdict == "left" || st.Verdict == "restarting" || st.Verdict == "cable-fault":
		state = warning
	case st.Verdict == "unknown":
		state = unknown
	default:
		state = failed
	}
	p.wrap([]span{p.symbol(state), {plain, " "}}, span{bold, st.Sentence})
	partner := ""
	for _, s := range st.Servers {
		if !s.Self {
			partner = s.Name + " "
		}
	}
	facts := []string{"Partner " + partner + "is " + verdictWords(st.Verdict)}
	if st.VerdictWhy != "" && st.VerdictWhy != st.Sentence {
		facts[0] += ": " + strings.TrimSuffix(st.VerdictWhy, ".")
	}
	if !st.Agreed {
		facts = append(facts, "not agreed: planned moves wait")
	}
	if st.ConfigDiffers {
		facts = append(facts, "configurations differ")
	}
	facts = append(facts, count(len(st.Alarms), "alarm"))
	p.wrap([]span{{plain, "  "}}, span{plain, strings.Join(facts, "; ")})
}

func verdictWords(verdict string) string {
	if verdict == "" {
		return "unknown"
	}
	return strings.ReplaceAll(verdict, "-", " ")
}

func count(n int, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (p *page) alarms(st *control.Status) {
	if len(st.Alarms) == 0 {
		return
	}
	told := map[string]bool{} // what the groups below say themselves
	for _, g := range st.Groups {
		told[g.Name+"\n"+g.Next] = true
	}
	p.title("ALARMS")
	for _, a := range st.Alarms {
		text := a.Code + " "
		if a.Group != "" {
			text += a.Group + ": "
		}
		text += a.Text
		if d := p.since(a.Since); d != "" {
			text += " (" + d + ")"
		}
		p.wrap([]span{{plain, "  "}, p.symbol(warning), {plain, " "}}, span{plain, text})
		if a.Next != "" && !told[a.Group+"\n"+a.Next] {
			p.wrap([]span{{plain, "    "}}, span{bold, "next: " + a.Next})
		}
	}
}

func (p *page) servers(st *control.Status) {
	p.title("SERVERS")
	name, state := 6, 5
	for _, s := range st.Servers {
		name, state = max(name, width(s.Name)), max(state, len(verdictWords(s.State)))
	}
	name = min(name, p.o.Width/3)
	for _, s := range st.Servers {
		self := "partner"
		if s.Self {
			self = "self"
		}
		text := fmt.Sprintf("%-7s  %-*s", self, state, verdictWords(s.State))
		var facts []string
		if d := p.since(s.Since); d != "" && s.State == "alive" {
			facts = append(facts, "agent up "+d)
		}
		if s.Incarnation > 0 {
			facts = append(facts, fmt.Sprintf("start %d", s.Incarnation))
		}
		if s.Version != "" {
			facts = append(facts, "version "+s.Version)
		}
		text += "  " + strings.Join(facts, ", ")
		p.line(span{plain, "  "}, p.symbol(verdictState(s.State)), span{plain, " "},
			span{bold, p.fit(s.Name, name)}, span{plain, "  " + text})
	}
}

func verdictState(verdict string) state {
	switch verdict {
	case "alive":
		return running
	case "left":
		return idle
	case "restarting":
		return moving
	case "cable-fault":
		return warning
	case "lost", "isolated":
		return failed
	}
	return unknown
}

func (p *page) links(links []control.Link) {
	name := 4
	for _, l := range links {
		name = max(name, width(l.Name))
	}
	name = min(name, p.o.Width/4)
	p.lines = append(p.lines, "")
	if len(links) == 0 {
		p.line(span{bold, "LINKS"}, span{dim, "  none"})
		return
	}
	p.line(span{bold, "LINKS"}, span{dim, fmt.Sprintf("%s  %6s  %7s  %9s  %8s  %15s  %s",
		strings.Repeat(" ", name-1), "", "", "last beat", "trip", "in / out", "bad")})
	for _, l := range links {
		st := running
		switch l.State {
		case "silent", "closed":
			st = failed
		case "ok":
		default:
			st = unknown
		}
		bad := l.Garbage + l.RefusedTag + l.RefusedOther + l.Dropped
		facts := fmt.Sprintf("  %-6s  %-7s  %9s  %8s  %15s  %d", l.Kind, l.State, age(l.LastBeatMS), trip(l.RoundTripUS),
			short(l.Received)+" / "+short(l.Sent), bad)
		p.line(span{plain, "  "}, p.symbol(st), span{plain, " "}, span{bold, p.fit(l.Name, name)}, span{plain, facts})
		if l.State != "ok" && (l.Reason != "" || l.Device != "") {
			where := strings.Trim(l.Device+": "+l.Reason, ": ")
			p.wrap([]span{{plain, "    "}}, span{plain, where})
		}
	}
}

func age(ms int64) string {
	switch {
	case ms < 0:
		return "never"
	case ms < 10_000:
		return fmt.Sprintf("%d ms", ms)
	}
	return duration(time.Duration(ms) * time.Millisecond)
}

func trip(us int64) string {
	if us <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(us)/1000)
}

// short writes a count in at most five columns.
func short(n uint64) string {
	units := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for f := n; f >= 10_000 && i < len(units)-1; f /= 1000 {
		n, i = f/1000, i+1
	}
	return fmt.Sprint(n, units[i])
}

// groups shows blocked groups first, then failed ones, then the others in their order.
func (p *page) groups(st *control.Status) {
	p.title("GROUPS")
	if len(st.Groups) == 0 {
		p.line(span{dim, "  none"})
		return
	}
	sorted := slices.Clone(st.Groups)
	slices.SortStableFunc(sorted, func(a, b control.Group) int { return rank(&a, st) - rank(&b, st) })
	for i := range sorted {
		p.group(&sorted[i], st)
	}
}

func rank(g *control.Group, st *control.Status) int {
	switch s, _ := groupState(g, st); {
	case g.Blocked != "":
		return 0
	case s == failed:
		return 1
	}
	return 2
}

// groupState says how a group is, from the side of the server that owns it.
func groupState(g *control.Group, st *control.Status) (state, string) {
	phase := strings.ToLower(g.Phase)
	if g.Owner != st.Self && g.Owner != "nobody" && g.Owner != "unknown" && g.Owner != "" {
		phase = strings.ToLower(g.PartnerPhase)
	}
	busy := phaseState(phase)
	switch {
	case g.Blocked != "":
		return failed, "BLOCKED"
	case g.Owner == "unknown" || g.Owner == "":
		return unknown, "owner unknown"
	case g.Owner == "nobody" && busy == moving:
		return moving, phase
	case g.Owner == "nobody":
		return idle, "owned by nobody"
	case phase == "standby" || phase == "fenced" || phase == "unknown" || phase == "":
		// The switch has spoken, the owner not yet.
		return unknown, "owned by " + g.Owner
	}
	return busy, phase + " on " + g.Owner
}

func phaseState(phase string) state {
	switch phase {
	case "active":
		return running
	case "standby", "parked":
		return idle
	case "faulted":
		return failed
	case "claiming", "attaching", "starting", "stopping", "detaching", "releasing", "fenced":
		return moving
	}
	return unknown
}

func (p *page) group(g *control.Group, st *control.Status) {
	s, words := groupState(g, st)
	switch {
	case g.Owner == g.Primary:
		words += " (its primary)"
	case g.Primary != "":
		words += " (primary " + g.Primary + ")"
	}
	name := min(max(width(g.Name), 12), p.o.Width/3)
	style := plain
	if s == running && g.Owner != g.Primary {
		style = yellow
	}
	p.ends([]span{{plain, "  "}, p.symbol(s), {plain, " "}, {bold, p.fit(g.Name, name)}, {style, "  " + words}},
		span{dim, p.since(g.Since)})
	if g.Blocked != "" {
		p.wrap([]span{{plain, "    "}}, span{red, "why: " + g.Blocked})
	} else if s == moving || s == failed || s == unknown {
		p.why(g.Why)
	}
	if g.Next != "" {
		p.wrap([]span{{plain, "    "}}, span{bold, "next: " + g.Next})
	}
	if !p.brief || s != running {
		p.tree(g)
	}
}

func (p *page) why(why string) {
	if why != "" {
		p.wrap([]span{{plain, "    "}}, span{plain, "why: " + why})
	}
}

// row is an item of a group's tree; note is what must not be cut off.
type row struct {
	item []span
	note string
}

// tree shows what a group is made of.
func (p *page) tree(g *control.Group) {
	var rows []row
	for _, u := range g.Units {
		rows = append(rows, row{p.unit(&u), u.Error})
	}
	for _, d := range g.Drives {
		rows = append(rows, row{item: p.drive(&d)})
	}
	for _, a := range g.Applications {
		rows = append(rows, p.application(&a, g.Owner))
	}
	for i, r := range rows {
		branch, trunk := p.branch(i == len(rows)-1)
		p.line(append([]span{{plain, "    "}, {dim, branch}, {plain, " "}}, r.item...)...)
		if r.note != "" {
			p.wrap([]span{{plain, "    "}, {dim, trunk}, {plain, "   "}}, span{red, r.note})
		}
	}
}

func (p *page) unit(u *control.Unit) []span {
	s := running
	switch {
	case u.Error != "":
		s = failed
	case u.Owner == "unknown" || u.Owner == "":
		s = unknown
	case u.Owner == "nobody":
		s = idle
	}
	sym := p.symbol(s)
	if s == running && u.LED == "amber" {
		sym.style = yellow
	}
	text := fmt.Sprintf("  %s  %s, %s, epoch %d", p.fit(u.Owner, 8), position(u.Position), u.LED, u.Epoch)
	if u.Error != "" {
		text = "  unknown"
	}
	if u.Held != 0 && u.Held != u.Epoch {
		text += fmt.Sprintf(", held under %d", u.Held)
	}
	return []span{sym, {plain, " unit   "}, {plain, p.fit(u.Name, itemWidth)}, {plain, text}, {dim, "  " + u.Driver}}
}

func position(n int) string {
	if n == 0 {
		return "disconnected"
	}
	return fmt.Sprintf("port %d", n)
}

func (p *page) drive(d *control.Drive) []span {
	if d.Letter == "" {
		return []span{p.symbol(idle), {plain, " drive  "}, {plain, p.fit(d.Configured, itemWidth)}, {dim, "  not mounted"}}
	}
	letter := d.Letter
	if d.Configured != "" && d.Configured != d.Letter {
		letter += " for " + d.Configured
	}
	return []span{
		p.symbol(running), {plain, " drive  "}, {plain, p.fit(letter, itemWidth)},
		{plain, "  " + p.fit(d.Server, 8) + "  " + d.Path}, {dim, "  " + strings.TrimSpace(d.Filesystem+" "+d.Volume)},
	}
}

func (p *page) application(a *control.Application, owner string) row {
	s, words := applicationState(a)
	at := a.Server
	if at == "" {
		at = "-"
	}
	text, note := "  "+p.fit(at, 8)+"  "+words, ""
	switch {
	case a.Detail == "":
	case s == failed || s == unknown:
		note = a.Detail
	default:
		text += ": " + a.Detail
	}
	if a.Server != "" && owner != "" && owner != "unknown" && a.Server != owner && s != idle {
		note = strings.TrimSpace("it is not on the owner's server. " + note)
	}
	return row{[]span{p.symbol(s), {plain, " app    "}, {plain, p.fit(a.Kind+" "+a.Name, itemWidth)}, {plain, text}}, note}
}

func applicationState(a *control.Application) (state, string) {
	switch a.State {
	case "running":
		switch a.Health {
		case "ok":
			return running, "running, ok"
		case "failed":
			return failed, "running, check failed"
		case "unknown":
			return unknown, "running, health unknown"
		}
		return running, "running"
	case "starting", "stopping":
		return moving, a.State
	case "stopped", "finished":
		return idle, a.State
	case "failed":
		return failed, a.State
	}
	return unknown, "unknown"
}

// programs are those that wait to be told of groups.
func (p *page) programs(programs []control.Program) {
	if len(programs) == 0 {
		return
	}
	p.title("REGISTERED PROGRAMS")
	for _, pr := range programs {
		text := "every group"
		if len(pr.Groups) > 0 {
			text = "group " + strings.Join(pr.Groups, ", ")
		}
		p.wrap([]span{{plain, "  "}, p.symbol(running), {plain, " "}},
			span{plain, pr.Name + " is told of " + text + "; registered by " + pr.By})
	}
}

// plugins are shown only where they are of concern.
func (p *page) plugins(plugins []control.Plugin) {
	var bad []control.Plugin
	for _, pl := range plugins {
		if pl.State != "running" {
			bad = append(bad, pl)
		}
	}
	if len(bad) == 0 {
		return
	}
	p.title("PLUGINS THAT DO NOT RUN HERE")
	for _, pl := range bad {
		text := strings.TrimSuffix(fmt.Sprintf("%s %s: %s", pl.Kind, pl.State, pl.Detail), ": ")
		p.wrap([]span{{plain, "  "}, p.symbol(failed), {plain, " "}}, span{plain, text})
	}
}
