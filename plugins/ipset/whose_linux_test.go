package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orscore/ors/internal/bootclock"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// TestSomebodyElses: an address that somebody has set on this server by hand is not the group's: it is not found, not
// taken, and not removed. The partner may have it.
func TestSomebodyElses(t *testing.T) {
	for _, addr := range []string{"172.25.36.45/24", groupAddress6 + "/64"} {
		t.Run(addr, func(t *testing.T) {
			f := protect(t, map[string]any{"address": addr})
			f.ip("-n", f.ns("apollo"), "addr", "add", addr, "dev", "eth0") // rocky is on and has it; IPv6 notices that
			before := f.addresses()
			f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
			if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "is on eth0 already, and not by this plugin") {
				t.Errorf("start: %v", err)
			}
			how, err := f.renew(1, bootclock.Now()+60*time.Second)
			if err != nil || how != "" {
				t.Errorf("renewed: %q, %v", how, err)
			}
			f.health(pluginv1.Health_HEALTH_FAILED)
			f.stop()
			if after := f.addresses(); !slices.Equal(after, before) {
				t.Errorf("addresses %q, before %q", after, before)
			}
		})
	}
}

// TestDummyWasAlone: where the dummy was the only address of its network, its adapter is known from it, also when the
// lease has ended and both are gone.
func TestDummyWasAlone(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	f.ip("-n", f.ns("apollo"), "addr", "flush", "dev", "eth0")
	f.ip("-n", f.ns("apollo"), "addr", "add", "172.25.36.48/24", "dev", "eth0")
	renew := func(seq uint64, left time.Duration) {
		t.Helper()
		if _, err := f.renew(seq, bootclock.Now()+left); err != nil {
			t.Fatal(err)
		}
	}
	renew(1, 3500*time.Millisecond)
	f.mustStart()
	renew(2, 3500*time.Millisecond)
	for end := time.Now().Add(patience); len(f.addresses()) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lease does not end: %q", f.addresses())
		}
	}
	renew(3, 60*time.Second)
	f.wantAddresses("172.25.36.45/24 eth0:ors")
	f.stop()
	f.wantAddresses("172.25.36.48/24 eth0")
}

// TestRouteAfterTheLease: what went with an address whose lease had ended comes back with it.
func TestRouteAfterTheLease(t *testing.T) {
	f := protect(t, map[string]any{"address": "10.1.1.45/24", "gateway": "10.1.1.1", "adapter": "eth0"})
	f.powerOff("rocky")
	f.ip("-n", f.ns("apollo"), "addr", "flush", "dev", "eth0")
	route := func() bool {
		return strings.Contains(f.ip("-n", f.ns("apollo"), "route"), "default via 10.1.1.1")
	}
	_, err := f.renew(1, bootclock.Now()+3500*time.Millisecond)
	f.mustStart()
	if _, again := f.renew(2, bootclock.Now()+3500*time.Millisecond); err != nil || again != nil || !route() {
		t.Fatal(err, again, route())
	}
	for end := time.Now().Add(patience); len(f.addresses()) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lease does not end: %q", f.addresses())
		}
	}
	if _, err := f.renew(3, bootclock.Now()+60*time.Second); err != nil || !route() {
		t.Errorf("after the lease was renewed: %v, the route is there: %v", err, route())
	}
	f.stop()
}

// TestPortOfABridge: a port has often the hardware address of its bridge, and hears no answer for it.
func TestPortOfABridge(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24"})
	a := f.ns("apollo")
	mac := f.mac("apollo")
	f.ip("-n", a, "addr", "flush", "dev", "eth0")
	f.ip("-n", a, "link", "add", "br1", "type", "bridge")
	f.ip("-n", a, "link", "set", "eth0", "master", "br1")
	f.ip("-n", a, "link", "set", "br1", "address", mac)
	f.ip("-n", a, "link", "set", "br1", "up")
	f.ip("-n", a, "addr", "add", "172.25.36.46/24", "brd", "+", "dev", "br1")
	p := f.pinger()
	p.await(t, "172.25.36.45") // rocky is on and has it
	p.await(t, "172.25.36.46")
	f.configure(map[string]any{"address": "172.25.36.45/24", "adapter": mac, "probe": "1s"})
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "another machine (") {
		t.Errorf("start while rocky answers: %v", err)
	}
	f.configure(map[string]any{"address": "172.25.36.45/24", "adapter": "eth0"})
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "adapter eth0 is a port of br1: name that") {
		t.Errorf("start on a port: %v", err)
	}
	f.ip("-n", a, "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
	f.ip("-n", a, "link", "set", "eth1", "address", mac)
	f.configure(map[string]any{"address": "172.25.36.45/24", "adapter": mac})
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "say which by its name") {
		t.Errorf("start on one of two: %v", err)
	}
	f.wantAddresses()
}

// TestDamagedRecord: the core's handle knows the dummy, too.
func TestDamagedRecord(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	before := f.addresses()
	f.mustStart()
	record := filepath.Join(f.app.WorkDir, "state.json")
	damage := func() {
		t.Helper()
		if err := os.WriteFile(record, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	f.stop()
	if after := f.addresses(); len(after) != len(before) {
		t.Errorf("addresses %q, before %q", after, before)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("the record is still there")
	}

	f.mustStart()
	damage()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app}) // without a handle
	if err != nil || !strings.Contains(r.GetDetail(), "But: a dummy address, if there was one, is not put back") {
		t.Errorf("stop without record and handle: %v, %v", r, err)
	}
	if _, err := os.Stat(record); err != nil {
		t.Errorf("the evidence is gone: %v", err)
	}
}

