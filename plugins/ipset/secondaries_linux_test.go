package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/internal/bootclock"
)

// secondaries reads or sets promote_secondaries of apollo's adapter.
func (n *network) secondaries(set string) string {
	n.Helper()
	const path = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"
	script := "cat " + path
	if set != "" {
		script = fmt.Sprintf("echo %s >%s", set, path)
	}
	out, err := exec.Command("ip", "netns", "exec", n.ns("apollo"), "sh", "-c", script).CombinedOutput()
	if err != nil {
		n.Fatalf("%s: %v %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestPromoteSecondaries: what the kernel does with an adapter's other addresses is as it was when the last application
// that needed it otherwise has left.
func TestPromoteSecondaries(t *testing.T) {
	leased := func(f *fixture) {
		f.Helper()
		_, err := f.renew(1, bootclock.Now()+time.Minute)
		f.mustStart()
		if _, again := f.renew(2, bootclock.Now()+time.Minute); err != nil || again != nil {
			f.Fatal(errors.Join(err, again))
		}
	}
	for name, c := range map[string]struct{ before, by, after string }{
		"off":                               {"0", "", "0"},
		"on":                                {"1", "", "1"},
		"on, as a number":                   {"2", "", "2"},
		"off, and changed by somebody else": {"0", "2", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := protect(t, map[string]any{"address": groupAddress + "/24"})
			b := a.second("apollo", "second", map[string]any{"address": "172.25.36.47/24"})
			a.powerOff("rocky")
			a.secondaries(c.before)
			leased(a)
			leased(b)
			if c.by != "" {
				a.secondaries(c.by)
			}
			if got := a.secondaries(""); got == "0" {
				t.Error("other addresses would go with the first one")
			}
			a.killPlugin()
			b.plugin = a.plugin
			a.stop()
			if got := a.secondaries(""); got == "0" {
				t.Error("the other application still needs it")
			}
			b.stop()
			if got := a.secondaries(""); got != c.after {
				t.Errorf("afterwards it is %s, it was %s", got, c.before)
			}
		})
	}
}
