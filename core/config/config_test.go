package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/orscore/ors/core/failover"
)

var update = flag.Bool("update", false, "write the golden files anew")

// good returns the complete sample with a key file of its own, and the folder of that.
func good(t testing.TB) (src, dir string) {
	t.Helper()
	raw, err := os.ReadFile("testdata/good.hcl")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "KEYFILE", filepath.ToSlash(key)), dir
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

func text(c *Config, d hcl.Diagnostics) string {
	var b strings.Builder
	c.WriteDiagnostics(&b, d, false)
	return b.String()
}

func TestGood(t *testing.T) {
	src, dir := good(t)
	c, diags := Parse("good.hcl", []byte(src), Options{Server: "rocky"})
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	ignored := []cmp.Option{
		cmpopts.IgnoreTypes(hcl.Range{}), cmpopts.IgnoreFields(Application{}, "Body"), cmpopts.IgnoreUnexported(Config{}),
		cmpopts.IgnoreFields(Note{}, "Detail"),
	}
	if diff := cmp.Diff(wantGood(src, dir), c, ignored...); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := c.Kinds(); !cmp.Equal(got, []string{"ipset", "generic"}) {
		t.Errorf("kinds %v", got)
	}
	if got := len(c.Units()); got != 2 {
		t.Errorf("%d units", got)
	}
}

// wantGood is what is in the good file.
func wantGood(src, dir string) *Config {
	key, _ := hex.DecodeString(strings.Repeat("0123456789abcdef", 4))
	return &Config{
		Path:    "good.hcl",
		Digest:  sha256.Sum256(hclwrite.Format([]byte(src))),
		Pair:    Pair{Name: "cpqlab", Mode: "online", OnShutdown: "switchover", UnsafeDemo: true},
		Servers: [2]Server{{Name: "rocky"}, {Name: "apollo"}},
		Self:    failover.First,
		Agent: Agent{StateDir: "/srv/rocky/state", RunDir: "/run/ors", LogDir: "/var/log/ors",
			PluginDir: "/usr/lib/ors/plugins", DriveRoot: "/ors"},
		Interconnect: Interconnect{
			Interval: 100 * time.Millisecond, Timeout: time.Second, StartupTimeout: 90 * time.Second,
			KeyFile: filepath.ToSlash(filepath.Join(dir, "key")), Key: key,
			Serial: []SerialLink{{Name: "cable", Baud: 57600, Device: [2]string{"/dev/ttyS0", "/dev/ttyS1"}}},
			UDP:    []UDPLink{{Name: "lan", Address: [2]string{"10.36.0.1:7711", "10.36.0.2:7711"}}},
		},
		Arbitration: Arbitration{Survivor: failover.Second},
		NetworkCheck: NetworkCheck{Targets: []string{"172.25.36.1", "gateway.example:443"},
			Timeout: 500 * time.Millisecond},
		Plugins: []Plugin{{Kind: "generic", Version: ">= 1.2, < 2", Isolate: true, TLS: true,
			SHA256: strings.Repeat("00112233445566778899aabbccddeeff", 2)}},
		Groups: []Group{
			{
				Name: "rocky", Primary: failover.First, RestartLimit: 5, RestartReset: time.Hour,
				FailbackDelay: 10 * time.Minute, FlapLimit: 3, FlapWindow: time.Hour,
				Storage: []StorageUnit{{
					Name: "storage2",
					Switch: Switch{Driver: "rsw",
						RSW: &RSWSwitch{Endpoint: "unix:/run/rocky/enclosure.sock", Unit: "two", Timeout: 3 * time.Second}},
					Drives: []Drive{
						{Letter: "E:", Volume: "LABEL=rocky_e", Filesystem: "xfs", Options: []string{"noatime", "nodev"},
							Fsck: "never", MountTimeout: 5 * time.Second},
						{Letter: "G:", Volume: "/dev/disk/by-id/wwn-0x1", Filesystem: "ext4", Fsck: "auto",
							MountTimeout: 30 * time.Second},
					},
				}},
				Applications: []Application{
					{Kind: "ipset", Name: "address", StartTimeout: time.Minute, StopTimeout: time.Minute,
						Probe: Probe{Interval: 5 * time.Second, Timeout: 5 * time.Second, Fall: 3}},
					{Kind: "generic", Name: "web", After: []string{"address"}, StartTimeout: 2 * time.Minute,
						StopTimeout: 30 * time.Second,
						Probe:       Probe{Interval: time.Second, Timeout: 700 * time.Millisecond, Fall: 2}},
				},
			},
			{
				Name: "apollo", Primary: failover.Second, RestartLimit: 2, RestartReset: 10 * time.Minute,
				Failback: true, FailbackDelay: 2 * time.Minute, FlapLimit: 2, FlapWindow: 30 * time.Minute,
				Storage: []StorageUnit{{
					Name:   "storage1",
					Switch: Switch{Driver: "directory", Directory: &DirectorySwitch{Path: "/srv/unit1"}},
					Drives: []Drive{{Letter: "F:", Filesystem: "directory", Fsck: "auto", MountTimeout: 30 * time.Second}},
				}},
			},
		},
		Notes: []Note{{Code: codeNoteUnpinned, Summary: `plugin "ipset" is not pinned`}},
	}
}

