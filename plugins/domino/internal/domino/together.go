package domino

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// together looks at all partitions of the pair: one day one server runs them all. What two of them must not share is
// told at the later one, so that it is told once.
func (f *findings) together(pair, own []server) {
	// One day all of them are on one host, and there all are of one release.
	limited := slices.ContainsFunc(pair, func(s server) bool { return major(s.release) == 4 })
	mine := func(s server) bool { return s.group == own[0].group && s.app == own[0].app }
	perServer := map[string]int{}
	for n, s := range pair {
		perServer[s.primary]++
		if !mine(s) {
			continue
		}
		for _, other := range pair[:n] {
			f.shared(s, other)
		}
		if limited && s.primary != "" && perServer[s.primary] > mostPerServer {
			f.add(s.attribute("name"), "Move it to a pair that has room: if one server fails, the other one runs the "+
				"partitions of both, and release 4 runs 6.",
				"%s is partition %d at home on %s; a server of a pair may have %d of release 4", s.Name, perServer[s.primary],
				s.primary, mostPerServer)
		}
		if limited && n >= mostPerHost {
			f.add(s.attribute("name"), "Take one out: after a takeover one host runs them all.",
				"%s is partition %d of the pair; release 4 runs %d on one host", s.Name, n+1, mostPerHost)
		}
	}
	for _, s := range own {
		if limited && len(own) > 1 && len(pair) <= mostPerHost && s.Number == 0 {
			f.add(s.attribute("number"), "Release 4 knows the partitions of a host by NotesServerPartition: number them all, "+
				"differently on both servers.", "%s has no partition number", s.Name)
		}
		f.mapping(s, pair)
	}
}

// shared tells what a partition has in common with an earlier one.
func (f *findings) shared(s, other server) {
	of := "" // where the other one is found
	if other.group != s.group || other.app != s.app {
		of = " of group " + other.group
	}
	if s.index == 0 && other.index == 0 && major(s.release) > 0 && major(other.release) > 0 && s.release != other.release {
		f.add("release", "After a takeover one host runs them all, with one program: write the same release.",
			"%s is of release %s, and %s%s of %s", s.Name, s.release, other.Name, of, other.release)
	}
	if strings.EqualFold(s.Name, other.Name) {
		f.add(s.attribute("name"), "Each server has a name of its own.", "there are two partitions named %s", s.Name)
		return
	}
	if s.at.IsValid() && s.at == other.at {
		f.add(s.attribute("address"), "Give it another address, or a port of its own from 13520 up and one of them "+
			"`mapper = true`.", "%s and %s%s would both listen at %s", s.Name, other.Name, of, s.at)
	}
	a, b := filepath.Clean(s.Data), filepath.Clean(other.Data)
	switch {
	case a == b:
		f.add(s.attribute("data"), "Each server has a data directory of its own.",
			"%s and %s%s have the same data directory %s", s.Name, other.Name, of, s.Data)
	case below(a, b) || below(b, a):
		f.add(s.attribute("data"), "Put them side by side, such as notes/data and notes/data2.",
			"the data directories of %s and %s%s lie one within the other", s.Name, other.Name, of)
	}
	if s.Number != 0 && s.Number == other.Number {
		f.add(s.attribute("number"), "After a takeover one host runs both: use another number.",
			"%s and %s%s are both partition number %d", s.Name, other.Name, of, s.Number)
	}
	if s.User != "" && s.User == other.User {
		f.add(s.attribute("user"), "Name a user of its own: cleaning up after one would end the other.",
			"%s and %s%s have the same user %q", s.Name, other.Name, of, s.User)
	}
}

// mapping looks at the partitions that share an address. The last of them tells what is missing.
func (f *findings) mapping(s server, pair []server) {
	if !s.at.IsValid() || unusable(s.at.Addr()) {
		return
	}
	var same, mappers []server
	for _, o := range pair {
		if o.at.IsValid() && o.at.Addr() == s.at.Addr() {
			same = append(same, o)
			if o.Mapper {
				mappers = append(mappers, o)
			}
		}
	}
	last := same[len(same)-1].same(s)
	switch {
	case len(same) == 1 && s.Mapper:
		f.warn(s.attribute("mapper"), "Leave it out.", "%s maps no port: no other partition shares %s", s.Name, s.at.Addr())
	case len(same) == 1 && s.at.Port() != notesPort:
		f.warn(s.attribute("address"), "Use 1352, or write the port into the server's Net Address.",
			"clients do not find %s at port %d by themselves", s.Name, s.at.Port())
	case len(same) > 1 && len(mappers) == 0 && last:
		f.add(s.attribute("address"), "Set `mapper = true` in the one that listens on 1352, or give each its own address.",
			"%d partitions share %s and none of them is the port mapper", len(same), s.at.Addr())
	case len(mappers) > 1 && s.Mapper && mappers[len(mappers)-1].same(s):
		f.add(s.attribute("mapper"), "One maps the ports of its address.", "%s and %s are both the port mapper of %s",
			mappers[0].Name, s.Name, s.at.Addr())
	}
	if s.Mapper && s.at.Port() != notesPort {
		f.add(s.attribute("address"), "Clients ask the port mapper at 1352.", "the port mapper %s listens on %d, not on %d",
			s.Name, s.at.Port(), notesPort)
	}
	if s.Mapper && len(same)-1 > mostMapped {
		f.add(s.attribute("mapper"), "Give some of them addresses of their own.",
			"%s would be the port mapper of %d partitions; it has room for %d", s.Name, len(same)-1, mostMapped)
	}
	if len(mappers) == 0 || s.Mapper {
		return
	}
	m := mappers[0]
	if m.group != s.group || m.app != s.app {
		f.add(s.attribute("address"),
			"Put all partitions of an address into one application: it starts the port mapper first.",
			"%s shares %s with its port mapper %s, which is of application %q in group %q", s.Name, s.at.Addr(), m.Name,
			m.app, m.group)
	}
}

// unusable addresses are told of by themselves, and nothing more is said of them.
func unusable(ip netip.Addr) bool { return ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() }
