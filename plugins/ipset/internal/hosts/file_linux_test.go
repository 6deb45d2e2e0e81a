package hosts

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExtendedAttributes: who could read the file by its access list, or the label of SELinux, still can.
func TestExtendedAttributes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte("127.0.0.1 localhost\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.note", []byte("kept"), 0); err != nil {
		t.Skip("this file system has no extended attributes:", err)
	}
	if err := Edit(path, func(b []byte) ([]byte, error) { return append(b, "172.25.36.45 rocky\n"...), nil }); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 64)
	n, err := unix.Getxattr(path, "user.note", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("after the edit: %q, %v", value[:max(n, 0)], err)
	}
}
