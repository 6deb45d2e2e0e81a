package failover_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orscore/ors/core/failover"
)

const docs = "../../docs/failover/"

const (
	lastPhase      = failover.Parked
	lastGroupEvent = failover.OpShutdown
	allFacts       = failover.Giveaway<<1 - 1
)

// TestTableIsDisjoint: see notDisjoint.
func TestTableIsDisjoint(t *testing.T) {
	if why := notDisjoint(); why != "" {
		t.Fatal(why)
	}
}

// notDisjoint takes every phase, event and set of facts, and says what is wrong: at most one row may match, Match must
// find it, and every row must match something.
func notDisjoint() string {
	taken := make([]int, len(failover.Table))
	for ph := failover.Unknown; ph <= lastPhase; ph++ {
		for e := failover.Granted; e <= lastGroupEvent; e++ {
			for f := failover.Facts(0); f <= allFacts; f++ {
				rows := matching(ph, e, f)
				if len(rows) > 1 {
					return fmt.Sprintf("%v on %v with facts %08b: rows %v", ph, e, f, rows)
				}
				want := -1
				if len(rows) == 1 {
					want = rows[0]
					taken[want]++
				}
				if got := failover.Match(ph, e, f); got != want {
					return fmt.Sprintf("%v on %v with facts %08b: Match says %d, the table %d", ph, e, f, got, want)
				}
			}
		}
	}
	for i, n := range taken {
		if n == 0 {
			return fmt.Sprintf("row %d can never be taken", i)
		}
	}
	return ""
}

// matching lists the rows for a combination, asking each row by itself.
func matching(ph failover.Phase, e failover.EventKind, f failover.Facts) []int {
	var rows []int
	for i, r := range failover.Table {
		from, on := false, false
		for _, p := range r.From {
			from = from || p == ph
		}
		for _, k := range r.On {
			on = on || k == e
		}
		if from && on && r.If.Holds(f) {
			rows = append(rows, i)
		}
	}
	return rows
}

// TestTableIsComplete: every phase that waits for an action ends by its deadline, every row tells the operator
// why, and a row that claims, kills or faults without having been asked to names a page.
func TestTableIsComplete(t *testing.T) {
	waits := []failover.Phase{failover.Unknown, failover.Claiming, failover.Attaching, failover.Starting,
		failover.Stopping, failover.Detaching, failover.Releasing, failover.Fenced}
	for _, ph := range waits {
		for f := failover.Facts(0); f <= allFacts; f++ {
			if failover.Match(ph, failover.Timeout, f) < 0 {
				t.Errorf("%v with facts %08b has no way out when its deadline passes", ph, f)
			}
		}
	}
	for i, r := range failover.Table {
		if !strings.HasSuffix(r.Why, ".") || len(r.Why) < 20 {
			t.Errorf("row %d does not say why: %q", i, r.Why)
		}
		if r.To == failover.Faulted && r.Code == "" {
			t.Errorf("row %d faults without a code", i)
		}
	}
}

func TestTableGolden(t *testing.T) {
	golden(t, "testdata/table.golden", failover.Dump())
	golden(t, docs+"table.md", tablePage())
}

func tablePage() string {
	var b strings.Builder
	b.WriteString("# The decision for one group on one server\n\n" +
		"Generated from `core/failover` by `go test ./core/failover -update`; do not edit. The rows are disjoint: a test\n" +
		"takes every phase, event and set of facts, and finds at most one row. `Why` is what the operator\n" +
		"reads in the journal.\n\n" +
		"## State diagram\n\n```mermaid\n" + failover.Diagram() + "```\n\n## Table\n\n" +
		"| # | From | On | If | To | Do | Code | Why |\n|---|---|---|---|---|---|---|---|\n")
	for i, r := range failover.Table {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %v | %s | %s | %s |\n",
			i, list(r.From), list(r.On), r.If, r.To, list(r.Do), r.Code, r.Why)
	}
	return b.String()
}

func list[T fmt.Stringer](items []T) string {
	var out []string
	for _, x := range items {
		out = append(out, x.String())
	}
	return strings.Join(out, ", ")
}

// TestNames: every phase, event, action, verdict and word has a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	add := func(kind, name string) {
		if name == "" || seen[kind+name] {
			t.Errorf("%s: name %q is empty or used twice", kind, name)
		}
		seen[kind+name] = true
	}
	for p := failover.Unknown; p <= lastPhase; p++ {
		add("phase ", p.String())
	}
	for e := failover.Granted; e <= failover.Returned; e++ {
		add("event ", e.String())
	}
	for a := failover.Inspect; a <= failover.Note; a++ {
		add("action ", a.String())
	}
	for v := failover.VerdictUnknown; v <= failover.VerdictLost; v++ {
		add("verdict ", v.String())
	}
	for w := failover.WordAsk; w <= failover.WordCancel; w++ {
		add("word ", w.String())
	}
	for e, want := range map[failover.EventKind]string{failover.OpShutdown: "OpShutdown", failover.Passed: "Passed",
		failover.WasLate: "WasLate", failover.ReadyNo: "ReadyNo", failover.Returned: "Returned"} {
		if e.String() != want {
			t.Errorf("event %d is named %q, want %q", e, e, want)
		}
	}
}
