package drive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// fsShutdown is FS_IOC_SHUTDOWN, _IOR('X', 125, __u32), of linux/fs.h; noLogFlush its way that writes nothing any more.
const (
	fsShutdown = 0x8004587D
	noLogFlush = 2
)

// releasePatience is how long an unmounted device may take until the kernel lets go of it.
const releasePatience = 500 * time.Millisecond

// stage finds a mount that is there, or mounts the volume where nobody sees it and reads its map file.
func (w *worker) stage(r request) (reply, error) {
	if err := os.MkdirAll(r.Root, 0o755); err != nil {
		return reply{}, &Error{Code: CodeLetter, Text: "the drive root cannot be made", Err: err}
	}
	rep, err := find(r)
	if err != nil {
		return rep, err
	}
	if rep.Found {
		rep.Mounted.Reused = true
		return rep, alive(rep.Mounted)
	}
	if r.Spec.Filesystem == directoryFilesystem {
		rep.Map, rep.MapError, err = stageFolder(r.Spec.Volume)
		return rep, err
	}
	if w.volume, err = resolve(r.Spec.Volume); err != nil {
		return rep, err
	}
	if err := notElsewhere(w.volume); err != nil {
		return rep, err
	}
	if err := freshen(w.volume); err != nil {
		return rep, err
	}
	problem, err := check(context.Background(), w.volume, r.Spec) // bounded by the life of this helper
	if err != nil {
		return rep, err
	}
	if problem != nil {
		rep.Problems = append(rep.Problems, problem)
	}
	if w.staged, err = mountDetached(w.volume, r.Spec); err != nil {
		return rep, err
	}
	rep.Map, err = mapAt(w.staged, w.volume)
	rep.MapError, err = problemOnly(err)
	return rep, err
}

// stageFolder reads the map file of a volume that is a folder.
func stageFolder(path string) (Map, *Error, error) {
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() {
		return Map{}, nil, &Error{Code: CodeVolume, Text: "volume " + path + " is not a folder that is there",
			Next: "is the unit connected to this server?", Err: err}
	}
	m, err := ReadMap(path)
	e, err := problemOnly(err)
	return m, e, err
}

// problemOnly keeps a damaged or missing map file from failing a mount.
func problemOnly(err error) (*Error, error) {
	var e *Error
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.As(err, &e) {
		if e.Err != nil {
			e = &Error{Code: e.Code, Text: e.Text + ": " + e.Err.Error(), Next: e.Next} // causes do not pass the pipe
		}
		return e, nil
	}
	return nil, err
}

// notElsewhere refuses a device that is mounted, or otherwise held, outside the drive root: it could not be released
// later.
func notElsewhere(v volume) error {
	mounts, err := mountsOf(v)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return &Error{Code: CodeInUse, Text: fmt.Sprintf("volume %s is mounted at %s, outside the drive root", v.path,
			mounts[0].Mountpoint),
			Next: "umount " + mounts[0].Mountpoint}
	}
	busy, err := held(v)
	if err != nil {
		return &Error{Code: CodeIO, Text: "opening " + v.path, Next: "is the unit connected to this server?", Err: err}
	}
	if busy {
		if who := users(Mounted{Volume: v.path}); len(who) > 0 {
			return &BusyError{Volume: v.path, Path: "a mount that is no longer here", Who: who}
		}
		return &Error{Code: CodeInUse, Text: "volume " + v.path +
			" is held by the kernel: a mount in another namespace, or a layer such as dm or md",
			Next: "lsblk " + v.path + "; grep -l " + v.path + " /proc/*/mounts"}
	}
	return nil
}

