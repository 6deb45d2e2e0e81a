package drive

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// letterPath: a colon has a meaning in too many lists of paths, so the folder of "E:" is "E".
func letterPath(root, l string) string { return filepath.Join(root, l[:1]) }

// Mount gives a volume its letter. A drive that is mounted already is found again (Reused). Otherwise the steps are:
// find the device, drop what is cached of it (another server wrote to it), check it (Spec.Fsck), mount it where
// nobody sees it, read its map file, choose the letter, move the mount to the letter's folder; on the primary also
// write the map file. What goes wrong after the volume is mounted is in Mounted.Problems. Errors: *Error, *BusyError
// when the volume is held by processes of an earlier mount.
func (d *Drives) Mount(ctx context.Context, spec Spec) (Mounted, error) {
	s, err := spec.normal()
	if err != nil {
		return Mounted{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.MountTimeout)
	defer cancel()
	h, err := d.take(ctx)
	if err != nil {
		return Mounted{}, err
	}
	m, err := d.mount(ctx, h, s)
	if err != nil {
		d.end(h) // and with it whatever it has mounted and not placed
		return Mounted{}, err
	}
	d.give(h)
	return m, nil
}

func (d *Drives) mount(ctx context.Context, h *helper, s Spec) (Mounted, error) {
	staged, err := h.call(ctx, request{Op: opStage, Root: d.root, Spec: s})
	if err != nil {
		return Mounted{}, err
	}
	m, problems := staged.Mounted, staged.Problems
	if !staged.Found {
		var mapErr error
		if staged.MapError != nil {
			mapErr = staged.MapError
		}
		want, problem := wanted(s, staged.Map, mapErr)
		if problem != nil {
			problems = append(problems, problem)
		}
		placed, err := d.place(ctx, h, s, want)
		if err != nil {
			return Mounted{}, err
		}
		if m = placed.Mounted; m.Letter != want {
			problems = append(problems, moved(want, m.Letter))
		}
	}
	if s.OnPrimary {
		if _, err := h.call(ctx, request{Op: opWriteMap, Mounted: m, Map: mapOf(s)}); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeMapWrite {
				return Mounted{}, err
			}
			problems = append(problems, e)
		}
	}
	m.Problems = problems
	for _, p := range problems {
		d.log.Warn("drive has a problem", "letter", m.Letter, "volume", m.Volume, "error", p)
	}
	return m, nil
}

// place chooses the letter and moves the mount there, one drive at a time.
func (d *Drives) place(ctx context.Context, h *helper, s Spec, want string) (reply, error) {
	unlock, err := d.lockLetters(ctx)
	if err != nil {
		return reply{}, err
	}
	defer unlock()
	d.mu.Lock()
	reserved := append([]string(nil), d.reserved...)
	d.mu.Unlock()
	return h.call(ctx, request{Op: opPlace, Root: d.root, Spec: s, Want: want, Reserved: reserved})
}

// ask lets a helper do one thing.
func (d *Drives) ask(ctx context.Context, r request) (reply, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	h, err := d.take(ctx)
	if err != nil {
		return reply{}, err
	}
	r.Root = d.root
	rep, err := h.call(ctx, r)
	d.give(h)
	return rep, err
}

// Find says where a drive is mounted now, if it is. An error means that it is not known, not that it is not mounted.
func (d *Drives) Find(ctx context.Context, spec Spec) (Mounted, bool, error) {
	s, err := spec.normal()
	if err != nil {
		return Mounted{}, false, err
	}
	rep, err := d.ask(ctx, request{Op: opFind, Spec: s})
	return rep.Mounted, rep.Found, err
}

// Unmount writes everything to the volume and takes it from its letter. It returns nil only when no mount of the
// device is left on this server, in this or another mount namespace; so it may be called again, and when the drive is
// not mounted. Errors: *BusyError with who uses the volume, *Error.
func (d *Drives) Unmount(ctx context.Context, m Mounted) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := d.ask(ctx, request{Op: opUnmount, Mounted: m})
	var busy *BusyError
	if !errors.As(err, &busy) || len(busy.Who) > 0 {
		return err
	}
	if rep, askErr := d.ask(ctx, request{Op: opBusy, Mounted: m}); askErr == nil {
		busy.Who = rep.Busy
	}
	return busy
}

// ForceUnmount takes a drive away whose storage was taken away: it shuts the filesystem down without writing, so that
// nothing of what is cached reaches the device later, and detaches it from its letter, whoever uses it. It may be
// called again.
func (d *Drives) ForceUnmount(ctx context.Context, m Mounted) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	deadline, _ := ctx.Deadline()
	half, cancelHalf := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancelHalf()
	if _, err := d.ask(half, request{Op: opShutdown, Mounted: m}); err != nil {
		d.log.Warn("the filesystem was not shut down before it is detached", "volume", m.Volume, "error", err)
	}
	_, err := d.ask(ctx, request{Op: opDetach, Mounted: m})
	return err
}

// Alive reads a block of the drive's device past all caches and looks whether its filesystem still works: nil means
// that the storage answers this server. For a folder it looks whether it is there.
func (d *Drives) Alive(ctx context.Context, m Mounted) error {
	_, err := d.ask(ctx, request{Op: opAlive, Mounted: m})
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
	_, err = d.ask(ctx, request{Op: opWriteMap, Mounted: m, Map: mapOf(s)})
	return err
}

// Letters lists the letters in use on this server, in order, whoever assigned them.
func (d *Drives) Letters(ctx context.Context) ([]Mounted, error) {
	rep, err := d.ask(ctx, request{Op: opLetters})
	return rep.Letters, err
}
