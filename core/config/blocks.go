package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/interconnect"
	"github.com/orscore/ors/core/netcheck"
)

// Limits of the interconnect's times (DESIGN §5).
const (
	minBeat = 20 * time.Millisecond
	maxBeat = 60 * time.Second
)

// minIntervals is how many beats must be missing before a time-out may call a partner lost: one is lost on any line
// now and then.
const minIntervals = 3

func attributes(names ...string) []hcl.AttributeSchema {
	out := make([]hcl.AttributeSchema, len(names))
	for i, n := range names {
		required := strings.HasSuffix(n, "!")
		out[i] = hcl.AttributeSchema{Name: strings.TrimSuffix(n, "!"), Required: required}
	}
	return out
}

func (d *decoder) pair(root *section) {
	d.c.Pair = Pair{Mode: "online", OnShutdown: "stay"}
	b := root.only("pair", true)
	if b == nil {
		return
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("mode", "on_shutdown", "unsafe_demo")})
	d.checkName("pair", b.Labels[0], b.LabelRanges[0])
	d.c.Pair = Pair{
		Name: b.Labels[0],
		Mode: s.choice(codeMode, "mode", "online", []string{"online"},
			` Both servers are at work in this mode; "standby" is not supported by this version.`),
		OnShutdown: s.choice(codeOnShutdown, "on_shutdown", "stay", []string{"stay", "switchover"}, ""),
		UnsafeDemo: s.boolean("unsafe_demo", false),
	}
}

func (d *decoder) agent(b *hcl.Block) {
	var s *section
	if b != nil {
		s = d.open(b.Body, b.DefRange, &hcl.BodySchema{
			Attributes: attributes("state_dir", "run_dir", "log_dir", "plugin_dir", "drive_root", "realtime"),
			Blocks:     []hcl.BlockHeaderSchema{{Type: "watchdog"}, {Type: "autostart"}},
		})
	}
	d.c.Agent = Agent{
		StateDir:  s.path("state_dir", "/var/lib/ors"),
		RunDir:    s.path("run_dir", DefaultRunDir),
		LogDir:    s.path("log_dir", "/var/log/ors"),
		PluginDir: s.path("plugin_dir", DefaultPluginDir),
		DriveRoot: s.path("drive_root", "/ors"),
		Realtime:  s.boolean("realtime", true),
		Watchdog:  d.watchdog(s.only("watchdog", false)),
	}
	for _, one := range s.all("autostart") {
		d.c.Agent.Autostart = append(d.c.Agent.Autostart, d.autostart(one))
	}
}

func (d *decoder) watchdog(b *hcl.Block) *Watchdog {
	if b == nil {
		return nil
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("device!", "timeout")})
	w := &Watchdog{Device: s.path("device", ""), Timeout: s.duration("timeout", 10*time.Second, time.Second, time.Hour)}
	if w.Timeout%time.Second != 0 {
		d.report(codeDuration, s.where("timeout"), fmt.Sprintf("a watchdog counts whole seconds, not %s", short(w.Timeout)),
			`Write a time such as "10s".`)
	}
	return w
}

func (d *decoder) autostart(b *hcl.Block) Autostart {
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{
		Attributes: attributes("command!", "timeout", "on_failure", "once_per_boot"),
	})
	a := Autostart{
		Command: s.list("command", s.pathContext()),
		Timeout: s.duration("timeout", 30*time.Second, 100*time.Millisecond, time.Hour),
		OnFailure: s.choice(codeAutostart, "on_failure", "continue", []string{"continue", "stop"},
			` With "stop" the agent does not start after a failure; with "continue" it is told and the agent goes on.`),
		OncePerBoot: s.boolean("once_per_boot", false),
		Range:       b.DefRange,
	}
	if s.attribute("command") != nil && (len(a.Command) == 0 || !filepath.IsAbs(a.Command[0])) {
		d.report(codeAutostart, s.where("command"), "the command names no program by its whole path",
			`Write program and arguments, such as ["/usr/local/sbin/open-launcher", "${self}"].`)
	}
	return a
}

