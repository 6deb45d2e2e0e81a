package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Path is the hosts file of this operating system.
func Path() string { return pathOn(runtime.GOOS, os.Getenv("SystemRoot")) }

func pathOn(system, root string) string {
	if system != "windows" {
		return "/etc/hosts"
	}
	if root == "" {
		root = `C:\Windows`
	}
	return root + `\System32\drivers\etc\hosts`
}

// NewLine ends lines in a file that has none to go by.
func NewLine() string { return newLineOn(runtime.GOOS) }

func newLineOn(system string) string {
	if system == "windows" {
		return "\r\n"
	}
	return "\n"
}

// mostBytes is how large a hosts file may be: it is read as a whole.
const mostBytes = 16 << 20

// editing keeps two owners in one process from each losing the other's change.
var editing sync.Mutex

// Edit replaces a hosts file by what edit makes of it, at once: whoever reads it sees the old one or the new one. A
// file that stays as it is is not touched; one that is not there begins empty.
func Edit(path string, edit func([]byte) ([]byte, error)) error {
	editing.Lock()
	defer editing.Unlock()
	path = behindLinks(path)
	unlock, err := lock(path)
	if err != nil {
		return fmt.Errorf("hosts file %s: %w", path, err)
	}
	defer unlock()
	removeLeftOvers(filepath.Dir(path))
	for range mostTries {
		old, err := Read(path)
		if err != nil {
			return err
		}
		now, err := edit(old)
		if err != nil {
			return fmt.Errorf("hosts file %s: %w", path, err)
		}
		if bytes.Equal(now, old) {
			return nil
		}
		err = replace(path, now, old)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EBUSY):
			err = errors.New("it is a mount of its own, which cannot be replaced at once")
		case errors.Is(err, errChanged):
			continue
		}
		return fmt.Errorf("hosts file %s: %w", path, err)
	}
	return fmt.Errorf("hosts file %s: %w", path, errChanged)
}

// temporary is the pattern of the files that become hosts files, for os.CreateTemp; isTemporary knows what it makes.
const temporary = ".hosts-ors-*"

var isTemporary = regexp.MustCompile(`^\.hosts-ors-[0-9]+$`)

// oldLeftOver is from when on a file that was to become a hosts file surely becomes none.
const oldLeftOver = time.Minute

// removeLeftOvers takes away what a process has left behind that was killed in the midst of an edit. What cannot be
// removed harms nobody.
func removeLeftOvers(dir string) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range found {
		if !isTemporary.MatchString(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > oldLeftOver {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// mostTries is how often an edit begins anew when another program, which knows nothing of our lock, has written the
// file meanwhile.
const mostTries = 5

var errChanged = errors.New("another program writes it all the time")

// behindLinks is the file that a path leads to, also where it is not there yet.
func behindLinks(path string) string {
	for range 10 {
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// Read returns a hosts file's content; nothing where there is none.
func Read(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	if err == nil && st.Size() > mostBytes {
		err = fmt.Errorf("%d bytes are too many", st.Size())
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("hosts file %s: %w", path, err)
	}
	return content, nil
}

// Writable says why a hosts file cannot be replaced; nil when it can, as far as can be told without trying.
func Writable(path string) error {
	path = behindLinks(path)
	if _, err := Read(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), temporary)
	if err != nil {
		return fmt.Errorf("hosts file %s: %w", path, err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("hosts file %s: %w", path, err)
	}
	if mounted(path) {
		return fmt.Errorf("hosts file %s is a mount of its own, which cannot be replaced at once", path)
	}
	return nil
}

func replace(path string, content, old []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = f.Close(), os.Remove(f.Name())
		}
	}()
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
		if err := errors.Join(own(f, st), copyAttributes(f, path)); err != nil {
			return err
		}
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	switch last, err := Read(path); {
	case err != nil:
		return err
	case !bytes.Equal(last, old):
		return errChanged
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
