package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const goPlugin = "github.com/hashicorp/go-plugin"

// drivers know one kind of hardware or one way to run things. What decides, or drives the decision, knows only interfaces.
var drivers = []string{
	"core/storage/rsw/...", "core/storage/directory/...", "core/storage/reservation/...",
	"core/interconnect/serial/...", "core/interconnect/udp/...", "core/pluginhost/...",
}

// borders say what packages never depend on, themselves or through others.
var borders = []struct {
	who   string
	never []string
	why   string
}{
	{"core/interconnect/...", []string{"core/storage/...", "core/drive/..."}, "links know no storage"},
	{"core/storage/...", []string{"core/interconnect/...", "core/drive/..."}, "switches know no links and no volumes"},
	{"core/drive/...", []string{"core/interconnect/...", "core/storage/..."}, "drives know no links and no switches"},
	{"core/node/...", drivers, "the node drives interfaces"},
	{"core/sim/...", drivers, "a simulation has no hardware"},
	{"core/config/...", append([]string{"core/node/..."}, drivers...), "reading a configuration starts nothing"},
	{"core/control/...", append([]string{"core/node/...", "core/failover/..."}, drivers...), "a protocol decides nothing"},
	{"core/store/...", []string{"core/..."}, "what is kept is bytes and events, and no one's types"},
	{"core/decision/...", append([]string{"core/node/...", "core/config/...", "core/control/..."}, drivers...),
		"what is on record is read without a pair"},
	{"core/ledger/...", append([]string{"core/node/...", "core/config/...", "core/control/..."}, drivers...),
		"what is on record is read without a pair"},
	{"plugins/...", []string{"core/...", "cmd/..."}, "a plugin is a program of its own, by any vendor"},
	{"proto/...", []string{"core/...", "plugins/...", "internal/...", "cmd/..."}, "protocols stand alone"},
	{"internal/...", []string{"core/...", "plugins/...", "proto/...", "cmd/..."}, "helpers stand alone"},
}

func TestBorders(t *testing.T) {
	all := mustPackages(t)
	for _, b := range borders {
		for name, p := range all {
			if !under(name, b.who) {
				continue
			}
			for _, dep := range p.Deps {
				if all[dep] != nil && underAny(dep, b.never) && !under(dep, b.who) {
					t.Errorf("%s depends on %s%s: %s", name, dep, through(all, p, dep), b.why)
				}
			}
		}
	}
}

// through names a direct import by which a package depends on another one.
func through(all map[string]*pkg, p *pkg, dep string) string {
	if slices.Contains(p.Imports, dep) {
		return ""
	}
	for _, i := range p.Imports {
		if q := all[i]; q != nil && slices.Contains(q.Deps, dep) {
			return fmt.Sprintf(" (through %s)", i)
		}
	}
	return ""
}

// few lists all that the packages of whom may import themselves, of the standard library and of others.
var few = []struct {
	who string
	may []string
	why string
}{
	{
		"core/failover",
		[]string{"cmp", "errors", "fmt", "maps", "math/bits", "slices", "sort", "strconv", "strings"},
		"the decision has no clock, no chance and no I/O",
	},
	{
		"internal/cobs",
		[]string{"bufio", "errors", "io"},
		"framing is a function of a stream of bytes",
	},
	{
		"plugins/sdk/handshake",
		[]string{"fmt", "strconv", "strings"},
		"a vendor without the SDK copies it",
	},
}

func TestFewImports(t *testing.T) {
	all := mustPackages(t)
	for _, f := range few {
		p := all[f.who]
		if p == nil {
			t.Errorf("there is no package %s, though a rule names it", f.who)
			continue
		}
		for _, i := range p.Imports {
			if !slices.Contains(f.may, i) {
				t.Errorf("%s imports %s: %s", f.who, i, f.why)
			}
		}
	}
}

func TestPluginsImportTheSDKOnly(t *testing.T) {
	all := mustPackages(t)
	for name, p := range all {
		rest, ok := strings.CutPrefix(name, "plugins/")
		if !ok || under(name, "plugins/sdk/...") {
			continue
		}
		own, _, _ := strings.Cut(rest, "/")
		may := []string{"plugins/sdk/...", "plugins/" + own + "/...", "proto/..."}
		for _, i := range p.Imports {
			if all[i] != nil && !underAny(i, may) {
				t.Errorf("%s imports %s: a plugin imports the SDK, protocols and itself", name, i)
			}
		}
	}
}

func TestWhoImportsGoPlugin(t *testing.T) {
	for name, p := range mustPackages(t) {
		for _, i := range p.Imports {
			if under(i, goPlugin+"/...") && !under(name, "core/pluginhost/...") && !under(name, "plugins/sdk/...") {
				t.Errorf("%s imports %s: only core/pluginhost and plugins/sdk know how plugins are run", name, i)
			}
		}
	}
}

func TestNothingImportsTheLab(t *testing.T) {
	for name, p := range mustPackages(t) {
		if under(name, "lab/...") || name == "cmd/orslab" {
			continue
		}
		for _, i := range p.Imports {
			if under(i, "lab/...") {
				t.Errorf("%s imports %s: the product knows nothing of the lab", name, i)
			}
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		want          bool
	}{
		{"core/storage", "core/storage", true},
		{"core/storage/rsw", "core/storage", false},
		{"core/storage/rsw", "core/storage/...", true},
		{"core/storage", "core/storage/...", true},
		{"core/store", "core/storage/...", false},
		{"core/storagetest", "core/storage/...", false},
	} {
		if got := under(c.name, c.pattern); got != c.want {
			t.Errorf("under(%q, %q) = %v", c.name, c.pattern, got)
		}
	}
}
