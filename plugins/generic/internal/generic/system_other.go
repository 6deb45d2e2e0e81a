//go:build !linux

package generic

const supported = false

// knownSignal accepts every name: Validate refuses the whole application here.
func knownSignal(string) bool { return true }

func mostAllowed(string) uint64 { return 0 }
