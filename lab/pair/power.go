//go:build linux

package pair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/internal/faultpoint"
	"github.com/orscore/ors/lab/host"
	"github.com/orscore/ors/lab/loop"
	"github.com/orscore/ors/lab/proc"
)

// attach attaches the ports of a server by loop devices of its own; with an empty name port 1 of each unit.
func (p *Pair) attach(server string, want func(Unit) bool) (map[string]attached, error) {
	loops := map[string]attached{}
	for _, u := range p.Setup.Units {
		if !want(u) {
			continue
		}
		port := storage.Port3
		if server == "" || server == u.Home {
			port = storage.Port1
		}
		file := p.encCfg.PortPath(u.Name, port)
		dev, err := loop.Attach(file, false)
		if err != nil {
			return nil, errors.Join(err, p.detach(loops))
		}
		loops[u.Name] = attached{dev: dev, file: file}
	}
	return loops, nil
}

func (p *Pair) detach(loops map[string]attached) error {
	var errs []error
	for _, a := range loops {
		errs = append(errs, loop.Detach(a.dev, a.file, 10*time.Second))
	}
	return errors.Join(errs...)
}

// PowerOn gives a server power: a fresh host with the local disk, the addresses and the ports of the former one, and
// no agent.
func (p *Pair) PowerOn(ctx context.Context, name string) (err error) {
	s, ok := p.server(name)
	if !ok {
		return fmt.Errorf("power on: %q is no server", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.nodes[name]; n != nil && n.host != nil {
		return fmt.Errorf("power on: %s has power", name)
	}
	loops, err := p.attach(name, func(Unit) bool { return true })
	if err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	n := &node{loops: loops}
	p.nodes[name] = n
	if err := p.enc.SetHost(name, false); err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	spec, err := p.spec(ctx, name, loops)
	if err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	if n.host, err = host.Start(ctx, spec); err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	own := []string{s.Client}
	if s.Dummy != "" {
		own = append(own, s.Dummy)
	}
	if err := p.network.Attach(n.host, "eth0", ClientNetwork, own...); err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	return p.network.Attach(n.host, "eth1", Interconnect, s.Interconnect)
}

func (p *Pair) spec(ctx context.Context, name string, loops map[string]attached) (host.Spec, error) {
	dir := p.hostDir(name)
	programs, err := p.programs(name)
	if err != nil {
		return host.Spec{}, err
	}
	spec := host.Spec{
		Name: name, Dir: dir, Devices: devices(loops), Cgroup: p.dir.cgroups() + name, Mark: mark + "=" + p.dir.path,
		Mounts: []host.Mount{
			{From: filepath.Join(dir, "etc"), To: "/etc/ors"},
			{From: filepath.Join(dir, "state"), To: "/var/lib/ors"},
			{From: filepath.Join(dir, "log"), To: "/var/log"},
			{From: p.switchDir(), To: "/run/ors-enclosure", ReadOnly: true},
		},
		Links: programLinks(),
	}
	spec.Mounts = append(spec.Mounts, programs...)
	line, err := os.Readlink(p.encCfg.LinePath(name))
	if err != nil {
		return spec, err
	}
	spec.Devices["switch"] = line
	if p.Setup.Baud > 0 {
		if spec.Devices["cable"], err = p.plugCable(ctx, name); err != nil {
			return spec, err
		}
	}
	return spec, nil
}

// programs are what a server runs: the lab's, or its own copy of them, which is made when it is first switched on; the
// lab's are then beside it.
func (p *Pair) programs(name string) ([]host.Mount, error) {
	const to = "/opt/ors/bin"
	if !p.Setup.OwnPrograms {
		return []host.Mount{{From: p.Setup.Bin, To: to, ReadOnly: true}}, nil
	}
	own := filepath.Join(p.hostDir(name), "programs")
	mounts := []host.Mount{{From: own, To: to}, {From: p.Setup.Bin, To: "/opt/ors/lab", ReadOnly: true}}
	if _, err := os.Stat(own); err == nil {
		return mounts, nil
	}
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(p.Setup.Bin)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		name := f.Name()
		if !f.Type().IsRegular() || name != "orscore" && name != "orslab" && !strings.HasPrefix(name, "ors-plugin-") {
			continue
		}
		if err := copyProgram(filepath.Join(p.Setup.Bin, f.Name()), filepath.Join(own, f.Name())); err != nil {
			return nil, err
		}
	}
	return mounts, nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// programLinks gives programs a place that does not depend on their version: Debian's newest PostgreSQL is
// /opt/postgresql.
func programLinks() map[string]string {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return nil
	}
	return map[string]string{"/opt/postgresql": filepath.Dir(found[len(found)-1])}
}

// PowerOff takes the power from a server in one instant: its ports go dead, its links go down, its processes are
// killed, in that order; a mount namespace that ends would otherwise write what a power cut loses. It returns the
// moment at which the last of this was done.
func (p *Pair) PowerOff(ctx context.Context, name string) (at time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[name]
	if _, ok := p.server(name); !ok || n == nil || n.host == nil {
		return at, fmt.Errorf("power off: %q is no server with power", name)
	}
	if err := p.enc.SetHost(name, true); err != nil {
		return at, fmt.Errorf("power off: %w", err)
	}
	if err := p.network.Down(name); err != nil {
		return at, fmt.Errorf("power off: %w", err)
	}
	if err := n.host.ID.Signal(unix.SIGKILL); err != nil {
		return at, fmt.Errorf("power off: %w", err)
	}
	at = time.Now()
	errs := []error{n.host.Kill(ctx), p.network.Remove(name), p.detach(n.loops), n.host.Clean(ctx)}
	n.host, n.loops, n.agent = nil, nil, nil
	if err := errors.Join(errs...); err != nil {
		return at, fmt.Errorf("power off: %w", err)
	}
	return at, nil
}

// SetLink plugs a server's network cable out of a switch, or in again.
func (p *Pair) SetLink(name, network string, up bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.network.SetLink(name, network, up)
}

// host returns a host that has power.
func (p *Pair) host(name string) (*node, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[name]
	if n == nil {
		return nil, fmt.Errorf("%q is no host of this lab", name)
	}
	if n.host == nil {
		return nil, fmt.Errorf("host %s has no power", name)
	}
	return n, nil
}

// HasPower says whether a host has power.
func (p *Pair) HasPower(name string) bool {
	_, err := p.host(name)
	return err == nil
}

// ControlSocket is where a server's agent listens for operators, as this process sees it.
func (p *Pair) ControlSocket(name string) (string, error) {
	n, err := p.host(name)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/root/run/ors/control.sock", n.host.ID.PID), nil
}

// Spec returns what is needed to run commands in a host.
func (p *Pair) Spec(name string) (host.Spec, error) {
	n, err := p.host(name)
	if err != nil {
		return host.Spec{}, err
	}
	return n.host.Spec, nil
}

// Run runs a command in a host and returns its output and exit code.
func (p *Pair) Run(ctx context.Context, name string, args ...string) (string, int, error) {
	spec, err := p.Spec(name)
	if err != nil {
		return "", 0, err
	}
	return spec.Output(ctx, host.Cmd{Args: args})
}

// StartAgent starts the recovery agent of a server.
func (p *Pair) StartAgent(name string) error {
	n, err := p.host(name)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if n.agent != nil && n.agent.Running() {
		return fmt.Errorf("start agent: the agent of %s runs", name)
	}
	log, err := os.OpenFile(filepath.Join(p.LogDir(name), "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer log.Close()
	a, err := n.host.Spec.Start(host.Cmd{
		Args:   []string{"/opt/ors/bin/orscore", "agent", "--config", "/etc/ors/config.hcl"},
		Env:    []string{faultpoint.Env + "=" + faultsInHost},
		Stdout: log, Stderr: log, Detach: true,
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	n.agent = a
	return nil
}

// SignalAgent signals a server's agent alone, not its plugins and applications, and waits until it has ended.
func (p *Pair) SignalAgent(ctx context.Context, name string, sig unix.Signal) (code int, err error) {
	n, err := p.host(name)
	if err != nil {
		return 0, err
	}
	if n.agent == nil || !n.agent.Running() {
		return 0, fmt.Errorf("the agent of %s does not run", name)
	}
	if err := n.agent.Signal(sig, false); err != nil {
		return 0, err
	}
	return n.agent.Wait(ctx)
}

// WaitAgent waits for the end of a server's agent that was asked to end in another way.
func (p *Pair) WaitAgent(ctx context.Context, name string) (code int, err error) {
	n, err := p.host(name)
	if err != nil {
		return 0, err
	}
	if n.agent == nil {
		return 0, fmt.Errorf("the agent of %s was never started", name)
	}
	return n.agent.Wait(ctx)
}

// AgentRuns says whether a server's agent runs.
func (p *Pair) AgentRuns(name string) bool {
	n, err := p.host(name)
	return err == nil && n.agent != nil && n.agent.Running()
}

// PauseAgent stops and resumes a server's agent: SIGSTOP and SIGCONT. It does not wait.
func (p *Pair) PauseAgent(name string, sig unix.Signal) error {
	n, err := p.host(name)
	if err != nil {
		return err
	}
	if n.agent == nil || !n.agent.Running() {
		return fmt.Errorf("the agent of %s does not run", name)
	}
	return n.agent.Signal(sig, false)
}

// Processes lists the processes of a host, by their numbers in it.
func (p *Pair) Processes(name string) ([]proc.Stat, error) {
	n, err := p.host(name)
	if err != nil {
		return nil, err
	}
	return proc.List(fmt.Sprintf("/proc/%d/root/proc", n.host.ID.PID))
}
