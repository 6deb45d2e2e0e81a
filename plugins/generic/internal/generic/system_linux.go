package generic

import "golang.org/x/sys/unix"

const supported = true

func knownSignal(name string) bool { return unix.SignalNum(name) != 0 }
