package ipset

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk"
)

func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x46}
	addr, addr6 := netip.MustParseAddr("172.25.36.45"), netip.MustParseAddr("2001:db8::36:45")
	client := neighbour{netip.MustParseAddr("172.25.36.100"), net.HardwareAddr{2, 0, 0, 0, 1, 0}}
	client6 := neighbour{netip.MustParseAddr("2001:db8::36:100"), client.mac}
	both := announceARP(mac, addr)
	const a45, a100 = "20010db8000000000000000000360045", "20010db8000000000000000000360100"
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
			probeARP(mac, addr),
			"ffffffffffff020000000046" + "0806" + "0001080006040001" + "02000000004600000000" + "000000000000ac19242d",
		},
		"question to one": {
			askARP(mac, addr, client),
			"020000000100020000000046" + "0806" + "0001080006040001" + "020000000046ac19242d" + "000000000000ac192464",
		},
		"advertisement": {
			announceNDP(mac, addr6, false)[0],
			"333300000001020000000046" + "86dd" + "6000000000203aff" + a45 + "ff020000000000000000000000000001" +
				"8800" + "cksm" + "20000000" + a45 + "0201020000000046",
		},
		"advertisement of a router": {
			announceNDP(mac, addr6, true)[0],
			"333300000001020000000046" + "86dd" + "6000000000203aff" + a45 + "ff020000000000000000000000000001" +
				"8800" + "cksm" + "a0000000" + a45 + "0201020000000046",
		},
		"probe for IPv6": {
			probeNDP(mac, addr6),
			"3333ff360045020000000046" + "86dd" + "6000000000183aff" + strings.Repeat("0", 32) +
				"ff0200000000000000000001ff360045" + "8700" + "cksm" + "00000000" + a45,
		},
		"question to one by IPv6": {
			askNDP(mac, addr6, client6),
			"020000000100020000000046" + "86dd" + "6000000000203aff" + a45 + a100 +
				"8700" + "cksm" + "00000000" + a100 + "0101020000000046",
		},
	} {
		want := strings.Replace(c.want, "cksm", checksum(c.frame), 1)
		if got := hex.EncodeToString(c.frame); got != want {
			t.Errorf("%s is\n%s, want\n%s", name, got, want)
		}
	}
}

