// Package store keeps what must survive the agent: hard state (atomically replaced, two slots, checked), the handles of
// applications, the event journal, the ledger of ownership and the record of decisions (all three append-only).
//
// It must never say that something is written before it is on the disk, and never repair by guessing: a damaged slot is
// reported and the other one is used. One agent at a time may hold a state directory.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

// Errors that a caller branches on.
var (
	// ErrHeld: another process holds the state directory. The message names its pid.
	ErrHeld = errors.New("the state directory is held")
	// ErrDamaged: what is on the disk cannot be trusted, and nothing else can stand in for it.
	ErrDamaged = errors.New("the stored state is damaged")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// Store is an open state directory. Its methods may be called from several goroutines. All of them take as long as the
// disk takes; whoever must not wait calls them from a worker, or uses Note.
type Store struct {
	dir         string
	incarnation int
	lock        *os.File
	journal     *journal
	ledger      *journal
	decisions   *journal

	mu       sync.Mutex // guards what follows and every write of a slot or a handle
	hard     *slots
	warnings []string
	closed   bool
}

// Open takes the state directory dir, creating it with mode 0700 when it is missing, and counts one start of the agent.
//
// It returns ErrHeld (ORS-6001) when another process holds it, ErrDamaged (ORS-6003) when the count of starts cannot
// be read, and an error with ORS-6002 when the directory cannot be used at all. What was damaged and could be worked
// around is told by Warnings. Damage of the hard state is told by LoadHard, so that an operator can still read the
// journal.
func Open(dir string) (*Store, error) {
	return open(dir, journalKind)
}

func open(dir string, kind logKind) (_ *Store, err error) {
	s := &Store{dir: dir}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("ORS-6002: state directory %s cannot be used: %w", dir, err)
	}
	if s.lock, err = acquire(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if s.hard, err = openSlots(dir, "hard", s.warn); err != nil {
		return nil, fmt.Errorf("ORS-6002: hard state in %s cannot be read: %w", dir, err)
	}
	if err := s.countStart(); err != nil {
		return nil, err
	}
	var opened []*journal
	for _, l := range []struct {
		to   **journal
		kind logKind
	}{{&s.journal, kind}, {&s.ledger, ledgerKind}, {&s.decisions, decisionsKind}} {
		if *l.to, err = openJournal(dir, l.kind, s.warn); err != nil {
			err = fmt.Errorf("ORS-6004: %s in %s cannot be opened: %w", l.kind.what, dir, err)
			for _, j := range opened {
				err = errors.Join(err, j.close())
			}
			return nil, err
		}
		opened = append(opened, *l.to)
	}
	return s, nil
}

// prepare makes the directories, and keeps others out of them.
func (s *Store) prepare() error {
	for _, d := range []string{s.dir, s.handleDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Dir(s.dir)); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	if open := info.Mode().Perm() &^ 0o700; open != 0 && !permissionsAreAdvisory {
		if err := os.Chmod(s.dir, 0o700); err != nil {
			return fmt.Errorf("its mode is %#o, wanted 0700: %w", info.Mode().Perm(), err)
		}
		s.warn(fmt.Sprintf("state directory %s had mode %#o; set to 0700", s.dir, info.Mode().Perm()))
	}
	return syncDir(s.dir)
}

// countStart increments the incarnation on the disk.
func (s *Store) countStart() error {
	inc, err := openSlots(s.dir, "incarnation", s.warn)
	if err != nil {
		return fmt.Errorf("ORS-6002: incarnation in %s cannot be read: %w", s.dir, err)
	}
	var n int
	if _, err := inc.load(&n); err != nil {
		return err
	}
	s.incarnation = n + 1
	if err := inc.save(s.incarnation); err != nil {
		return fmt.Errorf("ORS-6002: incarnation in %s cannot be written: %w", s.dir, err)
	}
	return nil
}

func (s *Store) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, text)
}

// Warnings lists what was found damaged and worked around since Open, one sentence each, oldest first.
func (s *Store) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.warnings...)
}

// Dir is the state directory.
func (s *Store) Dir() string { return s.dir }

// Incarnation counts the starts of the agent on this state directory, this one included; the first is 1.
func (s *Store) Incarnation() int { return s.incarnation }

// Incarnation16 is the incarnation as beats carry it: 1 … 65535, then 1 again; never 0.
func (s *Store) Incarnation16() uint16 { return uint16((s.incarnation-1)%65535 + 1) }

// LoadHard decodes the newest undamaged hard state into v, which must be a pointer. It reports false when none was ever
// saved, and ErrDamaged (ORS-6003) when one was and no slot can be trusted.
func (s *Store) LoadHard(v any) (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hard.load(v)
}

// SaveHard replaces the hard state by v, as JSON. When it returns nil, v is on the disk; when it returns an error,
// the state saved before is intact and is what LoadHard returns (only where the folder itself could not be flushed
// may a later Open find v after all). While the state is damaged, SaveHard refuses with ErrDamaged, because writing
// would destroy what an operator may still want to read.
func (s *Store) SaveHard(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.hard.save(v)
}

// Handle is what a plugin wants to have back after a restart of the agent.
type Handle struct {
	Version uint32 // of State's form; the plugin's own count
	State   []byte // belongs to the plugin
}

func (s *Store) handleDir() string { return filepath.Join(s.dir, "handles") }

// SaveHandle stores the handle of the application app, replacing its last. When it returns nil, it is on the disk.
func (s *Store) SaveHandle(app string, version uint32, state []byte) error {
	name, err := fileName(app)
	if err != nil {
		return err
	}
	body, err := json.Marshal(Handle{Version: version, State: state})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := writeFile(filepath.Join(s.handleDir(), name), encode(app, 1, body)); err != nil {
		return fmt.Errorf("ORS-6005: handle of application %q cannot be written: %w", app, err)
	}
	return nil
}

