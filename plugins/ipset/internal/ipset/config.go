// Package ipset takes a group's network addresses on adapters of this server, announces them, and gives them up again.
//
// It must never take an address for which another machine still answers, restore a dummy address that it did not
// remove, or leave an address, a route or the name of the server itself changed.
package ipset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/orscore/ors/plugins/ipset/internal/hosts"
	"github.com/orscore/ors/plugins/sdk"
)

// Version of the plugin. A build may set another one, as the lab does to exchange plugins.
var Version = "0.2.0"

// config is the config block, as the core decodes it with schema.
type config struct {
	Address   string   `json:"address"`
	Addresses []string `json:"addresses"`
	Adapter   string   `json:"adapter"`
	Replaces  string   `json:"replaces"`
	Gateway   string   `json:"gateway"`
	Probe     string   `json:"probe"`
	Announce  int      `json:"announce"`
	Refresh   string   `json:"refresh"`

	Hosts []hostsConfig `json:"hosts"`
	DNS   []dnsConfig   `json:"dns"`
}

// hostsConfig is the block of names in the hosts file.
type hostsConfig struct {
	Names []string `json:"names"`
	File  string   `json:"file"`
}

// Plugin is what the program serves.
func Plugin() sdk.Plugin {
	return sdk.Plugin{
		Kind: "ipset", Version: Version,
		Description: "Moves network addresses with their group and tells the network where they are now.",
		Schema:      schema,
		New:         newApplication,
		Leases:      supported,
	}
}

var schema = sdk.Schema{
	Description: "Network addresses that belong to the group, not to a server.",
	Attributes: []sdk.Attribute{
		{
			Name: "address", Type: "string", Default: `""`,
			Description: "IPv4 or IPv6 address with its prefix, such as 172.25.36.45/24 or 2001:db8::45/64.",
		},
		{
			Name: "addresses", Type: "list(string)", Default: `[]`,
			Description: "Several of them, instead of address. They come and go together.",
		},
		{
			Name: "adapter", Type: "string", Default: `""`,
			Description: "Adapter that takes the addresses, by its name or its hardware address; empty: for each address the " +
				"one with another address of the same network.",
		},
		{
			Name: "replaces", Type: "string", Default: `""`,
			Description: "Dummy address of this server that is removed while the group's address is here and put back " +
				"afterwards. Where it is absent, nothing is removed and nothing is put back.",
		},
		{
			Name: "gateway", Type: "string", Default: `""`,
			Description: "Router for the network of an address. While the address is here, there is a default route by it " +
				"that is used only where the server has no other one.",
		},
		{
			Name: "probe", Type: "string", Default: `"50ms"`,
			Description: "How long the network is asked whether another machine answers for an address before it is taken. " +
				`It adds to the outage. "0s": do not ask, for instance where a router answers for every address.`,
		},
		{
			Name: "announce", Type: "number", Default: "5",
			Description: "How often an address is announced, every 200 ms, and once more after 5 s. At least 1.",
		},
		{
			Name: "refresh", Type: "string", Default: `"1m"`,
			Description: "How often it is announced after that, for as long as it is here. " + `"0s": no more.`,
		},
	},
	Blocks: []sdk.Block{{
		Name: "hosts", Max: 1,
		Body: sdk.Schema{
			Description: "Names of the addresses in this server's hosts file, for as long as they are here.",
			Attributes: []sdk.Attribute{
				{
					Name: "names", Type: "list(string)", Required: true,
					Description: "The full name first, then its short forms: those of the server whose address it is. The name " +
						"of the server itself stays what it is.",
				},
				{
					Name: "file", Type: "string", Default: `""`,
					Description: "Hosts file; empty: that of the operating system.",
				},
			},
		},
	}, dnsBlock},
}

const (
	longestProbe    = 10 * time.Second
	shortestRefresh = time.Second
	longestRefresh  = time.Hour
	mostAnnounce    = 100
	mostAddresses   = 64
)

// settings is a checked config.
type settings struct {
	addresses []netip.Prefix // each the address itself with the length of its network
	adapter   string
	replaces  netip.Addr // invalid: none
	gateway   netip.Addr // invalid: none
	probe     time.Duration
	announce  int
	refresh   time.Duration
	hosts     []hosts.Entry // none: the hosts file stays as it is
	hostsFile string
	dns       []dnsSettings
}

// findings collects problems of a configuration.
type findings []sdk.Problem

func (f *findings) add(attribute, detail, format string, args ...any) {
	*f = append(*f, sdk.Problem{
		Severity: sdk.Error, Attribute: attribute, Summary: fmt.Sprintf(format, args...), Detail: detail,
	})
}