// checksum of an ICMPv6 message in a frame, computed the plain way of RFC 1071, as hexadecimal.
func checksum(frame []byte) string {
	if len(frame) < ndpMessage {
		return ""
	}
	b := append([]byte(nil), frame[etherHeader+8:]...) // addresses and message
	b[32+2], b[32+3] = 0, 0
	b = append(b, 0, 0, 0, nextICMPv6)
	sum := uint32(len(frame) - ndpMessage)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return fmt.Sprintf("%04x", ^uint16(sum))
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

func TestClaimsNDP(t *testing.T) {
	own, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	addr, elsewhere := netip.MustParseAddr("2001:db8::45"), netip.MustParseAddr("2001:db8::46")
	far := announceNDP(other, addr, false)[0]
	far[etherHeader+7] = 254 // it has come over a router: not from this network
	for name, c := range map[string]struct {
		frame []byte
		want  bool
	}{
		"an answer":                  {announceNDP(other, addr, false)[0], true},
		"its owner asks for another": {askNDP(other, addr, neighbour{elsewhere, own}), true},
		"another one probes":         {probeNDP(other, addr), true},
		"somebody looks for it":      {askNDP(other, elsewhere, neighbour{addr, own}), false},
		"our own probe":              {probeNDP(own, addr), false},
		"an answer for another":      {announceNDP(other, elsewhere, false)[0], false},
		"from another network":       {far, false},
		"a torn frame":               {probeNDP(other, addr)[:ndpMessage+7], false},
	} {
		if got := claimsNDP(c.frame, addr, own); (got != nil) != c.want {
			t.Errorf("%s: claims is %v, want %v", name, got, c.want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(probeNDP(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("2001:db8::1")))
	f.Add(announceNDP(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("2001:db8::1"), true)[0])
	f.Add(probeARP(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1")))
	f.Add([]byte("short"))
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		own, addr := net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("2001:db8::1")
		if mac := claimsNDP(b, addr, own); mac != nil && !bytes.Equal(mac, b[6:12]) {
			t.Errorf("% x is from %v", b, mac)
		}
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
	good := config{Address: "172.25.36.45/24", Probe: "50ms", Announce: 5, Refresh: "1m"}
	with := func(change func(*config)) config {
		c := good
		change(&c)
		return c
	}
	address := func(a string) config { return with(func(c *config) { c.Address = a }) }
	named := func(all ...string) config { return with(func(c *config) { c.Hosts = []hostsConfig{{Names: all}} }) }
	zone := func(change func(*dnsConfig)) config {
		d := dnsConfig{Zone: "testlab.com", Server: "172.25.36.46", Names: []string{"rocky", "@", "a.testlab.com", "b.testlab.com."},
			TTL: "30s", KeyFile: "/etc/ors/dns.key"}
		change(&d)
		return with(func(c *config) { c.DNS = []dnsConfig{d} })
	}
	several := func(all ...string) config { return with(func(c *config) { c.Address, c.Addresses = "", all }) }
	for name, c := range map[string]struct {
		config config
		attr   string // of the one problem; empty: none
		words  string
	}{
		"good":              {good, "", ""},
		"all":               {with(func(c *config) { c.Adapter, c.Replaces, c.Probe = "eth0", "172.25.36.48", "0s" }), "", ""},
		"host route":        {address("172.25.36.45/32"), "", ""},
		"IPv6":              {address("2001:db8::45/64"), "", ""},
		"both":              {several("172.25.36.45/24", "2001:db8::45/64"), "", ""},
		"adapter by MAC":    {with(func(c *config) { c.Adapter = "02:00:00:00:36:46" }), "", ""},
		"gateway":           {with(func(c *config) { c.Gateway = "172.25.36.1" }), "", ""},
		"gateway of a link": {with(func(c *config) { c.Address, c.Gateway = "2001:db8::45/64", "fe80::1" }), "", ""},
		"no refresh":        {with(func(c *config) { c.Refresh = "0s" }), "", ""},
		"no prefix":         {address("172.25.36.45"), "address", "has no prefix"},
		"long prefix":       {address("172.25.36.45/33"), "address", "/1 to /32"},
		"long IPv6 prefix":  {address("2001:db8::45/129"), "address", "/1 to /128"},
		"mask":              {address("172.25.36.45/255.255.255.0"), "address", "/1 to /32"},
		"no address":        {address("rocky/24"), "address", "rocky"},
		"nothing":           {address(""), "address", "no address to move"},
		"network":           {address("172.25.36.0/24"), "address", "network itself"},
		"broadcast":         {address("172.25.36.255/24"), "address", "broadcast"},
		"broadcast of /20":  {address("172.25.47.255/20"), "address", "broadcast"},
		"multicast":         {address("224.0.0.1/24"), "address", "multicast"},
		"loopback":          {address("127.0.0.2/8"), "address", "loopback"},
		"no net":            {address("10.0.0.1/0"), "address", "/0"},
		"link-local":        {address("fe80::45/64"), "address", "link-local"},
		"zone":              {address("2001:db8::45%eth0/64"), "address", "2001:db8::45%eth0"},
		"all routers":       {address("2001:db8::/64"), "address", "all routers"},
		"IPv4 in IPv6":      {address("::ffff:172.25.36.45/120"), "address", "IPv4"},
		"one of several":    {several("172.25.36.45/24", "172.25.36/24"), "addresses[1]", "172.25.36/24"},
		"twice":             {several("172.25.36.45/24", "172.25.36.45/25"), "addresses[1]", "twice"},
		"one and several":   {with(func(c *config) { c.Addresses = []string{"10.0.0.1/8"} }), "addresses", "both"},
		"too many":          {several(make([]string, 65)...), "addresses", "65"},
		"dummy prefix":      {with(func(c *config) { c.Replaces = "172.25.36.48/24" }), "replaces", "172.25.36.48/24"},
		"dummy is it":       {with(func(c *config) { c.Replaces = "172.25.36.45" }), "replaces", "itself"},
		"dummy elsewhere":   {with(func(c *config) { c.Replaces = "172.25.37.48" }), "replaces", "in no network"},
		"gateway elsewhere": {with(func(c *config) { c.Gateway = "172.25.37.1" }), "gateway", "in no network"},
		"gateway's prefix":  {with(func(c *config) { c.Gateway = "172.25.36.1/24" }), "gateway", "172.25.36.1/24"},
		"gateway is it":     {with(func(c *config) { c.Gateway = "172.25.36.45" }), "gateway", "own gateway"},
		"probe":             {with(func(c *config) { c.Probe = "fast" }), "probe", "fast"},
		"negative probe":    {with(func(c *config) { c.Probe = "-1s" }), "probe", "-1s"},
		"long probe":        {with(func(c *config) { c.Probe = "1m" }), "probe", "1m"},
		"never announced":   {with(func(c *config) { c.Announce = 0 }), "announce", "0 times"},
		"refresh":           {with(func(c *config) { c.Refresh = "10ms" }), "refresh", "10ms"},
		"names":             {named("rocky.testlab.com", "rocky"), "", ""},
		"no name":           {named(), "hosts[0].names", "no name"},
		"name with a dot":   {named("rocky", "rocky.testlab.com."), "hosts[0].names[1]", "rocky.testlab.com."},
		"name twice":        {named("rocky", "Rocky"), "hosts[0].names[1]", "twice"},
		"localhost":         {named("localhost"), "hosts[0].names[0]", "localhost"},
		"hosts file": {with(func(c *config) { c.Hosts = []hostsConfig{{Names: []string{"a"}, File: "hosts"}} }),
			"hosts[0].file", "absolute"},
		"names of a zone":  {zone(func(*dnsConfig) {}), "", ""},
		"no zone":          {zone(func(d *dnsConfig) { d.Zone = "" }), "dns[0]", "no name of a zone"},
		"server by name":   {zone(func(d *dnsConfig) { d.Server = "apollo" }), "dns[0].server", "apollo"},
		"server's port":    {zone(func(d *dnsConfig) { d.Server = "10.0.0.1:0" }), "dns[0].server", "10.0.0.1:0"},
		"no names":         {zone(func(d *dnsConfig) { d.Names = nil }), "dns[0].names", "no name"},
		"outside the zone": {zone(func(d *dnsConfig) { d.Names = []string{"a", "b.org."} }), "dns[0].names[1]", "not in zone"},
		"name in a zone":   {zone(func(d *dnsConfig) { d.Names = []string{"a b"} }), "dns[0].names[0]", "a b"},
		"short TTL":        {zone(func(d *dnsConfig) { d.TTL = "10ms" }), "dns[0].ttl", "10ms"},
		"odd TTL":          {zone(func(d *dnsConfig) { d.TTL = "1500ms" }), "dns[0].ttl", "1500ms"},
		"key's path":       {zone(func(d *dnsConfig) { d.KeyFile = "key" }), "dns[0].key_file", "absolute"},
		"no key":           {zone(func(d *dnsConfig) { d.KeyFile = "" }), "dns[0]", "not signed"},
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

// TestPair: what two applications of the pair take from each other is told where the later one says it.
func TestPair(t *testing.T) {
	first := config{Address: "172.25.36.45/24", Probe: "50ms", Announce: 5, Refresh: "1m", Replaces: "172.25.36.48",
		Hosts: []hostsConfig{{Names: []string{"rocky.testlab.com", "rocky"}}},
		DNS: []dnsConfig{{Zone: "testlab.com", Server: "172.25.36.46", Names: []string{"rocky", "mail"}, TTL: "30s",
			KeyFile: "/etc/ors/dns.key"}}}
	for name, c := range map[string]struct {
		change func(*config)
		attr   string
		words  string
	}{
		"apart":        {func(*config) {}, "", ""},
		"same address": {func(c *config) { c.Address = "172.25.36.45/25" }, "address", `one of application "a" of group "one"`},
		"its dummy":    {func(c *config) { c.Address = "172.25.36.48/24" }, "address", "own dummy address"},
		"as dummy":     {func(c *config) { c.Replaces = "172.25.36.45" }, "replaces", "which moves"},
		"same dummy":   {func(c *config) { c.Replaces = "172.25.36.48" }, "", ""}, // of different servers, perhaps
		"same name":    {func(c *config) { c.Hosts = []hostsConfig{{Names: []string{"a", "ROCKY"}}} }, "hosts[0].names[1]", "find only one"},
		"another file": {func(c *config) { c.Hosts = []hostsConfig{{Names: []string{"rocky"}, File: "/etc/other"}} }, "", ""},
		"name of a zone": {func(c *config) {
			c.DNS = []dnsConfig{{Zone: "testlab.com.", Server: "172.25.36.46", Names: []string{"b", "Mail.testlab.com"}, TTL: "30s",
				KeyFile: "/etc/ors/dns.key"}}
		}, "dns[0].names", "mail.testlab.com is a name of"},
	} {
		t.Run(name, func(t *testing.T) {
			second := config{Address: "172.25.36.46/24", Probe: "50ms", Announce: 5, Refresh: "1m"}
			c.change(&second)
			all := []sdk.Instance{{Group: "one", Name: "a"}, {Group: "two", Name: "a"}}
			for i, one := range []config{first, second} {
				b, err := json.Marshal(one)
				if err != nil {
					t.Fatal(err)
				}
				all[i].Config = b
			}
			for i, in := range all {
				in.All = all
				app, err := newApplication(in)
				if err != nil {
					t.Fatal(err)
				}
				found := app.(*application).problems
				switch {
				case (i == 0 || c.attr == "") && len(found) > 0:
					t.Errorf("application %d: %+v", i, found)
				case i == 1 && c.attr != "" && (len(found) != 1 || found[0].Attribute != c.attr ||
					!strings.Contains(found[0].Summary, c.words)):
					t.Errorf("problems are %+v, want %q about %q", found, c.words, c.attr)
				}
			}
		})
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
