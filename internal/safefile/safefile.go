// Package safefile deals with program files that must not be changed by others, and that are changed in one step: it
// says who could replace one, and puts a new one in place so that a reader sees the old one or the new one, whole.
//
// It must never run a file, nor take away the only copy of one.
package safefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Old is what is behind the name of a program that Place has kept.
const Old = ".old"

// Stage copies a program into the folder of the file that it is to replace, under a name of its own, and makes the copy
// durable: what is looked at afterwards is what Place puts in place, whatever becomes of the original.
func Stage(from, dest string) (staged string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	switch info, err := in.Stat(); {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", from)
	}
	out, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+".new-*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close()); err != nil {
		return "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), nil
}

// Place puts a staged program in place. What is there before is kept beside it, as dest.old; when running names another
// file, that one is kept: the program as it runs, whose file may have been replaced since.
func Place(staged, dest, running string) error {
	keep := dest
	if running != "" {
		keep = running
	}
	kept, err := Stage(keep, dest)
	if err != nil {
		return fmt.Errorf("keep the program as it is: %w", err)
	}
	if err := os.Rename(kept, dest+Old); err != nil {
		return errors.Join(err, os.Remove(kept))
	}
	if err := os.Rename(staged, dest); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(dest))
}

// Back undoes Place: what was kept is in place again.
func Back(dest string) error {
	if err := os.Rename(dest+Old, dest); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(dest))
}
