//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/lab/cable"
	"github.com/orscore/ors/lab/proc"
)

// baud of the serial line. With a time-out of a second and beats each 200 ms, beats take 3 % of it.
const baud = 115200

// configText is the pair's configuration: one file for both servers, as always. ${self} is the server that reads it.
var configText = template.Must(template.New("config").Delims("<<", ">>").Parse(
	`# The demo's pair. Both servers read this file; orscore agent --server says who one is.
pair "demo" { unsafe_demo = true } # storage is a folder, which cannot refuse a server that is cut off

server "rocky" {}
server "apollo" {}

agent {
  state_dir  = "<<.Dir>>/${self}/state"
  run_dir    = "<<.Dir>>/${self}/run"
  log_dir    = "<<.Dir>>/${self}/log"
  plugin_dir = "<<.Dir>>/bin"
  drive_root = "<<.Dir>>/${self}/drives"
}

interconnect {
  interval = "200ms"
  timeout  = "1s"
  key_file = "<<.Dir>>/key"
  serial "cable" {
    baud   = <<.Baud>>
    device = { rocky = "<<.Dir>>/tty.rocky", apollo = "<<.Dir>>/tty.apollo" }
  }
  udp "lan" {
    address = { rocky = "127.0.0.1:<<.UDP.rocky>>", apollo = "127.0.0.1:<<.UDP.apollo>>" }
  }
}

arbitration { survivor = "apollo" }
<<range .Groups>>
group "<<.Name>>" {
  primary = "<<.Name>>"
  storage "<<.Unit>>" {
    switch "directory" { path = "<<$.Dir>>/enclosure" }
    drive "<<.Letter>>" { filesystem = "directory" }
  }
  application "generic" "store" {
    config {
      command = [
        "<<$.Dir>>/bin/orslab", "store",
        "--data", "${drive["<<.Letter>>"].path}/numbers", "--listen", "<<.Address>>",
      ]
      check "tcp" {
        address  = "<<.Address>>"
        interval = "10ms"
      }
    }
  }
}
<<end>>`))

type group struct{ Name, Unit, Letter, Address string }

// pair is two agents, their cable, and what they protect, as processes of the user who runs the demo.
type pair struct {
	Dir    string
	Baud   int
	UDP    map[string]int
	Groups []group

	config string
	began  []*child
	agents map[string]proc.Identity // by server
}

// child is a process that the demo has started itself, and that it must wait for.
type child struct {
	proc.Identity
	ended chan struct{} // closed when it was waited for
}

// longestTemp is the length of a folder for temporary files below which the name of every socket fits into the 107
// bytes that the kernel allows: a plugin's is up to 82 longer.
const longestTemp = 25

// tempDir is where the pair's folder is made.
func tempDir() string {
	if dir := os.TempDir(); len(dir) <= longestTemp {
		return dir
	}
	return "/tmp"
}

