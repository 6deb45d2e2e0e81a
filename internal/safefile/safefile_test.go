package safefile

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(raw)
	}
	if len(got) != len(want) {
		t.Errorf("files are %v, wanted %v", got, want)
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s holds %q, wanted %q", name, got[name], text)
		}
	}
}

func TestPlaceAndBack(t *testing.T) {
	dir, src := t.TempDir(), filepath.Join(t.TempDir(), "new")
	dest := filepath.Join(dir, "program")
	write(t, dest, "one")
	write(t, src, "two")
	staged, err := Stage(src, dest)
	if err != nil {
		t.Fatal(err)
	}
	write(t, src, "changed after it was looked at")
	if err := Place(staged, dest, ""); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, map[string]string{"program": "two", "program.old": "one"})
	if info, err := os.Stat(dest); err != nil || filepath.Separator == '/' && info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Back(dest); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, map[string]string{"program": "one"})
}

// A package manager may have replaced the file already: what runs is kept, not what lies there.
func TestPlaceKeepsWhatRuns(t *testing.T) {
	dir, running := t.TempDir(), filepath.Join(t.TempDir(), "exe")
	dest := filepath.Join(dir, "program")
	write(t, dest, "two")
	write(t, running, "one")
	staged, err := Stage(dest, dest)
	if err != nil {
		t.Fatal(err)
	}
	if err := Place(staged, dest, running); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, map[string]string{"program": "two", "program.old": "one"})
}

func TestStageRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, from := range []string{dir, filepath.Join(dir, "none")} {
		if got, err := Stage(from, filepath.Join(dir, "program")); err == nil {
			t.Errorf("Stage(%s) = %s", from, got)
		}
	}
	wantFiles(t, dir, nil)
}