func (f *findings) warn(attribute, detail, format string, args ...any) {
	f.add(attribute, detail, format, args...)
	(*f)[len(*f)-1].Severity = sdk.Warning
}

// check turns a config into settings, or says what is wrong with it.
func (c config) check() (settings, findings) {
	s := settings{adapter: c.Adapter, announce: c.Announce}
	var found findings
	s.addresses = c.checkAddresses(&found)
	c.checkHosts(&s, &found)
	c.checkDNS(&s, &found)
	c.checkOthers(&s, &found)
	var err error
	if s.probe, err = time.ParseDuration(c.Probe); err != nil || s.probe < 0 || s.probe > longestProbe {
		found.add("probe", `Use a time from "0s" to "10s", such as "50ms".`, "%q is not a time for a probe", c.Probe)
	}
	s.refresh, err = time.ParseDuration(c.Refresh)
	if err != nil || s.refresh != 0 && (s.refresh < shortestRefresh || s.refresh > longestRefresh) {
		found.add("refresh", `Use a time from "1s" to "1h", such as "1m", or "0s".`,
			"%q is not a time between announcements", c.Refresh)
	}
	if c.Announce < 1 || c.Announce > mostAnnounce {
		found.add("announce", "Use 1 to 100; 5 is usual.", "an address cannot be announced %d times", c.Announce)
	}
	if _, err := net.ParseMAC(c.Adapter); err != nil && len(c.Adapter) > 15 {
		found.add("adapter", "Use the name that `ip link` shows, or the hardware address.",
			"adapter %q: names of adapters have at most 15 characters", c.Adapter)
	}
	return s, found
}

func (c config) checkAddresses(found *findings) []netip.Prefix {
	all, at := c.Addresses, func(i int) string { return fmt.Sprintf("addresses[%d]", i) }
	switch {
	case c.Address != "" && len(all) > 0:
		found.add("addresses", "Put all addresses into addresses, and leave address out.",
			"address and addresses are both set")
	case c.Address != "":
		all, at = []string{c.Address}, func(int) string { return "address" }
	case len(all) == 0:
		found.add("address", `Write address = "172.25.36.45/24", or several in addresses.`, "there is no address to move")
	case len(all) > mostAddresses:
		found.add("addresses", "Use several applications.", "%d addresses are too many: at most %d", len(all), mostAddresses)
	}
	var out []netip.Prefix
	for i, text := range all {
		p, err := netip.ParsePrefix(text)
		why := ""
		if err == nil {
			why = unusable(p)
		}
		switch {
		case err != nil:
			found.add(at(i), `Write address and prefix, such as "172.25.36.45/24" or "2001:db8::45/64".`,
				"address %q %s", text, misread(text))
		case why != "":
			found.add(at(i), "Use an address that a host can have.", "address %q %s", text, why)
		case contains(out, p.Addr()):
			found.add(at(i), "Name each address once.", "address %s is there twice", p.Addr())
		default:
			out = append(out, p)
		}
	}
	return out
}

// misread says why a text is not an address with a prefix.
func misread(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		usual := map[bool]int{true: 24, false: 64}[a.Is4()]
		return fmt.Sprintf("has no prefix: it says nothing of its network, such as /%d", usual)
	}
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] != '/' {
			continue
		}
		if a, err := netip.ParseAddr(text[:i]); err == nil {
			return fmt.Sprintf("has a prefix that is none: an %s address has /1 to /%d", family(a), a.BitLen())
		}
	}
	return "is not an address with a prefix"
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func contains(all []netip.Prefix, addr netip.Addr) bool {
	for _, p := range all {
		if p.Addr() == addr {
			return true
		}
	}
	return false
}

