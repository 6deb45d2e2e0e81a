package node

import (
	"errors"
	"testing"
)

// TestDeadDriveIsMountedAnew: an application whose drive has given up fails however often it is restarted; with the
// partner gone nobody else can serve it, so the drive itself is mended here.
func TestDeadDriveIsMountedAnew(t *testing.T) {
	p := newPair(t)
	p.up()
	p.powerOff("apollo")
	p.waitPhase("rocky", "two", "Active")
	pid, _ := p.world.is("rocky", "one/app")
	p.dead.Store(true)
	p.world.set(func() {
		delete(p.world.running, "rocky/one/app")
		p.world.broken = func(server string) error {
			if server == "rocky" && p.dead.Load() {
				return errors.New("input/output error")
			}
			return nil
		}
	})
	p.wait("it runs again, on a drive that was mounted anew", func() bool {
		now, ok := p.world.is("rocky", "one/app")
		return ok && now != pid && !p.dead.Load()
	})
	p.waitPhase("rocky", "one", "Active")
}
