package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/orscore/ors/core/failover"
)

// maxUnits is how many storage units a pair may have: a beat names a unit in one byte (interconnect.Beat).
const maxUnits = 255

func (d *decoder) groups(root *section) {
	names, units := make(map[string]hcl.Range), make(map[string]hcl.Range)
	for _, b := range root.all("group") {
		d.checkName("group", b.Labels[0], b.LabelRanges[0])
		d.checkUnique("group", names, b.Labels[0], b.LabelRanges[0])
		s := d.open(b.Body, b.DefRange, &hcl.BodySchema{
			Attributes: attributes("primary!", "restart_limit", "restart_reset", "failback", "failback_delay", "flap_limit",
				"flap_window"),
			Blocks: []hcl.BlockHeaderSchema{
				{Type: "storage", LabelNames: []string{"name"}},
				{Type: "application", LabelNames: []string{"kind", "name"}},
			},
		})
		g := Group{
			Name:         b.Labels[0],
			Primary:      d.serverNamed(s, "primary"),
			RestartLimit: s.integer("restart_limit", 2, 0, 100),
			RestartReset: s.duration("restart_reset", 10*time.Minute, time.Second, 30*24*time.Hour),
			Range:        b.DefRange,
		}
		g.Failback = s.choice(codeFailback, "failback", "manual", []string{"manual", "automatic"}, "") == "automatic"
		g.FailbackDelay = s.duration("failback_delay", 10*time.Minute, time.Second, 30*24*time.Hour)
		g.FlapLimit = s.integer("flap_limit", 3, 1, failover.MaxFlaps)
		g.FlapWindow = s.duration("flap_window", time.Hour, time.Second, 30*24*time.Hour)
		if _, given := s.value("failback_delay", cty.String, nil); given && !g.Failback {
			d.report(codeFailback, s.where("failback_delay"), "failback_delay without failback = \"automatic\"",
				"An operator brings this group home, so there is nothing to delay. Leave it out, or add failback = \"automatic\".")
		}
		for _, u := range s.all("storage") {
			d.checkUnique("storage unit", units, u.Labels[0], u.LabelRanges[0])
			g.Storage = append(g.Storage, d.storage(u))
		}
		if len(g.Storage) == 0 {
			d.report(codeNoStorage, b.DefRange, fmt.Sprintf("group %q has no storage unit", g.Name),
				"When both servers live and cannot talk, the switch of a storage unit decides which of them runs the group;\n"+
					`without one nothing does, and both would. Add storage "NAME" { switch … drive … }.`)
		}
		d.applications(s, &g)
		d.c.Groups = append(d.c.Groups, g)
	}
}

func (d *decoder) storage(b *hcl.Block) StorageUnit {
	d.checkName("storage unit", b.Labels[0], b.LabelRanges[0])
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "switch", LabelNames: []string{"driver"}},
		{Type: "drive", LabelNames: []string{"letter"}},
	}})
	u := StorageUnit{Name: b.Labels[0], Range: b.DefRange}
	if sw := s.only("switch", true); sw != nil {
		u.Switch = d.storageSwitch(sw, u.Name)
	}
	for _, dr := range s.all("drive") {
		u.Drives = append(u.Drives, d.drive(dr, u.Switch.Driver))
	}
	return u
}

func (d *decoder) storageSwitch(b *hcl.Block, unit string) Switch {
	sw := Switch{Driver: b.Labels[0], Range: b.DefRange}
	switch sw.Driver {
	case "rsw":
		s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("endpoint!", "unit", "timeout")})
		sw.RSW = &RSWSwitch{
			Endpoint: s.text("endpoint", "", s.pathContext()),
			Unit:     s.text("unit", unit, nil),
			Timeout:  s.duration("timeout", 2*time.Second, 10*time.Millisecond, maxBeat),
		}
		if sw.RSW.Endpoint != "" {
			if err := checkEndpoint(sw.RSW.Endpoint); err != nil {
				d.report(codeEndpoint, s.where("endpoint"), fmt.Sprintf("%q is no endpoint of a switch: %v", sw.RSW.Endpoint, err),
					`Write "unix:/run/enclosure.sock", "tcp:HOST:PORT" or "serial:/dev/ttyS1?baud=19200".`)
			}
		}
	case "directory":
		s := d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("path!")})
		sw.Directory = &DirectorySwitch{Path: s.path("path", "")}
		if !d.c.Pair.UnsafeDemo {
			d.report(codeUnsafe, b.DefRange, "a directory switch protects nothing",
				"It is for trying things out: both servers could write at the same time. If that is what you want, say so with\n"+
					"unsafe_demo = true in the pair block; otherwise use the driver \"rsw\".")
		}
	default:
		drivers := []string{"rsw", "directory"}
		d.report(codeSwitchDriver, b.LabelRanges[0], fmt.Sprintf("there is no switch driver %q", sw.Driver),
			fmt.Sprintf("The drivers are %s.%s", quoted(drivers), meant(sw.Driver, drivers)))
	}
	return sw
}

