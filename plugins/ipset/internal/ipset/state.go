package ipset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/orscore/ors/plugins/sdk"
)

// handleVersion is the form of the handle: a state as JSON. Version 1 knew one address only, by the name of address.
const handleVersion = 2

const stateFile = "state.json"

// state is what must be known to give the addresses up again. It is the handle, and a file in the work folder, written
// before anything is removed.
type state struct {
	Addresses []string `json:"addresses"`            // empty: given up, and only the rest is to be undone
	Pending   bool     `json:"pending,omitempty"`    // the start has not ended: what is not here was never taken
	Dummy     *dummy   `json:"dummy,omitempty"`      // removed by us, to be put back
	HostsFile string   `json:"hosts_file,omitempty"` // with a block of ours
	Boot      string   `json:"boot,omitempty"`       // run of the operating system that all this is of

	// Own are those of Addresses that the configuration gave this application when it last looked, with the moment since
	// the server's start from which on it has them: of two applications, the later one.
	Own map[string]int64 `json:"own,omitempty"`
}

// dummy is an address as it was.
type dummy struct {
	Adapter   string `json:"adapter"`         // its name then
	Index     int    `json:"index,omitempty"` // of the adapter, whatever its name
	MAC       string `json:"mac,omitempty"`   // of the adapter; empty: it has none
	Prefix    string `json:"prefix"`
	Label     string `json:"label,omitempty"`
	Broadcast string `json:"broadcast,omitempty"`
	Scope     int    `json:"scope"`
	Flags     int    `json:"flags"`
	Valid     int    `json:"valid"`     // seconds; the largest 32-bit number: for ever
	Preferred int    `json:"preferred"` // seconds, as Valid
	// Routes are the adapter's in the main table, but for those that the kernel makes by itself
	Routes []savedRoute `json:"routes,omitempty"`
}

// savedRoute is a route as it was.
type savedRoute struct {
	Destination string `json:"destination"` // a network with its prefix
	Gateway     string `json:"gateway,omitempty"`
	Source      string `json:"source,omitempty"`
	Metric      int    `json:"metric"`
	Scope       int    `json:"scope"`
	Protocol    int    `json:"protocol"`
	Flags       int    `json:"flags"` // such as onlink
}

func (a *application) loadState() (*state, error) {
	path := filepath.Join(a.in.WorkDir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("record of the address: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("record of the address: %s: %w", path, err)
	}
	if s.stale() {
		return nil, nil
	}
	return &s, nil
}

// saveState is atomic, not synced: after a restart of the server its addresses are as its own configuration says.
func (a *application) saveState(s *state) error {
	s.Boot = bootID()
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.in.WorkDir, 0o700); err != nil {
		return fmt.Errorf("record of the address: %w", err)
	}
	path := filepath.Join(a.in.WorkDir, stateFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("record of the address: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record of the address: %w", err)
	}
	return nil
}

func (a *application) dropState() error {
	err := os.Remove(filepath.Join(a.in.WorkDir, stateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record of the address: %w", err)
	}
	return nil
}

// known is the state on record, else the one of the handle, else nil. The core keeps handles beyond a restart of the
// server, after which its addresses are as its own configuration says: one of before says nothing of them.
func (a *application) known(h *sdk.Handle) (*state, error) {
	s, err := a.loadState()
	if s != nil || h == nil {
		return s, err
	}
	if err != nil {
		a.in.Log.Warn("the record of the addresses is damaged; what the core has kept of it counts", "error", err)
	}
	if h.Version < 1 || h.Version > handleVersion {
		return nil, fmt.Errorf("this plugin cannot read handles of version %d", h.Version)
	}
	s = &state{}
	if err := json.Unmarshal(h.State, s); err != nil {
		return nil, fmt.Errorf("handle: %w", err)
	}
	if s.stale() {
		return nil, nil
	}
	return s, nil
}

// stale says whether a state is of another run of the operating system.
func (s *state) stale() bool { return s.Boot != "" && s.Boot != bootID() }

// bootID is the identity of this run of the operating system; empty: not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// has says whether an address is on record.
func (s *state) has(addr netip.Addr) bool {
	return s != nil && slices.ContainsFunc(s.Addresses, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Addr() == addr
	})
}

func (s *state) handle() (sdk.Handle, error) {
	s.Boot = bootID()
	b, err := json.Marshal(s)
	return sdk.Handle{Version: handleVersion, State: b}, err
}

// remember adds the addresses to those on record.
func (s *state) remember(all []netip.Prefix) {
	for _, p := range all {
		if !slices.Contains(s.Addresses, p.String()) {
			s.Addresses = append(s.Addresses, p.String())
		}
	}
}

// former lists the addresses on record that the configuration does not name any more.
func (s *state) former(now []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, text := range s.Addresses {
		if p, err := netip.ParsePrefix(text); err == nil && !contains(now, p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	return out
}
