//go:build linux

package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/orscore/ors/core/store"
	"github.com/orscore/ors/lab/workload"
)

func TestAllScenariosCanBeRead(t *testing.T) {
	files, err := filepath.Glob("../scenarios/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		sc, err := Load(f)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if sc.Title == "" {
			t.Errorf("%s does not say in its first line what it is for", f)
		}
	}
}

// head is what every scenario of the tests begins with.
const head = `# test
server rocky  client 172.25.36.40/24 interconnect 10.36.0.1/24
server apollo client 172.25.36.41/24 interconnect 10.36.0.2/24
client 172.25.36.10/24
unit storage2 home rocky size 64M
config config.hcl
workload rows postgres 172.25.36.45:5432
phase one
`

func parseIn(t *testing.T, text string) (*Scenario, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.hcl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Join(dir, "x.scenario"), text)
}

func TestSteps(t *testing.T) {
	tests := []struct {
		line string
		verb string // form
		cond string // form of the condition
		wait time.Duration
	}{
		{"power off rocky", "power off SERVER", "", defaultWait},
		{"wait group rocky active on apollo within 20s", "wait", "group GROUP PHASE on SERVER", 20 * time.Second},
		{"wait served rows", "wait", "served WORKLOAD", defaultWait},
		{"expect lost rows 0   # all of them", "expect", "lost WORKLOAD NUMBER", defaultWait},
		{"hold 3s", "hold", "", 3 * time.Second},
		{"hold 3s no move", "hold", "no move", 3 * time.Second},
		{`expect sentence "Normal State: all is well." on rocky`, "expect", "sentence TEXT on SERVER", defaultWait},
		{"run rocky orscore failback rocky", "run HOST REST", "", defaultWait},
		{"run rocky fails 4 orscore failback", "run HOST fails NUMBER REST", "", defaultWait},
		{"cut network interconnect of rocky", "cut network NETWORK of HOST", "", defaultWait},
		{"arm kill at claim.after on apollo", "arm ACTION at POINT on SERVER", "", defaultWait},
		{"wait fault claim.after on apollo", "wait", "fault POINT on SERVER", defaultWait},
		{"pause server rocky", "pause server SERVER", "", defaultWait},
		{"pause agent rocky", "pause agent SERVER", "", defaultWait},
		{"expect moves storage2 at most 1", "expect", "moves UNIT at most NUMBER", defaultWait},
		{"begin rocky orscore switchover rocky", "begin HOST REST", "", defaultWait},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			sc, err := parseIn(t, head+tt.line+"\n")
			if err != nil {
				t.Fatal(err)
			}
			st := sc.Phases[0].Steps[0]
			cond := ""
			if st.cond != nil {
				cond = st.cond.form
			}
			if st.verb.form != tt.verb || cond != tt.cond || st.wait != tt.wait {
				t.Errorf("got %q %q %v, want %q %q %v", st.verb.form, cond, st.wait, tt.verb, tt.cond, tt.wait)
			}
		})
	}
}

func TestMistakesAreNamedWithTheirLines(t *testing.T) {
	tests := []struct {
		name, line string
		want       []string
	}{
		{"unknown step", "power out rocky", []string{":9: power out rocky", "power off SERVER"}},
		{"unknown server", "power off rokky", []string{`"rokky" is no server`, "rocky and apollo"}},
		{"unknown host", "run nobody true", []string{`"nobody" is no host`}},
		{"unknown condition", "wait for it", []string{`condition "for it" is not known`}},
		{"half a condition", "expect group rocky active", []string{"group GROUP PHASE on SERVER"}},
		{"no such workload", "start workload page", []string{`"page" is no workload`}},
		{"no such network", "cut network x of rocky", []string{"client and interconnect"}},
		{"bad time", "wait served rows within soon", []string{"invalid duration"}},
		{"bad number", "expect lost rows none", []string{"invalid syntax"}},
		{"quote", `expect sentence "x on rocky`, []string{"a quote is not closed"}},
		{"second phase of a name", "phase one", []string{"at line 8"}},
		{"hold without a time", "hold", []string{"hold DURATION"}},
		{"no such fault", "arm break at claim.after on apollo", []string{`"break"`, "kill, stop, exit"}},
		{"a phase for nothing", "phase two for", []string{"phase NAME for WORD"}},
		{"a phase for a word twice", "phase two for a a", []string{`there is a phase "two:a"`}},
		{"no such unit", "expect unit x at port 1", []string{`"x" is no unit`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseIn(t, head+tt.line+"\n")
			for _, w := range tt.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want it to say %q", err, w)
				}
			}
		})
	}
}

