//go:build !linux

package netcheck

import (
	"context"
	"errors"
	"net/netip"
)

func resolves(context.Context, netip.Addr) (string, error) {
	return "", errors.New("hosts are asked by ARP on Linux only")
}