const minimal = `
pair "p" {}
server "one" {}
server "two" {}
interconnect {
  key_file = "KEYFILE"
  udp "lan" { address = { one = "10.0.0.1:1", two = "10.0.0.2:1" } }
}
`

func TestDefaults(t *testing.T) {
	_, dir := good(t)
	src := strings.ReplaceAll(minimal, "KEYFILE", filepath.ToSlash(filepath.Join(dir, "key")))
	c, diags := Parse("minimal.hcl", []byte(src), Options{Server: "two"})
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	ic := c.Interconnect
	if c.Self != failover.Second || ic.Interval != 200*time.Millisecond || ic.Timeout != 2*time.Second ||
		ic.StartupTimeout != 0 || c.Arbitration != (Arbitration{failover.First, 400 * time.Millisecond}) ||
		c.Pair.OnShutdown != "stay" || !c.Agent.Realtime || c.Agent.StateDir != "/var/lib/ors" ||
		len(c.NetworkCheck.Targets) != 0 {
		t.Errorf("defaults: %+v", c)
	}
	if len(c.Notes) != 1 || c.Notes[0].Code != codeNoteSingleLink || c.Notes[0].Range.Start.Line != 7 {
		t.Errorf("notes: %+v", c.Notes)
	}
	golden(t, "minimal.golden", text(c, c.Diagnostics()))
}