// within says whether an address is in the network of another one.
func within(all []netip.Prefix, addr netip.Addr) bool {
	for _, p := range all {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func (c config) checkHosts(s *settings, found *findings) {
	for _, h := range c.Hosts {
		if s.hostsFile = h.File; s.hostsFile == "" {
			s.hostsFile = hosts.Path()
		}
		if !filepath.IsAbs(s.hostsFile) {
			found.add("hosts[0].file", "Write the whole path.", "hosts file %q is not an absolute path", h.File)
		}
		if len(h.Names) == 0 {
			found.add("hosts[0].names", `Write names = ["rocky.testlab.com", "rocky"], or leave hosts out.`, "no name is given")
		}
		for i, name := range h.Names {
			at := fmt.Sprintf("hosts[0].names[%d]", i)
			if err := hosts.CheckName(name); err != nil {
				found.add(at, `Write a name such as "rocky.testlab.com".`, "%q is no name of a host: %v", name, err)
			} else if slices.ContainsFunc(h.Names[:i], func(o string) bool { return strings.EqualFold(o, name) }) {
				found.add(at, "Name each once.", "name %q is there twice", name)
			}
		}
		for _, p := range s.addresses {
			s.hosts = append(s.hosts, hosts.Entry{Addr: p.Addr(), Names: h.Names})
		}
	}
}

// checkOthers looks at the addresses that are not the group's.
func (c config) checkOthers(s *settings, found *findings) {
	var err error
	if c.Replaces != "" {
		if s.replaces, err = netip.ParseAddr(c.Replaces); err != nil {
			found.add("replaces", `Write an address without a prefix, such as "172.25.36.48".`,
				"dummy address %q is not one", c.Replaces)
		} else if contains(s.addresses, s.replaces) {
			found.add("replaces", "Name the dummy address, which is another one.", "the address cannot replace itself")
		} else if len(s.addresses) > 0 && !within(s.addresses, s.replaces) {
			found.warn("replaces", "Use a dummy address of the network that the group's address is in.",
				"the dummy address %s is in no network of %s", s.replaces, list(s.addresses))
		}
	}
	if c.Gateway == "" {
		return
	}
	if s.gateway, err = netip.ParseAddr(c.Gateway); err != nil {
		found.add("gateway", `Write an address without a prefix, such as "172.25.36.1".`, "gateway %q is not one", c.Gateway)
		return
	}
	if contains(s.addresses, s.gateway) {
		found.add("gateway", "Name the router's address.", "the group's address cannot be its own gateway")
		return
	}
	via := s.viaGateway()
	if len(s.addresses) > 0 && !via.IsValid() {
		found.add("gateway", "Name a router in a network of the addresses.",
			"gateway %s is in no network of %s", s.gateway, list(s.addresses))
	}
	if via.IsValid() && via.Addr().Is4() && via.Bits() < 31 &&
		(s.gateway == via.Masked().Addr() || s.gateway == broadcast(via)) {
		found.add("gateway", "Name the router's address.",
			"%s is the address of the whole network %s, or of all its machines", s.gateway, via.Masked())
	}
}

// viaGateway is the address of the group whose network the gateway is in. One router of a link may have any link-local
// address.
func (s settings) viaGateway() netip.Prefix {
	for _, p := range s.addresses {
		if p.Contains(s.gateway) || p.Addr().Is6() && s.gateway.IsLinkLocalUnicast() {
			return p
		}
	}
	return netip.Prefix{}
}

// list shows addresses in a sentence.
func list(all []netip.Prefix) string {
	out := ""
	for i, p := range all {
		if i > 0 {
			out += ", "
		}
		out += p.String()
	}
	return out
}

func unusable(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.Is4In6():
		return "is an IPv4 address in an IPv6 one"
	case a.IsMulticast():
		return "is a multicast address"
	case a.IsUnspecified():
		return "is no address"
	case a.IsLoopback():
		return "is a loopback address, which never moves"
	case a.Is6() && a.IsLinkLocalUnicast():
		return "is a link-local address, which belongs to one adapter"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	case p.Bits() == 0:
		return "has no network: its prefix is /0"
	}
	if a.Is4() && p.Bits() < 31 {
		if a == p.Masked().Addr() {
			return "is the network itself"
		}
		if a == broadcast(p) {
			return "is the broadcast address of its network"
		}
	}
	if a.Is6() && p.Bits() < 127 && a == p.Masked().Addr() {
		return "is the address of all routers of its network"
	}
	return ""
}

// errLeaseOver is what a start gets whose core does not renew any more.
var errLeaseOver = errors.New("the lease of the address has ended: this server's core does not renew it any more")

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// application implements sdk.Application for the addresses of one application.
type application struct {
	in       sdk.Instance
	set      settings
	single   bool // it is configured by address, not by addresses
	problems findings
}

func newApplication(in sdk.Instance) (sdk.Application, error) {
	var c config
	if err := in.Decode(&c); err != nil {
		return nil, err
	}
	a := &application{in: in, single: c.Address != ""}
	a.set, a.problems = c.check()
	a.checkPair()
	return a, nil
}

// owner is by which name this application marks what it writes.
func (a *application) owner() string { return a.in.Group + "/" + a.in.Name }

// attribute is the place in the configuration of address number i.
func (a *application) attribute(i int) string {
	if a.single {
		return "address"
	}
	return fmt.Sprintf("addresses[%d]", i)
}

// Validate implements sdk.Application.
func (a *application) Validate(context.Context) []sdk.Problem {
	if !supported {
		return append(a.problems, sdk.Problem{
			Severity: sdk.Error, Summary: "addresses are not moved on this operating system yet", Detail: "Use Linux.",
		})
	}
	return a.problems
}
