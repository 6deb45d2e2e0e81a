package failover_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/orscore/ors/core/failover"
)

// The checkers are checked: each row, guard and action of the table, and each rule that testdata/mutants.txt names, is
// taken away or weakened, one at a time, and some test must notice. That the table differs from its golden copy does
// not count: what counts is a script that tells another story, a fuzzed step or a simulated pair that breaks a rule.

var (
	mutateAll  = flag.Bool("mutate", false, "try all mutants, those of the code too, and write build/mutants.json")
	mutateFast = flag.Bool("mutantscripts", false, "with -mutate: let only the scripts look at mutants of the code")
	mutateOnly = flag.String("mutant", "", "with -mutate: only mutants whose name matches this `pattern`")
)

// mutant is one thing taken away or weakened, and who noticed.
type mutant struct {
	Name      string   `json:"name"`
	What      string   `json:"what"`
	NoticedBy []string `json:"noticed_by"`

	table     []failover.Row // of a mutant of the table
	file      string         // of a mutant of the code, from the top of the module: in it …
	old, next string         // … this becomes that
}

// tableMutants are the table without a row, with a bit of a guard dropped or inverted, and without an action. The
// rows are disjoint, so one whose guard was weakened goes first: what it takes from the others shows.
func tableMutants() []mutant {
	var all []mutant
	with := func(i int, name, what string, change func(*failover.Row)) {
		r := failover.Table[i]
		r.Do = slices.Clone(r.Do)
		change(&r)
		t := append([]failover.Row{r}, slices.Delete(slices.Clone(failover.Table), i, i+1)...)
		all = append(all, mutant{Name: fmt.Sprintf("row %02d %s", i, name), What: what + ": " + r.Why, table: t})
	}
	for i, r := range failover.Table {
		all = append(all, mutant{Name: fmt.Sprintf("row %02d removed", i), What: "row removed: " + r.Why,
			table: slices.Delete(slices.Clone(failover.Table), i, i+1)})
		for bit := failover.Facts(1); bit <= allFacts; bit <<= 1 {
			name := strings.TrimPrefix(failover.Guard{Need: bit}.String(), "not ")
			switch {
			case r.If.Need&bit != 0:
				with(i, name+" dropped", "guard weakened", func(r *failover.Row) { r.If.Need &^= bit })
				with(i, name+" inverted", "guard inverted", func(r *failover.Row) { r.If.Need, r.If.Not = r.If.Need&^bit, r.If.Not|bit })
			case r.If.Not&bit != 0:
				with(i, "not "+name+" dropped", "guard weakened", func(r *failover.Row) { r.If.Not &^= bit })
				with(i, "not "+name+" inverted", "guard inverted",
					func(r *failover.Row) { r.If.Need, r.If.Not = r.If.Need|bit, r.If.Not&^bit })
			}
		}
		for n, a := range r.Do {
			with(i, "without "+a.String(), "action left out",
				func(r *failover.Row) { r.Do = slices.Delete(r.Do, n, n+1) })
		}
	}
	return all
}

// codeMutants reads testdata/mutants.txt: blocks of "# name: what", "@ file" from the top of the module, lines of the
// code after "<", and what they become after ">". Lines of one kind follow each other; no ">" takes them away.
func codeMutants(t *testing.T) []mutant {
	raw, err := os.ReadFile("testdata/mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []mutant
	for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		var m mutant
		for line := range strings.SplitSeq(block, "\n") {
			rest := strings.TrimPrefix(line[min(1, len(line)):], " ")
			switch {
			case strings.HasPrefix(line, "#"):
				m.Name, m.What, _ = strings.Cut(rest, ": ")
			case strings.HasPrefix(line, "@"):
				m.file = rest
			case strings.HasPrefix(line, "<"):
				m.old += rest + "\n"
			case strings.HasPrefix(line, ">"):
				m.next += rest + "\n"
			default:
				t.Fatalf("testdata/mutants.txt: line %q", line)
			}
		}
		code, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(code), m.old); n != 1 || m.Name == "" || m.What == "" {
			t.Errorf("testdata/mutants.txt: mutant %q: %s holds its lines %d times, want once:\n%s", m.Name, m.file, n, m.old)
		}
		all = append(all, m)
	}
	return all
}

// stopped is what a script of a mutant cannot go on with.
type stopped struct{}

func (stopped) Fatalf(string, ...any) { panic(stopped{}) }

// tellsTheSame reports whether a script tells the story that is on record.
func tellsTheSame(text string) (same bool) {
	defer func() {
		if r := recover(); r != nil { // a mutant may do anything
			same = false
		}
	}()
	return (&script{t: stopped{}, rows: map[int]bool{}}).play(text) == text
}

// noticedByScripts plays the scripts with another table; with first it ends at the first that notices. A guard that
// what it is given never needs, because two facts exclude each other, is missed by no script, but by the proof that rows
// are disjoint.
func noticedByScripts(table []failover.Row, scripts map[string]string, names []string, first bool) []string {
	good := failover.Table
	failover.Table = table
	defer func() { failover.Table = good }()
	var noticed []string
	for _, name := range names {
		if !tellsTheSame(scripts[name]) {
			noticed = append(noticed, "script "+name)
			if first {
				break
			}
		}
	}
	if noticed == nil && notDisjoint() != "" {
		noticed = []string{"TestTableIsDisjoint"}
	}
	return noticed
}