// checkEndpoint looks at the form of an endpoint of a Recovery Server Switch.
func checkEndpoint(endpoint string) error {
	scheme, rest, _ := strings.Cut(endpoint, ":")
	switch scheme {
	case "unix":
		if !filepath.IsAbs(rest) {
			return fmt.Errorf("the path of the socket is not absolute")
		}
		return nil
	case "tcp":
		host, port, err := net.SplitHostPort(rest)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
			return fmt.Errorf("a host and a port are needed")
		}
		return nil
	case "serial":
		device, query, _ := strings.Cut(rest, "?")
		if device == "" {
			return fmt.Errorf("a device is needed")
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return fmt.Errorf("after the question mark: %w", err)
		}
		for k := range values {
			if k != "baud" {
				return fmt.Errorf("it has no setting %q, only baud", k)
			}
		}
		if baud := values.Get("baud"); values.Has("baud") {
			if n, err := strconv.Atoi(baud); err != nil || !slices.Contains(speeds, n) {
				return fmt.Errorf("%q is not a speed of serial ports", baud)
			}
		}
		return nil
	}
	return fmt.Errorf("it begins with none of unix:, tcp: and serial:")
}

var letterForm = regexp.MustCompile(`^[C-Z]:$`)

func (d *decoder) drive(b *hcl.Block, driver string) Drive {
	letter := b.Labels[0]
	if !letterForm.MatchString(letter) {
		advice := `Write a capital letter from C to Z with a colon, such as "E:".`
		if strings.HasPrefix(strings.ToUpper(letter), "A") || strings.HasPrefix(strings.ToUpper(letter), "B") {
			advice += " A: and B: are for floppy disks."
		}
		upper := strings.ToUpper(strings.TrimRight(letter, ":/\\")) + ":"
		if upper != letter && letterForm.MatchString(upper) {
			advice += fmt.Sprintf(" Did you mean %q?", upper)
		}
		d.report(codeLetter, b.LabelRanges[0], fmt.Sprintf("%q is no drive letter", letter), advice)
	}
	s := d.open(b.Body, b.DefRange, &hcl.BodySchema{
		Attributes: attributes("volume", "filesystem", "options", "fsck", "mount_timeout"),
	})
	filesystem := "ext4"
	if driver == "directory" {
		filesystem = "directory"
	}
	dr := Drive{
		Letter:       letter,
		Volume:       s.text("volume", "", s.pathContext()),
		Filesystem:   s.text("filesystem", filesystem, nil),
		Options:      s.list("options", nil),
		Fsck:         s.choice(codeDrive, "fsck", "auto", []string{"auto", "always", "never"}, ""),
		MountTimeout: s.duration("mount_timeout", 30*time.Second, 100*time.Millisecond, time.Hour),
		Range:        b.DefRange,
	}
	d.checkVolume(s, dr, driver)
	return dr
}

var (
	volumeForm     = regexp.MustCompile(`^(LABEL|UUID|PARTLABEL|PARTUUID)=.+$`)
	filesystemForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
)

