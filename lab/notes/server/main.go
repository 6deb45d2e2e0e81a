//go:build linux

// Command server is the lab's stand-in for a Domino server: see package notes. It must never be shipped.
package main

import (
	"fmt"
	"os"

	"github.com/orscore/ors/lab/notes"
)

func main() {
	if err := notes.Run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stdout, "Server error:", err)
		os.Exit(1)
	}
}
