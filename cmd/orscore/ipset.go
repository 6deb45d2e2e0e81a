package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
)

func (a *app) ipsetCommand() *cobra.Command {
	var o core.AddressOrder
	var mask string
	c := &cobra.Command{
		Use:   "ipset -i ADDRESS",
		Short: "Set an address on this server by hand",
		Long: `Take an address on this server, as CPQIPSET did: ask the network whether another
machine has it, add it to the adapter, and announce it. With --replaces, the dummy
address is removed; --release gives the address up and puts the dummy back.

It is for addresses that no application of the configuration moves, in a command
that runs at a switchover for instance. Such an address is on no lease and nobody
announces it again: an address of a group belongs into an ipset application. The
name of this server stays what it is.

It needs root, and no agent.`,
		Example: `  orscore ipset -i 172.25.36.45 --replaces 172.25.36.48 --dry-run
  orscore ipset -i 172.25.36.45 -s 255.255.255.0 -g 172.25.36.1 -a eth0
  orscore ipset -i 172.25.36.45 --release`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Address == "" {
				return usage("say which address: orscore ipset -i 172.25.36.45")
			}
			addr, err := netip.ParseAddr(o.Address)
			if err != nil {
				return usage("%q is not an address; its network is said with -s", o.Address)
			}
			if mask != "" {
				if o.Bits, err = maskBits(mask, addr); err != nil {
					return err
				}
			}
			return core.SetAddress(c.Context(), core.Options{ConfigPath: a.config, Server: a.server}, o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVarP(&o.Address, "ip", "i", "", "`address`, IPv4 or IPv6")
	f.StringVarP(&mask, "mask", "s", "",
		"its `mask`: 255.255.255.0 or 24 (default: as the adapter's other addresses have it)")
	f.StringVarP(&o.Gateway, "gateway", "g", "",
		"`router` of its network, used where the server has no other default route")
	f.StringVarP(&o.Adapter, "adapter", "a", "",
		"`adapter`, by name or hardware address (default: the one with an address of the same network)")
	f.StringVar(&o.Replaces, "replaces", "", "dummy `address` to be removed meanwhile")
	f.BoolVar(&o.Release, "release", false, "give the address up, and put the dummy back")
	f.BoolVar(&o.DryRun, "dry-run", false, "print what would be done, and do nothing")
	return c
}

// maskBits reads a mask: the number of its bits, or as an IPv4 address.
func maskBits(mask string, addr netip.Addr) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(mask, "/"))
	if err == nil && n >= 1 && n <= addr.BitLen() {
		return n, nil
	}
	if m, merr := netip.ParseAddr(mask); err != nil && merr == nil && m.Is4() && addr.Is4() {
		b := m.As4()
		word := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		for n := 1; n <= 32; n++ {
			if word == ^uint32(0)<<(32-n) {
				return n, nil
			}
		}
	}
	return 0, usage("%q is no mask of %s; wanted 1 to %d, or such as 255.255.255.0 for IPv4", mask, addr, addr.BitLen())
}
