package domino

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk"
)

const (
	rocky   = "CN=Rocky/OU=Servers/O=Cpqlab"
	apollo  = "CN=Apollo/OU=Servers/O=Cpqlab"
	apollo2 = "CN=Apollo_2/OU=Servers/O=Cpqlab"
)

// paper are the two applications of the paper's Section II: Tables 8 and 9.
func paper() [2]config {
	one := config{
		Program: "/ors/E/notes/server", Release: "4.5", Probe: probeHello, OnFailure: byDomino,
		Partition: []partition{
			{Name: rocky, Data: "/ors/E/notes/data", Address: "172.25.36.45", Port: "TCPIP", Number: 3, User: "rocky"},
		},
	}
	two := one
	two.Program = "/ors/F/notes/server"
	two.Partition = []partition{
		{
			Name: apollo, Data: "/ors/F/notes/data", Address: "172.25.36.46:1352", Port: "TCPIP", Mapper: true, Number: 1,
			User: "apollo",
		},
		{
			Name: apollo2, Data: "/ors/F/notes/data2", Address: "172.25.36.46:13520", Port: "TCPIP", Number: 2, User: "apollo2",
		},
	}
	return [2]config{one, two}
}

// more adds partitions with addresses of their own to an application.
func more(c *config, drive string, n int, numbers ...int) {
	for i := range n {
		number := 0
		if i < len(numbers) {
			number = numbers[i]
		}
		c.Partition = append(c.Partition, partition{
			Number: number,
			Name:   fmt.Sprintf("CN=More%d%s/O=Cpqlab", i, drive), Data: fmt.Sprintf("/ors/%s/more/data%d", drive, i),
			Address: fmt.Sprintf("172.25.37.%d", 10*int(drive[0]-'A')+i), Port: "TCPIP", User: fmt.Sprintf("more%d%s", i, drive),
		})
	}
}

func instances(t *testing.T, pair [2]config) [2]sdk.Instance {
	t.Helper()
	var out [2]sdk.Instance
	for i, c := range pair {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		name, letter := []string{"rocky", "apollo"}[i], []string{"E", "F"}[i]
		out[i] = sdk.Instance{
			Group: name, Name: "domino", Primary: name, Config: b, WorkDir: "/run/ors/apps/" + name + "/domino",
			Drives: []sdk.Drive{{Letter: letter + ":", Configured: letter + ":", Path: "/ors/" + letter}},
		}
	}
	for i := range out {
		out[i].All = []sdk.Instance{out[0], out[1]}
	}
	return out
}

