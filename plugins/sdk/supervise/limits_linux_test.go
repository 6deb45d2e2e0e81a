package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/internal/systemdtest"
)

func number(n uint64) *uint64 { return &n }

// TestLimits: the program has them from its first instruction on, and its user, folder and variables as without them.
func TestLimits(t *testing.T) {
	s := spec(t, "sh", "-c", "ulimit -n; ulimit -c; ulimit -p; id -u; id -G; pwd; echo $WORD; ps -o args= -p $$")
	s.Env, s.Cwd = append(s.Env, "WORD=said"), "/usr"
	s.Limits = Limits{OpenFiles: number(123), CoreBytes: number(0)}
	want := []string{"123", "0", "", "", "", "/usr", "said", s.Argv[0]}
	if os.Geteuid() == 0 {
		s.User = &User{Name: "nobody", UID: 65534, GID: 65534, Groups: []uint32{65534, 12}}
		s.Limits.Processes = number(4000)
		want[2], want[3], want[4] = "4000", "65534", "65534 12"
		if err := os.Chmod(filepath.Dir(s.Log), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, s)
	await(t, "the end", func() bool { return Look(s.Dir, r).State == Stopped })
	raw, err := os.ReadFile(s.Log)
	got := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if err != nil || len(got) != len(want) {
		t.Fatalf("it said %q, %v", raw, err)
	}
	for i, w := range want {
		if w != "" && got[i] != w && !strings.HasPrefix(got[i], w+" -c ") {
			t.Errorf("line %d is %q, want %q", i, got[i], w)
		}
	}
}

// TestLimitsRefused: what cannot become the program with its limits, as its user and in its folder, was not started, and
// Start says why.
func TestLimitsRefused(t *testing.T) {
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	nobody := &User{Name: "nobody", UID: 65534, GID: 65534}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
		root   bool
	}{
		"no program":     {func(s *Spec) { s.Argv = []string{"/no/such/program"} }, "start /no/such/program: no such file", false},
		"no interpreter": {func(s *Spec) { s.Argv = []string{file("#!/no/such\n", 0o755)} }, "interpreter", false},
		"not executable": {func(s *Spec) { s.Argv = []string{file("x", 0o644)} }, "permission denied", false},
		"no folder":      {func(s *Spec) { s.Cwd = "/no/such" }, "working directory", false},
		"not the user's": {func(s *Spec) { s.Argv, s.User = []string{file("#!/bin/sh\n", 0o700)}, nobody },
			"as nobody: permission denied", true},
		"a folder that is not the user's": {func(s *Spec) { s.Cwd, s.User = closed, nobody }, "permission denied", true},
		"more than the kernel allows":     {func(s *Spec) { s.Limits.OpenFiles = number(1 << 40) }, "limit of open files", false},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("SKIPPED: only root changes the user")
			}
			s := spec(t, "sleep", "600")
			s.Limits = Limits{CoreBytes: number(0)}
			c.change(&s)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := Start(ctx, s, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if st := Look(s.Dir, nil); st.State != Stopped {
				t.Errorf("left behind: %+v", st)
			}
		})
	}
}

// unitEnv makes this test's binary run a program as a unit, where systemd is process 1, and print what became of it.
const unitEnv = "ORS_TEST_UNIT"

type unitOutcome struct {
	Cgroup   string // of the program
	Unit     string
	Describe string // systemctl show
	Status   Status // after the unit of who started it was stopped
	Stopped  Status
	After    string // the unit's state then
}

func inUnit(dir string) (o unitOutcome, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := Spec{Dir: filepath.Join(dir, "supervisor"), Name: "rocky/web site", Log: filepath.Join(dir, "log"),
		Env: []string{"PATH=/usr/bin:/bin"}, Argv: []string{"sh", "-c", "sleep 600 & sleep 600"},
		Unit: &Unit{Name: UnitName("rocky", "web site"), Description: "ORS application rocky/web site",
			MemoryBytes: 64 << 20, CPUPercent: 150}}
	r, err := Start(ctx, s, nil)
	if err != nil {
		return o, err
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.Main.PID))
	if err != nil {
		return o, err
	}
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			o.Cgroup = path
		}
	}
	o.Unit = "ors-rocky.web_site-" + r.ID[:8] + ".scope"
	shown, err := exec.CommandContext(ctx, "systemctl", "show", o.Unit, "-p", "Description,MemoryMax,CPUQuotaPerSecUSec,ActiveState").CombinedOutput()
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, shown)
	}
	o.Describe = string(shown)
	o.Status = Look(s.Dir, r)
	o.Stopped = r.Stop(ctx, StopHow{Signal: "SIGTERM", KillAfter: time.Second})
	for ctx.Err() == nil && o.After != "inactive" { // the unit goes with its last process
		shown, _ = exec.CommandContext(ctx, "systemctl", "show", o.Unit, "-p", "ActiveState", "--value").CombinedOutput()
		o.After = strings.TrimSpace(string(shown))
	}
	return o, ctx.Err()
}

