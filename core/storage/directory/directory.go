// Package directory is a switch made of a directory tree, for trying things out without root and without an
// enclosure. A unit's contents are in one folder, and a swap renames that folder to the position of the new owner, so
// that a server that is not connected no longer finds it.
//
//	PATH/UNIT/lock           held while one of these files is read or changed
//	PATH/UNIT/key.json       the key; replaced as a whole
//	PATH/UNIT/port1/         the contents, while the unit is connected to the group's primary
//	PATH/UNIT/port3/         the contents, while it is connected to the partner
//	PATH/UNIT/disconnected/  the contents, while it is connected to nobody
//	PATH/UNIT/stray-N/       what somebody wrote to a position at which the unit no longer was, kept for people
//
// It does not fence: a file that is open when the folder is renamed stays open, and its writes land in the contents
// that the other server now owns. It must never be used for data that matters, and never throws contents away.
package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/orscore/ors/core/failover"
	"github.com/orscore/ors/core/storage"
)

// Names below a unit's folder.
const (
	lockFile = "lock"
	keyFile  = "key.json"
	// markFile is in the root of the contents: it tells them from a folder that an application made again at a position
	// from which the unit has gone.
	markFile = ".ors-unit"
)

// lockPoll is how often a lock held by another process is tried again.
const lockPoll = 2 * time.Millisecond

var positions = []storage.Position{storage.Disconnected, storage.Port1, storage.Port3}

// Options of a driver.
type Options struct {
	Path    string          // absolute; all units of the tree are below it
	Unit    string          // name of the unit, and of its folder
	Self    failover.Server // this server
	Primary failover.Server // the group's primary: at port 1; its partner is at port 3
}

// New returns the switch of one unit. It touches nothing; the first call makes the unit, owned by nobody. An error says
// what is wrong with o.
func New(o Options) (storage.Switch, error) {
	if !filepath.IsAbs(o.Path) {
		return nil, &storage.Error{Code: storage.CodeEndpoint,
			Err: fmt.Errorf("directory: path %q must be absolute, such as /var/lib/ors/units", o.Path)}
	}
	if o.Unit == "" || len(o.Unit) > 63 || strings.HasPrefix(o.Unit, ".") || strings.ContainsAny(o.Unit, "/\\:\x00") {
		return nil, &storage.Error{Code: storage.CodeEndpoint,
			Err: fmt.Errorf("directory: unit name %q must be 1 to 63 bytes, fit for a folder, and not begin with a dot", o.Unit)}
	}
	if o.Primary.Other() == failover.Nobody || o.Self.Other() == failover.Nobody {
		return nil, fmt.Errorf("directory: self is %v and primary %v; each must be server 1 or 2", o.Self, o.Primary)
	}
	life, end := context.WithCancel(context.Background())
	return &driver{o: o, dir: filepath.Join(filepath.Clean(o.Path), o.Unit), life: life, end: end}, nil
}

type driver struct {
	o    Options
	dir  string
	life context.Context // ends with Close
	end  context.CancelFunc

	crash func(point string) error // for tests: stop a swap where a crash could
}

// record is key.json. Owners are ports, so that the tree does not depend on the order of servers in a configuration.
type record struct {
	OwnerPort storage.Position `json:"owner_port"`
	Epoch     uint32           `json:"epoch"`
	Round     uint32           `json:"round"`
	ByPort    storage.Position `json:"by_port"`
}

func (d *driver) Capabilities() storage.Capabilities {
	return storage.Capabilities{
		Driver:   "directory",
		Endpoint: d.o.Path,
		Volume:   filepath.Join(d.dir, folder(d.port(d.o.Self))),
	}
}

func (d *driver) Inspect(ctx context.Context) (storage.State, error) {
	var s storage.State
	err := d.locked(ctx, "Inspect", func() error {
		r, err := d.load()
		if err == nil {
			s = d.state(r)
		}
		return err
	})
	return s, err
}

func (d *driver) Swap(ctx context.Context, old, next failover.Key) (storage.State, error) {
	var s storage.State
	err := d.locked(ctx, "Swap", func() error {
		r, err := d.load()
		if err != nil {
			return err
		}
		s = d.state(r)
		if s.Key != old {
			return &storage.Error{Code: storage.CodeConflict,
				Err: fmt.Errorf("it holds %v, not %v: %w", s.Key, old, storage.ErrConflict)}
		}
		if err := d.save(d.record(next)); err != nil {
			return err
		}
		if r, err = d.load(); err != nil { // moves the contents, too
			return err
		}
		if s = d.state(r); s.Key != next {
			return fmt.Errorf("%w: %v was written, %v is read back", storage.ErrUnknown, next, s.Key)
		}
		return nil
	})
	return s, err
}

// Close makes later calls, and those that wait for the lock, fail.
func (d *driver) Close() error {
	d.end()
	return nil
}

// locked runs f under the unit's lock and says in its error what was asked of which unit. Errors that have no meaning
// of their own are storage.ErrUnknown.
func (d *driver) locked(ctx context.Context, what string, f func() error) (err error) {
	defer func() {
		if err == nil {
			return
		}
		err = fmt.Errorf("directory: %s of unit %q in %s: %w", what, d.o.Unit, d.o.Path, err)
		var coded *storage.Error
		if !errors.As(err, &coded) {
			err = &storage.Error{Code: storage.CodeUnknown, Err: fmt.Errorf("%w (%w)", err, storage.ErrUnknown)}
		}
	}()
	if err := errors.Join(ctx.Err(), d.life.Err()); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(d.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		ok, err := tryLock(lock)
		if err != nil {
			return fmt.Errorf("locking: %w", err)
		}
		if ok {
			return f() // closing the file ends the lock
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process holds the lock: %w", ctx.Err())
		case <-d.life.Done():
			return errors.New("the driver was closed")
		case <-tick.C:
		}
	}
}

