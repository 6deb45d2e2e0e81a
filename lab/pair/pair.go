//go:build linux

package pair

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/orscore/ors/lab/enclosure"
	"github.com/orscore/ors/lab/host"
)

// The switches between the hosts, and the hosts that are not servers.
const (
	ClientNetwork = "client"
	Interconnect  = "interconnect"
	ClientHost    = "client"
	fabricHost    = "fabric"
	workshopHost  = "workshop"
)

// Server is one of the two.
type Server struct {
	Name         string
	Client       string // own address in the client network, such as "172.25.36.40/24"
	Interconnect string // address in the interconnect network
	Dummy        string // one more address in the client network, which a group's address may replace; empty: none
}

// Unit is a storage unit.
type Unit struct {
	Name    string
	Home    string // its primary: the server at port 1
	Size    int64
	Label   string // of its ext4
	Prepare string // program that fills the volume when the lab is made; it finds it in $VOLUME. Empty: none
}

// Setup is what a lab consists of.
type Setup struct {
	Servers [2]Server
	Client  string // address of the client
	Units   []Unit
	Config  string // file: the configuration of ORS, the same on both servers
	Baud    int    // of the cable; 0: no cable
	// StateSize limits the servers' state folders, in bytes, which then are file systems of their own; 0: no limit.
	StateSize int64
	Bin       string // folder of the programs under test
	// OwnPrograms gives each server a copy of them that it may change, as an upgrade does.
	OwnPrograms bool
	Program     string // orslab itself: it serves the enclosure and the cable
}

// Pair is a lab at work.
type Pair struct {
	Setup Setup

	dir     *folder
	say     func(format string, args ...any)
	enc     *enclosure.Client
	encCfg  enclosure.Config
	encCmd  *exec.Cmd
	fabric  *host.Host
	network *host.Network

	mu      sync.Mutex
	nodes   map[string]*node
	parts   []*exec.Cmd
	removed bool
}

// node is a host with what the lab knows of it.
type node struct {
	host  *host.Host // nil: without power
	loops map[string]attached
	agent *host.Process
}

type attached struct{ dev, file string }

