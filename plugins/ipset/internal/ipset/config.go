// Package ipset takes a group's network address on an adapter of this server, announces it, and gives it up again.
//
// It must never take an address for which another machine still answers, restore a dummy address that it did not
// remove, or leave an address of the server itself changed.
package ipset

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/orscore/ors/plugins/sdk"
)

// Version of the plugin.
const Version = "0.1.0"

// config is the config block, as the core decodes it with schema.
type config struct {
	Address  string `json:"address"`
	Adapter  string `json:"adapter"`
	Replaces string `json:"replaces"`
	Probe    string `json:"probe"`
	Announce int    `json:"announce"`
}

// Plugin is what the program serves.
func Plugin() sdk.Plugin {
	return sdk.Plugin{
		Kind: "ipset", Version: Version,
		Description: "Moves a network address with its group and tells the network where it is now.",
		Schema:      schema,
		New:         newApplication,
		Leases:      supported,
	}
}

var schema = sdk.Schema{
	Description: "A network address that belongs to the group, not to a server.",
	Attributes: []sdk.Attribute{
		{
			Name: "address", Type: "string", Required: true,
			Description: "IPv4 address with its prefix, such as 172.25.36.45/24.",
		},
		{
			Name: "adapter", Type: "string", Default: `""`,
			Description: "Name of the adapter that takes the address; empty: the one with another address of the same network.",
		},
		{
			Name: "replaces", Type: "string", Default: `""`,
			Description: "Dummy address of this server that is removed while the group's address is here and put back " +
				"afterwards. Where it is absent, nothing is removed and nothing is put back.",
		},
		{
			Name: "probe", Type: "string", Default: `"50ms"`,
			Description: "How long the network is asked whether another machine answers for the address before it is taken. " +
				`It adds to the outage. "0s": do not ask, for instance where a router answers for every address.`,
		},
		{
			Name: "announce", Type: "number", Default: "5",
			Description: "How often the address is announced, every 200 ms, and once more after 5 s. At least 1.",
		},
	},
}

const (
	longestProbe = 10 * time.Second
	mostAnnounce = 100
)

// settings is a checked config.
type settings struct {
	address  netip.Prefix // the address itself with the length of its network
	adapter  string
	replaces netip.Addr // invalid: none
	probe    time.Duration
	announce int
}

// check turns a config into settings, or says what is wrong with it.
func (c config) check() (settings, []sdk.Problem) {
	s := settings{adapter: c.Adapter, announce: c.Announce}
	var found []sdk.Problem
	add := func(attribute, detail, format string, args ...any) {
		found = append(found, sdk.Problem{
			Severity: sdk.Error, Attribute: attribute, Summary: fmt.Sprintf(format, args...), Detail: detail,
		})
	}
	var err error
	if s.address, err = netip.ParsePrefix(c.Address); err != nil {
		add("address", `Write address and prefix, such as "172.25.36.45/24".`,
			"address %q is not an address with a prefix", c.Address)
	} else if !s.address.Addr().Is4() {
		add("address", "Use an IPv4 address.", "address %q: IPv6 addresses are not supported yet", c.Address)
	} else if why := unusable(s.address); why != "" {
		add("address", "Use an address that a host can have.", "address %q %s", c.Address, why)
	}
	if c.Replaces != "" {
		if s.replaces, err = netip.ParseAddr(c.Replaces); err != nil || !s.replaces.Is4() {
			add("replaces", `Write an IPv4 address without a prefix, such as "172.25.36.48".`,
				"dummy address %q is not one", c.Replaces)
		} else if s.replaces == s.address.Addr() {
			add("replaces", "Name the dummy address, which is another one.", "the address cannot replace itself")
		}
	}
	if s.probe, err = time.ParseDuration(c.Probe); err != nil || s.probe < 0 || s.probe > longestProbe {
		add("probe", `Use a time from "0s" to "10s", such as "50ms".`, "%q is not a time for a probe", c.Probe)
	}
	if c.Announce < 1 || c.Announce > mostAnnounce {
		add("announce", "Use 1 to 100; 5 is usual.", "the address cannot be announced %d times", c.Announce)
	}
	if len(c.Adapter) > 15 {
		add("adapter", "Use the name that `ip link` shows.",
			"adapter %q: names of adapters have at most 15 characters", c.Adapter)
	}
	return s, found
}

func unusable(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.IsMulticast():
		return "is a multicast address"
	case a.IsUnspecified():
		return "is no address"
	case a.IsLoopback():
		return "is a loopback address, which never moves"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	case p.Bits() == 0:
		return "has no network: its prefix is /0"
	}
	if p.Bits() < 31 {
		if a == p.Masked().Addr() {
			return "is the network itself"
		}
		if a == broadcast(p) {
			return "is the broadcast address of its network"
		}
	}
	return ""
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// application implements sdk.Application for one address.
type application struct {
	in       sdk.Instance
	set      settings
	problems []sdk.Problem
}

func newApplication(in sdk.Instance) (sdk.Application, error) {
	var c config
	if err := in.Decode(&c); err != nil {
		return nil, err
	}
	a := &application{in: in}
	a.set, a.problems = c.check()
	return a, nil
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
