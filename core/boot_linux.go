package core

import (
	"fmt"
	"os"
	"strings"
)

// bootID is the identity of this run of the operating system. A container or namespace shares it with its host, so
// what marks this run of it, the start time of its first process, is part of it.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("ORS-1032: the boot id cannot be read: %w", err)
	}
	id := strings.TrimSpace(string(b))
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return id, nil
	}
	// The name in parentheses may hold anything; the 22nd field of all is the start time.
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	if f := strings.Fields(rest); len(f) > 19 {
		id += "-" + f[19]
	}
	return id, nil
}