// findings of both applications, with their group in front.
func validate(t *testing.T, pair [2]config) []string {
	t.Helper()
	var all []string
	for _, in := range instances(t, pair) {
		app, err := newApplication(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range app.Validate(context.Background()) {
			if p.Detail == "" {
				t.Errorf("nothing says what would be right: %+v", p)
			}
			kind := "error"
			if p.Severity == sdk.Warning {
				kind = "warning"
			}
			all = append(all, fmt.Sprintf("%s %s %s: %s", in.Group, kind, p.Attribute, p.Summary))
		}
	}
	return all
}

// mistakes are changes of the paper's configuration, and all that is said of each. Only the beginning and some words
// of a finding are compared: "BEGINNING … WORDS".
var mistakes = map[string]struct {
	change func(one, two *config)
	want   []string
}{
	"the paper's": {func(_, _ *config) {}, nil},
	"three each": {func(one, two *config) {
		more(one, "E", 2, 4, 5)
		more(two, "F", 1, 6)
	}, nil},
	"six and more of a later release": {func(one, two *config) {
		one.Release, two.Release = "", "12.0.2"
		more(one, "E", 5)
		more(two, "F", 4)
	}, nil},
	"program": {func(one, _ *config) { one.Program = "server" }, []string{`rocky error program: … "server"`}},
	"release": {func(one, _ *config) { one.Release = "R4" }, []string{`rocky error release: … "R4"`}},
	"probe":   {func(one, _ *config) { one.Probe = "ping" }, []string{`rocky error probe: … "ping"`}},
	"on_failure": {
		func(one, _ *config) { one.OnFailure = "both" }, []string{`rocky error on_failure: … "both"`},
	},
	"abbreviated name": {
		func(one, _ *config) { one.Partition[0].Name = "Rocky/Servers/Cpqlab" },
		[]string{`rocky error partition[0].name: … canonical`},
	},
	"two of one name": {
		func(_, two *config) { two.Partition[1].Name = strings.ToUpper(rocky) },
		[]string{`apollo error partition[1].name: … two partitions named`},
	},
	"relative data": {
		func(one, _ *config) { one.Partition[0].Data = "notes/data" },
		[]string{`rocky error partition[0].data: … not an absolute path`},
	},
	"data on a local disk": {
		func(one, _ *config) { one.Partition[0].Data = "/local/notes/data" },
		[]string{`rocky error partition[0].data: … is on no drive of group "rocky"`},
	},
	"data on the partner's drive": {
		func(one, _ *config) { one.Partition[0].Data = "/ors/F/notes/data3" },
		[]string{`rocky error partition[0].data: … is on no drive of group "rocky"`},
	},
	"data beside the drive": {
		func(one, _ *config) { one.Partition[0].Data = "/ors/E/../notes" },
		[]string{`rocky error partition[0].data: … is on no drive`},
	},
	"one data directory twice": {
		func(_, two *config) { two.Partition[1].Data = "/ors/F/notes/data/" },
		[]string{`apollo error partition[1].data: … have the same data directory`},
	},
	"data within data": {
		func(_, two *config) { two.Partition[1].Data = "/ors/F/notes/data/data2" },
		[]string{`apollo error partition[1].data: … lie one within the other`},
	},
	"no address": {
		func(one, _ *config) { one.Partition[0].Address = "rocky:1352" },
		[]string{`rocky error partition[0].address: … "rocky:1352" is no IP address`},
	},
	"0.0.0.0": {
		func(one, _ *config) { one.Partition[0].Address = "0.0.0.0:1352" },
		[]string{`rocky error partition[0].address: … every address (0.0.0.0)`},
	},
	"::": {
		func(one, _ *config) { one.Partition[0].Address = "[::]:1352" },
		[]string{`rocky error partition[0].address: … every address (::)`},
	},
	"loopback": {
		func(one, _ *config) { one.Partition[0].Address = "127.0.0.1" },
		[]string{`rocky error partition[0].address: … no address that clients`},
	},
	"zone": {
		func(one, _ *config) { one.Partition[0].Address = "[fe80::1%eth0]:1352" },
		[]string{`rocky error partition[0].address: … has a zone`},
	},
	"IPv6": {func(one, _ *config) { one.Partition[0].Address = "[2001:db8::45]:1352" }, nil},
	"port below 13520": {
		func(_, two *config) { two.Partition[1].Address = "172.25.36.46:1353" },
		[]string{`apollo error partition[1].address: … port 1353`},
	},
	"two with one port": {
		func(_, two *config) { two.Partition[1].Address = "172.25.36.46" },
		[]string{`apollo error partition[1].address: … would both listen at 172.25.36.46:1352`},
	},
	"one port on both servers": {
		func(one, _ *config) { one.Partition[0].Address = "172.25.36.46:13520" },
		[]string{
			`rocky error partition[0].address: … shares 172.25.36.46 with its port mapper ` + apollo,
			`apollo error partition[1].address: … ` + rocky + ` of group rocky would both listen`,
		},
	},
	"no mapper": {
		func(_, two *config) { two.Partition[0].Mapper = false },
		[]string{`apollo error partition[1].address: … 2 partitions share 172.25.36.46 and none of them is the port mapper`},
	},
	"two mappers": {
		func(_, two *config) { two.Partition[1].Mapper = true },
		[]string{
			`apollo error partition[1].mapper: … both the port mapper`,
			`apollo error partition[1].address: … listens on 13520, not on 1352`,
		},
	},
	"a mapper on another port": {
		func(_, two *config) {
			two.Partition[0].Address, two.Partition[1].Address = "172.25.36.46:13521", "172.25.36.46:13520"
		},
		[]string{`apollo error partition[0].address: … listens on 13521, not on 1352`},
	},
	"a mapper of nothing": {
		func(one, _ *config) { one.Partition[0].Mapper = true }, []string{`rocky warning partition[0].mapper: … maps no port`},
	},
	"a port that nobody maps": {
		func(one, _ *config) { one.Partition[0].Address = "172.25.36.45:13520" },
		[]string{`rocky warning partition[0].address: … clients do not find`},
	},
	"a mapper with too many": {
		func(one, two *config) {
			one.Release, two.Release = "", ""
			more(two, "F", 5)
			for i := 2; i < 7; i++ {
				two.Partition[i].Address = fmt.Sprintf("172.25.36.46:%d", leastMapped+i)
			}
		},
		[]string{`apollo error partition[0].mapper: … of 6 partitions; it has room for 5`},
	},
	"name of the port": {
		func(one, _ *config) { one.Partition[0].Port = "TCP/IP" }, []string{`rocky error partition[0].port: … "TCP/IP"`},
	},
	"number": {
		func(one, _ *config) { one.Partition[0].Number = 7 }, []string{`rocky error partition[0].number: … 7 is no partition number`},
	},
	"one number on both servers": {
		func(one, _ *config) { one.Partition[0].Number = 1 },
		[]string{`apollo error partition[0].number: … ` + rocky + ` of group rocky are both partition number 1`},
	},
	"no user": {
		func(one, _ *config) { one.Partition[0].User = "" }, []string{`rocky error partition[0].user: … no user is named`},
	},
	"root": {
		func(one, _ *config) { one.Partition[0].User = "root" }, []string{`rocky error partition[0].user: … as root`},
	},
	"one user for two": {
		func(_, two *config) { two.Partition[1].User = "apollo" },
		[]string{`apollo error partition[1].user: … have the same user "apollo"`},
	},
	"http": {
		func(one, _ *config) { one.Partition[0].HTTP = "rocky:80" }, []string{`rocky error partition[0].http: … "rocky:80"`},
	},
	"four on one server": {
		func(one, _ *config) { more(one, "E", 3, 4, 5, 6) },
		[]string{`rocky error partition[3].name: … partition 4 at home on rocky; a server of a pair may have 3`},
	},
	"no number": {
		func(_, two *config) { two.Partition[0].Number = 0 }, []string{`apollo error partition[0].number: … has no partition number`},
	},
	"release 4 at the other server only": {
		func(one, two *config) {
			two.Release = ""
			more(two, "F", 2, 4, 5)
		},
		[]string{`apollo error partition[3].name: … partition 4 at home on apollo`},
	},
	"two releases": {
		func(_, two *config) { two.Release = "4.6" }, []string{`apollo error release: … is of release 4.6, and CN=Rocky`},
	},
	"seven": {
		func(one, two *config) {
			more(one, "E", 2)
			more(two, "F", 2)
		},
		[]string{
			`apollo error partition[3].name: … partition 4 at home on apollo`,
			`apollo error partition[3].name: … partition 7 of the pair; release 4 runs 6 on one host`,
		},
	},
}

func TestValidate(t *testing.T) {
	if !supported {
		t.Skip("the whole plugin refuses this operating system")
	}
	for name, c := range mistakes {
		t.Run(name, func(t *testing.T) {
			pair := paper()
			c.change(&pair[0], &pair[1])
			got := validate(t, pair)
			for _, w := range c.want {
				begin, words, _ := strings.Cut(w, " … ")
				i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, begin) && strings.Contains(g, words) })
				if i < 0 {
					t.Errorf("%q is not among %q", w, got)
					continue
				}
				got = slices.Delete(got, i, i+1)
			}
			if len(got) > 0 {
				t.Errorf("also said: %q", got)
			}
		})
	}
}

