package loop

import (
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

// Status is the pair as this agent sees it.
func (lp *Loop) Status() control.Status {
	s := &lp.state
	st := control.Status{
		Pair: lp.cfg.Pair.Name, Self: lp.self, At: lp.now(), Version: lp.o.Version,
		Verdict: s.Partner.Verdict.String(), VerdictWhy: s.Partner.Why, Agreed: s.Agreed(),
		ConfigDigest: hex.EncodeToString(lp.cfg.Digest[:8]), Links: lp.links(), Plugins: lp.w.Plugins(), Mode: lp.mode(),
	}
	lp.view.mu.Lock()
	partner := lp.view.partner
	st.Alarms = append(st.Alarms, lp.view.alarms...)
	lp.view.mu.Unlock()
	st.ConfigDiffers = partner.differs && s.Partner.Ever
	st.Servers = lp.servers(partner)
	st.Groups = lp.ownGroups()
	lp.mergePartner(st.Groups, partner)
	lp.deriveAlarms(&st)
	lp.sentence(&st)
	return st
}

// sentence says in one line how the interconnect is.
func (lp *Loop) sentence(st *control.Status) {
	serial, serialOK := false, true
	for _, l := range st.Links {
		if l.Kind == "serial" {
			serial = true
			serialOK = serialOK && l.State == "ok"
		}
	}
	switch {
	case lp.state.Partner.Verdict != failover.VerdictAlive:
		st.Sentence = lp.state.Partner.Why
	case serial && serialOK:
		st.Sentence = NormalSentence
	default:
		st.Sentence = "Normal State: interconnect heartbeat is being received."
	}
	st.Normal = lp.state.Partner.Verdict == failover.VerdictAlive && len(st.Alarms) == 0
}

func (lp *Loop) servers(partner partnerView) []control.Server {
	self := lp.o.Process
	self.Name, self.Self, self.State, self.Version = lp.self, true, "alive", lp.o.Version
	self.BootID, self.Incarnation, self.Since = lp.o.BootID, lp.o.Incarnation, lp.start
	peer := control.Server{Name: lp.peer, State: lp.state.Partner.Verdict.String()}
	if partner.status != nil {
		peer.Version, peer.BootID = partner.status.Server.Version, partner.status.Server.BootID
		peer.Incarnation, peer.Since = partner.status.Server.Incarnation, partner.status.Server.Since
		peer.PID, peer.Program, peer.Speaks = partner.status.Server.PID, partner.status.Server.Program,
			partner.status.Server.Speaks
	}
	if lp.cfg.Self == failover.First {
		return []control.Server{self, peer}
	}
	return []control.Server{peer, self}
}

func (lp *Loop) links() []control.Link {
	var out []control.Link
	silent := map[string]bool{}
	for _, l := range lp.detector.View(lp.now()).Links {
		silent[l.Name] = !l.Heard
	}
	for _, l := range lp.w.Links() {
		out = append(out, linkStatus(l, silent[l.Name], lp.now()))
	}
	return out
}

func linkStatus(l interconnect.LinkStatus, silent bool, now time.Time) control.Link {
	c := control.Link{
		Name: l.Name, Kind: l.Kind, Device: l.Device, State: "ok", Reason: l.Reason, LastBeatMS: -1,
		RoundTripUS: l.RoundTrip.Microseconds(), Received: l.Counters.FramesIn, Sent: l.Counters.FramesOut,
		Dropped: l.Counters.Dropped, Garbage: l.Counters.Garbage, RefusedTag: l.RefusedTag,
		RefusedOther: l.RefusedReplay + l.RefusedReflected, ModemLines: l.ModemLines,
	}
	if !l.LastBeat.IsZero() {
		c.LastBeatMS = now.Sub(l.LastBeat).Milliseconds()
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
func (lp *Loop) ownGroups() []control.Group {
	var out []control.Group
	for g := range lp.cfg.Groups {
		out = append(out, lp.ownGroup(g))
	}
	return out
}

func (lp *Loop) ownGroup(gi int) control.Group {
	cfg, s := &lp.cfg.Groups[gi], &lp.state.Groups[gi]
	lp.view.mu.Lock()
	defer lp.view.mu.Unlock()
	v := &lp.view.groups[gi]
	g := control.Group{
		Name: cfg.Name, Primary: lp.cfg.ServerName(cfg.Primary), Phase: s.Phase.String(), Why: v.why, Since: v.since,
		Owner: "unknown",
	}
	known := true
	for _, u := range lp.params.Groups[gi].Units {
		known = known && lp.state.Units[u].Known
		g.Units = append(g.Units, lp.unitStatus(u))
	}
	if known {
		g.Owner = lp.cfg.ServerName(lp.GroupOwner(gi))
	}
	lp.driveStatus(&g, cfg, v)
	running := s.Phase == failover.Active || s.Phase == failover.Starting || s.Phase == failover.Stopping
	for _, a := range v.apps {
		if a.State != "stopped" || running {
			a.Server = lp.self
		}
		g.Applications = append(g.Applications, a)
	}
	lp.nextStep(gi, &g)
	return g
}

func (lp *Loop) unitStatus(u int) control.Unit {
	key, v := lp.state.Units[u].Key, lp.view.units[u]
	unit := control.Unit{
		Name: lp.unitName(u), Driver: lp.w.Driver(u), Owner: "unknown",
		Held: lp.state.Hard.Units[u].Held, Position: int(v.state.Position), LED: string(v.state.LED),
	}
	if lp.state.Units[u].Known {
		unit.Owner, unit.Epoch = lp.cfg.ServerName(key.Owner), key.N
	} else {
		unit.Error = v.err
	}
	return unit
}

func (lp *Loop) driveStatus(g *control.Group, cfg *config.Group, v *groupView) {
	i := 0
	for s := range cfg.Storage {
		for d := range cfg.Storage[s].Drives {
			dc := &cfg.Storage[s].Drives[d]
			ds := control.Drive{Configured: dc.Letter, Volume: dc.Volume, Filesystem: dc.Filesystem}
			if i < len(v.mounted) {
				m := v.mounted[i]
				ds.Letter, ds.Path, ds.Volume, ds.Server = m.Letter, m.Path, m.Volume, lp.self
			}
			i++
			g.Drives = append(g.Drives, ds)
		}
	}
}

// mergePartner adds what the partner says of its own side.
func (lp *Loop) mergePartner(groups []control.Group, p partnerView) {
	fresh := p.status != nil && !lp.state.Partner.Lost &&
		lp.now().Sub(p.statusAt) < max(3*time.Second, 2*lp.cfg.Interconnect.Timeout)
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
func (lp *Loop) nextStep(gi int, g *control.Group) {
	s := &lp.state.Groups[gi]
	until := func(t failover.Tick) string { return lp.When(t).Sub(lp.now()).Round(time.Second).String() }
	switch {
	case lp.state.Now < s.BlockedUntil:
		g.Blocked = s.Blocked
		g.Next = "it is tried here again in " + until(s.BlockedUntil) + "; `orscore clear " + g.Name + "` tries at once"
	case s.Phase == failover.Faulted:
		g.Blocked = "something would not stop or unmount"
		g.Next = "end what holds it (see events), then `orscore clear " + g.Name + "`"
	case s.Phase == failover.Starting && s.Fault != "" && s.Fails >= lp.params.Groups[gi].RestartLimit:
		g.Blocked = "it does not come up: " + s.Fault
		g.Next = "it is tried again here, and the partner is asked when it can be; `orscore clear " + g.Name + "`: at once"
	case s.Phase == failover.Unknown:
		g.Next = "the switch is asked who owns the storage; after " + until(s.Deadline) + " the disk is the last witness"
	case s.Phase == failover.Fenced:
		g.Next = "left-overs are being cleared; again in " + until(s.Deadline)
	case s.Phase == failover.Standby && g.Owner == "nobody" && !lp.state.Agreed():
		g.Next = lp.freeNext()
	}
}

func (lp *Loop) freeNext() string {
	switch {
	case lp.state.Hard.Common == 0:
		return "the two servers have never agreed: both agents must be up once before anything is claimed"
	case !lp.state.Partner.Ever && lp.params.StartupTimeout == 0:
		return "waiting for the partner; without a startup_timeout for ever"
	case !lp.state.Partner.Ever:
		return "waiting for the partner until the startup time-out"
	}
	return "waiting until both servers agree"
}

// deriveAlarms adds the alarms that follow from the state: they end with their cause.
func (lp *Loop) deriveAlarms(st *control.Status) {
	since := map[string]time.Time{}
	add := func(code, group, text, next string) {
		what := code + " " + group
		first, known := lp.alarmSince[what]
		if !known {
			first = st.At
		}
		since[what] = first
		st.Alarms = append(st.Alarms, control.Alarm{Code: code, Group: group, Text: text, Next: next, Since: first})
	}
	defer func() { lp.alarmSince = since }()
	lp.modeAlarms(add)
	p := &lp.state.Partner
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
				"groups that use it cannot be started here: "+lp.usersOf(pl.Kind))
		}
	}
	sort.SliceStable(st.Alarms, func(a, b int) bool { return st.Alarms[a].Code < st.Alarms[b].Code })
}

func (lp *Loop) usersOf(kind string) string {
	var names []string
	for i := range lp.cfg.Groups {
		for _, a := range lp.cfg.Groups[i].Applications {
			if a.Kind == kind {
				names = append(names, fmt.Sprintf("%s (%s)", lp.cfg.Groups[i].Name, a.Name))
			}
		}
	}
	return strings.Join(names, ", ")
}