// load reads the key, makes the unit when there is none yet, and moves the contents to where the key says they are:
// that is a swap's last step, and the repair of one that was interrupted.
func (d *driver) load() (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(d.dir, keyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.create(); err != nil {
			return r, err
		}
	case err != nil:
		return r, err
	default:
		if json.Unmarshal(b, &r) != nil || !valid(r) {
			return r, contents("%s is damaged: restore it from a copy, or remove it together with the folder of the unit",
				filepath.Join(d.dir, keyFile))
		}
	}
	return r, d.place(r)
}

func valid(r record) bool {
	is := func(p storage.Position) bool { return folder(p) != "" }
	return is(r.OwnerPort) && is(r.ByPort)
}

// create makes a new unit: contents first, key last, so that an interrupted create is simply done again.
func (d *driver) create() error {
	at, err := d.find()
	if err != nil {
		return err
	}
	if len(at) > 1 || len(at) == 1 && at[0] != storage.Disconnected {
		return contents("%s is missing, but there are contents at %s: restore it, or move the contents to %s",
			filepath.Join(d.dir, keyFile), d.folders(at), filepath.Join(d.dir, folder(storage.Disconnected)))
	}
	if len(at) == 0 {
		dir := filepath.Join(d.dir, folder(storage.Disconnected))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := writeSynced(filepath.Join(dir, markFile), []byte(d.o.Unit+"\n")); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := d.at("created contents"); err != nil {
		return err
	}
	return d.save(record{})
}

// save replaces key.json as a whole, durably.
func (d *driver) save(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name := filepath.Join(d.dir, keyFile)
	if err := writeSynced(name+".new", append(b, '\n')); err != nil {
		return err
	}
	if err := d.at("wrote new key"); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	return d.at("replaced key")
}

// place moves the contents to the position of the key's owner.
func (d *driver) place(r record) error {
	at, err := d.find()
	if err != nil {
		return err
	}
	switch {
	case len(at) == 0:
		return contents("no folder of %s holds the unit's contents (%s): put them back at %s",
			d.dir, markFile, filepath.Join(d.dir, folder(r.OwnerPort)))
	case len(at) > 1:
		return contents("%s each hold contents of the unit (%s): keep one", d.folders(at), markFile)
	case at[0] == r.OwnerPort:
		return nil
	}
	to := filepath.Join(d.dir, folder(r.OwnerPort))
	if err := d.clear(to); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(d.dir, folder(at[0])), to); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	return d.at("moved contents")
}

// clear moves away what lies where the contents must go: somebody made it after the unit had left.
func (d *driver) clear(path string) error {
	for n := 1; ; n++ {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		stray := filepath.Join(d.dir, fmt.Sprintf("stray-%d", n))
		if _, err := os.Lstat(stray); err == nil {
			continue
		}
		return os.Rename(path, stray)
	}
}

// find lists the positions whose folders hold contents.
func (d *driver) find() ([]storage.Position, error) {
	var at []storage.Position
	for _, p := range positions {
		_, err := os.Lstat(filepath.Join(d.dir, folder(p), markFile))
		switch {
		case err == nil:
			at = append(at, p)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return at, nil
}

func (d *driver) folders(at []storage.Position) string {
	var names []string
	for _, p := range at {
		names = append(names, filepath.Join(d.dir, folder(p)))
	}
	return strings.Join(names, " and ")
}

func (d *driver) at(point string) error {
	if d.crash == nil {
		return nil
	}
	return d.crash(point)
}

func (d *driver) port(s failover.Server) storage.Position {
	switch s {
	case failover.Nobody:
		return storage.Disconnected
	case d.o.Primary:
		return storage.Port1
	}
	return storage.Port3
}

func (d *driver) server(p storage.Position) failover.Server {
	switch p {
	case storage.Port1:
		return d.o.Primary
	case storage.Port3:
		return d.o.Primary.Other()
	}
	return failover.Nobody
}

func (d *driver) record(k failover.Key) record {
	return record{OwnerPort: d.port(k.Owner), Epoch: k.N, Round: k.Tag, ByPort: d.port(k.By)}
}

func (d *driver) state(r record) storage.State {
	s := storage.State{
		Key:      failover.Key{Owner: d.server(r.OwnerPort), N: r.Epoch, Tag: r.Round, By: d.server(r.ByPort)},
		Position: r.OwnerPort,
		LED:      storage.LEDOff,
	}
	switch r.OwnerPort {
	case storage.Port1:
		s.LED = storage.LEDGreen
	case storage.Port3:
		s.LED = storage.LEDAmber
	}
	return s
}

func folder(p storage.Position) string {
	switch p {
	case storage.Disconnected:
		return "disconnected"
	case storage.Port1:
		return "port1"
	case storage.Port3:
		return "port3"
	}
	return ""
}

// contents makes an error about the tree itself, which nobody but a person can repair; the key's state is unknown to
// callers.
func contents(format string, args ...any) error {
	return &storage.Error{Code: storage.CodeContents, Err: fmt.Errorf("%s (%w)", fmt.Sprintf(format, args...),
		storage.ErrUnknown)}
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
