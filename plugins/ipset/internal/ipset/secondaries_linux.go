package ipset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// secondariesFile is a file of the work folder beside the record of the addresses: a lease is renewed while that one is
// being written.
const secondariesFile = "secondaries.json"

// secondaries is on which adapters this application needs the kernel to keep the other addresses when one ends by
// itself, and what promote_secondaries was before the first application set it.
type secondaries struct {
	Boot   string         `json:"boot"`
	Former map[int]string `json:"former"` // by the adapter's index
}

func secondariesPath(adapter string) string {
	return "/proc/sys/net/ipv4/conf/" + adapter + "/promote_secondaries"
}

func readSecondaries(adapter string) (string, error) {
	b, err := os.ReadFile(secondariesPath(adapter))
	return strings.TrimSpace(string(b)), err
}

// parseSecondaries reads a record; one that is damaged, or of another run of the operating system, says nothing.
func parseSecondaries(b []byte) secondaries {
	var s secondaries
	if json.Unmarshal(b, &s) != nil || s.Boot != bootID() {
		return secondaries{}
	}
	return s
}

// keepSecondaries makes the kernel keep an adapter's other addresses when the one of this place ends by itself. How it
// was is on record before it is changed.
func (a *application) keepSecondaries(p place) error {
	at := p.link.Attrs()
	now, err := readSecondaries(at.Name)
	if err == nil && now != "0" && p.held != nil && lifetime(p.held) != 0 {
		return nil // as each time since it was taken
	}
	former := now
	if now != "0" {
		former = a.formerOfOthers(at.Index)
	}
	if err == nil && former != "" {
		if err := a.saveSecondaries(at.Index, former); err != nil {
			a.in.Log.Warn("promote_secondaries will stay as it is now", "adapter", at.Name, "error", err)
		}
	}
	if err == nil && now == "0" {
		err = os.WriteFile(secondariesPath(at.Name), []byte("1"), 0)
	}
	if err != nil {
		return fmt.Errorf("other addresses of %s would go with this one: %w", at.Name, err)
	}
	return nil
}

// formerOfOthers is what another application has found on an adapter and changed; empty: none has.
func (a *application) formerOfOthers(index int) string {
	for _, b := range a.others(secondariesFile) {
		if former := parseSecondaries(b).Former[index]; former != "" {
			return former
		}
	}
	return ""
}

func (a *application) saveSecondaries(index int, former string) error {
	path := filepath.Join(a.in.WorkDir, secondariesFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s := parseSecondaries(b)
	if s.Former[index] == former {
		return nil
	}
	if s.Former == nil {
		s = secondaries{Boot: bootID(), Former: map[int]string{}}
	}
	s.Former[index] = former
	if b, err = json.Marshal(s); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// leaveSecondaries puts back what keepSecondaries has changed, on adapters where no other application needs it and
// nobody has changed it since then. An error is only logged: nothing of the group's is left behind.
func (a *application) leaveSecondaries() {
	path := filepath.Join(a.in.WorkDir, secondariesFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s := parseSecondaries(b)
	err = errors.Join(err, os.Remove(path)) // first: of two that leave at the same time, at least one is the last
	links, lerr := retryDump(netlink.LinkList)
	err = errors.Join(err, lerr)
	for _, l := range links {
		name, index := l.Attrs().Name, l.Attrs().Index
		former := s.Former[index]
		if former == "" || a.formerOfOthers(index) != "" {
			continue
		}
		if now, rerr := readSecondaries(name); rerr == nil && now == "1" {
			err = errors.Join(err, os.WriteFile(secondariesPath(name), []byte(former), 0))
		}
	}
	if err != nil {
		a.in.Log.Warn("promote_secondaries was not put back", "error", err)
	}
}
