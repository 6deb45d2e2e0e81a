//go:build !linux

package domino

import (
	"errors"
	"syscall"

	"github.com/orscore/ors/plugins/sdk/supervise"
)

const supported = false

var errUnsupported = supervise.ErrUnsupported

var (
	errNoSuchAddress       = errors.New("no such address")
	errRefused       error = syscall.ECONNREFUSED
)

func mounted(string) bool { return false }

func freeBytes(string) (uint64, bool) { return 0, false }

func memoryBytes() (uint64, bool) { return 0, false }

func whoWorksIn(string, uint32, string) (*worker, error) { return nil, supervise.ErrUnsupported }

func removeIPC(uint32) (int, error) { return 0, supervise.ErrUnsupported }
