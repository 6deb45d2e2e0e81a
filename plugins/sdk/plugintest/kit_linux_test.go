package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// checkEnv makes this test's binary check a plugin instead, and write the report: a process of its own for each, because
// a run takes all orphans for its plugin's.
const checkEnv = "ORS_TEST_CHECK"

type order struct {
	Command  []string
	Previous []string
	Only     []string
	NoTLS    bool
}

func TestMain(m *testing.M) {
	raw, ok := os.LookupEnv(checkEnv)
	if !ok {
		code := m.Run()
		if dir, err := misbehave(); err == nil {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}
	var o order
	r, err := Report{}, json.Unmarshal([]byte(raw), &o)
	if err == nil {
		r, err = Check(context.Background(), Options{Command: o.Command, Previous: o.Previous, Only: o.Only, NoTLS: o.NoTLS})
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// mutants are the ways of testdata/misbehave to break the contract, and the check that has to notice each.
var mutants = []struct{ name, what, finding string }{
	{"greets", "prints a greeting before the handshake", "handshake"},
	{"runs-by-hand", "goes on for ever when it is started without the core", "cookie"},
	{"trusts-everybody", "answers callers without a certificate", "mutual-tls"},
	{"other-kind", "says that it serves another kind than its program's name", "info"},
	{"bad-default", "has a default that is not of its attribute's type", "schema"},
	{"renews-unasked", "answers Renew, of which its Info says that it is not served", "unasked"},
	{"accepts-anything", "accepts a configuration that is no JSON", "validate-bad"},
	{"refuses-good", "refuses a good configuration", "validate-good"},
	{"wants-its-drive", "is not ready while its drive is at the partner", "ready-standby"},
	{"finds-no-line", "reports a problem of an attribute that its schema does not have", "ready"},
	{"writes-in-probe", "writes a file when it is asked for the health", "no-change"},
	{"slow-recover", "takes a minute to answer Recover", "deadlines"},
	{"recovers-nothing", "says RUNNING of what was never started", "recover-never-started"},
	{"stop-fails-when-stopped", "fails to stop what does not run", "stop-stopped"},
	{"start-without-handle", "ends a start well, but without a handle", "start"},
	{"tells-no-step", "starts without a word", "steps"},
	{"starts-beside", "starts a second copy beside a start that is under way", "start-beside"},
	{"slow-renewal", "takes two seconds for a renewal", "renew-time"},
	{"starts-twice", "starts a second copy of what runs", "start-twice"},
	{"repeats-stop", "stops again when a stop is repeated", "repeat"},
	{"says-nothing", "answers without a word for people", "sentences"},
	{"forgets-without-handle", "says STOPPED of what runs when the core has no handle", "recover-without-handle"},
	{"stopped-on-unknown-handle", "says STOPPED of what runs when it cannot read the handle", "handle-unknown"},
	{"forgets-old-handles", "says STOPPED of what its older release has started", "handle-previous"},
	{"one-at-a-time", "answers one call after the other, slowly", "concurrent-calls"},
	{"stops-in-words", "says STOPPED and stops nothing", "stop"},
	{"stop-once", "fails when it is to stop what it has stopped", "stop-twice"},
	{"kills-in-words", "says STOPPED of what it was to kill, and does not", "kill"},
	{"kill-once", "fails when it is to kill what it has killed", "kill-twice"},
	{"starts-after-kill", "goes on with a start after a kill", "kill-during-start"},
	{"kill-waits-for-stop", "lets a kill wait behind a stop", "kill-during-stop"},
	{"starts-late", "starts what was given up when it was said to be STOPPED", "start-cut"},
	{"any-epoch", "obeys a core that has lost the group", "stale-epoch"},
	{"epoch-in-memory", "forgets the newest epoch when it is started again", "stale-epoch-after-restart"},
	{"one-epoch-for-all", "measures all applications by the newest epoch of any", "epochs-per-application"},
	{"lease-out-of-order", "takes a lease that was overtaken, or that has ended", "renew"},
	{"takes-its-application-along", "lets the application die with it", "plugin-killed"},
	{"stops-when-it-ends", "stops its applications when it is asked to end", "plugin-ends"},
	{"outlives-core", "goes on when the core has gone", "core-gone"},
	{"guesses-after-broken-start", "says STOPPED of what a start has begun that broke off", "plugin-killed-in-start"},
	{"copies-after-broken-start", "starts a second copy of what a broken start has begun", "one-copy"},
	{"ok-when-dead", "says OK of an application that was killed", "application-killed"},
	{"trusts-pid", "takes whoever has the pid for its application, and kills it", "pid-reuse"},
	{"hangs-with-application", "hangs in Probe when the application does", "probe-hang"},
	{"stops-politely", "waits for an application that hangs, beyond the deadline", "stop-hung-application"},
	{"lends-its-output", "lets the application write to its standard output", "holds-nothing"},
	{"prints", "prints on standard output", "stdout"},
	{"panics", "panics at what it does not expect", "log"},
}

// supporting are the checks during which a mutant shows what only the last ones look at.
var supporting = map[string]string{"stdout": "deadlines", "log": "validate-bad"}

// misbehave builds the mutants' program once, and gives each of them a folder whose name tells it what to do.
var misbehave = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "misbehave")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "ors-plugin-misbehave"), "./testdata/misbehave")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

