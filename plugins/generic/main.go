// Command ors-plugin-generic protects any program: a service that keeps running, or a batch run that ends.
//
// All of it is in internal/generic. It must never print: its standard output belongs to the plugin protocol.
package main

import (
	"github.com/orscore/ors/plugins/generic/internal/generic"
	"github.com/orscore/ors/plugins/sdk"
)

func main() { sdk.Serve(generic.Plugin()) }
