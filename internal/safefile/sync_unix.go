//go:build unix

package safefile

import (
	"errors"
	"os"
)

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