func (d *decoder) checkVolume(s *section, dr Drive, driver string) {
	switch {
	case driver == "directory" && dr.Filesystem != "directory":
		d.report(codeDrive, s.where("filesystem"), fmt.Sprintf("a directory switch has no %s volume", dr.Filesystem),
			`Leave filesystem out: the folder of the switch is the volume.`)
	case driver == "directory" && dr.Volume != "":
		d.report(codeDrive, s.where("volume"), "a directory switch has its volume in its own folder", "Leave volume out.")
	case driver == "directory" || driver == "":
	case dr.Filesystem == "directory":
		d.report(codeDrive, s.where("filesystem"), `filesystem "directory" belongs to a directory switch`,
			`Write the filesystem of the volume, such as "ext4" or "xfs".`)
	case !filesystemForm.MatchString(dr.Filesystem):
		d.report(codeDrive, s.where("filesystem"), fmt.Sprintf("%q is no filesystem", dr.Filesystem),
			`Write the filesystem of the volume, such as "ext4" or "xfs".`)
	case s.attribute("volume") == nil:
		d.report(codeMissing, s.at, fmt.Sprintf("drive %q has no volume", dr.Letter),
			`Write volume = "LABEL=…", "UUID=…" or the device's path below /dev/disk/by-id.`)
	case dr.Volume != "" && !volumeForm.MatchString(dr.Volume) && !filepath.IsAbs(dr.Volume):
		d.report(codeDrive, s.where("volume"), fmt.Sprintf("%q is no volume", dr.Volume),
			`Write "LABEL=…", "UUID=…" or the device's absolute path.`)
	}
}

func (d *decoder) applications(s *section, g *Group) {
	names := make(map[string]hcl.Range)
	var after []hcl.Range
	for _, b := range s.all("application") {
		d.checkName("plugin", b.Labels[0], b.LabelRanges[0])
		d.checkName("application", b.Labels[1], b.LabelRanges[1])
		d.checkUnique("application of this group", names, b.Labels[1], b.LabelRanges[1])
		a := d.open(b.Body, b.DefRange, &hcl.BodySchema{
			Attributes: attributes("after", "start_timeout", "stop_timeout"),
			Blocks:     []hcl.BlockHeaderSchema{{Type: "probe"}, {Type: "config"}},
		})
		app := Application{
			Kind: b.Labels[0], Name: b.Labels[1],
			After:        a.list("after", nil),
			StartTimeout: a.duration("start_timeout", time.Minute, 100*time.Millisecond, 24*time.Hour),
			StopTimeout:  a.duration("stop_timeout", time.Minute, 100*time.Millisecond, 24*time.Hour),
			Body:         hcl.EmptyBody(),
			Range:        b.DefRange,
		}
		app.Probe = d.probe(a.only("probe", false))
		if config := a.only("config", false); config != nil {
			app.Body = config.Body
		}
		after = append(after, a.where("after"))
		g.Applications = append(g.Applications, app)
	}
	if len(names) == len(g.Applications) { // otherwise it is not clear which one is meant
		d.checkOrder(g, after)
	}
}

// probe reads how an application is looked after. An answer that may take longer than the pause between two questions
// would let a sick application run for longer than interval and fall say.
func (d *decoder) probe(b *hcl.Block) Probe {
	var s *section
	if b != nil {
		s = d.open(b.Body, b.DefRange, &hcl.BodySchema{Attributes: attributes("interval", "timeout", "fall")})
	}
	p := Probe{
		Interval: s.duration("interval", 5*time.Second, 100*time.Millisecond, time.Hour),
		Fall:     s.integer("fall", 3, 1, 100),
	}
	p.Timeout = s.duration("timeout", min(5*time.Second, p.Interval), 10*time.Millisecond, time.Hour)
	if p.Timeout > p.Interval {
		d.report(codeProbeTimeout, s.where("timeout"),
			fmt.Sprintf("a probe may take %s and is made every %s", short(p.Timeout), short(p.Interval)),
			fmt.Sprintf("Write a timeout of at most %s, or a longer interval.", short(p.Interval)))
	}
	return p
}

// checkOrder proves that the applications of a group can be started one after the other.
func (d *decoder) checkOrder(g *Group, at []hcl.Range) {
	index := make(map[string]int)
	var names []string
	for i, a := range g.Applications {
		index[a.Name] = i
		names = append(names, a.Name)
	}
	for i, a := range g.Applications {
		for _, n := range a.After {
			if _, ok := index[n]; !ok {
				d.report(codeAfterUnknown, at[i],
					fmt.Sprintf("application %q waits for %q, which group %q does not have", a.Name, n, g.Name),
					fmt.Sprintf("Its applications are %s.%s", quoted(names), meant(n, names)))
			}
		}
	}
	const visiting, done = 1, 2
	state := make([]int, len(g.Applications))
	var trail []string
	var visit func(i int)
	visit = func(i int) {
		state[i] = visiting
		trail = append(trail, g.Applications[i].Name)
		for _, n := range g.Applications[i].After {
			j, ok := index[n]
			switch {
			case !ok || state[j] == done:
			case state[j] == visiting:
				ring := append(slices.Clone(trail[slices.Index(trail, n):]), n)
				d.report(codeAfterCycle, at[i], fmt.Sprintf("applications wait for each other: %s", strings.Join(ring, " after ")),
					"None of them could ever start. Take one name out of an `after` list.")
			default:
				visit(j)
			}
		}
		trail = trail[:len(trail)-1]
		state[i] = done
	}
	for i := range g.Applications {
		if state[i] == 0 {
			visit(i)
		}
	}
}

