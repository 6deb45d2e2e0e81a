// Command ors-plugin-ipset moves a network address with its group: it is taken on an adapter of the server that owns
// the group, announced to the network, and given up when the group leaves.
//
// All of it is in internal/ipset. It must never print: its standard output belongs to the plugin protocol.
package main

import (
	"github.com/orscore/ors/plugins/ipset/internal/ipset"
	"github.com/orscore/ors/plugins/sdk"
)

func main() { sdk.Serve(ipset.Plugin()) }