// TestUnit: with the real systemd, as process 1 of namespaces of its own, a run is a unit with its limits, does not end
// with who started it, and its unit ends with it.
func TestUnit(t *testing.T) {
	if dir := os.Getenv(unitEnv); dir != "" {
		o, err := inUnit(dir)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(o)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := systemdtest.Boot(t).Command(os.Args[0], "-test.run", "^TestUnit$", "-test.timeout", "2m")
	cmd.Env = append(os.Environ(), unitEnv+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	line, _, _ := bytes.Cut(out, []byte("\n"))
	var o unitOutcome
	if err = errors.Join(err, json.Unmarshal(line, &o)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(o.Cgroup, "/"+o.Unit+"/"+cgroupPrefix) {
		t.Errorf("the program is in the control group %s, want one of %s", o.Cgroup, o.Unit)
	}
	for _, want := range []string{"Description=ORS application rocky/web site", "MemoryMax=67108864",
		"CPUQuotaPerSecUSec=1.500000s", "ActiveState=active"} {
		if !strings.Contains(o.Describe, want) {
			t.Errorf("the unit is %q, want %s", o.Describe, want)
		}
	}
	if o.Status.State != Running || !o.Status.Main || o.Stopped.State != Stopped || o.After != "inactive" {
		t.Errorf("running: %+v; stopped: %+v; the unit then: %q", o.Status, o.Stopped, o.After)
	}
}

// shutdownEnv makes this test's binary start a program as a unit, and a service in the agent's place, and shut the server
// down.
const shutdownEnv = "ORS_TEST_SHUTDOWN"

func beginShutdown(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := Start(ctx, Spec{Dir: filepath.Join(dir, "supervisor"), Name: "rocky/web", Log: filepath.Join(dir, "log"),
		Env: []string{"PATH=/usr/bin:/bin"}, Argv: []string{"sleep", "600"},
		Unit: &Unit{Name: UnitName("rocky", "web"), Description: "ORS application rocky/web"}}, nil)
	if err != nil {
		return err
	}
	look := fmt.Sprintf("#!/bin/sh\nkill -0 %d && a=alive || a=dead; echo $1 $a >>%s/saw\n", r.Main.PID, dir)
	if err := os.WriteFile("/run/units/look", []byte(look), 0o755); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"systemctl", "daemon-reload"}, {"systemctl", "start", "agent.service"}, systemdtest.ShutDown(),
	} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", argv, err, out)
		}
	}
	r.Stop(ctx, StopHow{Signal: "SIGKILL"})
	return ctx.Err()
}

// TestUnitAtShutdown: systemd leaves an application's unit alone while the agent's unit stops, which is what stops the
// application, and until nothing is left but to end everything.
func TestUnitAtShutdown(t *testing.T) {
	if dir := os.Getenv(shutdownEnv); dir != "" {
		if err := beginShutdown(dir); err != nil {
			t.Fatal(err)
		}
		return
	}
	m, dir := systemdtest.Boot(t), t.TempDir()
	m.Write(t, "agent.service", "[Service]\nType=exec\nExecStart=/bin/sleep 600\nExecStop=/bin/sleep 1\n"+
		"ExecStop=/run/units/look stop\n")
	m.Write(t, "end", "#!/bin/sh\nexec /run/units/look end\n")
	cmd := m.Command(os.Args[0], "-test.run", "^TestUnitAtShutdown$", "-test.timeout", "2m")
	cmd.Env = append(os.Environ(), shutdownEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	saw, err := os.ReadFile(filepath.Join(dir, "saw"))
	if want := "stop alive\nend alive\n"; err != nil || string(saw) != want {
		t.Errorf("the application was %q, want %q; %v", saw, want, err)
	}
}
