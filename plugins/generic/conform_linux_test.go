package main

import (
	"slices"
	"testing"

	"github.com/orscore/ors/plugins/sdk/plugintest"
)

// TestContract: the plugin passes the conformance kit.
func TestContract(t *testing.T) {
	plugintest.Conform(t, plugintest.Options{
		// Pids are shared with tests that run beside this one, and choosing one would disturb them; package supervise has
		// a test of its own for that.
		Only:    slices.DeleteFunc(plugintest.Checks(), func(c string) bool { return c == "pid-reuse" }),
		Command: []string{program("ors-plugin-generic")},
		Config:  plugintest.Body(map[string]any{"command": []string{"sleep", "3600"}}),
	})
}
