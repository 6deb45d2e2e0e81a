package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
)

// NormalSentence is the paper's (W-18).
const NormalSentence = "Normal State: Serial interconnect heartbeat is being received."

// Status answers with the pair as this agent sees it.
func (n *Node) Status(ctx context.Context) control.Status {
	st, err := ask(ctx, n, n.status)
	if err != nil {
		return control.Status{Pair: n.cfg.Pair.Name, Self: n.self, At: time.Now(), Version: n.o.Version,
			Sentence: err.Error()}
	}
	return st
}

// Subscribe returns a channel that receives whenever the status may have changed.
func (n *Node) Subscribe() (<-chan struct{}, func()) { return n.changed.Subscribe() }

// status runs in the loop.
func (n *Node) status() control.Status {
	s := &n.state
	st := control.Status{
		Pair: n.cfg.Pair.Name, Self: n.self, At: time.Now(), Version: n.o.Version,
		Verdict: s.Partner.Verdict.String(), VerdictWhy: s.Partner.Why, Agreed: s.Agreed(),
		ConfigDigest: hex.EncodeToString(n.cfg.Digest[:8]), Links: n.links(),
	}
	if n.o.PluginStatus != nil {
		st.Plugins = n.o.PluginStatus()
	}
	n.live.mu.Lock()
	partner := n.live.partner
	st.Alarms = append(st.Alarms, n.live.alarms...)
	n.live.mu.Unlock()
	st.ConfigDiffers = partner.differs && s.Partner.Ever
	st.Servers = n.servers(partner)
	st.Groups = n.ownGroups()
	n.mergePartner(st.Groups, partner)
	n.deriveAlarms(&st)
	n.sentence(&st)
	return st
}

// sentence says in one line how the interconnect is.
func (n *Node) sentence(st *control.Status) {
	serial, serialOK := false, true
	for _, l := range st.Links {
		if l.Kind == "serial" {
			serial = true
			serialOK = serialOK && l.State == "ok"
		}
	}
	switch {
	case n.state.Partner.Verdict != failover.VerdictAlive:
		st.Sentence = n.state.Partner.Why
	case serial && serialOK:
		st.Sentence = NormalSentence
	default:
		st.Sentence = "Normal State: interconnect heartbeat is being received."
	}
	st.Normal = n.state.Partner.Verdict == failover.VerdictAlive && len(st.Alarms) == 0
}

func (n *Node) servers(partner partnerView) []control.Server {
	self := control.Server{
		Name: n.self, Self: true, State: "alive", Version: n.o.Version, BootID: n.o.BootID,
		Incarnation: n.o.Incarnation, Since: n.start,
	}
	peer := control.Server{Name: n.peer, State: n.state.Partner.Verdict.String()}
	if partner.status != nil {
		peer.Version, peer.BootID = partner.status.Server.Version, partner.status.Server.BootID
		peer.Incarnation, peer.Since = partner.status.Server.Incarnation, partner.status.Server.Since
	}
	if n.cfg.Self == failover.First {
		return []control.Server{self, peer}
	}
	return []control.Server{peer, self}
}

func (n *Node) links() []control.Link {
	var out []control.Link
	silent := map[string]bool{}
	for _, l := range n.detector.View(time.Now()).Links {
		silent[l.Name] = !l.Heard
	}
	for _, l := range n.o.Interconnect.Links() {
		out = append(out, linkStatus(l, silent[l.Name]))
	}
	return out
}

func linkStatus(l interconnect.LinkStatus, silent bool) control.Link {
	c := control.Link{
		Name: l.Name, Kind: l.Kind, Device: l.Device, State: "ok", Reason: l.Reason, LastBeatMS: -1,
		RoundTripUS: l.RoundTrip.Microseconds(), Received: l.Counters.FramesIn, Sent: l.Counters.FramesOut,
		Dropped: l.Counters.Dropped, Garbage: l.Counters.Garbage, RefusedTag: l.RefusedTag,
		RefusedOther: l.RefusedReplay + l.RefusedReflected, ModemLines: l.ModemLines,
	}
	if !l.LastBeat.IsZero() {
		c.LastBeatMS = time.Since(l.LastBeat).Milliseconds()
	}
	switch {
	case !l.Open:
		c.State = "closed"
	case silent:
		c.State = "silent"
	}
	return c
}

