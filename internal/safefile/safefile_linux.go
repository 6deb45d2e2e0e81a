package safefile

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Check says whether anybody but root and this process's own user could replace a file, or any folder on the way to it.
func Check(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		mode := info.Mode()
		// In a sticky folder, such as /tmp, others may add files but not replace those of others.
		sticky := mode.IsDir() && mode&os.ModeSticky != 0
		switch {
		case owner.Uid != 0 && owner.Uid != uint32(os.Geteuid()):
			return fmt.Errorf("%s belongs to the user %d: chown root %s", at, owner.Uid, at)
		case mode.Perm()&0o002 != 0 && !sticky:
			return fmt.Errorf("%s may be written by everybody (mode %04o): chmod o-w %s", at, mode.Perm(), at)
		case mode.Perm()&0o020 != 0 && !sticky && owner.Gid != 0 && (os.Geteuid() == 0 || owner.Gid != uint32(os.Getegid())):
			return fmt.Errorf("%s may be written by the group %d (mode %04o): chmod g-w %s", at, owner.Gid, mode.Perm(), at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
