package interconnect

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// realtimeReport is what the helper process of TestLockRealtime finds.
type realtimeReport struct {
	Granted, Refused []string
	Own, Child       string // policy and priority of the process and of what it starts
	ChildLocked      string
}

// policyOf reads the scheduling policy (2 = round robin) and the real-time priority from a line of /proc/PID/stat.
func policyOf(stat string) string {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return "policy " + f[41-3] + " priority " + f[40-3]
}

func TestLockRealtime(t *testing.T) {
	if os.Getenv("ORS_TEST_REALTIME") != "" {
		var r realtimeReport
		r.Granted, r.Refused = LockRealtime()
		own, _ := os.ReadFile("/proc/self/stat")
		r.Own = policyOf(string(own))
		child, _ := exec.Command("cat", "/proc/self/stat").Output()
		r.Child = policyOf(string(child))
		locked, _ := exec.Command("grep", "VmLck", "/proc/self/status").Output()
		r.ChildLocked = strings.Join(strings.Fields(string(locked)), " ")
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			t.Fatal(err)
		}
		return
	}
	if unix.Geteuid() != 0 {
		t.Skip("not root: real-time priority and locked memory would be refused")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockRealtime$")
	cmd.Env = append(os.Environ(), "ORS_TEST_REALTIME=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r realtimeReport
	if err := json.NewDecoder(strings.NewReader(string(out))).Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	t.Logf("%+v", r)
	if len(r.Granted)+len(r.Refused) != 2 {
		t.Errorf("asked for two things, told of %d", len(r.Granted)+len(r.Refused))
	}
	for _, g := range r.Granted {
		if g == "real-time priority" && r.Own != "policy 2 priority 1" {
			t.Errorf("granted, but the process has %s", r.Own)
		}
	}
	if r.Child != "policy 0 priority 0" || r.ChildLocked != "VmLck: 0 kB" {
		t.Errorf("a child has inherited: %s, %s", r.Child, r.ChildLocked)
	}
}