// ownGroups is what this server knows of the groups by itself.
func (n *Node) ownGroups() []control.Group {
	var out []control.Group
	for g := range n.cfg.Groups {
		out = append(out, n.ownGroup(g))
	}
	return out
}

func (n *Node) ownGroup(gi int) control.Group {
	cfg, s := &n.cfg.Groups[gi], &n.state.Groups[gi]
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	v := &n.live.groups[gi]
	g := control.Group{
		Name: cfg.Name, Primary: n.cfg.ServerName(cfg.Primary), Phase: s.Phase.String(), Why: v.why, Since: v.since,
		Owner: "unknown",
	}
	known := true
	for _, u := range n.params.Groups[gi].Units {
		known = known && n.state.Units[u].Known
		g.Units = append(g.Units, n.unitStatus(u))
	}
	if known {
		g.Owner = n.cfg.ServerName(n.groupOwner(gi))
	}
	n.driveStatus(&g, cfg, v)
	running := s.Phase == failover.Active || s.Phase == failover.Starting || s.Phase == failover.Stopping
	for _, a := range v.apps {
		if a.State != "stopped" || running {
			a.Server = n.self
		}
		g.Applications = append(g.Applications, a)
	}
	n.nextStep(gi, &g)
	return g
}

func (n *Node) unitStatus(u int) control.Unit {
	key, v := n.state.Units[u].Key, n.live.units[u]
	unit := control.Unit{
		Name: n.unitName(u), Driver: n.o.Switches[u].Capabilities().Driver, Owner: "unknown",
		Held: n.state.Hard.Units[u].Held, Position: int(v.state.Position), LED: string(v.state.LED),
	}
	if n.state.Units[u].Known {
		unit.Owner, unit.Epoch = n.cfg.ServerName(key.Owner), key.N
	} else {
		unit.Error = v.err
	}
	return unit
}

func (n *Node) driveStatus(g *control.Group, cfg *config.Group, v *groupView) {
	i := 0
	for s := range cfg.Storage {
		for d := range cfg.Storage[s].Drives {
			dc := &cfg.Storage[s].Drives[d]
			ds := control.Drive{Configured: dc.Letter, Volume: dc.Volume, Filesystem: dc.Filesystem}
			if i < len(v.mounted) {
				m := v.mounted[i]
				ds.Letter, ds.Path, ds.Volume, ds.Server = m.Letter, m.Path, m.Volume, n.self
			}
			i++
			g.Drives = append(g.Drives, ds)
		}
	}
}

// mergePartner adds what the partner says of its own side.
func (n *Node) mergePartner(groups []control.Group, p partnerView) {
	fresh := p.status != nil && !n.state.Partner.Lost &&
		time.Since(p.statusAt) < max(3*time.Second, 2*n.cfg.Interconnect.Timeout)
	for i := range groups {
		g := &groups[i]
		g.PartnerPhase = "unknown"
		if !fresh {
			continue
		}
		for j := range p.status.Groups {
			if o := &p.status.Groups[j]; o.Name == g.Name {
				g.PartnerPhase = o.Phase
				mergeGroup(g, o)
			}
		}
	}
}

func mergeGroup(g, o *control.Group) {
	for i := range g.Drives {
		if g.Drives[i].Server == "" && i < len(o.Drives) && o.Drives[i].Server != "" {
			g.Drives[i] = o.Drives[i]
		}
	}
	for i := range g.Applications {
		if g.Applications[i].Server == "" && i < len(o.Applications) && o.Applications[i].Server != "" {
			g.Applications[i] = o.Applications[i]
		}
	}
	if g.Blocked == "" && o.Blocked != "" {
		g.Blocked, g.Next = o.Blocked+" (says the partner)", o.Next
	}
}