// broken is one mistake: what it replaces in the good file, or the whole file when old is empty.
var broken = []struct{ name, old, new string }{
	{"syntax", `pair "cpqlab" {`, `pair "cpqlab" [`},
	{"unclosed", "", `pair "x" {`},
	{"empty", "", ""},
	{"unknown_attribute", "restart_limit = 5", "restart_limt = 5"},
	{"unknown_block", "network_check {", "netwrok_check {"},
	{"block_as_attribute", "arbitration {", "arbitration = {"},
	{"label_missing", `group "rocky" {`, `group {`},
	{"label_extra", `agent {`, `agent "rocky" {`},
	{"probe_timeout", `timeout  = "700ms"`, `timeout = "1001ms"`},
	{"attribute_missing", "  primary       = \"rocky\"\n", ""},
	{"two_attributes_missing", `      endpoint = "unix:/run/${self}/enclosure.sock"`, ``},
	{"wrong_type", "realtime  = false", `realtime = "no"`},
	{"wrong_type_number", "baud   = 57600", `baud = "57600"`},
	{"wrong_type_string", `unit     = "two"`, `unit = 2`},
	{"wrong_type_list", `options       = ["noatime", "nodev"]`, `options = "noatime"`},
	{"null_in_list", `options       = ["noatime", "nodev"]`, `options = ["noatime", null]`},
	{"unknown_variable", "/srv/${self}/state", "/srv/${slef}/state"},
	{"variable_not_allowed", `interval        = "100ms"`, `interval = "${self}ms"`},
	{"function", `state_dir = "/srv/${self}/state"`, `state_dir = upper("x")`},
	{"duration", `timeout         = "1s"`, `timeout = "1 second"`},
	{"interval_short", `interval        = "100ms"`, `interval = "19ms"`},
	{"timeout_long", `timeout         = "1s"`, `timeout = "61s"`},
	{"startup_short", `startup_timeout = "90s"`, `startup_timeout = "500ms"`},
	{"number_range", "restart_limit = 5", "restart_limit = -1"},
	{"number_fraction", "fall     = 2", "fall = 2.5"},
	{"name", `group "rocky" {`, `group "rocky's group" {`},
	{"duplicate_group", `group "apollo" {`, `group "rocky" {`},
	{"duplicate_unit", `storage "storage1" {`, `storage "storage2" {`},
	{"duplicate_application", `application "generic" "web"`, `application "generic" "address"`},
	{"duplicate_link", `udp "lan" {`, `udp "cable" {`},
	{"duplicate_block", `arbitration {`, "arbitration {}\narbitration {"},
	{"duplicate_plugin", `plugin "generic" {`, "plugin \"generic\" {}\nplugin \"generic\" {"},
	{"relative_path", "/srv/${self}/state", "state/${self}"},
	{"one_server", "server \"apollo\" {}\n", ""},
	{"three_servers", `server "apollo" {}`, "server \"apollo\" {}\nserver \"zeus\" {}"},
	{"same_servers", `server "apollo" {}`, `server "rocky" {}`},
	{"other_host", `server "rocky" {}`, `server "rock" {}`},
	{"mode", `on_shutdown = "switchover"`, `mode = "standby"`},
	{"on_shutdown", `on_shutdown = "switchover"`, `on_shutdown = "switch"`},
	{"no_interconnect", "interconnect {", "network_check {"},
	{"beats", `timeout         = "1s"`, `timeout = "299ms"`},
	{"no_link", "",
		strings.Replace(minimal, "  udp \"lan\" { address = { one = \"10.0.0.1:1\", two = \"10.0.0.2:1\" } }\n", "", 1)},
	{"line_capacity", "baud   = 57600", "baud = 9600"},
	{"baud", "baud   = 57600", "baud = 57601"},
	{"server_value_missing", `{ rocky = "/dev/ttyS0", apollo = "/dev/ttyS1" }`, `{ rocky = "/dev/ttyS0" }`},
	{"server_value_other", `apollo = "/dev/ttyS1" }`, `apolo = "/dev/ttyS1" }`},
	{"server_value_twice", `{ rocky = "/dev/ttyS0", apollo`, `{ rocky = "/dev/ttyS0", rocky = "/dev/ttyS2", apollo`},
	{"server_value_no_object", `{ rocky = "/dev/ttyS0", apollo = "/dev/ttyS1" }`, `"/dev/ttyS0"`},
	{"address", `"10.36.0.1:7711"`, `"rocky:7711"`},
	{"same_address", `"10.36.0.2:7711"`, `"10.36.0.1:7711"`},
	{"autostart", `agent {`, "agent {\n  autostart {\n    command = [\"launcher\"]\n    on_failure = \"retry\"\n  }\n"},
	{"watchdog", `agent {`, "agent {\n  watchdog {\n    device  = \"watchdog0\"\n    timeout = \"1500ms\"\n  }\n"},
	{"check_target", `"172.25.36.1", `, `"gateway", `},
	{"same_device", `udp "lan" {`,
		"serial \"second\" {\n device = { rocky = \"/dev/ttyS0\", apollo = \"/dev/ttyS2\" }\n}\nudp \"lan\" {"},
	{"key_missing", "/key\"", "/absent\""},
	{"key_folder", "/key\"", "\""},
	{"key_three", "/key\"", "/three\""},
	{"key_second", "/key\"", "/second\""},
	{"key_short", "/key\"", "/short\""},
	{"key_garbage", "/key\"", "/garbage\""},
	{"key_mode", "/key\"", "/open\""},
	{"no_storage",
		"  storage \"storage1\" {\n    switch \"directory\" { path = \"/srv/unit1\" }\n    drive \"F:\" {}\n  }\n", ""},
	{"primary", `primary       = "rocky"`, `primary = "rokcy"`},
	{"survivor", `survivor = "apollo"`, `survivor = "nobody"`},
	{"letter_a", `drive "F:"`, `drive "A:"`},
	{"letter_lower", `drive "F:"`, `drive "f:"`},
	{"letter_word", `drive "F:"`, `drive "data"`},
	{"letter_overlap", `drive "F:"`, `drive "E:"`},
	{"unsafe", "unsafe_demo = true", ""},
	{"driver", `switch "rsw"`, `switch "rws"`},
	{"no_switch", `switch "directory" { path = "/srv/unit1" }`, ``},
	{"two_switches", `drive "F:" {}`, `switch "rsw" { endpoint = "tcp:enclosure:7000" }`},
	{"endpoint_scheme", "unix:/run/${self}/enclosure.sock", "/run/enclosure.sock"},
	{"endpoint_baud", "unix:/run/${self}/enclosure.sock", "serial:/dev/ttyS3?baud=12"},
	{"endpoint_setting", "unix:/run/${self}/enclosure.sock", "serial:/dev/ttyS3?speed=9600"},
	{"endpoint_tcp", "unix:/run/${self}/enclosure.sock", "tcp:enclosure"},
	{"endpoint_link", "unix:/run/${self}/enclosure.sock", "serial:/dev/ttyS0?baud=9600"},
	{"same_unit", `switch "directory" { path = "/srv/unit1" }`,
		"switch \"rsw\" {\n endpoint = \"unix:/run/rocky/enclosure.sock\"\n unit = \"two\"\n}"},
	{"no_volume", "      volume = \"/dev/disk/by-id/wwn-0x1\"\n", ""},
	{"volume", "/dev/disk/by-id/wwn-0x1", "sdb1"},
	{"same_volume", "/dev/disk/by-id/wwn-0x1", "LABEL=rocky_e"},
	{"filesystem", `filesystem    = "xfs"`, `filesystem = "directory"`},
	{"filesystem_of_directory", `drive "F:" {}`, `drive "F:" { filesystem = "ext4" }`},
	{"volume_of_directory", `drive "F:" {}`, `drive "F:" { volume = "LABEL=f" }`},
	{"fsck", `fsck          = "never"`, `fsck = "nevr"`},
	{"failback", `failback       = "automatic"`, `failback = "automatc"`},
	{"failback_delay", `failback       = "automatic"`, `failback = "manual"`},
	{"failback_delay_short", `failback_delay = "2m"`, `failback_delay = "0s"`},
	{"flap_limit", `flap_limit     = 2`, `flap_limit = 9`},
	{"flap_window", `flap_window    = "30m"`, `flap_window = "half an hour"`},
	{"after_unknown", `after         = ["address"]`, `after = ["adress"]`},
	{"after_cycle", `application "ipset" "address" {`, "application \"ipset\" \"address\" {\n after = [\"web\"]"},
	{"after_self", `after         = ["address"]`, `after = ["web"]`},
	{"sha256", "00112233445566778899AABBCCDDEEFF", "00112233"},
	{"version", ">= 1.2, < 2", "at least 1.2"},
	{"two_probes", "    probe {", "    probe {}\n    probe {"},
}

