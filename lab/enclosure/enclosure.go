//go:build linux

// Package enclosure is a storage enclosure with its Recovery Server Switch, as far as a kernel can tell a real one: a
// FUSE file a port over one image a unit, and the switch protocol of package rsw.
//
// I/O at a port that is not connected fails with EIO. It must never answer a swap before the former port is cut off
// and the new key is on the disk, and never let two ports of a unit do I/O at a time.
package enclosure

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/orscore/ors/core/storage"
	"github.com/orscore/ors/core/storage/rsw"
)

// UnitConfig describes one storage unit.
type UnitConfig struct {
	Name  string            `json:"name"`
	Size  int64             `json:"size"`  // bytes, a multiple of 4096
	Hosts map[string]string `json:"hosts"` // "1" and "3": the host at that port
}

// Config describes an enclosure.
type Config struct {
	Dir   string       `json:"dir"` // everything of this enclosure is below it
	Units []UnitConfig `json:"units"`
}

// The files of an enclosure below its folder.
func (c Config) statePath() string { return filepath.Join(c.Dir, "state.json") }

// ImagePath is the image of a unit.
func (c Config) ImagePath(unit string) string { return filepath.Join(c.Dir, "image", unit+".img") }

// MountPath is where the ports' files are.
func (c Config) MountPath() string { return filepath.Join(c.Dir, "ports") }

// PortPath is the file of a unit's port.
func (c Config) PortPath(unit string, port storage.Position) string {
	return filepath.Join(c.MountPath(), unit, fmt.Sprintf("port%d", port))
}

// SwitchDir holds what the hosts see of the switch: its socket, and a serial line a host.
func (c Config) SwitchDir() string { return filepath.Join(c.Dir, "switch") }

// SocketPath is the unix socket of the switch protocol.
func (c Config) SocketPath() string { return filepath.Join(c.SwitchDir(), "rsw.sock") }

// ControlPath is the unix socket of the lab.
func (c Config) ControlPath() string { return filepath.Join(c.Dir, "control.sock") }

// ports of a unit.
var ports = []storage.Position{storage.Port1, storage.Port3}

// Enclosure is an open enclosure. It implements rsw.Backend. All methods may be called from several goroutines.
type Enclosure struct {
	cfg   Config
	order []string
	units map[string]*unit

	mu    sync.Mutex // serialises changes of keys with their way to the disk
	keys  map[string]rsw.WireKey
	moved map[string]uint64 // how often a unit has changed its owner since this program started
}

// unit is the data path of one storage unit.
type unit struct {
	name  string
	size  int64
	hosts map[storage.Position]string
	image *os.File

	gate      sync.RWMutex // held for reading while I/O is under way; for writing to move the switch
	connected storage.Position
	dead      map[storage.Position]bool
}

var _ rsw.Backend = (*Enclosure)(nil)

// Open opens the enclosure in cfg.Dir, and makes it when it is not there: units connected to port 1 with epoch 1,
// images of zeros. Keys of a former run are as they were.
func Open(cfg Config) (_ *Enclosure, err error) {
	e := &Enclosure{cfg: cfg, units: map[string]*unit{}, keys: map[string]rsw.WireKey{}, moved: map[string]uint64{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("enclosure in %s: %w", cfg.Dir, err), e.Close())
		}
	}()
	for _, d := range []string{filepath.Join(cfg.Dir, "image"), cfg.MountPath(), cfg.SwitchDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	known, err := e.load()
	if err != nil {
		return nil, err
	}
	for _, u := range cfg.Units {
		if err := e.add(u, known); err != nil {
			return nil, err
		}
	}
	return e, e.save(e.keys)
}

