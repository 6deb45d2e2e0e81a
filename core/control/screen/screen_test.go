package screen_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 23, 17, 37, 5, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// normal is the paper's lab, all well.
func normal() control.Status {
	return control.Status{
		Pair: "cpqlab", Self: "rocky", At: now, Version: "1.0.0", Normal: true,
		Sentence: "Normal State: Serial interconnect heartbeat is being received.",
		Verdict:  "alive", VerdictWhy: "Beats are heard on every link.", Agreed: true,
		Servers: []control.Server{
			{Name: "rocky", Self: true, State: "alive", Version: "1.0.0", Incarnation: 12, Since: ago(76 * time.Hour)},
			{Name: "apollo", State: "alive", Version: "1.0.0", Incarnation: 3, Since: ago(50 * time.Minute)},
		},
		Links: []control.Link{
			{Name: "cable", Kind: "serial", Device: "/dev/ttyS0", State: "ok", LastBeatMS: 112, RoundTripUS: 6130,
				Received: 1368000, Sent: 1368010},
			{Name: "lan", Kind: "udp", Device: "10.36.0.1:7711", State: "ok", LastBeatMS: 98, RoundTripUS: 310,
				Received: 1368002, Sent: 1368009, RefusedOther: 2},
		},
		Groups: []control.Group{{
			Name: "rocky", Primary: "rocky", Owner: "rocky", Phase: "Active", PartnerPhase: "Standby",
			Why: "All applications run.", Since: ago(75 * time.Hour),
			Units: []control.Unit{{Name: "storage2", Driver: "rsw", Owner: "rocky", Epoch: 7, Held: 7, Position: 1, LED: "green"}},
			Drives: []control.Drive{{Configured: "E:", Letter: "E:", Path: "/ors/E", Volume: "LABEL=rocky_e", Filesystem: "ext4",
				Server: "rocky"}},
			Applications: []control.Application{
				{Name: "address", Kind: "ipset", Server: "rocky", State: "running", Health: "ok", Detail: "172.25.36.45/24"},
				{Name: "db", Kind: "generic", Server: "rocky", State: "running", Health: "ok"},
			},
		}, {
			Name: "apollo", Primary: "apollo", Owner: "apollo", Phase: "Standby", PartnerPhase: "Active",
			Since: ago(50 * time.Minute),
			Units: []control.Unit{{Name: "storage3", Driver: "rsw", Owner: "apollo", Epoch: 4, Position: 1, LED: "green"}},
			Drives: []control.Drive{{Configured: "F:", Letter: "F:", Path: "/ors/F", Volume: "LABEL=apollo_f", Filesystem: "ext4",
				Server: "apollo"}},
			Applications: []control.Application{
				{Name: "address", Kind: "ipset", Server: "apollo", State: "running", Health: "ok", Detail: "172.25.36.46/24"},
				{Name: "web", Kind: "generic", Server: "apollo", State: "running", Health: "ok"},
			},
		}},
		Plugins: []control.Plugin{{Kind: "generic", State: "running"}, {Kind: "ipset", State: "running"}},
	}
}