func TestBroken(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths and file modes are those of Unix")
	}
	for _, tt := range broken {
		t.Run(tt.name, func(t *testing.T) {
			src, dir := good(t)
			for name, content := range map[string]string{
				"short": "0011", "garbage": "mysecretpassphrase", "three": strings.Repeat(strings.Repeat("00", 32)+"\n", 3),
				"second": strings.Repeat("00", 32) + "\n0011\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "open"), []byte(strings.Repeat("00", 32)), 0o640); err != nil {
				t.Fatal(err)
			}
			if tt.old == "" {
				src = strings.ReplaceAll(tt.new, "KEYFILE", filepath.Join(dir, "key"))
			} else if src = strings.Replace(src, tt.old, tt.new, 1); !strings.Contains(src, tt.new) {
				t.Fatalf("the good file does not hold %q", tt.old)
			}
			server := "rocky"
			if tt.name == "no_link" {
				server = "one"
			}
			c, diags := Parse("config.hcl", []byte(src), Options{Server: server})
			if !diags.HasErrors() {
				t.Fatal("no mistake was found")
			}
			got := strings.ReplaceAll(text(c, diags), dir, "$DIR")
			if got != text(c, diags) {
				got = regexp.MustCompile(`\^+`).ReplaceAllString(got, "^") // as long as the folder's name
			}
			golden(t, "broken/"+tt.name+".golden", got)
		})
	}
}

