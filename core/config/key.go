package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/hashicorp/hcl/v2"
)

// Sizes of the interconnect's pre-shared key, in bytes.
const (
	KeySize        = 32       // of a generated key, and the least that is accepted
	maxKeyFileSize = 64 << 10 // of the file
)

// KeyGenerate writes a new random key to a file that only its owner may read. It never overwrites a file: a key that
// the partner still uses would be lost.
func KeyGenerate(path string) error {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

// readKey reads the key of the interconnect. The diagnostic points at `at` and never shows anything of the key.
func readKey(path string, at hcl.Range) ([]byte, *hcl.Diagnostic) {
	const advice = "Make one with `orscore key generate FILE` and copy it to the other server: both need the same."
	info, err := os.Stat(path) // before opening: opening a pipe could wait for ever
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	var raw []byte
	if err == nil {
		raw, err = readAtMost(path, maxKeyFileSize)
	}
	if err != nil {
		return nil, mistake(codeKeyMissing, at, fmt.Sprintf("the key file cannot be read: %v", err), advice)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, mistake(codeKeyMode, at,
			fmt.Sprintf("the key file %s may be read or written by others (mode %04o)", path, mode),
			"Whoever knows the key can speak for your partner: take the rights of others away with chmod 600, and "+
				"make a new key if others have read this one.")
	}
	key := make([]byte, hex.DecodedLen(len(bytes.TrimSpace(raw))))
	if _, err := hex.Decode(key, bytes.TrimSpace(raw)); err != nil {
		return nil, mistake(codeKeyContent, at, fmt.Sprintf("the key file %s does not hold hexadecimal digits", path), advice)
	}
	if len(key) < KeySize {
		return nil, mistake(codeKeyContent, at, fmt.Sprintf("the key in %s has %d bytes", path, len(key)),
			fmt.Sprintf("At least %d are needed. %s", KeySize, advice))
	}
	return key, nil
}

func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return raw, err
}