// TestMutants tries a part of the table's mutants, or with -mutate all, and those of the code.
func TestMutants(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	scripts, names := map[string]string{}, []string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		scripts[name], names = string(text), append(names, name)
	}
	if got := noticedByScripts(failover.Table, scripts, names, false); got != nil {
		t.Fatalf("without a mutation, these tell another story: %v", got)
	}
	mutants := tableMutants()
	code := codeMutants(t)
	if !*mutateAll {
		for i := 0; i < len(mutants); i += 9 {
			if noticedByScripts(mutants[i].table, scripts, names, true) == nil {
				t.Errorf("nobody notices: %s (%s)", mutants[i].Name, mutants[i].What)
			}
		}
		return
	}
	mutants = append(mutants, code...)
	if *mutateOnly != "" {
		want := regexp.MustCompile(*mutateOnly)
		mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !want.MatchString(m.Name) })
	}
	for i := range mutants {
		if mutants[i].file == "" {
			mutants[i].NoticedBy = noticedByScripts(mutants[i].table, scripts, names, false)
		}
	}
	tryCode(t, mutants)
	reportMutants(t, mutants)
}

// tryCode builds the mutants of the code beside the module, and runs the tests that may notice.
func tryCode(t *testing.T, mutants []mutant) {
	todo := make(chan *mutant)
	var wg sync.WaitGroup
	for range max(1, runtime.NumCPU()) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dir := t.TempDir()
			for m := range todo {
				var err error
				m.NoticedBy, err = noticedInCode(m, dir)
				fmt.Printf("%-44s %s\n", m.Name, by(m))
				if err != nil {
					t.Errorf("mutant %q cannot be tried: %v", m.Name, err)
				}
			}
		}()
	}
	for i := range mutants {
		if mutants[i].file != "" {
			todo <- &mutants[i]
		}
	}
	close(todo)
	wg.Wait()
}

// The tests that may notice a mutant of the code, the quick ones first.
var noticers = []struct {
	pkg  string
	args []string
}{
	{"core/failover", []string{"-test.run=^TestScripts$", "-test.v"}},
	{"core/failover", []string{"-test.run=^FuzzStep$", "-test.v"}},
	{"core/failover", []string{"-test.run=^TestPair$", "-seeds=300", "-test.v"}},
	{"core/node/loop", []string{"-test.run=.", "-test.v"}},
	{"core/sim", []string{"-test.run=^TestSeeds$", "-simtime=30s", "-test.v"}},
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// noticedInCode runs one noticer after the other until one notices.
func noticedInCode(m *mutant, dir string) ([]string, error) {
	top, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(filepath.Join(top, m.file))
	if err != nil {
		return nil, err
	}
	mutated, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	raw, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(top, m.file): mutated}})
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(mutated, []byte(strings.Replace(string(code), m.old, m.next, 1)), 0o600),
		os.WriteFile(overlay, raw, 0o600))
	if err != nil {
		return nil, err
	}
	built := ""
	for _, n := range noticers {
		if strings.HasPrefix(m.file, "core/node/") && n.pkg == "core/failover" || *mutateFast && built != "" {
			continue
		}
		bin := filepath.Join(dir, "mutant.test")
		if built != n.pkg {
			build := exec.Command("go", "test", "-ldflags=-s -w", "-overlay", overlay, "-c", "-o", bin, "./"+n.pkg)
			build.Dir = top
			if out, err := build.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%w: %s", err, out)
			}
			built = n.pkg
		}
		run := exec.Command(bin, append(n.args, "-test.timeout=300s")...)
		run.Dir = filepath.Join(top, n.pkg)
		out, err := run.CombinedOutput()
		if err == nil {
			continue
		}
		return whoNoticed(n.pkg, string(out)), nil
	}
	return nil, nil
}

// whoNoticed reads the names of the tests that failed.
func whoNoticed(pkg, out string) []string {
	var who []string
	for _, f := range failedTest.FindAllStringSubmatch(out, -1) {
		if script, ok := strings.CutPrefix(f[1], "TestScripts/"); ok {
			who = append(who, "script "+script)
		} else if f[1] != "TestScripts" {
			who = append(who, pkg+" "+f[1])
		}
	}
	if who == nil && strings.Contains(out, "panic: test timed out") {
		who = []string{pkg + " (did not end)"}
	}
	if who == nil { // it panicked
		who = []string{pkg}
	}
	return who
}

// by is who noticed, in a few words.
func by(m *mutant) string {
	switch n := len(m.NoticedBy); {
	case n == 0:
		return "NOBODY"
	case n > 3:
		return strings.Join(m.NoticedBy[:3], ", ") + fmt.Sprintf(" and %d more", n-3)
	}
	return strings.Join(m.NoticedBy, ", ")
}

// reportMutants prints the table and writes build/mutants.json.
func reportMutants(t *testing.T, mutants []mutant) {
	survived := 0
	for i := range mutants {
		m := &mutants[i]
		if m.file == "" {
			fmt.Printf("%-44s %s\n", m.Name, by(m)) // those of the code were told when they were tried
		}
		if m.NoticedBy == nil {
			survived++
			t.Errorf("nobody notices: %s (%s)", m.Name, m.What)
		}
	}
	fmt.Printf("%d mutants, %d survived\n", len(mutants), survived)
	raw, err := json.MarshalIndent(mutants, "", "  ")
	if err == nil {
		err = errors.Join(os.MkdirAll("../../build", 0o755),
			os.WriteFile("../../build/mutants.json", append(raw, '\n'), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}
