package ipset

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/plugins/sdk"
)

// sinceBoot is a moment that all processes of this run of the operating system have in common, in nanoseconds.
func sinceBoot() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("ipset: %v", err)) // Linux has it since 2.6.39
	}
	return now.Nano()
}

// others reads a file of the record of each other application of this server, of whatever kind. The core makes the work
// folders of all as GROUP/NAME below one folder; where it does not, no other one is known.
func (a *application) others(file string) [][]byte {
	own := filepath.Join(a.in.Group, a.in.Name)
	top := filepath.Dir(filepath.Dir(a.in.WorkDir))
	if filepath.Join(top, own) != filepath.Clean(a.in.WorkDir) {
		return nil
	}
	found, _ := fs.Glob(os.DirFS(top), "*/*/"+file) // its pattern is a good one
	var out [][]byte
	for _, path := range found {
		if filepath.Dir(filepath.FromSlash(path)) == own {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(top, path)); err == nil { // else it has just left
			out = append(out, b)
		}
	}
	return out
}

// claim notes which of the configured addresses this application has, and since when, so that another one that had them
// before leaves them alone when it stops. It says whether anything was new.
func (s *state) claim(all []netip.Prefix) bool {
	own := map[string]int64{}
	fresh := false
	for _, p := range all {
		addr := p.Addr().String()
		since, ok := s.Own[addr]
		if !ok {
			since, fresh = sinceBoot(), true
		}
		own[addr] = since
	}
	fresh = fresh || len(own) != len(s.Own)
	s.Own = own
	s.remember(all)
	return fresh
}

// claimHeld claims what is here and no start of this application has taken: the configuration has moved it from another
// application while it was here.
func (a *application) claimHeld(n *adapters, st *state, known *sdk.Handle) (*state, error) {
	var held []netip.Prefix
	for _, p := range a.set.addresses {
		if n.mine(p.Addr(), st) != nil || st.has(p.Addr()) && st.Own[p.Addr().String()] != 0 {
			held = append(held, p)
		}
	}
	if st == nil && len(held) == 0 {
		return nil, nil
	}
	if st == nil {
		var err error
		if st, err = a.known(known); err != nil {
			return nil, err
		}
		if st == nil {
			st = &state{}
		}
	}
	if !st.claim(held) {
		return st, nil
	}
	return st, a.saveState(st)
}

// passedOn says whether another application of this server has claimed an address since this one did.
func (a *application) passedOn(st *state, addr netip.Addr) bool {
	for _, b := range a.others(stateFile) {
		var o state
		if json.Unmarshal(b, &o) == nil && !o.stale() && o.has(addr) &&
			o.Own[addr.String()] > st.Own[addr.String()] {
			return true
		}
	}
	return false
}