func TestPhaseForSeveralWords(t *testing.T) {
	sc, err := parseIn(t, head+"hold 1s\nphase two for rocky apollo # both\npower off {}\nwait verdict lost on {}\n"+
		"phase three\nhold 2s\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ph := range sc.Phases {
		for _, st := range ph.Steps {
			got = append(got, ph.Name+" | "+st.Text)
		}
	}
	want := []string{
		"one | hold 1s", "two:rocky | power off rocky", "two:rocky | wait verdict lost on rocky",
		"two:apollo | power off apollo", "two:apollo | wait verdict lost on apollo", "three | hold 2s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWorkloads(t *testing.T) {
	sc, err := parseIn(t, strings.Replace(head, "phase one", "workload page http http://172.25.36.46/\n"+
		"workload slow store 172.25.36.46:7000 patient\nstate 8M\nphase one", 1))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range sc.Workloads {
		got = append(got, strings.Join(append(clientArgs(w, w.Kind)[2:], w.host()), " "))
	}
	want := []string{
		"postgres --to 172.25.36.45:5432 --log /var/log/rows.log 172.25.36.45",
		"http --to http://172.25.36.46/ --log /var/log/page.log 172.25.36.46",
		"store --patient --to 172.25.36.46:7000 --log /var/log/slow.log 172.25.36.46",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if sc.Setup.StateSize != 8<<20 {
		t.Errorf("state folders of %d bytes", sc.Setup.StateSize)
	}
}

func TestMistakesInDeclarations(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", "a pair has two servers"},
		{"address without bits", strings.Replace(head, "172.25.36.10/24", "172.25.36.10", 1), "client ADDRESS/BITS"},
		{"third server", strings.Replace(head, "client 172.25.36.10/24",
			"client 172.25.36.10/24\nserver x client 1.2.3.4/8 interconnect 1.2.3.4/8", 1), "a pair has two servers"},
		{"unit without a home", strings.Replace(head, "home rocky", "home x", 1), `home "x" is no server`},
		{"size", strings.Replace(head, "64M", "64", 1), "such as 64M"},
		{"no such file", strings.Replace(head, "config.hcl", "other.hcl", 1), "no such file"},
		{"unknown word", "frob\n" + head, `"frob" is not known before the first phase`},
		{"no phase", strings.Replace(head, "phase one", "", 1), "no phase"},
		{"unknown workload", strings.Replace(head, "rows postgres", "rows mysql", 1), "postgres|store HOST:PORT"},
		{"patient page", strings.Replace(head, "postgres 172.25.36.45:5432", "http http://x/ patient", 1), "not understood"},
		{"unknown option", strings.Replace(head, "size 64M", "weight 64M", 1), `"weight" is not known`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseIn(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(head + "power off rocky\n")
	f.Add(head + `expect sentence "a b" on rocky`)
	f.Add("unit x home")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = Parse("x.scenario", text) // it must not panic
	})
}

var zero = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func record(ms int, kind, group, step string, took float64) store.Record {
	return store.Record{At: at(ms), Kind: kind, Group: group, Step: step, Data: map[string]any{"duration_ms": took}}
}

func TestAccount(t *testing.T) {
	kinds := map[string]string{"rocky/address": addressKind, "rocky/postgres": "generic"}
	lost := store.Record{At: at(1010), Kind: "verdict", Step: "verdict", Data: map[string]any{
		"verdict": "lost", "timeout_at": at(1000).Format(time.RFC3339Nano)}}
	takeover := []store.Record{
		lost, record(1020, "step", "rocky", "claim", 0), record(1050, "step", "rocky", "attached", 25),
		record(1110, "step", "rocky", "app-up address", 55), record(1410, "step", "rocky", "app-up postgres", 290),
		record(1411, "step", "rocky", "active", 0),
	}
	planned := []store.Record{
		record(50, "step", "rocky", "app-stopped postgres", 40), record(60, "step", "rocky", "app-stopped address", 5),
		record(70, "step", "rocky", "detached", 10), record(75, "step", "rocky", "claim", 0),
		record(100, "step", "rocky", "attached", 20), record(150, "step", "rocky", "app-up address", 45),
		record(250, "step", "rocky", "app-up postgres", 95), record(251, "step", "rocky", "active", 0),
	}
	later := store.Record{At: at(90), Kind: "verdict", Step: "verdict", Data: lost.Data}
	tests := []struct {
		name    string
		records []store.Record
		moved   bool
		out     workload.Outage
		want    string
	}{
		{"takeover", takeover, true, workload.Outage{From: at(-3), To: at(1415)},
			"detection 1000 overhead 125 agent 40 mount 25 address 55 application 290 client 5"},
		{"the client was served before the check saw it", takeover, true, workload.Outage{From: at(-3), To: at(1400)},
			"detection 1000 overhead 120 agent 40 mount 25 address 55 application 280 client 0"},
		{"planned", planned, true, workload.Outage{From: at(8), To: at(260)},
			"detection 0 overhead 117 agent 27 mount 30 address 50 application 135 client 10"},
		{"a loss after the claim is another one", slices.Insert(slices.Clone(planned), 4, later), true,
			workload.Outage{From: at(8), To: at(260)},
			"detection 0 overhead 117 agent 27 mount 30 address 50 application 135 client 10"},
		{"nothing moved", nil, false, workload.Outage{From: at(8), To: at(16)},
			"detection - overhead - agent - mount - address - application - client -"},
		{"restarted at home", planned[5:], false, workload.Outage{From: at(8), To: at(260)},
			"detection - overhead - agent - mount - address - application 95 client -"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Measured
			account(&m, takenFrom(tt.records, kinds, tt.out), tt.moved, zero, tt.out)
			if diff := cmp.Diff(tt.want, m.line()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecordsOfAJournal(t *testing.T) {
	got, err := parseRecords("{\"pos\":1,\"kind\":\"step\"}\n\n{\"pos\":2}\n")
	if err != nil || len(got) != 2 || got[0].Kind != "step" || got[1].Pos != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parseRecords("orscore: no agent"); err == nil {
		t.Error("words were taken for records")
	}
}
