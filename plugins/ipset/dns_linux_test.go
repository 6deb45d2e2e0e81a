package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/orscore/ors/plugins/ipset/internal/nametest"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// records waits until the client is told these records of rocky.testlab.com.
func (n *network) records(server string, kind uint16, want ...string) {
	n.Helper()
	var got []string
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		n.within("client", func() (err error) {
			got, err = nametest.Records(server, "rocky.testlab.com", kind)
			return err
		})
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			n.Fatalf("rocky.testlab.com is %q, want %q", got, want)
		}
	}
}

// A server of another network has another address: its name follows the group, with the name server dead at first.
func TestDNS(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24"})
	server := nametest.Start(t, "172.25.36.100", 53, "ip", "netns", "exec", f.ns("client"))
	body := map[string]any{"addresses": both, "dns": []map[string]any{{
		"zone": "testlab.com", "server": "172.25.36.100", "names": []string{"rocky"}, "key_file": server.KeyFile, "ttl": "5s",
	}}}
	f.configure(body)
	f.powerOff("rocky")
	server.Stop()
	s := f.mustStart()
	if got := strings.Join(s.Steps, " "); got != "probe probe address address dns" {
		t.Errorf("steps are %q", got)
	}
	f.pinger().await(t, groupAddress) // the name server's failure costs nobody the address
	for end := time.Now().Add(patience); !strings.Contains(f.detail(), "refused"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the probe says %q", f.detail())
		}
	}
	f.healthy("refused")
	f.killPlugin() // and the plugin is killed before it is back
	server.Run()
	if _, err := f.renew(1, 0); err != nil {
		t.Fatal(err)
	}
	f.records(server.Address, dns.TypeA, "rocky.testlab.com. 5 IN A 172.25.36.45")
	f.records(server.Address, dns.TypeAAAA, "rocky.testlab.com. 5 IN AAAA 2001:db8:36::45")
	for end := time.Now().Add(patience); !f.wellKnown(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the probe still says that the zone is not updated")
		}
	}
	f.stop()
	f.records(server.Address, dns.TypeA, "rocky.testlab.com. 5 IN A 172.25.36.45") // for the partner to replace

	body["addresses"] = []string{"172.25.36.47/24"}
	live := body["dns"].([]map[string]any)[0]
	live["remove"] = true
	dead := maps.Clone(live) // a name server that never answers takes nothing of the other's time
	dead["zone"], dead["server"] = "example.com", "172.25.36.99"
	body["dns"] = []map[string]any{dead, live}
	f.configure(body)
	f.mustStart()
	f.records(server.Address, dns.TypeA, "rocky.testlab.com. 5 IN A 172.25.36.47")
	f.records(server.Address, dns.TypeAAAA, "rocky.testlab.com. 5 IN AAAA 2001:db8:36::45") // no type of ours any more
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Stop(ctx, &pluginv1.StopRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil || r.GetState() != pluginv1.RunState_RUN_STATE_STOPPED || !strings.Contains(r.GetDetail(), "172.25.36.99") {
		t.Errorf("stop: %v, %v", r, err)
	}
	f.records(server.Address, dns.TypeA)

	secret := server.Secret()
	state, err := os.ReadDir(f.app.WorkDir)
	if err != nil {
		t.Fatal(err)
	}
	said := f.logs.String()
	for _, file := range state {
		b, err := os.ReadFile(f.app.WorkDir + "/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		said += string(b)
	}
	if strings.Contains(said, secret) || !strings.Contains(said, "the zone is updated") {
		t.Error("the secret is in a log or on record, or nothing is said at all")
	}
}

// wellKnown says whether the probe has nothing to say about what is beside the addresses.
func (f *fixture) wellKnown() bool { return !strings.Contains(f.detail(), "But") }

// detail is what the probe says.
func (f *fixture) detail() string {
	f.Helper()
	ctx, cancel := f.context()
	defer cancel()
	r, err := f.plugin.Probe(ctx, &pluginv1.ProbeRequest{Caller: f.caller(), Application: f.app, Handle: f.handle})
	if err != nil {
		f.Fatal(err)
	}
	return r.GetDetail()
}

func TestKeyFileIsOpenToOthers(t *testing.T) {
	f := protect(t, map[string]any{"address": groupAddress + "/24"})
	f.powerOff("rocky")
	key := f.app.WorkDir + "/key"
	if err := os.WriteFile(key, []byte("key a { algorithm hmac-sha256; secret c2VjcmV0; };"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.configure(map[string]any{"address": groupAddress + "/24", "dns": []map[string]any{
		{"zone": "testlab.com", "server": "172.25.36.100", "names": []string{"rocky"}, "key_file": key}}})
	f.wantProblem("dns[0].key_file", "mode 0644")
}
