package sim

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"time"
)

// disk is the file system of one server's state directory: what was written and not yet flushed is lost with the power,
// wholly or in part.
type disk struct {
	now    func() time.Duration
	chance *rand.Rand
	files  map[string][]byte // as programs see them
	safe   map[string][]byte // as they are after the power was lost
	torn   time.Duration     // until when a write may stop in the middle and say that it failed
	fails  time.Duration
	full   time.Duration
}

func newDisk(now func() time.Duration, chance *rand.Rand) *disk {
	return &disk{now: now, chance: chance, files: map[string][]byte{}, safe: map[string][]byte{}}
}

var errDisk = errors.New("input/output error")

func (d *disk) Read(path string) ([]byte, error) {
	b, ok := d.files[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (d *disk) Write(path string, data []byte) error {
	switch {
	case d.now() < d.full:
		part := append([]byte(nil), data[:d.chance.IntN(len(data))]...)
		d.files[path], d.safe[path] = part, part
		return syscall.ENOSPC
	case d.now() < d.torn:
		part := append([]byte(nil), data[:d.chance.IntN(len(data)+1)]...)
		d.files[path], d.safe[path] = part, part
		return errDisk
	case d.now() < d.fails:
		return errDisk
	}
	kept := append([]byte(nil), data...)
	d.files[path], d.safe[path] = kept, kept
	return nil
}

func (d *disk) Rename(from, to string) error {
	if d.now() < d.fails && d.chance.IntN(2) == 0 {
		return errDisk
	}
	b, ok := d.files[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(d.files, from)
	d.files[to] = b
	return nil
}

func (d *disk) Remove(path string) error {
	if _, ok := d.files[path]; !ok {
		return fs.ErrNotExist
	}
	delete(d.files, path)
	return nil
}

func (d *disk) SyncDir(string) error {
	if d.now() < d.fails && d.chance.IntN(2) == 0 {
		return errDisk // the new name may be on the disk, or not
	}
	d.flush()
	return nil
}

func (d *disk) flush() {
	clear(d.safe)
	for k, v := range d.files {
		d.safe[k] = v
	}
}

// powerLost leaves what was flushed. Names that were not may have reached the disk all the same.
func (d *disk) powerLost() {
	if d.chance.IntN(2) == 0 {
		d.flush()
		return
	}
	clear(d.files)
	for k, v := range d.safe {
		d.files[k] = v
	}
}

// wipe is a disk that was replaced by an empty one.
func (d *disk) wipe() {
	clear(d.files)
	clear(d.safe)
}
