//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootBuilder makes the root file system of a host: programs and libraries of the machine, read-only; everything that
// changes is its own. It works in the host's own mount namespace.
type rootBuilder struct {
	root string
	err  error
}

func (b *rootBuilder) do(what string, f func() error) {
	if b.err != nil {
		return
	}
	if err := f(); err != nil {
		b.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (b *rootBuilder) at(path string) string { return filepath.Join(b.root, path) }

func (b *rootBuilder) dir(path string, mode os.FileMode) {
	b.do("folder "+path, func() error {
		if err := os.MkdirAll(b.at(path), 0o755); err != nil {
			return err
		}
		return os.Chmod(b.at(path), mode)
	})
}

func (b *rootBuilder) fs(kind, path, data string, flags uintptr) {
	b.dir(path, 0o755)
	b.do("mounting "+kind+" at "+path, func() error { return unix.Mount(kind, b.at(path), kind, flags, data) })
}

func (b *rootBuilder) tmpfs(path, mode string, flags uintptr) {
	b.fs("tmpfs", path, "mode="+mode, flags)
}

// bind shows from at path. Mounts below from are shown too, except that a read-only bind shows from alone.
func (b *rootBuilder) bind(from, path string, readOnly bool) {
	b.do("mounting "+from+" at "+path, func() error {
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		if err := mountPoint(b.at(path), info.IsDir()); err != nil {
			return err
		}
		if !readOnly {
			return unix.Mount(from, b.at(path), "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err := unix.Mount(from, b.at(path), "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", b.at(path), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	})
}

func mountPoint(path string, dir bool) error {
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (b *rootBuilder) link(target, path string) {
	b.do("link "+path, func() error {
		if err := os.MkdirAll(filepath.Dir(b.at(path)), 0o755); err != nil {
			return err
		}
		return os.Symlink(target, b.at(path))
	})
}

// node makes a device node like the machine's.
func (b *rootBuilder) node(from, path string, mode uint32) {
	b.do("device "+path, func() error {
		var st unix.Stat_t
		if err := unix.Stat(from, &st); err != nil {
			return err
		}
		if err := unix.Mknod(b.at(path), st.Mode&unix.S_IFMT|mode, int(st.Rdev)); err != nil {
			return err
		}
		return unix.Chmod(b.at(path), mode)
	})
}

// buildRoot makes the root of spec below root, which is made a mount of its own.
func buildRoot(spec Spec, root string) error {
	b := &rootBuilder{root: root}
	b.do("own mounts", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") })
	b.do("root", func() error {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755")
	})
	b.programs()
	b.etc(spec.Name)
	b.dir("/root", 0o700)
	b.dir("/var/tmp", 0o1777)
	for _, d := range []string{"/var/log", "/var/lib/ors", "/var/cache", "/opt", "/mnt", "/srv", "/home"} {
		b.dir(d, 0o755)
	}
	b.fs("proc", "/proc", "", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
	b.fs("sysfs", "/sys", "", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
	b.tmpfs("/tmp", "1777", unix.MS_NOSUID|unix.MS_NODEV)
	b.tmpfs("/run", "0755", unix.MS_NOSUID|unix.MS_NODEV)
	b.link("/run", "/var/run")
	b.link("/run/lock", "/var/lock")
	b.dir("/run/lock", 0o1777)
	b.devices(spec)
	if spec.Grouped {
		b.do("control groups", func() error { return unix.Mount("cgroup2", b.at("/sys/fs/cgroup"), "cgroup2", 0, "") })
	}
	for _, m := range spec.Mounts {
		b.bind(m.From, m.To, m.ReadOnly)
	}
	for path, target := range spec.Links {
		b.link(target, path)
	}
	return b.err
}

// programs shows the machine's programs and libraries.
func (b *rootBuilder) programs() {
	b.bind("/usr", "/usr", true)
	for _, d := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		info, err := os.Lstat(d)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			b.do(d, func() error { return err })
		case info.Mode()&os.ModeSymlink != 0:
			b.do(d, func() error {
				target, err := os.Readlink(d)
				if err != nil {
					return err
				}
				return os.Symlink(target, b.at(d))
			})
		default:
			b.bind(d, d, true)
		}
	}
}

// etc is the host's own folder: files are copied, folders shown, names of its own.
func (b *rootBuilder) etc(name string) {
	b.dir("/etc", 0o755)
	b.do("/etc", func() error {
		entries, err := os.ReadDir("/etc")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == "ors" || e.Name() == "hostname" || e.Name() == "hosts" || e.Name() == "mtab" {
				continue
			}
			if err := b.etcEntry("/etc/"+e.Name(), e); err != nil {
				return err
			}
		}
		return nil
	})
	b.dir("/etc/ors", 0o755)
	b.link("/proc/self/mounts", "/etc/mtab")
	b.do("names", func() error {
		hosts := fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 %s\n", name)
		return errors.Join(os.WriteFile(b.at("/etc/hosts"), []byte(hosts), 0o644),
			os.WriteFile(b.at("/etc/hostname"), []byte(name+"\n"), 0o644))
	})
}

func (b *rootBuilder) etcEntry(path string, e os.DirEntry) error {
	switch {
	case e.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, b.at(path))
	case e.IsDir():
		if err := os.MkdirAll(b.at(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mount(path, b.at(path), "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", b.at(path), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	case e.Type().IsRegular():
		return copyFile(path, b.at(path))
	}
	return nil // sockets and the like are nobody's configuration
}

func copyFile(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		return err
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// devices are the harmless ones, terminals, and those that belong to this host.
func (b *rootBuilder) devices(spec Spec) {
	b.tmpfs("/dev", "0755", unix.MS_NOSUID)
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		b.node("/dev/"+d, "/dev/"+d, 0o666)
	}
	b.bind("/dev/pts", "/dev/pts", false)
	b.link("pts/ptmx", "/dev/ptmx")
	b.link("/proc/self/fd", "/dev/fd")
	b.link("/proc/self/fd/0", "/dev/stdin")
	b.link("/proc/self/fd/1", "/dev/stdout")
	b.link("/proc/self/fd/2", "/dev/stderr")
	b.tmpfs("/dev/shm", "1777", unix.MS_NOSUID|unix.MS_NODEV)
	b.dir("/dev/ors", 0o755)
	for name, dev := range spec.Devices {
		if strings.HasPrefix(dev, "/dev/pts/") {
			b.link(dev, "/dev/ors/"+name)
			continue
		}
		b.node(dev, dev, 0o600)
		b.link(dev, "/dev/ors/"+name)
	}
}

// enterRoot makes root the root, and lets go of the machine's mounts.
func enterRoot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the machine's mounts: %w", err)
	}
	return unix.Chdir("/")
}
