package drive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Control codes of winioctl.h.
const (
	fsctlLockVolume     = 0x90018
	fsctlUnlockVolume   = 0x9001C
	fsctlDismountVolume = 0x90020
	ioctlVolumeOnline   = 0x56C008
	ioctlVolumeOffline  = 0x56C00C
)

const windowsPath = 1024 // UTF-16 units of the longest list of paths that is asked for

// platform is Windows' part of Drives: the calls under way.
type platform struct {
	calls sync.WaitGroup
}

// letterPath is the root of a letter.
func letterPath(_, l string) string { return l + `\` }

// Close waits a little for calls under way. Letters stay.
func (d *Drives) Close() error {
	done := make(chan struct{})
	go func() { // ends with the last call; one in the kernel's hands may outlast this process
		d.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return &Error{Code: CodeHelper, Text: "a call for a drive is stuck in the kernel and was left behind"}
	}
}

// within runs f in a goroutine of its own, which is left behind when ctx ends first.
func within[T any](ctx context.Context, d *Drives, what, volume string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	c := make(chan result, 1)
	d.calls.Go(func() {
		v, err := f()
		c <- result{v, err}
	})
	select {
	case r := <-c:
		return r.v, r.err
	case <-ctx.Done():
		var zero T
		return zero, &Error{Code: CodeTimeout, Text: fmt.Sprintf("%s of %s was not done in time", what, volume),
			Err: ctx.Err()}
	}
}

// Mount gives a volume (\\?\Volume{GUID}\) its letter. A volume that has a letter already is found again (Reused). On
// the primary it also writes the map file. What goes wrong after the volume has its letter is in Mounted.Problems.
func (d *Drives) Mount(ctx context.Context, spec Spec) (Mounted, error) {
	s, err := spec.normal()
	if err != nil {
		return Mounted{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.MountTimeout)
	defer cancel()
	unlock, err := d.lockLetters(ctx)
	if err != nil {
		return Mounted{}, err
	}
	return within(ctx, d, "mounting", s.Volume, func() (Mounted, error) {
		defer unlock()
		return d.mount(s)
	})
}

func (d *Drives) mount(s Spec) (Mounted, error) {
	v, err := volumeName(s.Volume)
	if err != nil {
		return Mounted{}, err
	}
	if err := online(v); err != nil {
		return Mounted{}, err
	}
	m, found, err := lettered(v)
	if err != nil {
		return Mounted{}, err
	}
	if found {
		m.Reused = true
	} else {
		mp, mapErr := ReadMap(v)
		want, problem := wanted(s, mp, mapErr)
		if problem != nil {
			m.Problems = append(m.Problems, problem)
		}
		taken, err := takenLetters()
		if err != nil {
			return Mounted{}, err
		}
		d.mu.Lock()
		l, ok := freeLetter(want, taken, d.reserved)
		d.mu.Unlock()
		if !ok {
			return Mounted{}, &Error{Code: CodeLetter, Text: "no drive letter is free"}
		}
		m.Letter, m.Path, m.Volume = l, letterPath("", l), v
		if err := windows.SetVolumeMountPoint(utf16(m.Path), utf16(v)); err != nil {
			return Mounted{}, &Error{Code: CodeMount, Text: fmt.Sprintf("giving %s the letter %s", v, l), Next: "mountvol",
				Err: err}
		}
		if l != want {
			m.Problems = append(m.Problems, moved(want, l))
		}
	}
	if s.OnPrimary {
		var e *Error
		if err := writeMap(m.Path, mapOf(s)); errors.As(err, &e) {
			m.Problems = append(m.Problems, e)
		}
	}
	return m, nil
}

// Find says which letter a drive has now, if it has one.
func (d *Drives) Find(ctx context.Context, spec Spec) (Mounted, bool, error) {
	s, err := spec.normal()
	if err != nil {
		return Mounted{}, false, err
	}
	m, err := within(ctx, d, "finding", s.Volume, func() (Mounted, error) {
		v, err := volumeName(s.Volume)
		if err != nil {
			return Mounted{}, err
		}
		m, _, err := lettered(v)
		return m, err
	})
	return m, m.Letter != "", err
}

// Unmount writes everything to the volume, locks and dismounts it, takes its letter, and takes it offline so that
// nothing mounts it again by itself. Errors: *BusyError when somebody uses the volume (Windows does not say who
// without a tool), *Error.
func (d *Drives) Unmount(ctx context.Context, m Mounted) error {
	_, err := within(ctx, d, "unmounting", m.Volume, func() (struct{}, error) { return struct{}{}, take(m, true) })
	return err
}

// ForceUnmount dismounts a volume whose storage was taken away, whoever uses it: open handles become invalid. It may
// be called again.
func (d *Drives) ForceUnmount(ctx context.Context, m Mounted) error {
	_, err := within(ctx, d, "detaching", m.Volume, func() (struct{}, error) { return struct{}{}, take(m, false) })
	return err
}

// Alive reads a block of the volume past all caches: nil means that the storage answers this server.
func (d *Drives) Alive(ctx context.Context, m Mounted) error {
	_, err := within(ctx, d, "reading a block", m.Volume, func() (struct{}, error) {
		return struct{}{},
			readBlock(m.Volume)
	})
	return err
}

// WriteMap writes the map file of a mounted drive as the primary does: with the configured letter.
func (d *Drives) WriteMap(m Mounted, spec Spec) error {
	s, err := spec.normal()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.MountTimeout)
	defer cancel()
	_, err = within(ctx, d, "writing the map file", m.Volume, func() (struct{}, error) {
		return struct{}{}, writeMap(m.Path, mapOf(s))
	})
	return err
}

// Letters lists the letters in use on this server, in order, whoever assigned them. Volume is empty for what is no
// volume.
func (d *Drives) Letters(ctx context.Context) ([]Mounted, error) {
	return within(ctx, d, "listing letters", "this server", func() ([]Mounted, error) {
		taken, err := takenLetters()
		if err != nil {
			return nil, err
		}
		var all []Mounted
		for _, l := range taken {
			m := Mounted{Letter: l, Path: letterPath("", l)}
			if name, err := guidName(m.Path); err == nil {
				m.Volume = name
			}
			all = append(all, m)
		}
		return all, nil
	})
}

// volumeName checks the form of a volume's name.
func volumeName(s string) (string, error) {
	if strings.HasPrefix(s, `\\?\Volume{`) && strings.HasSuffix(s, `}\`) {
		return s, nil
	}
	if l, err := letter(strings.TrimSuffix(s, `\`)); err == nil {
		return guidName(l + `\`)
	}
	return "", &Error{Code: CodeVolume, Text: fmt.Sprintf("volume %q is not of the form %s", s, `\\?\Volume{GUID}\`),
		Next: "mountvol"}
}

func guidName(root string) (string, error) {
	b := make([]uint16, 64)
	if err := windows.GetVolumeNameForVolumeMountPoint(utf16(root), &b[0], uint32(len(b))); err != nil {
		return "", &Error{Code: CodeVolume, Text: "no volume at " + root, Next: "mountvol", Err: err}
	}
	return windows.UTF16ToString(b), nil
}

// lettered returns the letter of a volume, if it has one.
func lettered(v string) (Mounted, bool, error) {
	b := make([]uint16, windowsPath)
	var n uint32
	if err := windows.GetVolumePathNamesForVolumeName(utf16(v), &b[0], uint32(len(b)), &n); err != nil {
		return Mounted{}, false, &Error{Code: CodeVolume, Text: "volume " + v,
			Next: "is the unit connected to this server? mountvol", Err: err}
	}
	for _, p := range strings.Split(windows.UTF16ToString(replaceNuls(b[:min(int(n), len(b))])), "\n") {
		if l, err := letter(strings.TrimSuffix(p, `\`)); err == nil {
			return Mounted{Letter: l, Path: letterPath("", l), Volume: v}, true, nil
		}
	}
	return Mounted{}, false, nil
}

// replaceNuls makes lines out of a list of zero-ended strings.
func replaceNuls(b []uint16) []uint16 {
	for i := range b {
		if b[i] == 0 {
			b[i] = '\n'
		}
	}
	return append(b, 0)
}

func takenLetters() ([]string, error) {
	mask, err := windows.GetLogicalDrives()
	if err != nil {
		return nil, &Error{Code: CodeLetter, Text: "listing letters", Err: err}
	}
	var taken []string
	for c := 'C'; c <= 'Z'; c++ {
		if mask&(1<<(c-'A')) != 0 {
			taken = append(taken, string(c)+":")
		}
	}
	return taken, nil
}

// openVolume opens the device of a volume; its name is without the last backslash then.
func openVolume(v string, access, flags uint32) (windows.Handle, error) {
	return windows.CreateFile(utf16(strings.TrimSuffix(v, `\`)), access,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil,
		windows.OPEN_EXISTING, flags, 0)
}

func control(h windows.Handle, code uint32) error {
	var n uint32
	return windows.DeviceIoControl(h, code, nil, 0, nil, 0, &n, nil)
}

// online lets a volume that was taken offline be used again, and asks the filesystem to look at it afresh.
func online(v string) error {
	h, err := openVolume(v, windows.GENERIC_READ|windows.GENERIC_WRITE, 0)
	if err != nil {
		return &Error{Code: CodeVolume, Text: "opening " + v, Next: "is the unit connected to this server?", Err: err}
	}
	err = control(h, ioctlVolumeOnline)
	if err = errors.Join(err, windows.CloseHandle(h)); err != nil {
		return &Error{Code: CodeVolume, Text: "taking " + v + " online", Err: err}
	}
	return nil
}

// take takes a volume from its letter and offline; gently: only when nobody uses it.
func take(m Mounted, gently bool) error {
	h, err := openVolume(m.Volume, windows.GENERIC_READ|windows.GENERIC_WRITE, 0)
	if err != nil && gently {
		return &Error{Code: CodeUnmount, Text: "opening " + m.Volume, Err: err}
	}
	if err == nil {
		defer func() { _ = windows.CloseHandle(h) }() // nothing is written through it any more
		if gently {
			if err := windows.FlushFileBuffers(h); err != nil {
				return &Error{Code: CodeIO, Text: m.Volume + " cannot be written out", Err: err}
			}
			if err := control(h, fsctlLockVolume); err != nil {
				return &BusyError{Volume: m.Volume, Path: m.Path}
			}
		}
		err = errors.Join(control(h, fsctlDismountVolume), control(h, ioctlVolumeOffline))
		if gently {
			err = errors.Join(err, control(h, fsctlUnlockVolume))
		}
	}
	if name, nameErr := guidName(m.Path); nameErr == nil && name == m.Volume {
		err = errors.Join(err, windows.DeleteVolumeMountPoint(utf16(m.Path)))
	}
	if err != nil {
		return &Error{Code: CodeUnmount, Text: fmt.Sprintf("taking %s from %s", m.Volume, m.Letter), Next: "mountvol",
			Err: err}
	}
	return nil
}

func readBlock(v string) error {
	const size = 4096
	h, err := openVolume(v, windows.GENERIC_READ, windows.FILE_FLAG_NO_BUFFERING)
	if err == nil {
		page := make([]byte, 2*size)
		// reads past the cache want whole sectors at whole addresses
		off := size - int(uintptr(unsafe.Pointer(&page[0]))%size)
		var n uint32
		err = errors.Join(windows.ReadFile(h, page[off:off+size], &n, nil), windows.CloseHandle(h))
		if err == nil && n != size {
			err = fmt.Errorf("only %d bytes", n)
		}
	}
	if err != nil {
		return &Error{Code: CodeIO, Text: "reading " + v + " past the caches",
			Next: "is the unit connected to this server?", Err: err}
	}
	return nil
}

func utf16(s string) *uint16 {
	p, err := windows.UTF16PtrFromString(s)
	if err != nil { // a zero inside: no such volume or letter
		p, _ = windows.UTF16PtrFromString("?")
	}
	return p
}

// syncFolder does nothing: NTFS journals directory changes, and Windows has no call to flush a folder alone.
func syncFolder(string) error { return nil }