// checkUnits looks at all storage units together: letters and switches must be different on the whole pair, because
// one day all of them are on one server.
func (d *decoder) checkUnits() {
	letters, switches, volumes := make(map[string]hcl.Range), make(map[string]hcl.Range), make(map[string]hcl.Range)
	units := d.c.Units()
	if len(units) > maxUnits {
		d.report(codeTooMany, units[maxUnits].Storage.Range, fmt.Sprintf("the pair has %d storage units", len(units)),
			fmt.Sprintf("At most %d are possible; several drives may be on one unit.", maxUnits))
	}
	for _, u := range units {
		what := ""
		switch sw := u.Storage.Switch; {
		case sw.RSW != nil && sw.RSW.Endpoint != "":
			what = sw.RSW.Endpoint + " unit " + sw.RSW.Unit
		case sw.Directory != nil && sw.Directory.Path != "":
			what = filepath.Join(sw.Directory.Path, u.Storage.Name) // a unit is a folder below the path
		}
		if first, ok := switches[what]; ok && what != "" {
			d.report(codeShared, u.Storage.Switch.Range, fmt.Sprintf("two storage units are the same: %s", what),
				fmt.Sprintf("The switch at line %d has it already. Each storage unit has a switch, or a unit at one, of its own.",
					first.Start.Line))
		}
		switches[what] = u.Storage.Switch.Range
		d.checkSwitchPort(u.Storage.Switch)
		for _, dr := range u.Storage.Drives {
			if first, ok := letters[dr.Letter]; ok {
				d.report(codeLetterOverlap, dr.Range, fmt.Sprintf("drive letter %s is used twice", dr.Letter),
					fmt.Sprintf("The drive at line %d has it. Ensure that the two servers do not use the same drive letters:\n"+
						"after a switchover one server has the drives of both, and one of two equal letters would have to change.%s",
						first.Start.Line, d.freeLetter()))
			} else {
				letters[dr.Letter] = dr.Range
			}
			if first, ok := volumes[dr.Volume]; ok && dr.Volume != "" {
				d.report(codeShared, dr.Range, fmt.Sprintf("volume %q belongs to two drives", dr.Volume),
					fmt.Sprintf("The drive at line %d has it already. Give each drive its own volume.", first.Start.Line))
			} else {
				volumes[dr.Volume] = dr.Range
			}
		}
	}
}

// checkSwitchPort refuses a switch on the serial port that a link of this server uses.
func (d *decoder) checkSwitchPort(sw Switch) {
	if sw.RSW == nil || d.c.Self == failover.Nobody {
		return
	}
	device, isSerial := strings.CutPrefix(sw.RSW.Endpoint, "serial:")
	device, _, _ = strings.Cut(device, "?")
	for _, l := range d.c.Interconnect.Serial {
		if isSerial && l.Device[d.c.Self-1] == device {
			d.report(codeShared, sw.Range, fmt.Sprintf("the switch and the link %q are both on %s", l.Name, device),
				"A serial port has one user. Connect the switch to another port.")
		}
	}
}

// freeLetter proposes a letter that no drive of the pair has.
func (d *decoder) freeLetter() string {
	taken := make(map[string]bool)
	for _, u := range d.c.Units() {
		for _, dr := range u.Storage.Drives {
			taken[dr.Letter] = true
		}
	}
	for l := 'E'; l <= 'Z'; l++ {
		if letter := string(l) + ":"; !taken[letter] {
			return fmt.Sprintf(" %q is free.", letter)
		}
	}
	return ""
}

// DriveFolder is the root of a drive's volume while it is mounted on this server.
func (c *Config) DriveFolder(letter string) string {
	if runtime.GOOS == "windows" {
		return letter + `\`
	}
	return filepath.Join(c.Agent.DriveRoot, strings.TrimSuffix(letter, ":"))
}
