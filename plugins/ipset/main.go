// Command ors-plugin-ipset moves a network address with its group: it is taken on an adapter of the server that owns
// the group, announced to the network, and given up when the group leaves.
//
// All of it is in internal/ipset. It must never print, unless `orscore ipset` runs it with an order: its standard
// output belongs to the plugin protocol.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/orscore/ors/plugins/ipset/internal/ipset"
	"github.com/orscore/ors/plugins/sdk"
)

func main() {
	if len(os.Args) > 1 {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := ipset.Command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	sdk.Serve(ipset.Plugin())
}
