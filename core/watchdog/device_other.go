//go:build !linux

package watchdog

func openDevice(string) (device, error) { return nil, errUnsupported }
