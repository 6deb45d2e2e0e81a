package main

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

	"github.com/orscore/ors/plugins/sdk/plugintest"
)

// TestContract: the plugin passes the conformance kit. What runs is an address, so a failure is one that somebody took away.
func TestContract(t *testing.T) {
	n := newNetwork(t)
	plugintest.Conform(t, plugintest.Options{
		Command: []string{"ip", "netns", "exec", n.ns("apollo"), binaryPath},
		Config:  plugintest.Body(map[string]any{"address": "172.25.36.47/24", "probe": "20ms"}),
		Break: func(ctx context.Context) error {
			del := exec.CommandContext(ctx, "ip", "-n", n.ns("apollo"), "addr", "del", "172.25.36.47/24", "dev", "eth0")
			if out, err := del.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	})
}