// Every code has a case, and no diagnostic is without a code.
func TestEveryCodeIsTested(t *testing.T) {
	src, err := os.ReadFile("diagnostics.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "testdata/minimal.golden")
	seen := make(map[string]bool)
	code := regexp.MustCompile(`ORS-\d{4}`)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n") {
			if strings.HasPrefix(line, "Error:") || strings.HasPrefix(line, "Warning:") {
				if !code.MatchString(line) {
					t.Errorf("%s: no code in %q", f, line)
				}
			}
		}
		for _, c := range code.FindAllString(string(raw), -1) {
			seen[c] = true
		}
	}
	elsewhere := map[string]bool{codeUnreadable: true, codeTooMany: true, codeNoteUnpinned: true, codeNoteUnused: true}
	for _, c := range code.FindAllString(string(src), -1) {
		if !seen[c] && !elsewhere[c] {
			t.Errorf("no case makes %s", c)
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	src, _ := good(t)
	for _, r := range [][2]string{
		{`interval        = "100ms"`, `intervall = "100ms"`}, {`baud   = 57600`, `baud = 1`}, {`drive "F:"`, `drive "E:"`},
		{`primary       = "rocky"`, `primary = "x"`}, {`after         = ["address"]`, `after = ["x"]`},
	} {
		src = strings.Replace(src, r[0], r[1], 1)
	}
	c, diags := Parse("config.hcl", []byte(src), Options{Server: "rocky"})
	var got []string
	for _, d := range diags {
		got = append(got, fmt.Sprintf("%d %s", d.Subject.Start.Line, d.Summary[:8]))
	}
	want := []string{"15 ORS-2002", "21 ORS-2029", "46 ORS-2031", "75 ORS-2040", "101 ORS-2033"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, text(c, diags))
	}
	if len(c.Groups) > 0 || c.Interconnect.Key != nil {
		t.Error("a configuration with mistakes holds settings")
	}
}

func TestTooManyUnits(t *testing.T) {
	src, _ := good(t)
	var b strings.Builder
	for i := range maxUnits {
		fmt.Fprintf(&b, "group \"g%[1]d\" {\n primary = \"rocky\"\n storage \"s%[1]d\" {\n"+
			"switch \"directory\" { path = \"/srv/%[1]d\" }\n}\n}\n", i)
	}
	_, diags := Parse("config.hcl", []byte(src+b.String()), Options{Server: "rocky"})
	if len(diags) != 1 || !strings.HasPrefix(diags[0].Summary, codeTooMany) {
		t.Errorf("diagnostics: %v", diags)
	}
}

