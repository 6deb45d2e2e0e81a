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

// gate is a pair of nf_tables tables of one address: packets (table of the family ip) and ARP (family arp) to and from
// the address pass only while the address is an element of the table's set.
type gate struct{ addr netip.Addr }

func (g gate) tableName() string { return "ors_" + strings.ReplaceAll(g.addr.String(), ".", "_") }

// side is one of the tables.
type side struct {
	table    *nftables.Table
	in, out  *nftables.ChainHook
	order    *nftables.ChainPriority
	from, to uint32 // where the sender's and the receiver's address are, counted from the network header
}

func (g gate) sides() []side {
	const senderIP, targetIP = 12, 16   // RFC 791
	const senderARP, targetARP = 14, 24 // RFC 826, hardware addresses of 6 bytes
	const arpIn, arpOut = 0, 1          // linux/netfilter_arp.h
	return []side{
		{
			table: &nftables.Table{Name: g.tableName(), Family: nftables.TableFamilyIPv4},
			in:    nftables.ChainHookPrerouting, out: nftables.ChainHookOutput, order: nftables.ChainPriorityRaw,
			from: senderIP, to: targetIP,
		},
		{
			table: &nftables.Table{Name: g.tableName(), Family: nftables.TableFamilyARP},
			in:    nftables.ChainHookRef(arpIn), out: nftables.ChainHookRef(arpOut),
			order: nftables.ChainPriorityFilter, from: senderARP, to: targetARP,
		},
	}
}

func (g gate) set(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: aliveSet, KeyType: nftables.TypeIPAddr, HasTimeout: true}
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
		g.rule(c, s, set, "in", s.in, s.to)
		g.rule(c, s, set, "out", s.out, s.from)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nf_tables: make the gate of %s: %w", g.addr, err)
	}
	return nil
}

// rule drops what has the address at offset while the set does not have it.
func (g gate) rule(c *nftables.Conn, s side, set *nftables.Set, name string, hook *nftables.ChainHook, offset uint32) {
	chain := c.AddChain(&nftables.Chain{
		Table: s.table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: s.order,
	})
	c.AddRule(&nftables.Rule{Table: s.table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: g.addr.AsSlice()},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
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
