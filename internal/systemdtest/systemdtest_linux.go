// Package systemdtest runs the real systemd as process 1 of namespaces of its own, for tests.
//
// It must never let that systemd reach its end: what it becomes then ends and unmounts everything that it can see.
package systemdtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait.
const patience = 20 * time.Second

// Units is the folder of units that the machine knows besides systemd's own transient ones.
const Units = "/run/units"

// Machine is a running systemd.
type Machine struct{ pid int }

// script becomes process 1. The machine has no units but a few targets, and those that a test writes. end.service does
// what systemd-poweroff.service does, but that it runs the file "end", if there is one, where the other one ends
// everything.
const script = `echo $$ >"$0/cgroup.procs"
exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child sh -c '
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /run/units
cd /run/units
for name in nothing sysinit basic; do printf "[Unit]\nDescription=nothing\n" >$name.target; done
cp /lib/systemd/system/shutdown.target /lib/systemd/system/final.target .
cat >end.service <<END
[Unit]
DefaultDependencies=no
Requires=shutdown.target final.target
After=shutdown.target final.target
[Service]
Type=oneshot
ExecStart=-/run/units/end
END
cd /
export container=ors SYSTEMD_UNIT_PATH=/run/systemd/transient:/run/units
exec /lib/systemd/systemd --system --unit=nothing.target --log-target=console'`

// Boot starts a machine, which ends with the test. It skips the test where there can be none.
func Boot(t testing.TB) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: systemd as process 1 of a namespace needs root")
	}
	group, err := newGroup()
	if err != nil {
		t.Skipf("SKIPPED: no control group of version 2 can be made: %v", err)
	}
	cmd := exec.Command("sh", "-c", script, group)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it process 1 and all below
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd said: %s", said.String())
		}
		await(t, "empty control groups", func() bool { return removeGroups(group) })
	})
	m := &Machine{}
	await(t, "systemd", func() bool {
		children := fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid)
		raw, err := os.ReadFile(children)
		if err != nil {
			return false
		}
		if _, err := fmt.Sscan(string(raw), &m.pid); err != nil {
			return false
		}
		out, _ := m.Command("systemctl", "is-system-running").Output()
		return strings.TrimSpace(string(out)) == "running"
	})
	return m
}

// Command is a program that runs in the machine, as root and outside of its units.
func (m *Machine) Command(argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(m.pid), "-a", "--"}, argv...)...)
}

// Write writes a file into the folder of units, executable for those that are programs.
func (m *Machine) Write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join("/proc", fmt.Sprint(m.pid), "root", Units, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// ShutDown are the words by which the machine is shut down, as far as that goes.
func ShutDown() []string {
	return []string{"systemctl", "start", "--job-mode=replace-irreversibly", "end.service"}
}

func newGroup() (string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); len(f) > 4 && strings.HasPrefix(after, "cgroup2 ") && f[3] == "/" {
			group := filepath.Join(f[4], fmt.Sprintf("ors-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
			return group, os.Mkdir(group, 0o755)
		}
	}
	return "", errors.New("none are mounted")
}

// removeGroups removes a control group with all below it, once their processes are gone.
func removeGroups(top string) bool {
	var all []string
	_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	for i := len(all) - 1; i >= 0; i-- {
		_ = unix.Rmdir(all[i])
	}
	_, err := os.Stat(top)
	return errors.Is(err, os.ErrNotExist)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come within %v", what, patience)
		}
	}
}
