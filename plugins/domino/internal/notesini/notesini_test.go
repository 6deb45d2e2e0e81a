package notesini

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// paper is Apollo's notes.ini of Table 8, with what servers put around it.
const paper = "[Notes]\r\nDirectory=f:\\notes\\data\r\nKeyFilename=server.id\r\nPorts=TCPIP\r\n" +
	"TCPIP=TCP, 0, 15, 0\r\nTCPIP_TcpIpAddress=0,172.25.36.46:1352\r\n" +
	"TCPIP_PortMapping00=CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520\r\n" +
	"no key in this line\r\n\xe4\xf6\xfc=\xff\x00\r\n $Blank = a b \r\n"

func TestGet(t *testing.T) {
	f := Parse([]byte(paper))
	for key, want := range map[string]string{
		"Directory":           `f:\notes\data`,
		"tcpip_tcpipaddress":  "0,172.25.36.46:1352",
		"TCPIP_PORTMAPPING00": "CN=Apollo_2/OU=Servers/O=Cpqlab,172.25.36.46:13520",
		"$blank":              "a b",
		"\xe4\xf6\xfc":        "\xff\x00",
	} {
		if v, ok := f.Get(key); !ok || v != want {
			t.Errorf("%q is %q, %v; want %q", key, v, ok, want)
		}
	}
	if v, ok := f.Get("no key in this line"); ok {
		t.Errorf("a line without = has the value %q", v)
	}
	if !f.HasHeader() || Parse([]byte("Ports=TCPIP\n[Notes]\n")).HasHeader() || Parse(nil).HasHeader() {
		t.Error("the head of the file is not recognised")
	}
	if n := Parse([]byte("[Notes]\na=1\nA = 2\n[Other]\na=3\n[NOTES]\na=4\n")).Count("a"); n != 3 {
		t.Errorf("the key is there %d times in the section", n)
	}
	if keys := Parse([]byte("[Notes]\nB=\na=1\n[Other]\nc=3\n")).Keys(); strings.Join(keys, " ") != "B a" {
		t.Errorf("keys are %q", keys)
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct{ name, in, key, value, want string }{
		{"in place", "[Notes]\nA=1\nB=2\n", "a", "9", "[Notes]\nA=9\nB=2\n"},
		{"CRLF", "[Notes]\r\nA=1\r\n", "B", "2", "[Notes]\r\nA=1\r\nB=2\r\n"},
		{"mixed endings", "[Notes]\r\nA=1\nB=2", "A", "9", "[Notes]\r\nA=9\nB=2"},
		{"blanks stay", "[Notes]\nA =\t1 \nB=2\n", "A", "9", "[Notes]\nA =\t9 \nB=2\n"},
		{"empty value", "[Notes]\nA=\n", "A", "9", "[Notes]\nA=9\n"},
		{"to nothing", "[Notes]\nA=1\n", "A", "", "[Notes]\nA=\n"},
		{"no last ending", "[Notes]\nA=1", "B", "2", "[Notes]\nA=1\nB=2"},
		{"= in the value", "[Notes]\nM=CN=a/O=b,1\n", "M", "CN=c/O=d,2", "[Notes]\nM=CN=c/O=d,2\n"},
		{"section of others", "[Notes]\nA=1\n[Other]\nB=3\n", "B", "2", "[Notes]\nA=1\nB=2\n[Other]\nB=3\n"},
		{"empty file", "", "A", "1", "A=1\n"},
	} {
		f := Parse([]byte(c.in))
		if err := f.Set(c.key, c.value); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := string(f.Bytes()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	f := Parse([]byte("[Notes]\nA=1\na=2\n"))
	if err := f.Set("A", "3"); !errors.Is(err, ErrTwice) || string(f.Bytes()) != "[Notes]\nA=1\na=2\n" {
		t.Errorf("of two lines one was chosen: %v, %q", err, f.Bytes())
	}
	for _, bad := range [][2]string{{"Ä", "1"}, {"A", "ü"}, {"A", "1\nB=2"}, {"A=B", "1"}, {"", "1"}, {"A", " 1"}, {"[A]", "1"}} {
		if err := f.Set(bad[0], bad[1]); !errors.Is(err, ErrNotPlain) {
			t.Errorf("%q = %q was written: %v", bad[0], bad[1], err)
		}
	}
}

// FuzzFile: reading and writing change no byte, and setting a key changes that key alone.
func FuzzFile(f *testing.F) {
	f.Add([]byte(paper), "TCPIP_TcpIpAddress", "0,172.25.36.45:1352")
	f.Add([]byte("[Notes]\na=1\n[x]\na=2\r\n\r"), "a", "")
	f.Add([]byte("=\n[Notes\n a =b\n\n"), "b", "x=y")
	f.Fuzz(func(t *testing.T, b []byte, key, value string) {
		file := Parse(b)
		if got := file.Bytes(); !bytes.Equal(got, b) {
			t.Fatalf("%q became %q", b, got)
		}
		before := map[string]string{}
		for _, k := range file.Keys() {
			before[k], _ = file.Get(k)
		}
		_, there := file.Get(key)
		if err := file.Set(key, value); err != nil {
			if !bytes.Equal(file.Bytes(), b) {
				t.Fatalf("a refused change has changed %q to %q", b, file.Bytes())
			}
			return
		}
		fresh := file.Bytes()
		again := Parse(fresh)
		if got, ok := again.Get(key); !ok || got != value || again.Count(key) != 1 {
			t.Fatalf("%q is %q, %v in %q", key, got, ok, fresh)
		}
		for k, v := range before {
			if got, _ := again.Get(k); !strings.EqualFold(k, key) && got != v {
				t.Fatalf("%q was %q and is %q in %q", k, v, got, fresh)
			}
		}
		lines := bytes.Count(fresh, []byte("\n")) - bytes.Count(b, []byte("\n"))
		if there && lines != 0 || lines < 0 || lines > 1 {
			t.Fatalf("%d lines more: %q became %q", lines, b, fresh)
		}
	})
}

func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.ini")
	if err := os.WriteFile(path, []byte(paper), 0o640); err != nil {
		t.Fatal(err)
	}
	f := Parse([]byte(paper))
	if err := f.Set("TCPIP_TcpIpAddress", "0,172.25.36.45:1352"); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, []byte("something else"), f); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that somebody else has written was replaced: %v", err)
	}
	if err := Save(path, []byte(paper), f); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(paper, "172.25.36.46:1352\r", "172.25.36.45:1352\r", 1)
	for name, text := range map[string]string{path: want, path + Backup: paper} {
		b, err := os.ReadFile(name)
		if err != nil || string(b) != text {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
		if info, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0o040 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
}

// TestSaveBehindALink: the file that a link leads to is replaced, and the link stays.
func TestSaveBehindALink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: most users may make no links there")
	}
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.ini"), filepath.Join(dir, "notes.ini")
	if err := errors.Join(os.WriteFile(path, []byte(paper), 0o640), os.Symlink("real.ini", link)); err != nil {
		t.Fatal(err)
	}
	f := Parse([]byte(paper))
	if err := f.Set("TCP_TcpIpAddress", "0,172.25.36.45:1352"); err != nil {
		t.Fatal(err)
	}
	if err := Save(link, []byte(paper), f); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	to, lerr := os.Readlink(link)
	if err != nil || lerr != nil || to != "real.ini" || string(b) != string(f.Bytes()) || string(b) == paper {
		t.Errorf("the link leads to %q, %v; the file holds %q, %v", to, lerr, b, err)
	}
}