func (d *decoder) interconnect(root *section) {
	b := root.only("interconnect", true)
	if b == nil {
		return
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{
		Attributes: attributes("interval", "timeout", "startup_timeout", "key_file!"),
		Blocks: []hcl.BlockHeaderSchema{
			{Type: "serial", LabelNames: []string{"name"}},
			{Type: "udp", LabelNames: []string{"name"}},
		},
	})
	ic := &d.c.Interconnect
	ic.Interval = s.duration("interval", 200*time.Millisecond, minBeat, maxBeat)
	ic.Timeout = s.duration("timeout", 2*time.Second, minBeat, maxBeat)
	if ic.Timeout < minIntervals*ic.Interval {
		d.report(codeBeats, s.where("timeout"),
			fmt.Sprintf("a timeout of %s is less than %d intervals of %s", short(ic.Timeout), minIntervals, short(ic.Interval)),
			fmt.Sprintf("A lost beat must not look like a lost partner: write a timeout of at least %s, or a shorter interval.",
				short(minIntervals*ic.Interval)))
	}
	ic.StartupTimeout = s.duration("startup_timeout", 0, ic.Timeout, 24*time.Hour)
	ic.KeyFile = s.path("key_file", "")
	if ic.KeyFile != "" && !d.o.NoKey {
		keys, bad := readKeys(ic.KeyFile, s.where("key_file"))
		switch {
		case bad != nil:
			d.diags = append(d.diags, bad)
		case len(keys) > 1:
			ic.Key, ic.OtherKey = keys[0], keys[1]
		default:
			ic.Key = keys[0]
		}
	}
	d.links(s)
}

func (d *decoder) links(s *section) {
	names := make(map[string]hcl.Range)
	var used [2]map[string]hcl.Range // what a link of each server uses already
	for i := range used {
		used[i] = make(map[string]hcl.Range)
	}
	shared := func(values [2]string, at [2]hcl.Range) {
		for i, v := range values {
			if first, ok := used[i][v]; ok && v != "" {
				d.report(codeShared, at[i], fmt.Sprintf("%s uses %q for two links", d.c.ServerName(failover.Server(i+1)), v),
					fmt.Sprintf("The link at line %d has it already. Two links over one path break together.", first.Start.Line))
			} else if v != "" {
				used[i][v] = at[i]
			}
		}
	}
	for _, b := range s.all("serial") {
		d.checkName("link", b.Labels[0], b.LabelRanges[0])
		d.checkUnique("link", names, b.Labels[0], b.LabelRanges[0])
		l := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("baud", "device!")})
		link := SerialLink{Name: b.Labels[0], Baud: l.integer("baud", 115200, 1, 4000000), Range: b.DefRange}
		d.checkBaud(l, link.Baud)
		var at [2]hcl.Range
		link.Device, at = l.perServer("device")
		shared(link.Device, at)
		d.c.Interconnect.Serial = append(d.c.Interconnect.Serial, link)
	}
	for _, b := range s.all("udp") {
		d.checkName("link", b.Labels[0], b.LabelRanges[0])
		d.checkUnique("link", names, b.Labels[0], b.LabelRanges[0])
		l := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("address!")})
		link := UDPLink{Name: b.Labels[0], Range: b.DefRange}
		var at [2]hcl.Range
		link.Address, at = l.perServer("address")
		d.checkAddresses(link, at)
		shared(link.Address, at)
		d.c.Interconnect.UDP = append(d.c.Interconnect.UDP, link)
	}
	if len(names) == 0 {
		d.report(codeNoLink, s.at, "the interconnect has no link",
			`Add serial "cable" { device = { … } } or udp "lan" { address = { … } }; two on different media are better.`)
	}
}

// speeds are the baud rates that serial ports commonly have.
var speeds = []int{
	9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600,
	1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000,
}

// checkBaud refuses a speed that ports do not have, and one whose line the beats would fill by more than half:
// messages and resynchronisation after noise need the rest.
func (d *decoder) checkBaud(l *section, baud int) {
	if !slices.Contains(speeds, baud) {
		d.report(codeBaud, l.where("baud"), fmt.Sprintf("%d is not a speed of serial ports", baud),
			"Write one that both ports have: 9600, 19200, 38400, 57600, 115200, 230400, 460800 or 921600.")
		return
	}
	interval := d.c.Interconnect.Interval
	share := interconnect.BeatShare(baud, interval)
	if share <= 0.5 {
		return
	}
	least := time.Duration(float64(interval)*share*2).Truncate(time.Millisecond) + time.Millisecond
	advice := fmt.Sprintf("Write an interval of at least %s", short(least))
	for _, b := range speeds {
		if interconnect.BeatShare(b, interval) <= 0.5 {
			advice += fmt.Sprintf(", or at least %d baud", b)
			break
		}
	}
	d.report(codeLineCapacity, l.where("baud"),
		fmt.Sprintf("beats of %d bytes each %s would take %.0f %% of a line of %d baud",
			interconnect.MaxBeatWire, short(interval), share*100, baud), advice+". At most half of the line may be beats.")
}