// Handle returns the stored handle of the application app; false when there is none. A damaged one is ErrDamaged
// (ORS-6006), never "none": its application may be running.
func (s *Store) Handle(app string) (h Handle, found bool, err error) {
	name, err := fileName(app)
	if err != nil {
		return Handle{}, false, err
	}
	path := filepath.Join(s.handleDir(), name)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Handle{}, false, nil
	case err != nil:
		return Handle{}, false, fmt.Errorf("ORS-6006: handle of application %q cannot be read: %w", app, err)
	}
	_, body, err := decode(app, raw)
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	if err != nil {
		return Handle{}, false, fmt.Errorf("ORS-6006: %w: handle of application %q, file %s: %w", ErrDamaged, app, path, err)
	}
	return h, true, nil
}

// Handles lists the applications that have a stored handle, damaged ones included, in the order of their file names.
func (s *Store) Handles() ([]string, error) {
	entries, err := os.ReadDir(s.handleDir())
	if err != nil {
		return nil, fmt.Errorf("ORS-6006: handles cannot be listed: %w", err)
	}
	var apps []string
	for _, e := range entries {
		if app, ok := appName(e.Name()); ok {
			apps = append(apps, app)
		}
	}
	return apps, nil
}

// DropHandle removes the handle of the application app. It is no error when there is none.
func (s *Store) DropHandle(app string) error {
	name, err := fileName(app)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	err = os.Remove(filepath.Join(s.handleDir(), name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		err = syncDir(s.handleDir())
	}
	if err != nil {
		return fmt.Errorf("ORS-6005: handle of application %q cannot be removed: %w", app, err)
	}
	return nil
}

// Append writes r to the journal and returns when it is on the disk. It sets r.Pos, and r.At where that is zero.
// Errors carry ORS-6004; the record is then not in the journal, unless the disk did not answer within a minute: then
// it may be.
func (s *Store) Append(r *Record) error { return s.journal.append(r) }

// Note queues r for the journal and never waits. Notes and appended records keep the order in which they were handed
// over; notes that wait for the disk together are written together. When the queue is full, or the disk refuses,
// notes are lost: the journal then says how many as soon as it can be written again, and JournalError says so at
// once.
func (s *Store) Note(r Record) { s.journal.note(r) }

// JournalError says why the newest attempt to write the journal failed; nil when it succeeded.
func (s *Store) JournalError() error { return s.journal.lastError() }

// Read returns the records behind position after, oldest first, and of these the newest last ones when last is
// positive. Records that are not yet on the disk are not returned.
func (s *Store) Read(after uint64, last int) ([]Record, error) { return s.journal.read(after, last) }

// Newest is the position of the newest record; 0: there is none.
func (s *Store) Newest() uint64 {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.next - 1
}

// Follow calls fn for each record behind position after, oldest first, and then for each new one when it is on the
// disk, until ctx ends, fn returns an error, or the store is closed (ErrClosed). It returns that error.
func (s *Store) Follow(ctx context.Context, after uint64, fn func(Record) error) error {
	return s.journal.follow(ctx, after, fn)
}

// Log is one of the logs beside the journal. Its methods are those of the Store of the same names.
type Log struct{ j *journal }

// Ledger is where the claims, grants and losses of units are written down.
func (s *Store) Ledger() Log { return Log{s.ledger} }

// Decisions is where decisions are written down with what they rest on.
func (s *Store) Decisions() Log { return Log{s.decisions} }

// Append is as Store.Append.
func (l Log) Append(r *Record) error { return l.j.append(r) }

// Note is as Store.Note.
func (l Log) Note(r Record) { l.j.note(r) }

// Err is as Store.JournalError.
func (l Log) Err() error { return l.j.lastError() }

// Read is as Store.Read.
func (l Log) Read(after uint64, last int) ([]Record, error) { return l.j.read(after, last) }

// Close writes the queued notes, ends the logs' goroutines and lets the directory go. A second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	return errors.Join(s.journal.close(), s.ledger.close(), s.decisions.close(), s.lock.Close())
}

// handleSuffix ends the name of every handle's file, which tells them from temporary files.
const handleSuffix = ".handle"

// maxName bounds an application's name, so that its file's name fits every filesystem.
const maxName = 64

// fileName turns an application's name into a file name that is the same on filesystems that do not tell upper from
// lower case, and that cannot leave its folder.
func fileName(app string) (string, error) {
	if app == "" || len(app) > maxName {
		return "", fmt.Errorf("ORS-6005: application name %q has %d bytes, wanted 1 to %d", app, len(app), maxName)
	}
	var b strings.Builder
	for i, c := range []byte(app) {
		if i == 0 && runtime.GOOS == "windows" && device.MatchString(app) {
			fmt.Fprintf(&b, "%%%02x", c)
		} else if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String() + handleSuffix, nil
}

// device are the names that Windows takes for devices, with whatever ending: "Naming Files, Paths, and Namespaces" in
// Microsoft's documentation.
var device = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])$`)

// appName is the inverse of fileName; false for other files.
func appName(file string) (string, bool) {
	enc, ok := strings.CutSuffix(file, handleSuffix)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(enc); i++ {
		if enc[i] != '%' {
			b.WriteByte(enc[i])
			continue
		}
		var c byte
		if _, err := fmt.Sscanf(enc[i:], "%%%02x", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	if back, err := fileName(b.String()); err != nil || back != file {
		return "", false
	}
	return b.String(), true
}
