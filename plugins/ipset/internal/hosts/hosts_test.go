package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const owner = "rocky/address"

var rocky = []Entry{{netip.MustParseAddr("172.25.36.45"), []string{"rocky.testlab.com", "rocky"}}}

func TestPutAndDrop(t *testing.T) {
	const lines = "# BEGIN ORS rocky/address\n172.25.36.45\trocky.testlab.com rocky\n# END ORS rocky/address\n"
	const opened = "# BEGIN ORS rocky/address (the line before had no end)\n172.25.36.45\trocky.testlab.com rocky\n" +
		"# END ORS rocky/address\n"
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, c := range map[string]struct{ before, with, newline string }{
		"usual":             {"127.0.0.1\tlocalhost\n", "127.0.0.1\tlocalhost\n" + lines, "\n"},
		"empty":             {"", lines, "\n"},
		"empty on Windows":  {"", crlf(lines), "\r\n"},
		"CRLF":              {"127.0.0.1 localhost\r\n", "127.0.0.1 localhost\r\n" + crlf(lines), "\n"},
		"LF on Windows":     {"127.0.0.1 localhost\n", "127.0.0.1 localhost\n" + lines, "\r\n"},
		"no end":            {"127.0.0.1 a\n::1 b", "127.0.0.1 a\n::1 b\n" + opened, "\n"},
		"no end, CRLF":      {"127.0.0.1 a\r\n::1 b", "127.0.0.1 a\r\n::1 b\r\n" + crlf(opened), "\n"},
		"one line, no end":  {"::1 b", "::1 b\r\n" + crlf(opened), "\r\n"},
		"other bytes":       {"# \xff\xfe caf\xe9\n\n\n", "# \xff\xfe caf\xe9\n\n\n" + lines, "\n"},
		"another's block":   {strings.ReplaceAll(lines, "rocky/", "apollo/"), strings.ReplaceAll(lines, "rocky/", "apollo/") + lines, "\n"},
		"owner with prefix": {"# BEGIN ORS rocky/address2\n# END ORS rocky/address2\n", "# BEGIN ORS rocky/address2\n# END ORS rocky/address2\n" + lines, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			with, err := Put([]byte(c.before), owner, rocky, c.newline)
			if err != nil || string(with) != c.with {
				t.Fatalf("with the block it is\n%q, %v; want\n%q", with, err, c.with)
			}
			if again, err := Put(with, owner, rocky, c.newline); err != nil || !bytes.Equal(again, with) {
				t.Errorf("put again it is %q, %v", again, err)
			}
			if !Has(with, owner, rocky) || Has([]byte(c.before), owner, rocky) {
				t.Error("Has does not see it")
			}
			if back, err := Drop(with, owner); err != nil || string(back) != c.before {
				t.Errorf("without it again it is\n%q, %v; want\n%q", back, err, c.before)
			}
		})
	}
}

// What others write while the block is there stays.
func TestOthersWriteMeanwhile(t *testing.T) {
	with, err := Put([]byte("::1 b"), owner, rocky, "\n")
	if err != nil {
		t.Fatal(err)
	}
	with = append(with, "10.0.0.1 new\n"...)
	moved := []Entry{{netip.MustParseAddr("10.1.1.1"), []string{"rocky"}}}
	if with, err = Put(with, owner, moved, "\n"); err != nil || !strings.HasSuffix(string(with), "rocky/address\n10.0.0.1 new\n") {
		t.Fatalf("the block has not stayed in its place: %q, %v", with, err)
	}
	if back, err := Drop(with, owner); err != nil || string(back) != "::1 b\n10.0.0.1 new\n" {
		t.Errorf("afterwards it is %q, %v", back, err)
	}
}