// mountDetached mounts a volume without a place in the tree of folders (fsopen(2), Linux 5.2) and returns the mount's
// descriptor.
func mountDetached(v volume, s Spec) (int, error) {
	refuse := func(step string, ctx int, err error) (int, error) {
		e := &Error{Code: CodeMount, Text: fmt.Sprintf("mounting %s as %s: %s", v.path, s.Filesystem, step), Err: err,
			Next: fmt.Sprintf("dmesg | tail; fsck.%s -n %s", s.Filesystem, v.path)}
		if log := contextLog(ctx); log != "" {
			e.Text += ": " + log
		}
		return -1, e
	}
	ctx, err := unix.Fsopen(s.Filesystem, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return refuse("this kernel does not know the filesystem", -1, err)
	} else if err != nil {
		return refuse("the kernel refused", -1, err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigSetString(ctx, "source", v.path); err != nil {
		return refuse("source", ctx, err)
	}
	attrs := 0
	for _, o := range s.Options {
		attr, own := mountAttrs[o]
		attrs |= attr
		switch key, value, pair := strings.Cut(o, "="); {
		case own && o != "ro":
			err = nil
		case pair:
			err = unix.FsconfigSetString(ctx, key, value)
		default:
			err = unix.FsconfigSetFlag(ctx, o)
		}
		if err != nil {
			return refuse(fmt.Sprintf("option %q", o), ctx, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return refuse("the kernel refused", ctx, err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return refuse("the kernel refused", ctx, err)
	}
	return fd, nil
}

// mountAttrs are the options that belong to a mount and not to its filesystem, and those that mean nothing to the
// kernel.
var mountAttrs = map[string]int{
	"ro":          unix.MOUNT_ATTR_RDONLY,
	"nosuid":      unix.MOUNT_ATTR_NOSUID,
	"nodev":       unix.MOUNT_ATTR_NODEV,
	"noexec":      unix.MOUNT_ATTR_NOEXEC,
	"noatime":     unix.MOUNT_ATTR_NOATIME,
	"nodiratime":  unix.MOUNT_ATTR_NODIRATIME,
	"strictatime": unix.MOUNT_ATTR_STRICTATIME,
	"relatime":    0, "defaults": 0, "rw": 0, "suid": 0, "dev": 0, "exec": 0, "noauto": 0, "nofail": 0, "_netdev": 0,
}

// contextLog reads what a filesystem says of a failed mount.
func contextLog(ctx int) string {
	var says []string
	b := make([]byte, 512)
	for ctx >= 0 && len(says) < 8 {
		n, err := unix.Read(ctx, b)
		if err != nil || n <= 0 {
			break
		}
		says = append(says, strings.TrimSpace(string(b[:n])))
	}
	return strings.Join(says, "; ")
}

// mapAt reads the map file in a mount that has no place yet.
func mapAt(mount int, v volume) (Map, error) {
	fd, err := unix.Openat(mount, MapFileName, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	name := MapFileName + " of " + v.path
	if err != nil {
		return Map{}, mapReadError(name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	m, err := readMapFile(f)
	return m, errors.Join(mapReadError(name, err), f.Close())
}

// place chooses a letter and moves the staged mount to its folder, or links the letter to the folder that is the
// volume.
func (w *worker) place(r request) (reply, error) {
	var rep reply
	all, err := assigned(r.Root)
	if err != nil {
		return rep, err
	}
	var taken []string
	for _, m := range all {
		taken = append(taken, m.Letter)
	}
	l, ok := freeLetter(r.Want, taken, r.Reserved)
	if !ok {
		return rep, &Error{Code: CodeLetter, Text: "no drive letter is free"}
	}
	root, err := filepath.EvalSymlinks(r.Root)
	if err != nil {
		return rep, &Error{Code: CodeLetter, Text: "drive root", Err: err}
	}
	rep.Mounted = Mounted{Letter: l, Path: letterPath(root, l), Volume: w.volume.path}
	if r.Spec.Filesystem == directoryFilesystem {
		rep.Mounted.Volume = filepath.Clean(r.Spec.Volume)
		return rep, link(rep.Mounted)
	}
	if err := letterFolder(rep.Mounted.Path); err != nil {
		return rep, err
	}
	if err := unix.MoveMount(w.staged, "", unix.AT_FDCWD, rep.Mounted.Path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return rep, &Error{Code: CodeMount, Text: "giving " + w.volume.path + " its place at " + rep.Mounted.Path, Err: err}
	}
	err = unix.Close(w.staged)
	w.staged = -1
	return rep, err
}

// letterFolder makes the folder of a letter; a link to a folder that is gone makes room.
func letterFolder(path string) error {
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(path); err != nil {
			return &Error{Code: CodeLetter, Text: "removing the stale link " + path, Err: err}
		}
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return &Error{Code: CodeLetter, Text: "making the letter's folder", Err: err}
	}
	return nil
}

// link makes the letter of a folder, in one step.
func link(m Mounted) error {
	refuse := func(err error) error {
		return &Error{Code: CodeLetter, Text: fmt.Sprintf("letter %s cannot become a link to %s", m.Letter, m.Volume),
			Next: "what is at " + m.Path + "?", Err: err}
	}
	if st, err := os.Lstat(m.Path); err == nil && st.IsDir() {
		if err := os.Remove(m.Path); err != nil {
			return refuse(err)
		}
	}
	fresh := filepath.Join(filepath.Dir(m.Path), fmt.Sprintf(".%s.%d", filepath.Base(m.Path), os.Getpid()))
	if err := os.Symlink(m.Volume, fresh); err != nil {
		return refuse(err)
	}
	if err := os.Rename(fresh, m.Path); err != nil {
		return refuse(errors.Join(err, os.Remove(fresh)))
	}
	return nil
}

// assigned lists the letters in use: mounts at letters' folders, and links whose folder is there.
func assigned(root string) ([]Mounted, error) {
	real, err := filepath.EvalSymlinks(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Code: CodeLetter, Text: "drive root", Err: err}
	}
	mounts, err := mountinfo.GetMounts(func(mi *mountinfo.Info) (skip, stop bool) {
		return filepath.Dir(mi.Mountpoint) != real, false
	})
	if err != nil {
		return nil, &Error{Code: CodeHelper, Text: "reading the mount table", Err: err}
	}
	at := map[string]string{}
	for _, mi := range mounts {
		at[mi.Mountpoint] = mi.Source
	}
	var all []Mounted
	for c := 'C'; c <= 'Z'; c++ {
		m := Mounted{Letter: string(c) + ":", Path: filepath.Join(real, string(c))}
		if src, ok := at[m.Path]; ok {
			m.Volume = src
			all = append(all, m)
		} else if to, err := os.Readlink(m.Path); err == nil {
			if _, err := os.Stat(m.Path); err == nil {
				m.Volume = to
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// find looks for a drive among the assigned letters.
func find(r request) (reply, error) {
	all, err := assigned(r.Root)
	if err != nil {
		return reply{}, err
	}
	same := func(m Mounted) bool { return m.Volume == filepath.Clean(r.Spec.Volume) }
	if r.Spec.Filesystem != directoryFilesystem {
		v, err := resolve(r.Spec.Volume)
		switch {
		case err == nil:
			at, err := mountsOf(v)
			if err != nil {
				return reply{}, err
			}
			same = func(m Mounted) bool {
				return slices.ContainsFunc(at, func(mi *mountinfo.Info) bool { return mi.Mountpoint == m.Path })
			}
		case !slices.ContainsFunc(all, same): // a device that is gone may still be mounted
			return reply{}, err
		}
	}
	if i := slices.IndexFunc(all, same); i >= 0 {
		return reply{Found: true, Mounted: all[i]}, nil
	}
	return reply{}, nil
}

func mountsOf(v volume) ([]*mountinfo.Info, error) {
	ms, err := mountinfo.GetMounts(func(mi *mountinfo.Info) (skip, stop bool) { return !v.is(mi), false })
	if err != nil {
		return nil, &Error{Code: CodeHelper, Text: "reading the mount table", Err: err}
	}
	return ms, nil
}

// mountAt returns the mount of v at path; nil when there is none. Another mount over it is an error: whoever unmounts
// path would unmount that one.
func mountAt(v volume, path string) (*mountinfo.Info, error) {
	ms, err := mountinfo.GetMounts(func(mi *mountinfo.Info) (skip, stop bool) { return mi.Mountpoint != path, false })
	if err != nil {
		return nil, &Error{Code: CodeHelper, Text: "reading the mount table", Err: err}
	}
	i := slices.IndexFunc(ms, v.is)
	if i < 0 {
		return nil, nil
	}
	if top := ms[len(ms)-1]; !v.is(top) {
		return nil, &Error{Code: CodeInUse, Text: fmt.Sprintf("%s is mounted over %s at %s", top.Source, v.path, path),
			Next: "umount " + path}
	}
	return ms[len(ms)-1], nil
}

// known returns the volume of a Mounted, of which nothing may be left but its name.
func known(m Mounted) volume {
	v, err := device(m.Volume)
	if err != nil {
		return volume{path: m.Volume}
	}
	return v
}

// isLink says whether a drive is a link to a folder.
func isLink(m Mounted) bool {
	to, err := os.Readlink(m.Path)
	return err == nil && to == m.Volume
}

// alive proves that a drive's storage answers and that its filesystem has not shut itself down.
func alive(m Mounted) error {
	if isLink(m) {
		if _, err := os.ReadDir(m.Volume); err != nil {
			return &Error{Code: CodeIO, Text: "folder " + m.Volume, Next: "is the unit connected to this server?", Err: err}
		}
		return nil
	}
	v := known(m)
	if _, err := readBlock(v.path); err != nil {
		return &Error{Code: CodeIO, Text: "reading " + v.path + " past the caches",
			Next: "is the unit connected to this server? dmesg | tail",
			Err:  err}
	}
	mi, err := mountAt(v, m.Path)
	if err != nil {
		return err
	}
	if mi == nil {
		return &Error{Code: CodeDead, Text: fmt.Sprintf("%s is not mounted at %s", m.Volume, m.Path)}
	}
	// A mount of our own that was asked to be read-only is so by its own options, too; a filesystem that gave up is so
	// only by its own.
	super, own := strings.Split(mi.VFSOptions, ","), strings.Split(mi.Options, ",")
	for _, o := range []string{"shutdown", "emergency_ro"} {
		if slices.Contains(super, o) {
			return dead(m, o)
		}
	}
	if slices.Contains(super, "ro") && !slices.Contains(own, "ro") {
		return dead(m, "ro")
	}
	return nil
}

func dead(m Mounted, how string) error {
	return &Error{Code: CodeDead, Next: "dmesg | tail; it must be unmounted and mounted again",
		Text: fmt.Sprintf("the filesystem of %s at %s has shut itself down (%s)", m.Volume, m.Path, how)}
}
