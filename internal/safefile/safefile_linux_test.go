package safefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckFollowsLinks: who may replace a symbolic link may have anything run.
func TestCheckFollowsLinks(t *testing.T) {
	safe, open := t.TempDir(), t.TempDir()
	program := filepath.Join(safe, "program")
	write(t, program, "one")
	link := func(name, to string) string {
		t.Helper()
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	within := filepath.Join(safe, "within")
	if err := os.MkdirAll(filepath.Join(open, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		program:                                   "",
		link(filepath.Join(safe, "a"), program):   "",
		link(filepath.Join(safe, "b"), "program"): "",
		link(filepath.Join(safe, "c"), "../"+filepath.Base(safe)+"/b"): "",
		link(filepath.Join(open, "d"), program):                        open + " may be written by everybody",
		link(filepath.Join(safe, "e"), filepath.Join(open, "d")):       open + " may be written by everybody",
		link(within, open) + "/folder":                                 open + " may be written by everybody",
		link(filepath.Join(safe, "f"), "f"):                            "more than 40 symbolic links",
		filepath.Join(safe, "none"):                                    "no such file",
	} {
		err := Check(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	theirs := link(filepath.Join(safe, "theirs"), program)
	if err := os.Lchown(theirs, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := Check(theirs); err == nil || !strings.Contains(err.Error(), "belongs to the user 65534") {
		t.Errorf("a link of another user: %v", err)
	}
}
