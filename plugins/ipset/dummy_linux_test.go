package main

import (
	"strings"
	"testing"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// entries lists "address adapter label" of all adapters of apollo for an IPv4 address.
func (n *network) entries(addr string) string {
	n.Helper()
	var out []string
	for line := range strings.Lines(n.ip("-n", n.ns("apollo"), "-o", "-4", "addr")) {
		if f := strings.Fields(strings.Split(line, "\\")[0]); f[3] == addr {
			out = append(out, f[3]+" "+f[1]+" "+f[len(f)-1])
		}
	}
	return strings.Join(out, ", ")
}

// TestDummyAfterARename: the dummy comes back on the adapter that it was on, by whatever name that is known now.
func TestDummyAfterARename(t *testing.T) {
	for name, other := range map[string]bool{"renamed": false, "another one has its name": true} {
		t.Run(name, func(t *testing.T) {
			f := protect(t, map[string]any{"address": groupAddress + "/24", "replaces": "172.25.36.48"})
			f.powerOff("rocky")
			f.mustStart()
			a := f.ns("apollo")
			f.ip("-n", a, "link", "set", "eth0", "down")
			f.ip("-n", a, "link", "set", "eth0", "name", "lan0")
			f.ip("-n", a, "link", "set", "lan0", "up")
			if other {
				f.ip("-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
			}
			f.health(pluginv1.Health_HEALTH_OK)
			f.stop()
			if got := f.entries("172.25.36.48/24"); got != "172.25.36.48/24 lan0 lan0" {
				t.Errorf("the dummy is %q", got)
			}
			if got := f.entries(groupAddress + "/24"); got != "" {
				t.Errorf("the group's address is %q", got)
			}
		})
	}
}

// TestDummyWithoutItsAdapter: where the adapter is gone, the operator is told what puts the dummy back by hand. It comes
// back by itself with the next stop when the adapter has been made anew, by another name.
func TestDummyWithoutItsAdapter(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	f.mustStart()
	mac, a := f.mac("apollo"), f.ns("apollo")
	f.ip("-n", a, "link", "del", "eth0")
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED ||
		!strings.Contains(r.GetDetail(), "ip addr add 172.25.36.48/24 broadcast 172.25.36.255 dev eth0") ||
		strings.Count(r.GetDetail(), "eth0 ("+mac+")") != 1 {
		t.Errorf("stop: %v, %v", r, err)
	}
	f.ip("-n", a, "link", "add", "lan0", "address", mac, "type", "veth", "peer", "name", "lan1")
	f.stop()
	if got := f.entries("172.25.36.48/24"); got != "172.25.36.48/24 lan0 lan0" {
		t.Errorf("the dummy is %q", got)
	}
}
