package failover_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/orscore/ors/core/failover"
)

// The facts of the verdict, in the order of the page's columns, with the names of their values.
var judged = []struct {
	name   string
	values []string
}{
	{"beats", []string{"none", "some", "all"}},
	{"goodbye", []string{"no", "yes"}},
	{"announced absence", []string{"no", "yes"}},
	{"ever heard", []string{"no", "yes"}},
	{"startup time-out over", []string{"no", "yes"}},
	{"this server late", []string{"no", "yes"}},
	{"network check", []string{"none", "good", "bad"}},
	{"modem lines", []string{"none", "up", "dropped"}},
}

func judgeFacts(v []int) failover.JudgeFacts {
	return failover.JudgeFacts{
		Beats: failover.Beats(v[0]), Left: v[1] == 1, Restarting: v[2] == 1, Ever: v[3] == 1, StartupEnd: v[4] == 1,
		Late: v[5] == 1, Network: failover.Answer(v[6]), Lines: failover.Answer(v[7]),
	}
}

// everyFacts calls f for each combination of facts.
func everyFacts(f func(v []int)) {
	v := make([]int, len(judged))
	for {
		f(slices.Clone(v))
		i := len(v) - 1
		for ; i >= 0; i-- {
			if v[i]++; v[i] < len(judged[i].values) {
				break
			}
			v[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// TestVerdict takes all combinations and holds each against the rules, written down a second time and independently.
func TestVerdict(t *testing.T) {
	n := 0
	everyFacts(func(v []int) {
		n++
		f := judgeFacts(v)
		got, why := failover.Judge(f)
		silent := f.Beats == failover.BeatsNone
		rule := func(name string, holds bool) {
			if !holds {
				t.Errorf("%+v: %v (%s) breaks: %s", f, got, why, name)
			}
		}
		rule("it says why", strings.HasSuffix(why, "."))
		rule("a goodbye is never a loss", !f.Left || got == failover.VerdictLeft)
		rule("only a goodbye is a goodbye", f.Left || got != failover.VerdictLeft)
		rule("who is heard is not lost", silent || got != failover.VerdictLost && got != failover.VerdictIsolated)
		rule("beats on every link: alive", f.Beats != failover.BeatsAll || f.Left || got == failover.VerdictAlive)
		rule("beats on some links: cable fault", f.Beats != failover.BeatsSome || f.Left || got == failover.VerdictCableFault)
		rule("no loss before an announced absence is over", !f.Restarting || got != failover.VerdictLost)
		rule("no loss while this server was late", !f.Late || got != failover.VerdictLost && got != failover.VerdictIsolated)
		absent := got == failover.VerdictLost || got == failover.VerdictIsolated
		rule("who was never heard is waited for", f.Ever || f.StartupEnd || !absent)
		rule("who is cut off itself takes nothing over", f.Network != failover.No || got != failover.VerdictLost)
		excused := f.Left || f.Restarting || f.Late || f.Network == failover.No || !f.Ever && !f.StartupEnd
		without := f
		without.Lines = failover.NoAnswer
		plain, _ := failover.Judge(without)
		rule("modem lines change no verdict", plain == got)
		rule("lines that dropped are named, and only with a loss", strings.Contains(why, "modem lines have dropped") ==
			(got == failover.VerdictLost && f.Ever && f.Lines == failover.No))
		rule("lines that are up with silence say so", strings.Contains(why, "modem lines are up") ==
			(got == failover.VerdictLost && f.Ever && f.Lines == failover.Yes))
		rule("silence without an excuse is a loss", !silent || excused || got == failover.VerdictLost)
	})
	if n != 864 {
		t.Errorf("%d combinations, want 864", n)
	}
}

// TestVerdictPage compares the page with the truth table.
func TestVerdictPage(t *testing.T) {
	golden(t, docs+"verdict.md", verdictPage())
}

const anyValue = -1

// cube is a set of combinations: a value or anyValue for each fact.
type cube struct {
	v   []int
	out string
}

func verdictPage() string {
	var b strings.Builder
	b.WriteString("# The verdict on the partner\n\n" +
		"Generated from `core/failover` by `go test ./core/failover -update`; do not edit. The 864 combinations of the\n" +
		"facts are joined where a fact makes no difference (·); each combination is in exactly one line.\n\n|")
	for _, f := range judged {
		b.WriteString(" " + f.name + " |")
	}
	b.WriteString(" verdict | why |\n|" + strings.Repeat("---|", len(judged)+2) + "\n")
	for _, c := range joined() {
		b.WriteString("|")
		for i, x := range c.v {
			name := "·"
			if x != anyValue {
				name = judged[i].values[x]
			}
			b.WriteString(" " + name + " |")
		}
		b.WriteString(c.out + "\n")
	}
	return b.String()
}

// joined merges combinations along one fact after the other, as long as all values of a fact give the same verdict.
func joined() []cube {
	var cubes []cube
	everyFacts(func(v []int) {
		verdict, why := failover.Judge(judgeFacts(v))
		cubes = append(cubes, cube{v, fmt.Sprintf(" %v | %s |", verdict, why)})
	})
	for i := len(judged) - 1; i >= 0; i-- {
		groups := map[string][]cube{}
		var order []string
		for _, c := range cubes {
			rest := slices.Clone(c.v)
			rest[i] = anyValue
			key := fmt.Sprint(rest, c.out)
			if groups[key] == nil {
				order = append(order, key)
			}
			groups[key] = append(groups[key], c)
		}
		cubes = nil
		for _, key := range order {
			g := groups[key]
			if len(g) == len(judged[i].values) {
				v := slices.Clone(g[0].v)
				v[i] = anyValue
				g = []cube{{v, g[0].out}}
			}
			cubes = append(cubes, g...)
		}
	}
	return cubes
}
