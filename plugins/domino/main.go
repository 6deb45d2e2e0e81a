// Command ors-plugin-domino protects Domino servers: one, or several partitions of one host.
//
// All of it is in internal/domino. It must never print: its standard output belongs to the plugin protocol.
package main

import (
	"github.com/orscore/ors/plugins/domino/internal/domino"
	"github.com/orscore/ors/plugins/sdk"
)

func main() { sdk.Serve(domino.Plugin()) }
