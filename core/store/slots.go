package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode frames body as a file: one header line, then the body. The checksum covers the header before it, too, so that
// neither a body under another's name nor a changed generation is believed.
func encode(name string, generation uint64, body []byte) []byte {
	head := fmt.Sprintf("ors-state 1 %q generation=%d length=%d", name, generation, len(body))
	sum := crc32.Update(crc32.Checksum([]byte(head), castagnoli), castagnoli, body)
	return append(fmt.Appendf(nil, "%s crc32c=%08x\n", head, sum), body...)
}

// decode checks a file written by encode under name.
func decode(name string, raw []byte) (generation uint64, body []byte, err error) {
	line, body, ok := bytes.Cut(raw, []byte("\n"))
	if !ok {
		return 0, nil, errors.New("it has no header line")
	}
	var found string
	var length, sum int
	_, err = fmt.Sscanf(string(line), "ors-state 1 %q generation=%d length=%d crc32c=%08x",
		&found, &generation, &length, &sum)
	if err != nil {
		return 0, nil, fmt.Errorf("its header %.80q cannot be read: %w", line, err)
	}
	// Rendering it anew and comparing leaves no byte of the file out, whatever Sscanf would forgive.
	if !bytes.Equal(encode(name, generation, body), raw) {
		return 0, nil, errors.New("its checksum, length or name does not match its contents")
	}
	return generation, body, nil
}

// Files is what the slots need of a file system. A simulator has one that fails.
type Files interface {
	// Read returns a file's contents; an error that is fs.ErrNotExist when there is no such file.
	Read(path string) ([]byte, error)
	// Write makes or empties a file and writes data to it; after nil, the contents are on the disk.
	Write(path string, data []byte) error
	// Rename gives a file another's name, replacing it.
	Rename(from, to string) error
	// Remove removes a file; an error that is fs.ErrNotExist when there is none.
	Remove(path string) error
	// SyncDir puts the names in a folder on the disk.
	SyncDir(dir string) error
}

// disk is the real file system.
type disk struct{}

func (disk) Read(path string) ([]byte, error) { return os.ReadFile(path) }
func (disk) Rename(from, to string) error     { return os.Rename(from, to) }
func (disk) Remove(path string) error         { return os.Remove(path) }
func (disk) SyncDir(dir string) error         { return syncDir(dir) }

func (disk) Write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeFile replaces path by data: after nil it is on the disk, after an error path is as it was before.
func writeFile(path string, data []byte) error { return replace(disk{}, path, data) }

func replace(files Files, path string, data []byte) error {
	tmp := path + ".tmp"
	err := files.Write(tmp, data)
	if err == nil {
		err = files.Rename(tmp, path)
	}
	if err != nil {
		// On a full disk the half-written file would take what is left of it.
		if rm := files.Remove(tmp); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
		return err
	}
	return files.SyncDir(filepath.Dir(path))
}

// slots is one value in two files that are written in turn, so that one always holds the value before the last.
type slots struct {
	files      Files
	name       string
	paths      [2]string
	current    int    // index of the file that holds the value; -1: none does
	generation uint64 // of the value
	body       []byte // of the value
	damaged    error  // no slot can be trusted
}

func openSlots(dir, name string, warn func(string)) (*slots, error) {
	return slotsIn(disk{}, dir, name, warn)
}

func slotsIn(files Files, dir, name string, warn func(string)) (*slots, error) {
	s := &slots{files: files, name: name, current: -1}
	var bad []error
	for i := range s.paths {
		s.paths[i] = filepath.Join(dir, fmt.Sprintf("%s.%d", name, i))
		raw, err := files.Read(s.paths[i])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		generation, body, err := decode(name, raw)
		switch {
		case err != nil:
			bad = append(bad, fmt.Errorf("%s: %w", s.paths[i], err))
		case s.current >= 0 && generation == s.generation:
			bad = append(bad, fmt.Errorf("%s and %s are both generation %d", s.paths[0], s.paths[1], generation))
			s.current = -1
		case s.current < 0 || generation > s.generation:
			s.current, s.generation, s.body = i, generation, body
		}
	}
	if len(bad) > 0 && s.current < 0 {
		s.damaged = fmt.Errorf("ORS-6003: %w: no slot of %q can be trusted: %w", ErrDamaged, name, errors.Join(bad...))
		return s, nil
	}
	for _, err := range bad {
		warn(fmt.Sprintf("ORS-6007: damaged slot of %q: %v; using generation %d of %s, which may be the last but one",
			name, err, s.generation, s.paths[s.current]))
	}
	return s, nil
}

func (s *slots) load(v any) (bool, error) {
	if s.damaged != nil || s.current < 0 {
		return false, s.damaged
	}
	if err := json.Unmarshal(s.body, v); err != nil {
		return false, fmt.Errorf("ORS-6003: %w: %s does not hold a %T: %w", ErrDamaged, s.paths[s.current], v, err)
	}
	return true, nil
}

func (s *slots) save(v any) error {
	if s.damaged != nil {
		return s.damaged
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("ORS-6005: %q cannot be encoded: %w", s.name, err)
	}
	next := (s.current + 1) % len(s.paths)
	if err := replace(s.files, s.paths[next], encode(s.name, s.generation+1, body)); err != nil {
		return fmt.Errorf("ORS-6005: %q cannot be written to %s: %w", s.name, s.paths[next], err)
	}
	s.current, s.generation, s.body = next, s.generation+1, body
	return nil
}

// Slots is one value of a state directory, kept as the hard state is, on any file system: for whoever wants to see what
// becomes of it when that fails. Only one goroutine may use it.
type Slots struct{ s *slots }

// OpenSlots reads the newest undamaged value called name in dir; warn hears what was damaged and worked around.
func OpenSlots(files Files, dir, name string, warn func(string)) (*Slots, error) {
	s, err := slotsIn(files, dir, name, warn)
	if err != nil {
		return nil, err
	}
	return &Slots{s}, nil
}

// Load is Store.LoadHard of this value.
func (s *Slots) Load(v any) (found bool, err error) { return s.s.load(v) }

// Save is Store.SaveHard of this value.
func (s *Slots) Save(v any) error { return s.s.save(v) }
