package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mostLinks is how many symbolic links a path may lead over, as for the kernel.
const mostLinks = 40

// Check says whether anybody but root and this process's own user could replace a file, any folder on the way to it, or
// a symbolic link on that way.
func Check(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, links := "/", 0
	info, err := os.Lstat(at)
	if err == nil {
		err = owned(at, info)
	}
	for rest := names(path); err == nil && len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if info, err = os.Lstat(next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at, err = next, owned(next, info)
			continue
		}
		if links++; links > mostLinks {
			return fmt.Errorf("%s leads over more than %d symbolic links", path, mostLinks)
		}
		if err = ownedBy(next, info); err != nil {
			break
		}
		var target string
		if target, err = os.Readlink(next); filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(names(target), rest...)
	}
	return err
}

// names are the parts of a path. filepath.Join takes each ".." for the folder above, which it is: links are followed
// one by one.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func ownedBy(path string, info fs.FileInfo) error {
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid != 0 && owner.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to the user %d: chown -h root %s", path, owner.Uid, path)
	}
	return nil
}

// owned says whether others may write a file, or replace what is in a folder.
func owned(path string, info fs.FileInfo) error {
	owner, mode := info.Sys().(*syscall.Stat_t), info.Mode()
	// In a sticky folder, such as /tmp, others may add files but not replace those of others.
	sticky := mode.IsDir() && mode&os.ModeSticky != 0
	switch {
	case ownedBy(path, info) != nil:
		return ownedBy(path, info)
	case mode.Perm()&0o002 != 0 && !sticky:
		return fmt.Errorf("%s may be written by everybody (mode %04o): chmod o-w %s", path, mode.Perm(), path)
	case mode.Perm()&0o020 != 0 && !sticky && owner.Gid != 0 && (os.Geteuid() == 0 || owner.Gid != uint32(os.Getegid())):
		return fmt.Errorf("%s may be written by the group %d (mode %04o): chmod g-w %s", path, owner.Gid, mode.Perm(), path)
	}
	return nil
}