// TestAlone: a core that does not tell of the others gets the findings of the application itself.
func TestAlone(t *testing.T) {
	pair := paper()
	pair[1].Partition[0].Mapper = false
	in := instances(t, pair)[1]
	in.All = nil
	app, err := newApplication(in)
	if err != nil {
		t.Fatal(err)
	}
	if f := app.Validate(context.Background()); supported && (len(f) != 1 || !strings.Contains(f[0].Summary, "port mapper")) {
		t.Errorf("found %+v", f)
	}
}

// TestCommandLines: the paper's nserver.bat and nclient.bat (Tables 6 and 9), and today's forms.
func TestCommandLines(t *testing.T) {
	app := func(program, data string, number int) (*application, server) {
		s := server{partition: partition{Name: rocky, Data: data, Number: number}}
		return &application{config: config{Program: program}, servers: []server{s}}, s
	}
	a, s := app(`e:\notes\nserver.exe`, `e:\notes\data`, 3)
	w := a.launch("windows", s)
	if want := []string{`e:\notes\nserver.exe`, `=e:\notes\data\notes.ini`}; !slices.Equal(w.argv, want) ||
		w.dir != `e:\notes\data` || len(w.env) != 1 || w.env["NotesServerPartition"] != "3" {
		t.Errorf("on Windows: %+v", w)
	}
	if q := a.quit("windows", s); q.argv[len(q.argv)-1] != "-q" || len(q.argv) != 3 {
		t.Errorf("its end on Windows: %+v", q)
	}
	a, s = app("/opt/hcl/domino/bin/server", "/ors/E/notes/data", 0)
	l := a.launch("linux", s)
	if !slices.Equal(l.argv, []string{"/opt/hcl/domino/bin/server"}) || l.dir != "/ors/E/notes/data" || len(l.env) != 0 {
		t.Errorf("on Linux: %+v", l)
	}
	if q := a.quit("linux", s); !slices.Equal(q.argv, []string{"/opt/hcl/domino/bin/server", "-q"}) || q.dir != l.dir {
		t.Errorf("its end on Linux: %+v", q)
	}
	env := environment(l, nil)
	if runtime.GOOS != "windows" && !slices.Contains(env, "PATH=/opt/hcl/domino/bin:"+defaultPath) {
		t.Errorf("environment %q", env)
	}
	if one, two := slug(apollo), slug(apollo2); one == two || one != slug(strings.ToLower(apollo)) ||
		!strings.HasPrefix(two, "apollo_2-") || strings.ContainsAny(slug("CN=../../x y/O=z"), "./ ") {
		t.Errorf("names of files: %q, %q", one, two)
	}
}

