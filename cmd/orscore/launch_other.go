//go:build !linux

package main

import (
	"context"
	"os/exec"
)

// runLaunched runs a command to its end. It is ended at once when ctx ends: there is no signal that asks.
func runLaunched(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}
