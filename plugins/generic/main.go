// Command ors-plugin-generic protects any program: a service that keeps running, or a batch run that ends.
package main

import (
	"github.com/orscore/ors/plugins/generic/internal/generic"
	"github.com/orscore/ors/plugins/sdk"
)

func main() { sdk.Serve(generic.Plugin()) }