// TestLogFile: the console is where `orscore logs` looks for it, each server's in a file of its own beside it.
func TestLogFile(t *testing.T) {
	one, two := server{partition: partition{Name: apollo}}, server{partition: partition{Name: apollo2}}
	for _, c := range []struct {
		core    string
		servers []server
		want    string
	}{
		{"/var/log/ors/apollo/notes.log", []server{two}, "/var/log/ors/apollo/notes.log"},
		{"/var/log/ors/apollo/notes.log", []server{one, two}, "/var/log/ors/apollo/notes." + slug(apollo2) + ".log"},
		{"/var/log/ors/v1.5/notes", []server{one, two}, "/var/log/ors/v1.5/notes." + slug(apollo2)},
		{"", []server{two}, "/run/ors/apps/apollo/notes/output.log"}, // from a core that does not tell
		{"", []server{one, two}, "/run/ors/apps/apollo/notes/output." + slug(apollo2) + ".log"},
	} {
		a := &application{in: sdk.Instance{WorkDir: "/run/ors/apps/apollo/notes", LogFile: c.core}, servers: c.servers}
		if got := filepath.ToSlash(a.logFile(two)); got != c.want {
			t.Errorf("with %q and %d servers: %s, want %s", c.core, len(c.servers), got, c.want)
		}
	}
}

// TestSchemaFitsConfig decodes a body with every block in it, so that schema and struct do not come apart.
func TestSchemaFitsConfig(t *testing.T) {
	b, err := json.Marshal(object(schema))
	if err != nil {
		t.Fatal(err)
	}
	app, err := newApplication(sdk.Instance{Config: b})
	if err != nil {
		t.Fatal(err)
	}
	c := app.(*application).config
	if c.Probe != probeHello || c.OnFailure != byDomino || len(c.Partition) != 1 || c.Partition[0].Port != "TCPIP" ||
		c.Partition[0].Name != "label" {
		t.Errorf("defaults became %+v", c)
	}
}

func object(s sdk.Schema) map[string]any {
	out := map[string]any{}
	for _, a := range s.Attributes {
		var v any
		if a.Default != "" {
			if err := json.Unmarshal([]byte(a.Default), &v); err != nil {
				panic(a.Name + ": " + err.Error())
			}
		}
		out[a.Name] = v
	}
	for _, b := range s.Blocks {
		one := object(b.Body)
		for _, l := range b.Labels {
			one[l] = "label"
		}
		out[b.Name] = []any{one}
	}
	return out
}

// TestDocsNameEveryAttribute keeps docs/domino.md complete.
func TestDocsNameEveryAttribute(t *testing.T) {
	b, err := os.ReadFile("../../../../docs/domino.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func(s sdk.Schema)
	look = func(s sdk.Schema) {
		for _, a := range s.Attributes {
			if a.Description == "" || !strings.Contains(string(b), "`"+a.Name+"`") {
				t.Errorf("%s is not described", a.Name)
			}
		}
		for _, inner := range s.Blocks {
			look(inner.Body)
		}
	}
	look(schema)
}
