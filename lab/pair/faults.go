//go:build linux

package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/internal/faultpoint"
)

// faultsInHost is where a server's agent looks for the fault points that are armed.
const faultsInHost = "/etc/ors/faults"

func (p *Pair) faultDir(server string) string {
	return filepath.Join(p.hostDir(server), "etc", "faults")
}

// Arm lets a server's agent kill, stop or exit itself the next time it passes the named point. It has no effect on
// programs that were built without the tag orsfault.
func (p *Pair) Arm(server, point, what string) error {
	if _, ok := p.server(server); !ok {
		return fmt.Errorf("arm: %q is no server", server)
	}
	path := filepath.Join(p.faultDir(server), point)
	if err := os.Remove(path + faultpoint.Done); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("arm: %w", err)
	}
	return os.WriteFile(path, []byte(what), 0o600)
}

// Disarm forgets all points of a server, those that were passed, too.
func (p *Pair) Disarm(server string) error {
	entries, err := os.ReadDir(p.faultDir(server))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(p.faultDir(server), e.Name())))
	}
	return errors.Join(errs...)
}

// Passed reports whether a server's agent has passed a point since that was armed.
func (p *Pair) Passed(server, point string) (bool, error) {
	_, err := os.Stat(filepath.Join(p.faultDir(server), point+faultpoint.Done))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// RestartAgent waits until a server's agent has ended, and starts it again, as a service manager would.
func (p *Pair) RestartAgent(ctx context.Context, name string) error {
	if _, err := p.WaitAgent(ctx, name); err != nil {
		return fmt.Errorf("restart agent: %w", err)
	}
	return p.StartAgent(name)
}

// Pause stops every process of a server but its process 1, as a machine that is suspended; Resume lets them go on.
func (p *Pair) Pause(ctx context.Context, name string) error { return p.signalAll(ctx, name, "STOP") }

// Resume is the end of Pause, and of every SIGSTOP in the host.
func (p *Pair) Resume(ctx context.Context, name string) error { return p.signalAll(ctx, name, "CONT") }

// signalAll lets a process in the host signal all others. A second time takes in who was just being forked.
func (p *Pair) signalAll(ctx context.Context, name, sig string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for range 2 {
		out, code, err := p.Run(ctx, name, "sh", "-c", "kill -"+sig+" -1")
		if err != nil {
			return err
		}
		if code != 0 && !strings.Contains(out, "No such process") { // nobody else is there
			return fmt.Errorf("signalling all of %s: %s", name, out)
		}
	}
	return nil
}

// fillFile takes the room of a state folder.
func (p *Pair) fillFile(server string) string {
	return filepath.Join(p.hostDir(server), "state", "filler")
}

// mountState gives a server's state folder a file system of its own, which can be filled.
func (p *Pair) mountState(dir string) error {
	if p.Setup.StateSize == 0 {
		return nil
	}
	return unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%d", p.Setup.StateSize))
}

// FillState leaves no room on a server's state folder.
func (p *Pair) FillState(server string) error {
	if p.Setup.StateSize == 0 {
		return errors.New("the state folders have no limit; right would be a line before the first phase: state 8M")
	}
	f, err := os.OpenFile(p.fillFile(server), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	chunk := make([]byte, 4<<10)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// FreeState takes back what FillState has taken.
func (p *Pair) FreeState(server string) error {
	if err := os.Remove(p.fillFile(server)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Deafen lets everything be lost that a server sends to its partner over the interconnect network; what it is sent
// still arrives. Undo ends it.
func (p *Pair) Deafen(server string, undo bool) error {
	n, err := p.host(server)
	if err != nil {
		return err
	}
	for _, s := range p.Setup.Servers {
		if s.Name != server {
			return p.network.Misdirect(n.host, "eth1", s.Interconnect, undo)
		}
	}
	return nil
}

// Heal ends every fault, and starts agents that have ended.
func (p *Pair) Heal(ctx context.Context) error {
	errs := []error{p.Mend(ctx)}
	for _, s := range p.Setup.Servers {
		if p.HasPower(s.Name) && !p.AgentRuns(s.Name) {
			errs = append(errs, p.StartAgent(s.Name))
		}
	}
	return errors.Join(errs...)
}

// Mend ends every fault: nothing armed, room on the disks, all cables plugged in, nobody stopped. Servers without power
// get it.
func (p *Pair) Mend(ctx context.Context) error {
	var errs []error
	if p.Setup.Baud > 0 {
		errs = append(errs, p.Cable(ctx, "mend"))
	}
	for _, s := range p.Setup.Servers {
		errs = append(errs, p.Disarm(s.Name), p.FreeState(s.Name))
		if p.HasPower(s.Name) {
			errs = append(errs, p.Deafen(s.Name, true), p.SetLink(s.Name, ClientNetwork, true),
				p.SetLink(s.Name, Interconnect, true), p.Resume(ctx, s.Name))
		} else {
			errs = append(errs, p.PowerOn(ctx, s.Name))
		}
	}
	return errors.Join(errs...)
}