func (d *decoder) checkAddresses(l UDPLink, at [2]hcl.Range) {
	var ips [2]netip.AddrPort
	for i, a := range l.Address {
		if a == "" {
			continue
		}
		ap, err := netip.ParseAddrPort(a)
		if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
			d.report(codeAddress, at[i], fmt.Sprintf("%q is no address of a link", a),
				"Write the IP address and port of this server on the interconnect's network, such as \"10.36.0.1:7711\". "+
					"A name is not enough: it may not resolve when it matters.")
			continue
		}
		ips[i] = ap
	}
	if ips[0].IsValid() && ips[0] == ips[1] {
		d.report(codeShared, at[1], fmt.Sprintf("both servers have the address %s", l.Address[1]),
			"Write an address of its own for each server.")
	}
}

func (d *decoder) arbitration(b *hcl.Block) {
	d.c.Arbitration = Arbitration{Survivor: failover.First, Delay: 2 * d.c.Interconnect.Interval}
	if b == nil {
		return
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("survivor", "delay")})
	if s.attribute("survivor") != nil {
		d.c.Arbitration.Survivor = d.serverNamed(s, "survivor")
	}
	d.c.Arbitration.Delay = s.duration("delay", 2*d.c.Interconnect.Interval, 0, maxBeat)
}

// serverNamed reads an attribute that names a server.
func (d *decoder) serverNamed(s *section, name string) failover.Server {
	v := s.text(name, "", nil)
	server := d.c.ServerByName(v)
	if v != "" && server == failover.Nobody && len(d.serverNames) == len(d.c.Servers) {
		d.report(codeNotServer, s.where(name), fmt.Sprintf("%s is %q, which is no server of this pair", name, v),
			fmt.Sprintf("The servers are %s.%s", quoted(d.serverNames), meant(v, d.serverNames)))
	}
	return server
}

func (d *decoder) networkCheck(b *hcl.Block) {
	d.c.NetworkCheck.Timeout = time.Second
	if b == nil {
		return
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("targets!", "timeout")})
	d.c.NetworkCheck.Timeout = s.duration("timeout", time.Second, 10*time.Millisecond, maxBeat)
	d.c.NetworkCheck.Targets = s.list("targets", nil)
	for _, t := range d.c.NetworkCheck.Targets {
		if _, err := netcheck.Parse(t); err != nil {
			d.report(codeAddress, s.where("targets"), fmt.Sprintf("%q is no target of a network check", t),
				`Write an IP address, which is asked by ping, "arp:172.25.36.1" for a host of a network of this server, `+
					`which is asked by ARP, or "host:port", to which a TCP connection is made.`)
		}
	}
}

func (d *decoder) plugins(root *section) {
	seen := make(map[string]hcl.Range)
	for _, b := range root.all("plugin") {
		d.checkName("plugin", b.Labels[0], b.LabelRanges[0])
		d.checkUnique("plugin block", seen, b.Labels[0], b.LabelRanges[0])
		s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("version", "sha256", "isolate", "tls")})
		p := Plugin{
			Kind:    b.Labels[0],
			Version: s.text("version", "", nil),
			SHA256:  strings.ToLower(s.text("sha256", "", nil)),
			Isolate: s.boolean("isolate", false),
			TLS:     s.boolean("tls", true),
			Range:   b.DefRange,
		}
		if p.Version != "" {
			if _, err := version.NewConstraint(p.Version); err != nil {
				d.report(codeVersion, s.where("version"), fmt.Sprintf("%q is no version constraint", p.Version),
					`Write one such as ">= 1.2", "~> 1.2.3" or ">= 1.2, < 2.0".`)
			}
		}
		if sum, err := hex.DecodeString(p.SHA256); s.attribute("sha256") != nil && (err != nil || len(sum) != 32) {
			d.report(codeSHA256, s.where("sha256"), "sha256 is not a SHA-256 sum",
				fmt.Sprintf("Write the 64 hexadecimal digits that `sha256sum ors-plugin-%s` prints.", p.Kind))
		}
		d.c.Plugins = append(d.c.Plugins, p)
	}
}
