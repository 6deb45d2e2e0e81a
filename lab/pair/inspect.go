//go:build linux

package pair

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// What is really on a server, whatever its agent says: nothing of it is asked from a program under test.

// Mounted lists the units whose volumes are mounted on a server.
func (p *Pair) Mounted(server string) ([]string, error) {
	n, err := p.host(server)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", n.host.ID.PID))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, err
	}
	var units []string
	for unit, a := range n.loops {
		minor := strings.TrimPrefix(filepath.Base(a.dev), "loop")
		if slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool {
			return m.Major == loopMajor && fmt.Sprint(m.Minor) == minor
		}) {
			units = append(units, unit)
		}
	}
	slices.Sort(units)
	return units, nil
}

const loopMajor = 7 // of the kernel's loop devices

// Serves reports whether a program runs on a server whose command line names the address, such as 172.25.36.45.
func (p *Pair) Serves(server, address string) (bool, error) {
	n, err := p.host(server)
	if err != nil {
		return false, err
	}
	root := fmt.Sprintf("/proc/%d/root/proc", n.host.ID.PID)
	files, err := filepath.Glob(root + "/[0-9]*/cmdline")
	if err != nil {
		return false, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		for arg := range strings.SplitSeq(string(raw), "\x00") {
			if arg == address || strings.HasPrefix(arg, address+":") { // alone, or with a port
				return true, nil
			}
		}
	}
	return false, nil
}

// Answers reports whether a server's network has the address as its own.
func (p *Pair) Answers(server, address string) (bool, error) {
	n, err := p.host(server)
	if err != nil {
		return false, err
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/fib_trie", n.host.ID.PID))
	if err != nil {
		return false, err
	}
	lines := strings.Split(string(raw), "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) == "|-- "+address && i+1 < len(lines) && strings.Contains(lines[i+1], "/32 host LOCAL") {
			return true, nil
		}
	}
	return false, nil
}

// Only wants what is asked for on exactly one server, and returns which.
func (p *Pair) Only(what string, on func(server string) (bool, error)) (string, error) {
	var where []string
	for _, s := range p.Setup.Servers {
		yes, err := on(s.Name)
		if err != nil {
			return "", err
		}
		if yes {
			where = append(where, s.Name)
		}
	}
	switch len(where) {
	case 1:
		return where[0], nil
	case 0:
		return "", fmt.Errorf("%s: nowhere", what)
	}
	return "", errors.Join(ErrTwice, fmt.Errorf("%s: on %s", what, strings.Join(where, " and ")))
}

// ErrTwice says that something is on both servers that belongs to one.
var ErrTwice = errors.New("there are two")
