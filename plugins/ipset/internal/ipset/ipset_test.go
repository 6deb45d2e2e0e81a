package ipset

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk"
)

func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x46}
	addr := netip.MustParseAddr("172.25.36.45")
	both := announcements(mac, addr)
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"request": {
			both[0],
			"ffffffffffff020000000046" + "0806" + "0001080006040001" + "020000000046ac19242d" + "000000000000ac19242d",
		},
		"reply": {
			both[1],
			"ffffffffffff020000000046" + "0806" + "0001080006040002" + "020000000046ac19242d" + "020000000046ac19242d",
		},
		"probe": {
			probe(mac, addr),
			"ffffffffffff020000000046" + "0806" + "0001080006040001" + "02000000004600000000" + "000000000000ac19242d",
		},
	} {
		if got := hex.EncodeToString(c.frame); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", name, got, c.want)
		}
	}
}

func TestClaims(t *testing.T) {
	own, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	addr, elsewhere, none := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.IPv4Unspecified()
	for name, c := range map[string]struct {
		m    arp
		want bool
	}{
		"an answer":                  {arp{op: arpReply, senderMAC: other, senderAddr: addr, targetAddr: none}, true},
		"its owner asks for another": {arp{op: arpRequest, senderMAC: other, senderAddr: addr, targetAddr: elsewhere}, true},
		"another one probes":         {arp{op: arpRequest, senderMAC: other, senderAddr: none, targetAddr: addr}, true},
		"somebody looks for it":      {arp{op: arpRequest, senderMAC: other, senderAddr: elsewhere, targetAddr: addr}, false},
		"our own probe":              {arp{op: arpRequest, senderMAC: own, senderAddr: none, targetAddr: addr}, false},
		"an answer for another":      {arp{op: arpReply, senderMAC: other, senderAddr: elsewhere, targetAddr: none}, false},
	} {
		if got := c.m.claims(addr, own); got != c.want {
			t.Errorf("%s: claims is %v, want %v", name, got, c.want)
		}
	}
}

func FuzzParseARP(f *testing.F) {
	f.Add(probe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1")))
	f.Add([]byte("short"))
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseARP(b)
		if err != nil {
			return
		}
		if again := m.frame(); !bytes.Equal(again[12:], b[12:arpFrame]) {
			t.Errorf("% x becomes % x", b[:arpFrame], again)
		}
	})
}

func TestValidate(t *testing.T) {
	good := config{Address: "172.25.36.45/24", Probe: "50ms", Announce: 5}
	with := func(change func(*config)) config {
		c := good
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		config config
		attr   string // of the one problem; empty: none
		words  string
	}{
		"good":             {good, "", ""},
		"all":              {with(func(c *config) { c.Adapter, c.Replaces, c.Probe = "eth0", "172.25.36.48", "0s" }), "", ""},
		"host route":       {with(func(c *config) { c.Address = "172.25.36.45/32" }), "", ""},
		"no prefix":        {with(func(c *config) { c.Address = "172.25.36.45" }), "address", "prefix"},
		"no address":       {with(func(c *config) { c.Address = "rocky/24" }), "address", "rocky"},
		"IPv6":             {with(func(c *config) { c.Address = "2001:db8::1/64" }), "address", "not supported yet"},
		"network":          {with(func(c *config) { c.Address = "172.25.36.0/24" }), "address", "network itself"},
		"broadcast":        {with(func(c *config) { c.Address = "172.25.36.255/24" }), "address", "broadcast"},
		"broadcast of /20": {with(func(c *config) { c.Address = "172.25.47.255/20" }), "address", "broadcast"},
		"multicast":        {with(func(c *config) { c.Address = "224.0.0.1/24" }), "address", "multicast"},
		"loopback":         {with(func(c *config) { c.Address = "127.0.0.2/8" }), "address", "loopback"},
		"no net":           {with(func(c *config) { c.Address = "10.0.0.1/0" }), "address", "/0"},
		"dummy prefix":     {with(func(c *config) { c.Replaces = "172.25.36.48/24" }), "replaces", "172.25.36.48/24"},
		"dummy is it":      {with(func(c *config) { c.Replaces = "172.25.36.45" }), "replaces", "itself"},
		"probe":            {with(func(c *config) { c.Probe = "fast" }), "probe", "fast"},
		"negative probe":   {with(func(c *config) { c.Probe = "-1s" }), "probe", "-1s"},
		"long probe":       {with(func(c *config) { c.Probe = "1m" }), "probe", "1m"},
		"never announced":  {with(func(c *config) { c.Announce = 0 }), "announce", "0 times"},
		"long adapter":     {with(func(c *config) { c.Adapter = "anadapterwithaname" }), "adapter", "15 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := json.Marshal(c.config)
			if err != nil {
				t.Fatal(err)
			}
			app, err := newApplication(sdk.Instance{Config: b})
			if err != nil {
				t.Fatal(err)
			}
			found := app.Validate(context.Background())
			switch {
			case c.attr == "" && len(found) == 0 || c.attr == "" && !supported:
			case len(found) == 0 || found[0].Attribute != c.attr || !strings.Contains(found[0].Summary, c.words) ||
				found[0].Detail == "":
				t.Errorf("problems are %+v, want %q about %q", found, c.words, c.attr)
			}
		})
	}
	if _, err := newApplication(sdk.Instance{Config: []byte(`{"adress":"10.0.0.1/24"}`)}); err == nil {
		t.Error("an unknown attribute is taken")
	}
}

// TestDocsNameEveryAttribute keeps docs/plugins.md complete.
func TestDocsNameEveryAttribute(t *testing.T) {
	b, err := os.ReadFile("../../../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func(s sdk.Schema)
	look = func(s sdk.Schema) {
		for _, a := range s.Attributes {
			if a.Description == "" || !strings.Contains(string(b), a.Name) {
				t.Errorf("%s is not described", a.Name)
			}
		}
		for _, inner := range s.Blocks {
			look(inner.Body)
		}
	}
	look(schema)
}
