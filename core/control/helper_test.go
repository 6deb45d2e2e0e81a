//go:build unix

package control_test

import (
	"runtime"
	"strconv"
	"testing"
)

const kernelTells = runtime.GOOS == "linux"

func atoi(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}
