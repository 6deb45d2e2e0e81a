package notesini

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup is added to the file's name for the one copy of what was there before the last change.
const Backup = ".before-ors"

// ErrChanged says that somebody else has written the file since it was read.
var ErrChanged = errors.New("the file has changed since it was read")

// Save replaces the file at path, which held old, by f: at once or not at all, with the same owner and mode, and
// with a copy of old beside it. Nothing is written when nothing changes. The caller makes sure that no server runs
// on it.
func Save(path string, old []byte, f *File) error {
	path, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return err
	}
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return fmt.Errorf("%s: %w", path, ErrChanged)
	}
	fresh := f.Bytes()
	if bytes.Equal(fresh, old) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := replace(path+Backup, old, info); err != nil {
		return fmt.Errorf("copy of the file as it was: %w", err)
	}
	return replace(path, fresh, info)
}

// replace writes a file under another name, syncs it, and renames it over path.
func replace(path string, b []byte, like os.FileInfo) (err error) {
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, ".ors-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(t.Name()))
		}
	}()
	_, err = t.Write(b)
	if err == nil {
		err = sameOwner(t, like)
	}
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	if err = os.Rename(t.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}