// New makes a lab: the enclosure with its volumes filled, the networks, the cable, the client, and both servers with
// power and without agents. When it fails, nothing is left.
func New(ctx context.Context, name string, s Setup, say func(string, ...any)) (_ *Pair, err error) {
	dir, err := claimFolder(name)
	if err != nil {
		return nil, err
	}
	p := &Pair{Setup: s, dir: dir, say: say, nodes: map[string]*node{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, step := range []func(context.Context) error{
		p.writeFiles, p.startEnclosure, p.fillVolumes, p.startNetwork, p.startCable, p.startClient,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for _, srv := range s.Servers {
		if err := p.PowerOn(ctx, srv.Name); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Name of the lab.
func (p *Pair) Name() string { return p.dir.id }

// Path is the lab's folder.
func (p *Pair) Path() string { return p.dir.path }

func (p *Pair) hostDir(name string) string { return filepath.Join(p.dir.path, "hosts", name) }

// LogDir is the folder that a host sees as /var/log.
func (p *Pair) LogDir(name string) string { return filepath.Join(p.hostDir(name), "log") }

func (p *Pair) switchDir() string { return filepath.Join(p.dir.path, "enclosure", "switch") }

// writeFiles makes the local disks of the servers: configuration, key, state.
func (p *Pair) writeFiles(context.Context) error {
	config, err := os.ReadFile(p.Setup.Config)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	for _, s := range p.Setup.Servers {
		for _, d := range []string{"etc/faults", "state", "log"} {
			if err := os.MkdirAll(filepath.Join(p.hostDir(s.Name), d), 0o755); err != nil {
				return err
			}
		}
		if err := p.mountState(filepath.Join(p.hostDir(s.Name), "state")); err != nil {
			return fmt.Errorf("state of %s: %w", s.Name, err)
		}
		etc := filepath.Join(p.hostDir(s.Name), "etc")
		if err := os.WriteFile(filepath.Join(etc, "config.hcl"), config, 0o644); err != nil {
			return err
		}
		text := []byte(hex.EncodeToString(key) + "\n")
		if err := os.WriteFile(filepath.Join(etc, "interconnect.key"), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start runs a part of the lab as a process of its own that outlives everything that could hang on it.
func (p *Pair) start(name string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(p.dir.path, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.Setup.Program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), mark+"="+p.dir.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of a terminal's Ctrl-C
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.parts = append(p.parts, cmd)
	return cmd, nil
}

// startEnclosure starts the enclosure; its configuration lies beside it, so that it can be started again.
func (p *Pair) startEnclosure(ctx context.Context) error {
	p.encCfg = enclosure.Config{Dir: filepath.Join(p.dir.path, "enclosure")}
	for _, u := range p.Setup.Units {
		hosts := map[string]string{}
		for _, s := range p.Setup.Servers {
			if s.Name == u.Home {
				hosts["1"] = s.Name
			} else {
				hosts["3"] = s.Name
			}
		}
		p.encCfg.Units = append(p.encCfg.Units, enclosure.UnitConfig{Name: u.Name, Size: u.Size, Hosts: hosts})
	}
	raw, err := json.MarshalIndent(p.encCfg, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir.path, "enclosure.json")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		return err
	}
	if p.encCmd, err = p.start("enclosure", "enclosure", file); err != nil {
		return err
	}
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if p.enc, err = enclosure.Dial(dialing, p.encCfg); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.dir.path, "enclosure.log"))
		return fmt.Errorf("%w; its log: %s", err, log)
	}
	return nil
}

// mkfsOptions leave nothing to be written later in the background.
const mkfsOptions = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"

// fillVolumes makes the file systems, through port 1 of each unit, in a host of its own that is gone afterwards.
func (p *Pair) fillVolumes(ctx context.Context) error {
	begin := time.Now()
	loops, err := p.attach("", func(Unit) bool { return true })
	if err != nil {
		return err
	}
	defer func() { _ = p.detach(loops) }() // a leftover is found again when the lab is removed
	spec := host.Spec{
		Name: workshopHost, Dir: p.hostDir(workshopHost), Devices: devices(loops), Cgroup: p.dir.cgroups() + workshopHost,
		Mark: mark + "=" + p.dir.path, Links: programLinks(),
		Mounts: []host.Mount{{From: p.Setup.Bin, To: "/opt/ors/bin", ReadOnly: true}},
	}
	for i, u := range p.Setup.Units {
		if u.Prepare != "" {
			spec.Mounts = append(spec.Mounts, host.Mount{From: u.Prepare, To: fmt.Sprintf("/opt/prepare%d", i), ReadOnly: true})
		}
	}
	h, err := host.Start(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(h.Kill(ctx), h.Clean(ctx)) }()
	for i, u := range p.Setup.Units {
		script := fmt.Sprintf("mkfs.ext4 -q -F -L %s -E %s /dev/ors/%s", u.Label, mkfsOptions, u.Name)
		if u.Prepare != "" {
			script += fmt.Sprintf(" && mkdir -p /mnt/%[1]s && mount -t ext4 /dev/ors/%[1]s /mnt/%[1]s && "+
				"VOLUME=/mnt/%[1]s sh -eu /opt/prepare%[2]d && sync && umount /mnt/%[1]s", u.Name, i)
		}
		if out, err := spec.Run(ctx, "sh", "-euc", script); err != nil {
			return fmt.Errorf("filling unit %s: %w", u.Name, err)
		} else if out != "" {
			p.say("%s", out)
		}
	}
	p.say("volumes filled in %.1f s", time.Since(begin).Seconds())
	return nil
}

func devices(loops map[string]attached) map[string]string {
	m := map[string]string{}
	for unit, a := range loops {
		m[unit] = a.dev
	}
	return m
}

func (p *Pair) startNetwork(ctx context.Context) error {
	h, err := host.Start(ctx, host.Spec{
		Name: fabricHost, Dir: p.hostDir(fabricHost), Cgroup: p.dir.cgroups() + fabricHost, Mark: mark + "=" + p.dir.path,
	})
	if err != nil {
		return err
	}
	p.fabric = h
	p.network, err = host.NewNetwork(p.dir.id, h, ClientNetwork, Interconnect)
	return err
}

func (p *Pair) startClient(ctx context.Context) error {
	logs := filepath.Join(p.hostDir(ClientHost), "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	h, err := host.Start(ctx, host.Spec{
		Name: ClientHost, Dir: p.hostDir(ClientHost), Cgroup: p.dir.cgroups() + ClientHost, Mark: mark + "=" + p.dir.path,
		Mounts: []host.Mount{{From: p.Setup.Bin, To: "/opt/ors/bin", ReadOnly: true}, {From: logs, To: "/var/log"}},
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.nodes[ClientHost] = &node{host: h}
	p.mu.Unlock()
	return p.network.Attach(h, "eth0", ClientNetwork, p.Setup.Client)
}

// Close takes the lab apart and removes its folder. It may be called more than once.
func (p *Pair) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		return nil
	}
	p.removed = true
	var errs []error
	for name, n := range p.nodes {
		if n.host == nil {
			continue
		}
		if _, ok := p.server(name); ok && p.enc != nil {
			errs = append(errs, p.enc.SetHost(name, true))
		}
		errs = append(errs, n.host.Kill(ctx))
	}
	for _, n := range p.nodes {
		errs = append(errs, p.detach(n.loops))
	}
	if p.network != nil {
		errs = append(errs, p.network.Close())
	}
	if p.fabric != nil {
		errs = append(errs, p.fabric.Kill(ctx))
	}
	if p.enc != nil {
		_ = p.enc.Stop() // it may have died; what it leaves is removed below
		_ = p.enc.Close()
	}
	errs = append(errs, p.endParts(ctx), p.dir.remove(ctx))
	return errors.Join(errs...)
}

// endParts waits a moment for the parts that were asked to end, and kills the others.
func (p *Pair) endParts(ctx context.Context) error {
	var errs []error
	for _, cmd := range p.parts {
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait() // how it ended does not matter any more
			close(done)
		}()
		if cmd != p.encCmd {
			_ = cmd.Process.Signal(syscall.SIGTERM) // not waited for yet, so the pid is its own; it may be a zombie
		}
		select {
		case <-done:
			continue
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
		}
		_ = cmd.Process.Kill() // as above
		select {
		case <-done:
		case <-time.After(3 * time.Second):
			errs = append(errs, fmt.Errorf("%s does not end", cmd.Path))
		}
	}
	return errors.Join(errs...)
}

// Collect copies what helps to understand a failure into dir: logs of agents, plugins, applications and parts.
func (p *Pair) Collect(dir string) error {
	return filepath.WalkDir(p.dir.path, func(path string, e os.DirEntry, err error) error {
		if err == nil && path == p.encCfg.MountPath() {
			return filepath.SkipDir
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(p.dir.path, path)
		if err != nil || filepath.Ext(path) == ".img" || filepath.Base(path) == "interconnect.key" {
			return err
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return copyTo(path, to)
	})
}

func copyTo(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (p *Pair) server(name string) (Server, bool) {
	for _, s := range p.Setup.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

// Enclosure lists the units with their positions.
func (p *Pair) Enclosure() ([]enclosure.UnitStatus, error) { return p.enc.Status() }

// PowerCycleEnclosure takes the power from the switch for a moment.
func (p *Pair) PowerCycleEnclosure() error { return p.enc.PowerCycle() }