func (e *Enclosure) add(c UnitConfig, known map[string]rsw.WireKey) error {
	if c.Name == "" || filepath.Base(c.Name) != c.Name || c.Size <= 0 || c.Size%4096 != 0 || e.units[c.Name] != nil {
		return fmt.Errorf("unit %q of %d bytes: it needs a name of its own without slashes, and a multiple of 4096 bytes",
			c.Name, c.Size)
	}
	f, err := os.OpenFile(e.cfg.ImagePath(c.Name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	key, ok := known[c.Name]
	if !ok {
		key = rsw.WireKey{Owner: storage.Port1, N: 1}
	}
	u := &unit{
		name: c.Name, size: c.Size, image: f, connected: key.Owner, dead: map[storage.Position]bool{},
		hosts: map[storage.Position]string{storage.Port1: c.Hosts["1"], storage.Port3: c.Hosts["3"]},
	}
	e.order = append(e.order, c.Name)
	e.units[c.Name], e.keys[c.Name] = u, key
	return f.Truncate(c.Size)
}

// Close closes the images. I/O under way has ended, I/O that comes fails.
func (e *Enclosure) Close() error {
	var errs []error
	for _, u := range e.units {
		u.gate.Lock()
		u.connected = storage.Disconnected
		errs = append(errs, u.image.Close())
		u.gate.Unlock()
	}
	return errors.Join(errs...)
}

func (e *Enclosure) load() (map[string]rsw.WireKey, error) {
	raw, err := os.ReadFile(e.cfg.statePath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var known map[string]rsw.WireKey
	if err := json.Unmarshal(raw, &known); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", e.cfg.statePath(), err)
	}
	return known, nil
}

// save puts the keys on the disk: they are there when it returns nil.
func (e *Enclosure) save(keys map[string]rsw.WireKey) error {
	raw, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return err
	}
	tmp := e.cfg.statePath() + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, e.cfg.statePath()); err != nil {
		return err
	}
	d, err := os.Open(e.cfg.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Units lists the units in the order of the configuration.
func (e *Enclosure) Units() []string { return append([]string(nil), e.order...) }

// Inspect reads a unit's key and position.
func (e *Enclosure) Inspect(name string) (rsw.WireState, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state(name)
}

// state needs e.mu.
func (e *Enclosure) state(name string) (rsw.WireState, error) {
	u := e.units[name]
	if u == nil {
		return rsw.WireState{}, fmt.Errorf("unit %q: %w", name, storage.ErrNoUnit)
	}
	u.gate.RLock()
	defer u.gate.RUnlock()
	return rsw.WireState{Key: e.keys[name], Position: u.connected, LED: light(u.connected)}, nil
}

func light(p storage.Position) storage.LED {
	switch p {
	case storage.Port1:
		return storage.LEDGreen
	case storage.Port3:
		return storage.LEDAmber
	}
	return storage.LEDOff
}

// Swap replaces a unit's key when it is old, and moves the switch to the new owner. When it returns nil, I/O of the
// former port has ended, the key is on the disk, and the new port is connected.
func (e *Enclosure) Swap(name string, old, next rsw.WireKey) (rsw.WireState, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, err := e.state(name)
	if err != nil {
		return now, err
	}
	if now.Key != old {
		return now, fmt.Errorf("unit %q holds %v: %w", name, now.Key, storage.ErrConflict)
	}
	if err := e.move(map[string]rsw.WireKey{name: next}); err != nil {
		return now, err
	}
	return e.state(name)
}

// PowerCycle is what a loss of power does to the switch: every unit goes to port 1, under a newer epoch, so that
// nobody's swap from before can succeed. Rounds of arbitration that were won stay on record.
func (e *Enclosure) PowerCycle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := map[string]rsw.WireKey{}
	for name, k := range e.keys {
		k.Owner, k.N = storage.Port1, k.N+1
		next[name] = k
	}
	return e.move(next)
}

// move cuts the units off, puts their new keys on the disk, and connects them to their new owners; e.mu is held. When
// the disk fails, all is as before.
func (e *Enclosure) move(next map[string]rsw.WireKey) error {
	all := map[string]rsw.WireKey{}
	for name, k := range e.keys {
		all[name] = k
	}
	for name, k := range next {
		all[name] = k
		if k.Owner != e.keys[name].Owner {
			e.units[name].connect(storage.Disconnected)
		}
	}
	err := e.save(all)
	if err == nil {
		for name := range next {
			if all[name].Owner != e.keys[name].Owner {
				e.moved[name]++
			}
		}
		e.keys = all
	}
	for name := range next {
		e.units[name].connect(e.keys[name].Owner)
	}
	return err
}

// SetHost makes all ports of a host dead, or lets them work again. I/O of the host has ended when it returns.
func (e *Enclosure) SetHost(host string, dead bool) error {
	found := false
	for _, u := range e.units {
		for p, h := range u.hosts {
			if h == host {
				found = true
				u.kill(p, dead)
			}
		}
	}
	if !found {
		return fmt.Errorf("no port of this enclosure belongs to host %q", host)
	}
	return nil
}

func (u *unit) connect(p storage.Position) {
	u.gate.Lock()
	defer u.gate.Unlock()
	u.connected = p
}

func (u *unit) kill(p storage.Position, dead bool) {
	u.gate.Lock()
	defer u.gate.Unlock()
	u.dead[p] = dead
}

// enter begins an I/O at a port; leave ends it. While any I/O is under way the switch does not move.
func (u *unit) enter(p storage.Position) error {
	u.gate.RLock()
	if u.connected == p && !u.dead[p] {
		return nil
	}
	u.gate.RUnlock()
	return unix.EIO
}

func (u *unit) leave() { u.gate.RUnlock() }

// readAt reads at a port: EIO when it is not connected.
func (u *unit) readAt(p storage.Position, b []byte, off int64) (int, error) {
	if err := u.enter(p); err != nil {
		return 0, err
	}
	defer u.leave()
	if off >= u.size {
		return 0, nil
	}
	b = b[:min(int64(len(b)), u.size-off)]
	for n := 0; n < len(b); {
		m, err := unix.Pread(int(u.image.Fd()), b[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || m == 0 {
			return n, unix.EIO
		}
		n += m
	}
	return len(b), nil
}

// writeAt writes at a port: EIO when it is not connected, ENOSPC beyond the end.
func (u *unit) writeAt(p storage.Position, b []byte, off int64) (int, error) {
	if err := u.enter(p); err != nil {
		return 0, err
	}
	defer u.leave()
	if off < 0 || off+int64(len(b)) > u.size {
		return 0, unix.ENOSPC
	}
	for n := 0; n < len(b); {
		m, err := unix.Pwrite(int(u.image.Fd()), b[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, unix.EIO
		}
		n += m
	}
	return len(b), nil
}

// sync makes what was written at a connected port durable. It does not hold the switch: what it syncs was accepted
// before.
func (u *unit) sync(p storage.Position) error {
	if err := u.enter(p); err != nil {
		return err
	}
	u.leave()
	if err := unix.Fdatasync(int(u.image.Fd())); err != nil {
		return unix.EIO
	}
	return nil
}