func TestNotes(t *testing.T) {
	src, _ := good(t)
	src = strings.Replace(src, `application "generic" "web"`, `application "other" "web"`, 1)
	c, diags := Parse("config.hcl", []byte(src), Options{Server: "rocky"})
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	var got []string
	for _, n := range c.Notes {
		got = append(got, n.Code+" "+n.Summary)
	}
	want := []string{`ORS-2090 plugin "ipset" is not pinned`, `ORS-2090 plugin "other" is not pinned`,
		`ORS-2091 no application uses plugin "generic"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPluginWithoutTLS(t *testing.T) {
	src, _ := good(t)
	c, diags := Parse("config.hcl", []byte(strings.Replace(src, "isolate = true", "tls = false", 1)), Options{Server: "rocky"})
	if len(diags) > 0 {
		t.Fatal(text(c, diags))
	}
	if c.Plugins[0].TLS || c.Plugins[0].Isolate {
		t.Errorf("%+v", c.Plugins[0])
	}
}

func TestSelf(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	short, _, _ := strings.Cut(host, ".")
	if !nameForm.MatchString(short) {
		t.Skipf("this host's name %q is none that a server may have", host)
	}
	src, _ := good(t)
	src = strings.ReplaceAll(src, "rocky", strings.ToUpper(short))
	c, diags := Parse("config.hcl", []byte(src), Options{})
	if len(diags) > 0 || c.Self != failover.First {
		t.Errorf("self %v, %s", c.Self, text(c, diags))
	}
}

func TestDigestIgnoresLayout(t *testing.T) {
	src, _ := good(t)
	c, _ := Parse("a.hcl", []byte(src), Options{Server: "rocky"})
	d, _ := Parse("b.hcl", []byte(strings.ReplaceAll(src, "        = ", " = ")), Options{Server: "apollo"})
	e, _ := Parse("a.hcl", []byte(strings.Replace(src, "90s", "91s", 1)), Options{Server: "rocky"})
	if c.Digest != d.Digest || c.Digest == e.Digest {
		t.Errorf("digests %x, %x, %x", c.Digest, d.Digest, e.Digest)
	}
}

func TestLoadUnreadable(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "absent.hcl"), t.TempDir()} {
		c, diags := Load(path, Options{Server: "rocky"})
		if len(diags) != 1 || !strings.HasPrefix(diags[0].Summary, codeUnreadable) || text(c, diags) == "" {
			t.Errorf("%s: %v", path, diags)
		}
	}
}

// The configuration at the root of the repository is the documentation of the format: it must be right.
func TestRepositoryConfig(t *testing.T) {
	raw, err := os.ReadFile("../../config.hcl")
	if err != nil {
		t.Fatal(err)
	}
	_, dir := good(t)
	const key = `"/etc/ors/interconnect.key"`
	if !strings.Contains(string(raw), key) {
		t.Fatalf("no key_file = %s", key)
	}
	src := strings.ReplaceAll(string(raw), key, fmt.Sprintf("%q", filepath.ToSlash(filepath.Join(dir, "key"))))
	for _, server := range []string{"rocky", "apollo"} {
		c, diags := Parse("config.hcl", []byte(src), Options{Server: server})
		if len(diags) > 0 {
			t.Fatal(text(c, diags))
		}
		if len(c.Groups) != 2 || c.ServerName(c.Self) != server || len(c.Groups[0].Applications) != 2 {
			t.Errorf("%+v", c)
		}
		for g := range c.Groups {
			drives := c.ExpectedDrives(&c.Groups[g])
			for a := range c.Groups[g].Applications {
				for _, d := range evaluateAll(c, &c.Groups[g].Applications[a], drives) {
					t.Error(text(c, hcl.Diagnostics{d}))
				}
			}
		}
	}
	for i, line := range strings.Split(string(raw), "\n") {
		if len([]rune(line)) > 130 {
			t.Errorf("config.hcl:%d has %d characters", i+1, len([]rune(line)))
		}
	}
}

func TestKeyGenerate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := KeyGenerate(path); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(path)
	if err != nil || len(keys) != 1 || len(keys[0]) != KeySize {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := KeyGenerate(path); err == nil {
		t.Error("a key was overwritten")
	}
}

// A key is changed by adding and dropping; at no moment is the file unreadable, or readable by others.
func TestKeyAddAndDrop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := KeyGenerate(path); err != nil {
		t.Fatal(err)
	}
	read := func(want int) [][]byte {
		t.Helper()
		keys, err := ReadKeys(path)
		if err != nil || len(keys) != want {
			t.Fatalf("%d keys, %v, want %d", len(keys), err, want)
		}
		return keys
	}
	old := read(1)[0]
	if err := KeyDrop(path); err == nil {
		t.Error("the only key was dropped")
	}
	if err := KeyAdd(path); err != nil {
		t.Fatal(err)
	}
	both := read(2)
	if bytes.Equal(both[0], old) || !bytes.Equal(both[1], old) {
		t.Error("the new key is not before the old one")
	}
	if err := KeyAdd(path); err == nil {
		t.Error("a third key was added")
	}
	if err := KeyDrop(path); err != nil {
		t.Fatal(err)
	}
	if left := read(1); !bytes.Equal(left[0], both[0]) {
		t.Error("the old key was kept")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v is left behind, %v", left, err)
	}
	for _, change := range []func(string) error{KeyAdd, KeyDrop} {
		if err := change(path + ".absent"); err == nil {
			t.Error("a file that does not exist was changed")
		}
	}
}

// The reference names every attribute.
func TestReferenceIsComplete(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"blocks.go", "group.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range regexp.MustCompile(`(?s)attributes\((.*?)\)`).FindAllStringSubmatch(string(src), -1) {
			for _, name := range regexp.MustCompile(`"([a-z_0-9]+)!?"`).FindAllStringSubmatch(call[1], -1) {
				if !strings.Contains(string(doc), name[1]) {
					t.Errorf("docs/configuration.md does not explain the attribute %s", name[1])
				}
			}
		}
	}
}
