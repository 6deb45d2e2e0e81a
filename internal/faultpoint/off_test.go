//go:build !orsfault || !linux

package faultpoint

import (
	"os"
	"path/filepath"
	"testing"
)

// A program for use takes no notice of a point that is armed.
func TestNothingHappensWithoutTheTag(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Env, dir)
	file := filepath.Join(dir, "point")
	if err := os.WriteFile(file, []byte(Kill), 0o600); err != nil {
		t.Fatal(err)
	}
	At("point")
	if _, err := os.Stat(file); err != nil {
		t.Error("the point's file was touched:", err)
	}
}