// takeover: rocky has died, apollo is bringing its group up.
func takeover() control.Status {
	st := normal()
	st.Self, st.Normal, st.Agreed, st.Verdict = "apollo", false, false, "lost"
	st.Sentence = "No beats on any link for 2 s, and this server's own network check answers: the partner is lost."
	st.VerdictWhy = st.Sentence
	st.Alarms = []control.Alarm{{Code: "ORS-1040", Text: "The partner is lost.", Since: ago(3 * time.Second),
		Next: "power it on or mend it; then `orscore failback`"}}
	st.Servers[0].Self, st.Servers[0].State = false, "lost"
	st.Servers[1].Self = true
	for i := range st.Links {
		st.Links[i].State, st.Links[i].LastBeatMS = "silent", 5100
		st.Links[i].Reason = "no beat for 5.1 s"
	}
	st.Programs = []control.Program{{Name: "launch rcvrnts", By: "uid 0 (root)", Groups: []string{"rocky"}},
		{Name: "cache", By: "uid 100 (www)"}}
	g := &st.Groups[0]
	g.Owner, g.Phase, g.PartnerPhase = "apollo", "Starting", "unknown"
	g.Why, g.Since = "The drives are mounted: the applications are started.", ago(time.Second)
	g.Units[0] = control.Unit{Name: "storage2", Driver: "rsw", Owner: "apollo", Epoch: 8, Held: 8, Position: 3, LED: "amber"}
	g.Drives[0].Server, g.Drives[0].Letter, g.Drives[0].Path = "apollo", "G:", "/ors/G"
	g.Applications[0].Server = "apollo"
	g.Applications[1].Server, g.Applications[1].State, g.Applications[1].Health = "apollo", "starting", ""
	g.Applications[1].Detail = "waiting for its port"
	st.Groups[1].Phase, st.Groups[1].PartnerPhase = "Active", "unknown"
	return st
}

// blocked: rocky's volume cannot be mounted on apollo, and its switch does not answer for the other unit.
func blocked() control.Status {
	st := takeover()
	st.Groups[0], st.Groups[1] = st.Groups[1], st.Groups[0]
	g := &st.Groups[1]
	g.Phase = "Detaching"
	g.Blocked = "drive E: cannot be mounted: wrong fs type, bad option, bad superblock on /dev/loop3"
	g.Next = "it is tried here again in 25s; `orscore clear rocky` tries at once; `fsck -n /dev/loop3` shows more"
	g.Drives[0] = control.Drive{Configured: "E:", Volume: "LABEL=rocky_e", Filesystem: "ext4"}
	g.Applications[0] = control.Application{Name: "address", Kind: "ipset", State: "stopped"}
	g.Applications[1] = control.Application{Name: "db", Kind: "generic", State: "stopped"}
	st.Groups[0].Units[0] = control.Unit{Name: "storage3", Driver: "rsw", Owner: "unknown", Held: 4,
		Error: "ORS-4002: the switch at unix:/run/enclosure.sock gave no answer in 1s"}
	st.Groups[0].Owner, st.Groups[0].Phase = "unknown", "Active"
	st.Alarms = append(st.Alarms, control.Alarm{
		Code: "ORS-1042", Group: "rocky", Text: "The group is blocked: " + g.Blocked, Next: g.Next, Since: ago(5 * time.Second),
	})
	st.Plugins = append(st.Plugins, control.Plugin{
		Kind: "domino", State: "missing", Detail: "no /usr/lib/ors/plugins/ors-plugin-domino",
	})
	return st
}

// noPartner: a fresh agent waits for the other for ever.
func noPartner() control.Status {
	st := normal()
	st.Normal, st.Agreed, st.Verdict = false, false, "unknown"
	st.Sentence = "The partner has not been heard since this agent started: waiting for it."
	st.VerdictWhy = st.Sentence
	st.Servers[0].Incarnation, st.Servers[0].Since = 1, ago(8*time.Second)
	st.Servers[1] = control.Server{Name: "apollo", State: "unknown"}
	for i := range st.Links {
		st.Links[i] = control.Link{Name: st.Links[i].Name, Kind: st.Links[i].Kind, Device: st.Links[i].Device,
			State: "silent", LastBeatMS: -1, Sent: 40}
	}
	st.Links[0].State, st.Links[0].Reason = "closed", "open /dev/ttyS0: no such file or directory"
	for i := range st.Groups {
		g := &st.Groups[i]
		*g = control.Group{Name: g.Name, Primary: g.Primary, Owner: "nobody", Phase: "Standby", PartnerPhase: "unknown",
			Since: ago(8 * time.Second), Next: "waiting for the partner; without a startup_timeout for ever",
			Units:  []control.Unit{{Name: g.Units[0].Name, Driver: "rsw", Owner: "nobody", Epoch: 2, LED: "off"}},
			Drives: []control.Drive{{Configured: g.Drives[0].Configured}},
			Applications: []control.Application{
				{Name: "address", Kind: "ipset", State: "stopped"}, {Name: "db", Kind: "generic", State: "unknown"},
			},
		}
	}
	return st
}