func TestDamagedBlocks(t *testing.T) {
	for name, c := range map[string]struct{ content, words string }{
		"no end":    {"a\n# BEGIN ORS rocky/address\n1.1.1.1 a\n", "has no end"},
		"no begin":  {"a\n# END ORS rocky/address\n", "line 2"},
		"twice":     {"# BEGIN ORS rocky/address\n# END ORS rocky/address\n# BEGIN ORS rocky/address\n", "line 3"},
		"in itself": {"# BEGIN ORS rocky/address\n# BEGIN ORS rocky/address\n# END ORS rocky/address\n", "line 2"},
		"UTF-16":    {"a\x00\n\x00", "single bytes"},
	} {
		if out, err := Put([]byte(c.content), owner, rocky, "\n"); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: put makes %q, %v; want %q", name, out, err, c.words)
		}
		if out, err := Drop([]byte(c.content), owner); err == nil {
			t.Errorf("%s: drop makes %q", name, out)
		}
	}
}

func TestClashes(t *testing.T) {
	content := "127.0.0.1 localhost\n127.0.1.1 Rocky.testlab.com # rocky\n172.25.36.45 rocky\n# 10.0.0.9 rocky\n2001:db8::9 rocky\n"
	with, err := Put([]byte(content), owner, rocky, "\n")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(Clashes(with, owner, rocky))
	if got != "[{2 Rocky.testlab.com 127.0.1.1}]" {
		t.Errorf("clashes are %s", got)
	}
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"rocky": true, "rocky.testlab.com": true, "r-1": true, "_x": true, "9p": true,
		"": false, "rocky.": false, "rocky testlab": false, "rocky#": false, "-rocky": false, "localhost": false,
		"172.25.36.45": false, "::1": false, strings.Repeat("a", 64): false, "a\nb": false, "caf\u00e9": false,
		strings.Repeat("a.", 127): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWhereTheFileIs(t *testing.T) {
	for _, c := range []struct{ system, root, path, newline string }{
		{"linux", "", "/etc/hosts", "\n"},
		{"windows", `D:\WINNT`, `D:\WINNT\System32\drivers\etc\hosts`, "\r\n"},
		{"windows", "", `C:\Windows\System32\drivers\etc\hosts`, "\r\n"},
	} {
		if path, newline := pathOn(c.system, c.root), newLineOn(c.system); path != c.path || newline != c.newline {
			t.Errorf("on %s it is %q, with %q", c.system, path, newline)
		}
	}
}

func TestEdit(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "hosts"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("::1 b\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	links := runtime.GOOS != "windows" // where a hosts file is never one, and most users may make none
	if !links {
		link = path
	} else if err := os.Symlink("hosts", link); err != nil {
		t.Fatal(err)
	}
	if err := Writable(link); err != nil {
		t.Error(err)
	}
	add := func(b []byte) ([]byte, error) { return append(b, "1.1.1.1 x\n"...), nil }
	if err := Edit(link, add); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(link)
	if err != nil || links && st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced, not the file", err)
	}
	b, err := os.ReadFile(path)
	if st, serr := os.Stat(path); err != nil || serr != nil || string(b) != "::1 b\n1.1.1.1 x\n" ||
		links && st.Mode().Perm() != 0o640 {
		t.Errorf("the file is %q, %v, %v, %v", b, st.Mode(), err, serr)
	}
	fail := errors.New("no")
	if err := Edit(path, func([]byte) ([]byte, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Error(err)
	}
	if err := Edit(filepath.Join(dir, "new"), add); err != nil {
		t.Error(err)
	}
	if err := Edit(dir, add); err == nil {
		t.Error("a folder is edited")
	}
	if err := Writable(filepath.Join(dir, "absent", "hosts")); err == nil {
		t.Error("a file in no folder is writable")
	}
	wantLeft := []string{"hosts", "link", "new"}
	if !links {
		wantLeft = []string{"hosts", "new"}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if err != nil || !slices.Equal(left, wantLeft) {
		t.Errorf("the folder has %v, %v", left, err)
	}
}

// TestOthersWrite: a program that knows nothing of our lock loses nothing, and one that never rests is told of.
func TestOthersWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	others := 0
	write := func(most int) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			if others < most {
				others++
				if err := os.WriteFile(path, fmt.Appendf(bytes.Clone(b), "2.2.2.2 other%d\n", others), 0o644); err != nil {
					return nil, err
				}
			}
			return append(bytes.Clone(b), "1.1.1.1 x\n"...), nil
		}
	}
	if err := Edit(path, write(2)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if want := "2.2.2.2 other1\n2.2.2.2 other2\n1.1.1.1 x\n"; err != nil || string(b) != want {
		t.Errorf("the file is %q, %v; want %q", b, err, want)
	}
	if err := Edit(path, write(1000)); !errors.Is(err, errChanged) {
		t.Errorf("while another one writes all the time: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".hosts-ors-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestLeftOvers: what a kill in the midst of an edit has left goes with the next edit, also with one that changes
// nothing; what is not ours, or may be in use, stays.
func TestLeftOvers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	old := time.Now().Add(-61 * time.Second)
	stays := []string{".hosts-ors-7", ".hosts-ors-", ".hosts-ors-1x", ".hosts-ors-x1", "hosts", "hosts-ors-12"}
	for _, name := range append([]string{".hosts-ors-1234567890", ".hosts-ors-1"}, stays...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != ".hosts-ors-7" { // just being written
			if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".hosts-ors-99"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, ".hosts-ors-99"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := Edit(path, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range found {
		left = append(left, e.Name())
	}
	want := append([]string{".hosts-ors-99"}, stays...)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}

// TestBehindALink: a link that leads nowhere yet stays one.
func TestBehindALink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: most users may make no links there")
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("hosts", link); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, func(b []byte) ([]byte, error) { return append(b, "1.1.1.1 x\n"...), nil }); err != nil {
		t.Fatal(err)
	}
	to, err := os.Readlink(link)
	b, rerr := os.ReadFile(filepath.Join(dir, "hosts"))
	if err != nil || rerr != nil || to != "hosts" || string(b) != "1.1.1.1 x\n" {
		t.Errorf("the link leads to %q, %v; the file is %q, %v", to, err, b, rerr)
	}
}

// TestBlanksBehindMarkers: an editor may put some there.
func TestBlanksBehindMarkers(t *testing.T) {
	for _, end := range []string{"\n", "\r\n"} {
		const rest = "127.0.0.1 localhost"
		b, err := Put([]byte(rest+end), "g/a", rocky, end)
		if err != nil {
			t.Fatal(err)
		}
		spoilt := bytes.ReplaceAll(b, []byte("ORS g/a"+end), []byte("ORS g/a \t"+end))
		if got, err := Drop(spoilt, "g/a"); err != nil || string(got) != rest+end || bytes.Equal(spoilt, b) {
			t.Errorf("%q, %v", got, err)
		}
		if again, err := Put(spoilt, "g/a", rocky, end); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q, %v; want %q", again, err, b)
		}
	}
}

// Many owners at once lose nothing.
func TestManyOwners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte("::1 b"), 0o644); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			me := fmt.Sprintf("group/%d", i)
			for _, edit := range []func([]byte) ([]byte, error){
				func(b []byte) ([]byte, error) { return Put(b, me, rocky, "\n") },
				func(b []byte) ([]byte, error) { return Drop(b, me) },
				func(b []byte) ([]byte, error) { return Put(b, me, rocky, "\n") },
			} {
				if err := Edit(path, edit); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil || strings.Count(string(b), beginMark) != 8 || !strings.HasPrefix(string(b), "::1 b\n") {
		t.Errorf("the file is\n%s%v", b, err)
	}
}

func FuzzPutAndDrop(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n"), "rocky/address")
	f.Add([]byte("127.0.0.1 localhost\r\n::1 x"), "rocky/address")
	f.Add([]byte("# BEGIN ORS a\n# END ORS a\n"), "a")
	f.Fuzz(func(t *testing.T, content []byte, owner string) {
		if strings.ContainsAny(owner, "\r\n\x00") || owner == "" || owner != strings.TrimRight(owner, " \t") {
			return // not GROUP/NAME
		}
		with, err := Put(content, owner, rocky, "\n")
		if err != nil {
			return
		}
		if !Has(with, owner, rocky) {
			t.Fatalf("%q does not have its block", with)
		}
		back, err := Drop(with, owner)
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := find(content, owner); at == nil && !bytes.Equal(back, content) {
			t.Errorf("%q came back as %q", content, back)
		}
	})
}
