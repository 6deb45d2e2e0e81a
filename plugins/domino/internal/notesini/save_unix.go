//go:build unix

package notesini

import (
	"errors"
	"os"
	"syscall"
)

func sameOwner(f *os.File, like os.FileInfo) error {
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(like.Mode().Perm())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