// TestHandleOfAnotherBoot: after a restart of the server its addresses are as its own configuration says.
func TestHandleOfAnotherBoot(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48"})
	f.powerOff("rocky")
	f.mustStart()
	f.killPlugin()
	var handle map[string]any
	if err := json.Unmarshal(f.handle.GetState(), &handle); err != nil || handle["dummy"] == nil || handle["boot"] == nil {
		t.Fatalf("handle %s, %v", f.handle.GetState(), err)
	}
	handle["boot"] = "another"
	f.handle.State, _ = json.Marshal(handle)
	if err := os.RemoveAll(f.app.WorkDir); err != nil {
		t.Fatal(err)
	}
	f.ip("-n", f.ns("apollo"), "addr", "flush", "dev", "eth0")
	f.ip("-n", f.ns("apollo"), "addr", "add", "172.25.36.46/24", "dev", "eth0")
	f.recover(pluginv1.RunState_RUN_STATE_STOPPED)
	f.stop()
	f.wantAddresses("172.25.36.46/24 eth0")
}

// TestDummyIsOurs: an address that ORS has taken itself is nobody's dummy.
func TestDummyIsOurs(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24"})
	f.powerOff("rocky")
	f.mustStart()
	f.app.Name, f.app.WorkDir, f.handle = "second", t.TempDir(), nil
	f.configure(map[string]any{"address": "172.25.36.47/24", "replaces": "172.25.36.45"})
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "172.25.36.45 is no dummy: ORS itself has put it") {
		t.Errorf("start: %v", err)
	}
}

// TestNothingComesBackAfterAStop: the hosts file is damaged, so that a stop cannot take the names out of it, and its record
// stays. A renewal takes nothing that a stop has given up, and a start asks first.
func TestNothingComesBackAfterAStop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := protect(t, map[string]any{"address": "172.25.36.45/24", "replaces": "172.25.36.48",
		"hosts": []map[string]any{{"names": []string{"rocky"}, "file": file}}})
	before := f.addresses()
	f.powerOff("rocky")
	f.mustStart()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.LastIndex(strings.TrimSpace(string(text)), "\n")
	if err := os.WriteFile(file, text[:end+1], 0o644); err != nil { // an editor has lost the line that ends the block
		t.Fatal(err)
	}
	f.stop()
	f.wantAddresses(before...)
	if _, err := os.Stat(filepath.Join(f.app.WorkDir, "state.json")); err != nil {
		t.Fatalf("the record is gone, and with it what is to be done: %v", err)
	}
	f.ip("-n", f.ns("switch"), "link", "set", "rocky", "up") // it is the partner's now
	if how, err := f.renew(1, bootclock.Now()+60*time.Second); err != nil || how != "" {
		t.Errorf("renewed after the stop: %q, %v", how, err)
	}
	f.wantAddresses(before...)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.pinger().await(t, "172.25.36.45")
	if _, err := f.start(); err == nil || !strings.Contains(err.Error(), "another machine (") {
		t.Errorf("start while rocky answers: %v", err)
	}
	f.wantAddresses(before...)
}

// TestLapsedLeaseAsksFirst: an address whose lease has ended may be the partner's by now. A late renewal does not take it
// from there.
func TestLapsedLeaseAsksFirst(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24"})
	f.powerOff("rocky")
	if _, err := f.renew(1, bootclock.Now()+3500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	f.mustStart()
	if _, err := f.renew(2, bootclock.Now()+3500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	before := len(f.addresses())
	for end := time.Now().Add(patience); len(f.addresses()) == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lease does not end: %q", f.addresses())
		}
	}
	f.ip("-n", f.ns("switch"), "link", "set", "rocky", "up")
	f.pinger().await(t, "172.25.36.45")
	if _, err := f.renew(3, bootclock.Now()+60*time.Second); err == nil || !strings.Contains(err.Error(), "another machine (") {
		t.Errorf("renewed while rocky answers: %v", err)
	}
	if got := f.addresses(); len(got) != before-1 {
		t.Errorf("apollo has %q", got)
	}
	f.powerOff("rocky")
	if _, err := f.renew(4, bootclock.Now()+60*time.Second); err != nil || len(f.addresses()) != before {
		t.Errorf("renewed when rocky is off: %v, %q", err, f.addresses())
	}
}

// TestSameAddressElsewhere: the operator's own entry of the group's address, on another adapter, is neither taken for the
// group's nor removed with it.
func TestSameAddressElsewhere(t *testing.T) {
	f := protect(t, map[string]any{"address": "172.25.36.45/24"})
	f.powerOff("rocky")
	f.mustStart()
	a := f.ns("apollo")
	f.ip("-n", a, "addr", "add", "172.25.36.45/32", "dev", "lo")
	if _, err := f.renew(1, bootclock.Now()+60*time.Second); err != nil {
		t.Fatal(err)
	}
	if out := f.ip("-n", a, "-4", "addr", "show", "dev", "lo"); strings.Contains(out, "valid_lft 5") {
		t.Errorf("the operator's has got a lifetime: %s", out)
	}
	if out := f.ip("-n", a, "-4", "addr", "show", "dev", "eth0"); !strings.Contains(out, "valid_lft 5") {
		t.Errorf("the group's was not renewed: %s", out)
	}
	f.health(pluginv1.Health_HEALTH_OK)
	f.stop()
	if out := f.ip("-n", a, "-4", "addr", "show", "dev", "lo"); !strings.Contains(out, "172.25.36.45/32") {
		t.Errorf("the operator's is gone: %s", out)
	}
	f.wantAddresses("172.25.36.46/24 eth0", "172.25.36.48/24 eth0")
}
