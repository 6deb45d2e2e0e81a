//go:build linux

package matrix

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/orscore/ors/lab/scenario"
)

func named(names ...string) []Case {
	var all []Case
	for _, n := range names {
		all = append(all, Case{Phase: scenario.Phase{Name: n}})
	}
	return all
}

func names(cases []Case) []string {
	var all []string
	for _, c := range cases {
		all = append(all, c.Phase.Name)
	}
	return all
}

// The files are read as `orslab matrix` reads them: enough cases, each name once, the same in every run.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("../scenarios/matrix*.scenario")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	var all []*scenario.Scenario
	for _, f := range files {
		sc, err := scenario.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		if sc.Phases[0].Name != "start" {
			t.Errorf("%s begins with the phase %q; the first one sets the pair up", f, sc.Phases[0].Name)
		}
		l := lab{sc: sc}
		for _, text := range []string{after, home} {
			if _, err := l.steps(text); err != nil {
				t.Errorf("%s: what follows every case cannot be read: %v", f, err)
			}
		}
		all = append(all, sc)
	}
	cases := Cases(all)
	if len(cases) < 60 {
		t.Errorf("%d cases", len(cases))
	}
	seen := map[string]bool{}
	for _, n := range names(cases) {
		if seen[n] {
			t.Errorf("there are two cases %s", n)
		}
		seen[n] = true
	}
}

func TestOnly(t *testing.T) {
	all := named("power_owner", "power_both", "move_giver:a.b", "move_giver:c")
	for _, tt := range []struct{ patterns, want string }{
		{"", "power_owner power_both move_giver:a.b move_giver:c"},
		{"power_both", "power_both"},
		{"move_*,power_owner", "power_owner move_giver:a.b move_giver:c"},
		{"*:?", "move_giver:c"},
	} {
		var patterns []string
		if tt.patterns != "" {
			patterns = strings.Split(tt.patterns, ",")
		}
		got, err := Only(all, patterns)
		if err != nil || strings.Join(names(got), " ") != tt.want {
			t.Errorf("%s: %v, %v", tt.patterns, names(got), err)
		}
	}
	for _, wrong := range []string{"nothing", "power_*,nothing", "["} {
		if got, err := Only(all, strings.Split(wrong, ",")); err == nil {
			t.Errorf("%s was taken for %v", wrong, names(got))
		}
	}
}

func TestSample(t *testing.T) {
	all := named("a_1", "a_2", "a_3", "a_4", "b_1", "c_1", "c_2")
	for n, want := range map[int]string{
		0: "a_1 a_2 a_3 a_4 b_1 c_1 c_2", 1: "a_1", 2: "a_1 b_1", 3: "a_1 b_1 c_1", 4: "a_1 a_3 b_1 c_1",
		6: "a_1 a_2 a_3 b_1 c_1 c_2", 9: "a_1 a_2 a_3 a_4 b_1 c_1 c_2",
	} {
		if got := strings.Join(names(Sample(all, n)), " "); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	ms := func(v float64) *float64 { return &v }
	none, some := 0, 3
	got := Table([]Result{
		{Name: "power_a", Class: class("power_a"), Outcome: Green, Outage: ms(1500), Lost: &none, Moves: 1, Seconds: 7},
		{Name: "power_b", Class: class("power_b"), Outcome: Red, Lost: &some, Moves: 2, Seconds: 9.25},
		{Name: "links_c", Class: class("links_c"), Outcome: Green, Outage: ms(20), Lost: &none, Seconds: 5},
		{Name: "power_d", Class: class("power_d"), Outcome: Red, Outage: ms(900), Seconds: 5},
	})
	var lines []string
	for line := range strings.SplitSeq(got, "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"case outcome outage ms lost moves seconds",
		"power_a green 1500 0 1 7.0",
		"power_b red - 3 2 9.2",
		"links_c green 20 0 0 5.0",
		"power_d red 900 - 0 5.0",
		"",
		"class green red median outage ms longest",
		"power 1 2 1500 1500",
		"links 1 0 20 20",
		"",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}
