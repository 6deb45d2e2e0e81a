package config

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Sizes of the interconnect's pre-shared key, in bytes.
const (
	KeySize        = 32       // of a generated key, and the least that is accepted
	maxKeyFileSize = 64 << 10 // of the file
)

// maxKeys is how many keys a key file may hold: while a key is changed, the new one and the old one.
const maxKeys = 2

// KeyGenerate writes a new random key to a file that only its owner may read. It never overwrites a file: a key that
// the partner still uses would be lost.
func KeyGenerate(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return fill(f, path, newKey())
}

func newKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
}

// fill writes keys into a file that was just made, and takes it away again when that fails.
func fill(f *os.File, path string, keys ...[]byte) error {
	var text strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&text, hex.EncodeToString(k))
	}
	_, err := f.WriteString(text.String())
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

// KeyAdd puts a new random key before the one of a key file, which stays accepted.
func KeyAdd(path string) error {
	keys, err := ReadKeys(path)
	if err != nil {
		return err
	}
	if len(keys) >= maxKeys {
		return fmt.Errorf("%s holds %d keys: drop the old one first, on both servers", path, len(keys))
	}
	return replaceKeys(path, newKey(), keys[0])
}

// KeyDrop takes all but the first key out of a key file.
func KeyDrop(path string) error {
	keys, err := ReadKeys(path)
	if err != nil {
		return err
	}
	if len(keys) < 2 {
		return fmt.Errorf("%s holds one key only: it cannot be dropped", path)
	}
	return replaceKeys(path, keys[0])
}

// replaceKeys puts another file in the place of a key file, so that whoever reads it sees the old one or the new one.
func replaceKeys(path string, keys ...[]byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // only its owner may read it
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	if err := fill(f, path, keys...); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}

// ReadKeys reads a key file: the key to be used, and a second one that is accepted while the key is changed. An error
// never shows anything of a key.
func ReadKeys(path string) ([][]byte, error) {
	keys, d := readKeys(path, hcl.Range{})
	if d != nil {
		return nil, fmt.Errorf("%s. %s", d.Summary, d.Detail)
	}
	return keys, nil
}

// readKeys reads the keys of the interconnect. The diagnostic points at `at` and never shows anything of a key.
func readKeys(path string, at hcl.Range) ([][]byte, *hcl.Diagnostic) {
	info, err := os.Stat(path) // before opening: opening a pipe could wait for ever
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	var raw []byte
	if err == nil {
		raw, err = readAtMost(path, maxKeyFileSize)
	}
	if err != nil {
		return nil, mistake(codeKeyMissing, at, fmt.Sprintf("the key file cannot be read: %v", err), keyAdvice)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, mistake(codeKeyMode, at,
			fmt.Sprintf("the key file %s may be read or written by others (mode %04o)", path, mode),
			"Whoever knows the key can speak for your partner: take the rights of others away with chmod 600, and "+
				"make a new key if others have read this one.")
	}
	return decodeKeys(path, raw, at)
}

const keyAdvice = "Make one with `orscore key generate FILE` and copy it to the other server: both need the same."

// decodeKeys takes the keys out of their file's contents.
func decodeKeys(path string, raw []byte, at hcl.Range) ([][]byte, *hcl.Diagnostic) {
	lines := strings.Fields(string(raw))
	if len(lines) == 0 || len(lines) > maxKeys {
		return nil, mistake(codeKeyContent, at, fmt.Sprintf("the key file %s holds %d keys", path, len(lines)),
			"One is right, and two, a line each, while the key is changed: see `orscore key add`. "+keyAdvice)
	}
	var keys [][]byte
	for _, line := range lines {
		key, err := hex.DecodeString(line)
		if err != nil {
			return nil, mistake(codeKeyContent, at, fmt.Sprintf("the key file %s does not hold hexadecimal digits", path),
				keyAdvice)
		}
		if len(key) < KeySize {
			return nil, mistake(codeKeyContent, at, fmt.Sprintf("the key in %s has %d bytes", path, len(key)),
				fmt.Sprintf("At least %d are needed. %s", KeySize, keyAdvice))
		}
		keys = append(keys, key)
	}
	return keys, nil
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
