//go:build !linux

package watchdog

import "errors"

func openDevice(string) (device, error) {
	return nil, errors.New("watchdog devices are driven on Linux only")
}