// newPair prepares a folder with everything that the pair needs; nothing runs yet. bin is the folder of the programs.
func newPair(bin string) (p *pair, err error) {
	dir, err := os.MkdirTemp(tempDir(), "ors-")
	if err != nil {
		return nil, err
	}
	p = &pair{Dir: dir, Baud: baud, UDP: map[string]int{}, agents: map[string]proc.Identity{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	// Plugins are only run out of folders that nobody else may write, so they are copied into one.
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"orscore", "orslab", "ors-plugin-generic"} {
		if err := copyProgram(filepath.Join(bin, name), filepath.Join(dir, "bin", name)); err != nil {
			return nil, fmt.Errorf("%w (make build builds the programs)", err)
		}
	}
	for i, name := range []string{"rocky", "apollo"} {
		if p.UDP[name], err = freePort("udp"); err != nil {
			return nil, err
		}
		port, err := freePort("tcp")
		if err != nil {
			return nil, err
		}
		g := group{Name: name, Unit: "storage" + []string{"2", "1"}[i], Letter: []string{"E:", "F:"}[i]}
		g.Address = fmt.Sprintf("127.0.0.1:%d", port)
		p.Groups = append(p.Groups, g)
	}
	if err := config.KeyGenerate(filepath.Join(dir, "key")); err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := configText.Execute(&text, p); err != nil {
		return nil, err
	}
	p.config = filepath.Join(dir, "config.hcl")
	return p, os.WriteFile(p.config, []byte(text.String()), 0o644)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// freePort asks the kernel for a port of the loopback that nobody uses at this moment.
func freePort(network string) (int, error) {
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		return c.LocalAddr().(*net.UDPAddr).Port, c.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// start runs one of the demo's programs as a child with a log of its own.
func (p *pair) start(name, program string, args ...string) (proc.Identity, error) {
	log, err := os.OpenFile(filepath.Join(p.Dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return proc.Identity{}, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(p.Dir, "bin", program), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C ends the demo, and the demo ends its processes
	if err := cmd.Start(); err != nil {
		return proc.Identity{}, fmt.Errorf("starting %s: %w (TMPDIR must be a folder that programs may be run from)",
			program, err)
	}
	id, err := proc.Identify(cmd.Process.Pid) // it is not waited for yet, so the pid is its own
	c := &child{Identity: id, ended: make(chan struct{})}
	p.began = append(p.began, c)
	go func() { defer close(c.ended); _ = cmd.Wait() }() // how it ended is in its log; close waits for this
	return id, err
}

// startCable starts the serial line between the two servers.
func (p *pair) startCable(ctx context.Context) error {
	control := filepath.Join(p.Dir, "cable.sock")
	if _, err := p.start("cable", "orslab", "cable", "--a", filepath.Join(p.Dir, "tty.rocky"), "--b",
		filepath.Join(p.Dir, "tty.apollo"), "--baud", fmt.Sprint(p.Baud), "--control", control); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return cable.Await(ctx, control)
}

// startAgent starts the agent of a server.
func (p *pair) startAgent(server string) error {
	id, err := p.start(server, "orscore", "agent", "--config", p.config, "--server", server)
	p.agents[server] = id
	return err
}

// orscore runs a command of a server's operator and returns what it says.
func (p *pair) orscore(ctx context.Context, server string, args ...string) (string, error) {
	args = append([]string{"--config", p.config, "--server", server}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(p.Dir, "bin", "orscore"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// client returns a client of a server's agent, once that answers.
func (p *pair) client(ctx context.Context, server string) (*control.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		c, err := control.Dial(ctx, filepath.Join(p.Dir, server, "run", "control.sock"))
		if err == nil {
			return c, nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			said, _ := os.ReadFile(filepath.Join(p.Dir, server+".log"))
			return nil, fmt.Errorf("the agent of %s does not answer: %w; its log:\n%s", server, err, said)
		}
	}
}

// member is a process of the demo.
type member struct {
	proc.Identity
	parent int
}

// members lists the processes of the demo: those whose program lies in its folder, where nobody else can start one.
// That finds those whose parents have ended, too.
func (p *pair) members() ([]member, error) {
	all, err := proc.List("/proc")
	if err != nil {
		return nil, err
	}
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	var ms []member
	for _, st := range all {
		// The number may be another process's by now: then its start differs, and a signal to this one finds nobody.
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", st.PID))
		if err == nil && strings.HasPrefix(exe, p.Dir+"/bin/") {
			ms = append(ms, member{proc.Identity{PID: st.PID, Start: st.Start, Boot: boot}, st.PPID})
		}
	}
	return ms, nil
}

// family returns a process, first, and those of the members that descend from it.
func family(ms []member, root proc.Identity) []proc.Identity {
	ids := []proc.Identity{root}
	for i := 0; i < len(ids); i++ {
		for _, m := range ms {
			if m.parent == ids[i].PID {
				ids = append(ids, m.Identity)
			}
		}
	}
	return ids
}

// cutOff ends everything that runs on a server, as a power cut would, and returns how many processes that were.
func (p *pair) cutOff(server string) (int, error) {
	ms, err := p.members()
	if err != nil {
		return 0, err
	}
	ids := family(ms, p.agents[server])
	// All are stopped before one is killed, so that none sees another's end: the agent would start a plugin anew.
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		var errs []error
		for _, id := range ids {
			if err := id.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// programsOf returns the command lines of what runs on a server besides its agent.
func (p *pair) programsOf(server string) ([]string, error) {
	ms, err := p.members()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, id := range family(ms, p.agents[server])[1:] {
		if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id.PID)); err == nil {
			lines = append(lines, strings.ReplaceAll(string(raw), "\x00", " "))
		}
	}
	return lines, nil
}

// close ends every process of the demo by its identity and removes the folder.
func (p *pair) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := p.killAll(ctx)
	for _, c := range p.began {
		select {
		case <-c.ended:
		case <-ctx.Done():
			err = errors.Join(err, fmt.Errorf("process %d does not end", c.PID))
		}
	}
	return errors.Join(err, os.RemoveAll(p.Dir))
}

// killAll kills the members until there are none: one may have started another meanwhile.
func (p *pair) killAll(ctx context.Context) error {
	for {
		ms, err := p.members()
		if err != nil || len(ms) == 0 {
			return err
		}
		for _, m := range ms {
			if err := m.Signal(unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
				return err
			}
		}
		for _, m := range ms {
			if err := m.WaitGone(ctx); err != nil {
				return err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
