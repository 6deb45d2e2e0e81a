package ipset

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// aliveSet is the set whose one element, the address, has a time-out: the kernel looks at it with every packet.
const aliveSet = "alive"

// gate is what packets to and from one address have to pass: tables of nf_tables which let them through only while
// the address is an element of the table's set. For IPv4 it is a table for packets (family ip) and one for ARP (family
// arp); for IPv6 one table (family ip6), since neighbour discovery is packets, too.
type gate struct{ addr netip.Addr }

func (g gate) tableName() string {
	return "ors_" + strings.NewReplacer(".", "_", ":", "_").Replace(g.addr.StringExpanded())
}

// side is one of the tables, with its rules.
type side struct {
	table   *nftables.Table
	in, out *nftables.ChainHook
	order   *nftables.ChainPriority
	rules   []passage
}

// passage is where a packet has the address.
type passage struct {
	out    bool
	base   expr.PayloadBase
	offset uint32
	only   []expr.Any // what else makes it such a packet
}

func (g gate) sides() []side {
	const senderIP, targetIP = 12, 16   // RFC 791
	const senderARP, targetARP = 14, 24 // RFC 826, hardware addresses of 6 bytes
	const arpIn, arpOut = 0, 1          // linux/netfilter_arp.h
	const senderIPv6, targetIPv6 = 8, 24
	const targetNDP = 8 // RFC 4861, of a solicitation and of an advertisement
	network := expr.PayloadBaseNetworkHeader
	if g.addr.Is6() {
		return []side{{
			table: &nftables.Table{Name: g.tableName(), Family: nftables.TableFamilyIPv6},
			in:    nftables.ChainHookPrerouting, out: nftables.ChainHookOutput, order: nftables.ChainPriorityRaw,
			rules: []passage{
				{base: network, offset: targetIPv6},
				{base: expr.PayloadBaseTransportHeader, offset: targetNDP, only: isNDP(solicitation)},
				{out: true, base: network, offset: senderIPv6},
				{out: true, base: expr.PayloadBaseTransportHeader, offset: targetNDP, only: isNDP(advertised)},
			},
		}}
	}
	return []side{
		{
			table: &nftables.Table{Name: g.tableName(), Family: nftables.TableFamilyIPv4},
			in:    nftables.ChainHookPrerouting, out: nftables.ChainHookOutput, order: nftables.ChainPriorityRaw,
			rules: []passage{{base: network, offset: targetIP}, {out: true, base: network, offset: senderIP}},
		},
		{
			table: &nftables.Table{Name: g.tableName(), Family: nftables.TableFamilyARP},
			in:    nftables.ChainHookRef(arpIn), out: nftables.ChainHookRef(arpOut), order: nftables.ChainPriorityFilter,
			rules: []passage{{base: network, offset: targetARP}, {out: true, base: network, offset: senderARP}},
		},
	}
}

// isNDP matches one kind of message of neighbour discovery.
func isNDP(kind byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{nextICMPv6}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
	}
}

func (g gate) set(t *nftables.Table) *nftables.Set {
	kind := nftables.TypeIPAddr
	if g.addr.Is6() {
		kind = nftables.TypeIP6Addr
	}
	return &nftables.Set{Table: t, Name: aliveSet, KeyType: kind, HasTimeout: true}
}

func (g gate) element(d time.Duration) []nftables.SetElement {
	return []nftables.SetElement{{Key: g.addr.AsSlice(), Timeout: d}}
}

// passFor lets packets pass for d from now on, and shuts the gate after that: in one step, with the gate made where
// there is none.
func (g gate) passFor(d time.Duration) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	for _, s := range g.sides() {
		set := g.set(s.table)
		c.FlushSet(set)
		if err := c.SetAddElements(set, g.element(d)); err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
	}
	if err = c.Flush(); errors.Is(err, unix.ENOENT) {
		return g.build(d)
	}
	if err != nil {
		return fmt.Errorf("nf_tables: keep %s: %w", g.addr, err)
	}
	return nil
}

// build makes the gate anew.
func (g gate) build(d time.Duration) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	for _, s := range g.sides() {
		c.AddTable(s.table) // so that there is one to delete: a half one must not stay
		c.DelTable(s.table)
		c.AddTable(s.table)
		set := g.set(s.table)
		if err := c.AddSet(set, g.element(d)); err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
		in, out := chain(c, s.table, "in", s.in, s.order), chain(c, s.table, "out", s.out, s.order)
		for _, r := range s.rules {
			if r.out {
				g.rule(c, out, set, r)
			} else {
				g.rule(c, in, set, r)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nf_tables: make the gate of %s: %w", g.addr, err)
	}
	return nil
}

func chain(c *nftables.Conn, t *nftables.Table, name string, hook *nftables.ChainHook, order *nftables.ChainPriority,
) *nftables.Chain {
	return c.AddChain(&nftables.Chain{
		Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: order,
	})
}

// rule drops what has the address while the set does not have it.
func (g gate) rule(c *nftables.Conn, chain *nftables.Chain, set *nftables.Set, p passage) {
	ip := g.addr.AsSlice()
	c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: append(p.only,
		&expr.Payload{DestRegister: 1, Base: p.base, Offset: p.offset, Len: uint32(len(ip))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)})
}

// remove takes the gate away: everything passes, for ever. It succeeds where there is none.
func (g gate) remove() error {
	for _, s := range g.sides() {
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
		c.DelTable(s.table)
		if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("nf_tables: take the gate of %s away: %w", g.addr, err)
		}
	}
	return nil
}

// shut says whether there is a gate that lets nothing pass now.
func (g gate) shut() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("nf_tables: %w", err)
	}
	for _, s := range g.sides() {
		tables, err := c.ListTablesOfFamily(s.table.Family)
		if err != nil {
			return false, fmt.Errorf("nf_tables: %w", err)
		}
		if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == s.table.Name }) {
			continue
		}
		elements, err := c.GetSetElements(g.set(s.table))
		if err != nil {
			return false, fmt.Errorf("nf_tables: look at the gate of %s: %w", g.addr, err)
		}
		if len(elements) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// noTables says whether an error means that this kernel has no nf_tables, or that this process may not use them.
func noTables(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EPERM, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
