package ipset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/orscore/ors/plugins/sdk"
)

// checkPair looks at what applications of the pair take from one another: after a switchover one server has them all.
// Of two that do not fit, the one that is later in the file is told.
func (a *application) checkPair() {
	for _, in := range a.in.All {
		if in.Group == a.in.Group && in.Name == a.in.Name {
			return
		}
		var c config
		if in.Decode(&c) != nil {
			continue // that is told of the other one
		}
		other, _ := c.check()
		a.beside(in, other)
	}
}

// beside looks at one application that is earlier in the file.
func (a *application) beside(in sdk.Instance, other settings) {
	who := fmt.Sprintf("application %q of group %q", in.Name, in.Group)
	for i, p := range a.set.addresses {
		switch {
		case contains(other.addresses, p.Addr()):
			a.problems.add(a.attribute(i), "Give each application addresses of its own.",
				"address %s is one of %s, too: after a switchover one server has both", p.Addr(), who)
		case p.Addr() == other.replaces:
			a.problems.add(a.attribute(i), "Use an address that no server has of its own.",
				"address %s is what %s replaces: a server's own dummy address", p.Addr(), who)
		}
	}
	if contains(other.addresses, a.set.replaces) {
		a.problems.add("replaces", "Name an address that the server has of its own.",
			"the dummy address %s is one of %s, which moves", a.set.replaces, who)
	}
	if len(a.set.hosts) > 0 && len(other.hosts) > 0 && a.set.hostsFile == other.hostsFile {
		for i, name := range a.set.hosts[0].Names { // every address has the same
			taken := func(o string) bool { return strings.EqualFold(o, name) }
			if slices.ContainsFunc(other.hosts[0].Names, taken) {
				a.problems.add(fmt.Sprintf("hosts[0].names[%d]", i), "Give each application names of its own.",
					"name %q is one of %s, too: a server that has both would find only one of them", name, who)
			}
		}
	}
	for i, d := range a.set.dns {
		for _, o := range other.dns {
			for _, name := range d.update.Names {
				if slices.Contains(o.update.Names, name) {
					a.problems.add(fmt.Sprintf("dns[%d].names", i), "Give each application names of its own.",
						"%s is a name of %s, too: each would take the other's addresses out of the zone",
						strings.TrimSuffix(name, "."), who)
				}
			}
		}
	}
}