func mutant(t *testing.T, name string) string {
	t.Helper()
	dir, err := misbehave()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name, "ors-plugin-misbehave")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "ors-plugin-misbehave"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// alone runs a command in a pid namespace of its own, below a shell that reaps: a mutant signals whoever has a number,
// which would be a process of another test sooner or later.
func alone(argv ...string) []string {
	if os.Geteuid() != 0 {
		return argv
	}
	space := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", `"$@"; exit $?`, "sh"}
	return append(space, argv...)
}

// inspect checks a plugin in a process of its own.
func inspect(o order) (Report, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	argv := alone(os.Args[0])
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), checkEnv+"="+string(raw))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return Report{}, fmt.Errorf("%w: %s%s", err, out.String(), errs.String())
	}
	var r Report
	return r, json.Unmarshal(out.Bytes(), &r)
}

// TestWellBehaved: the mutants' program passes every check as long as it has no fault.
func TestWellBehaved(t *testing.T) {
	t.Parallel()
	r, err := inspect(order{Command: []string{mutant(t, "well")}, Previous: []string{mutant(t, "release-1")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Outcome == Failed || f.Outcome == Skipped && os.Geteuid() == 0 {
			t.Errorf("%s %s: %s", f.Check, f.Outcome, f.Evidence)
		} else {
			t.Logf("%-26s %s", f.Check, f.Evidence)
		}
	}
	if !r.Passed || r.Plugin != "misbehave" || len(r.Findings) != len(checks) {
		t.Errorf("%s passed: %v; findings: %d of %d", r.Plugin, r.Passed, len(r.Findings), len(checks))
	}
}

// TestMutants: each way to misbehave has a finding of its own. The list is written to build/plugin-mutants.json.
func TestMutants(t *testing.T) {
	t.Parallel()
	type flagged struct {
		Mutant  string `json:"mutant"`
		What    string `json:"what"`
		Finding string `json:"finding"`
	}
	const atOnce = 8 // they mostly wait
	all, failures := make([]flagged, len(mutants)), make([]error, len(mutants))
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	seen := map[string]string{}
	for i, m := range mutants {
		if other := seen[m.finding]; other != "" {
			t.Errorf("%s and %s share the finding %s", m.name, other, m.finding)
		}
		seen[m.finding] = m.name
		o := order{Command: []string{mutant(t, m.name)}, Only: []string{m.finding}}
		if m.finding == "handle-previous" {
			o.Previous = []string{mutant(t, "release-1")}
		}
		if more := supporting[m.finding]; more != "" {
			o.Only = append(o.Only, more)
		}
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			r, err := inspect(o)
			j := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == m.finding })
			if err != nil || j < 0 || r.Findings[j].Outcome != Failed || r.Passed {
				failures[i] = fmt.Errorf("it %s, and %s did not notice: %+v, %w", m.what, m.finding, r, err)
				return
			}
			all[i] = flagged{m.name, m.what, m.finding + ": " + r.Findings[j].Evidence}
		})
	}
	wg.Wait()
	for i, m := range mutants {
		t.Logf("%s: %s", m.name, all[i].Finding)
		if failures[i] != nil {
			t.Errorf("%s: %v", m.name, failures[i])
		}
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.MkdirAll("../../../build", 0o755)
	}
	if err == nil && !t.Failed() {
		err = os.WriteFile("../../../build/plugin-mutants.json", append(raw, '\n'), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestEveryCheckHasAMutant: a check that nothing can fail shows nothing.
func TestEveryCheckHasAMutant(t *testing.T) {
	for _, c := range checks {
		if !slices.ContainsFunc(mutants, func(m struct{ name, what, finding string }) bool { return m.finding == c.name }) {
			t.Errorf("no mutant fails %s", c.name)
		}
	}
}

func TestUnknownCheck(t *testing.T) {
	_, err := Check(t.Context(), Options{Command: []string{"ors-plugin-x"}, Only: []string{"everything"}})
	if err == nil || !strings.Contains(err.Error(), "handshake") {
		t.Errorf("error %v, want one that lists the checks", err)
	}
	if _, err := Check(t.Context(), Options{}); err == nil {
		t.Error("no program, and no error")
	}
}

// TestProgramThatIsNone: a finding, and nothing else is tried.
func TestProgramThatIsNone(t *testing.T) {
	r, err := inspect(order{Command: []string{"/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Passed || r.Plugin != "true" || r.Findings[0].Outcome != Failed {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Findings[1:] {
		if f.Outcome != Skipped || f.Evidence == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestErrorsAreSkips(t *testing.T) {
	var s *skip
	if err := skipped("a %s", "b"); !errors.As(err, &s) || s.why != "a b" {
		t.Error(err)
	}
}

// wrapped makes a program that runs the well-behaved plugin as a shell script says, with its path as $1.
func wrapped(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ors-plugin-misbehave")
	text := "#!/bin/sh\nset -- " + mutant(t, "well") + "\n" + script + "\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWithoutTLS: a plugin that speaks none is known by its process and its socket's folder.
func TestWithoutTLS(t *testing.T) {
	elsewhere := t.TempDir()
	for _, c := range []struct {
		name, command string
		noTLS         bool
		failed, says  string // the check that fails, and what it says; empty: none
	}{
		{name: "as agreed", command: mutant(t, "well"), noTLS: true},
		{"not agreed", wrapped(t, `unset PLUGIN_CLIENT_CERT; exec "$1"`), false, "handshake", "is checked with --tls=false"},
		{"TLS though not agreed", mutant(t, "trusts-everybody"), true, "handshake", "nobody has asked for TLS"},
		{"another process serves", wrapped(t, `"$1" & wait`), true, "info", "listens on the socket, and not"},
		{"the socket is elsewhere", wrapped(t, `PLUGIN_UNIX_SOCKET_DIR=`+elsewhere+`; exec "$1"`), true, "mutual-tls",
			"has to be in the folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := inspect(order{
				Command: []string{c.command}, NoTLS: c.noTLS,
				Only: []string{"mutual-tls", "info", "start", "plugin-killed", "core-gone"},
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Findings {
				t.Logf("%s %s: %s", f.Check, f.Outcome, f.Evidence)
				if (f.Outcome == Failed) != (f.Check == c.failed) || c.failed == "" && f.Outcome != Passed {
					t.Errorf("%s %s", f.Check, f.Outcome)
				}
				if f.Check == c.failed && !strings.Contains(f.Evidence, c.says) {
					t.Errorf("%s does not say %q", f.Check, c.says)
				}
			}
		})
	}
}

// TestProgramNames: the name of a program may have a version, which is then that of the plugin.
func TestProgramNames(t *testing.T) {
	raw, err := os.ReadFile(mutant(t, "well"))
	if err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{
		"ors-plugin-misbehave_1.0.0": "", "ors-plugin-misbehave_1.0": "", "anything": "",
		"ors-plugin-misbehave_1.0.1": "is of version 1.0.0", "ors-plugin-misbehave_1.x": "is of version 1.0.0",
		"ors-plugin-lamp_1.0.0": `serves the kind "misbehave"`,
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, raw, 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := inspect(order{Command: []string{path}, Only: []string{"info"}})
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == "info" })
		if err != nil || i < 0 || (says == "") != (r.Findings[i].Outcome == Passed) ||
			!strings.Contains(r.Findings[i].Evidence, says) {
			t.Errorf("%s: %+v, %v; want %q", name, r, err, says)
		}
	}
}