// longNames: names and texts that are longer than any screen, and hostile ones.
func longNames() control.Status {
	st := normal()
	long := strings.Repeat("extraordinarily-long-", 6) + "name"
	st.Pair, st.Self = long, long
	st.Programs = []control.Program{{Name: long + "\x1b[31m", By: long, Groups: []string{long, long}}}
	st.Servers[0].Name = long
	st.Links[0].Name, st.Links[0].Device = long, "/dev/serial/by-id/"+long
	st.Links[0].State, st.Links[0].Reason = "closed", long
	g := &st.Groups[0]
	g.Name, g.Owner, g.Primary = long, long, long
	g.Units[0].Name, g.Units[0].Owner = long, long
	g.Drives[0].Volume, g.Drives[0].Path = "/dev/disk/by-id/"+long, "/ors/"+long
	g.Applications[0].Name = long
	g.Applications[1].Detail = "bell \a, colour \x1b[31mred\x1b[0m, line\nfeed, invalid \xff, naïve, 服务器"
	g.Applications[1].State = "failed"
	g.Blocked = "because " + long + " is " + long
	st.Normal = false
	return st
}

func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		name string
		st   control.Status
	}{
		{"normal", normal()}, {"takeover", takeover()}, {"blocked", blocked()}, {"no-partner", noPartner()},
		{"long-names", longNames()}, {"empty", control.Status{}},
	} {
		for _, form := range []struct {
			name string
			o    screen.Options
		}{
			{"colour", screen.Options{Width: 80, Colour: true, Unicode: true}},
			{"plain", screen.Options{Width: 80, Unicode: true}},
			{"ascii", screen.Options{Width: 80}},
			{"terminal", screen.Options{Width: 80, Height: 23, Unicode: true}},
			{"narrow", screen.Options{Width: 40, Unicode: true}},
		} {
			t.Run(tc.name+"/"+form.name, func(t *testing.T) {
				lines := screen.Render(tc.st, form.o)
				got := strings.ReplaceAll(strings.Join(lines, "\n"), "\x1b", "^[") + "\n"
				if !form.o.Colour {
					checkLines(t, lines, form.o)
				}
				golden(t, tc.name+"."+form.name+".golden", got)
			})
		}
	}
}

func checkLines(t *testing.T, lines []string, o screen.Options) {
	t.Helper()
	if o.Height > 0 && len(lines) > o.Height {
		t.Errorf("%d lines, wanted at most %d", len(lines), o.Height)
	}
	for i, l := range lines {
		if n := utf8.RuneCountInString(l); n > o.Width {
			t.Errorf("line %d has %d columns: %q", i+1, n, l)
		}
		for _, r := range l {
			if r < ' ' || !o.Unicode && r > '~' {
				t.Errorf("line %d has %q: %q", i+1, r, l)
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}

// TestFitsTerminal: the paper's lab in its normal state fits 80 x 24, with a line left for the cursor.
func TestFitsTerminal(t *testing.T) {
	if n := len(screen.Render(normal(), screen.Options{Width: 80, Unicode: true})); n > 23 {
		t.Errorf("the normal screen has %d lines, wanted at most 23", n)
	}
}

func TestFold(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int
		want string
	}{
		{"", 10, ""},
		{"one two three", 7, "one two|three"},
		{"abcdefghij kl", 4, "abcd|efgh|ij|kl"},
		{"a\x1bb", 10, "a?b"},
	} {
		if got := strings.Join(screen.Fold(tc.text, tc.n), "|"); got != tc.want {
			t.Errorf("Fold(%q, %d) = %q, want %q", tc.text, tc.n, got, tc.want)
		}
	}
}