// nextStep says what a group that does not run is waiting for, and until when.
func (n *Node) nextStep(gi int, g *control.Group) {
	s := &n.state.Groups[gi]
	until := func(t failover.Tick) string { return time.Until(n.when(t)).Round(time.Second).String() }
	switch {
	case n.state.Now < s.BlockedUntil:
		g.Blocked = s.Blocked
		g.Next = "it is tried here again in " + until(s.BlockedUntil) + "; `orscore clear " + g.Name + "` tries at once"
	case s.Phase == failover.Faulted:
		g.Blocked = "something would not stop or unmount"
		g.Next = "end what holds it (see events), then `orscore clear " + g.Name + "`"
	case s.Phase == failover.Unknown:
		g.Next = "the switch is asked who owns the storage; after " + until(s.Deadline) + " the disk is the last witness"
	case s.Phase == failover.Fenced:
		g.Next = "left-overs are being cleared; again in " + until(s.Deadline)
	case s.Phase == failover.Standby && g.Owner == "nobody" && !n.state.Agreed():
		g.Next = n.freeNext()
	}
}

func (n *Node) freeNext() string {
	switch {
	case n.state.Hard.Common == 0:
		return "the two servers have never agreed: both agents must be up once before anything is claimed"
	case !n.state.Partner.Ever && n.params.StartupTimeout == 0:
		return "waiting for the partner; without a startup_timeout for ever"
	case !n.state.Partner.Ever:
		return "waiting for the partner until the startup time-out"
	}
	return "waiting until both servers agree"
}

// deriveAlarms adds the alarms that follow from the state: they end with their cause.
func (n *Node) deriveAlarms(st *control.Status) {
	since := map[string]time.Time{}
	add := func(code, group, text, next string) {
		what := code + " " + group
		first, known := n.alarmSince[what]
		if !known {
			first = st.At
		}
		since[what] = first
		st.Alarms = append(st.Alarms, control.Alarm{Code: code, Group: group, Text: text, Next: next, Since: first})
	}
	defer func() { n.alarmSince = since }()
	p := &n.state.Partner
	switch p.Verdict {
	case failover.VerdictLost:
		add("ORS-1040", "", "The partner is lost.", "power it on or mend it; then `orscore failback`")
	case failover.VerdictIsolated:
		add("ORS-1041", "", "This server is cut off: it takes nothing over.", "mend its network and the interconnect")
	}
	for _, l := range st.Links {
		if l.State == "ok" {
			continue
		}
		if l.RefusedTag > 0 && l.State == "silent" {
			text := fmt.Sprintf("Frames arrive on link %s and are refused (%d so far): they are signed with another key.",
				l.Name, l.RefusedTag)
			add("ORS-3001", "", text, "compare interconnect.key_file on both servers, and what the cable is plugged into")
		}
		text := strings.TrimSpace(l.Kind + " link " + l.Name + " is " + l.State + ". " + l.Reason)
		if p.Verdict == failover.VerdictCableFault || p.Verdict == failover.VerdictAlive || l.State == "closed" {
			add("ORS-13004", "", text, "check its cable, port and device; nothing moves because of it")
		}
	}
	if st.ConfigDiffers {
		add("ORS-1043", "", "The partner's agent runs with another configuration file.",
			"make the files equal and restart that agent")
	}
	for i := range st.Groups {
		g := &st.Groups[i]
		if g.Blocked != "" {
			add("ORS-1042", g.Name, "The group is blocked: "+g.Blocked, g.Next)
		}
		for _, u := range g.Units {
			if u.Error != "" {
				add("ORS-1001", g.Name, "The switch of "+u.Name+" does not answer: "+u.Error, "check the switch and the way to it")
			}
		}
	}
	for _, pl := range st.Plugins {
		if pl.State != "running" {
			add("ORS-5000", "", "Plugin "+pl.Kind+" is "+pl.State+": "+pl.Detail,
				"groups that use it cannot be started here: "+n.usersOf(pl.Kind))
		}
	}
	sort.SliceStable(st.Alarms, func(a, b int) bool { return st.Alarms[a].Code < st.Alarms[b].Code })
}

func (n *Node) usersOf(kind string) string {
	var names []string
	for i := range n.cfg.Groups {
		for _, a := range n.cfg.Groups[i].Applications {
			if a.Kind == kind {
				names = append(names, fmt.Sprintf("%s (%s)", n.cfg.Groups[i].Name, a.Name))
			}
		}
	}
	return strings.Join(names, ", ")
}
