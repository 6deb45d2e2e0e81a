package main

import (
	"testing"

	"github.com/orscore/ors/plugins/sdk/plugintest"
)

// TestContract: the plugin passes the conformance kit.
func TestContract(t *testing.T) {
	plugintest.Conform(t, plugintest.Options{
		Command: []string{program("ors-plugin-generic")},
		Config:  plugintest.Body(map[string]any{"command": []string{"sleep", "3600"}}),
	})
}
