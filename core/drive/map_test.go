package drive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseMap(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Map
		wrong      string // part of the error's text
	}{
		{"own text", string(Map{"E:", "rocky", "LABEL=rocky_e"}.Text()), Map{"E:", "rocky", "LABEL=rocky_e"}, ""},
		{"letter alone", "letter=i", Map{Letter: "I:"}, ""},
		{"written on Windows", "\uFEFF; map\r\nLETTER = e:\r\n Server=Rocky \r\nvolume=\\\\?\\Volume{1}\\\r\n", Map{"E:",
			"Rocky", `\\?\Volume{1}\`}, ""},
		{"value with =", "letter=E:\nvolume=UUID=1-2", Map{Letter: "E:", Volume: "UUID=1-2"}, ""},
		{"unknown names", "serial=5\nletter=E:\n", Map{Letter: "E:"}, ""},
		{"the last counts", "letter=E:\nletter=F:\n", Map{Letter: "F:"}, ""},
		{"empty", "", Map{}, "letter=E:"},
		{"no letter", "server=rocky\n", Map{}, "letter=E:"},
		{"floppy", "letter=B:\n", Map{}, `line 1: drive letter "B:"`},
		{"word", "# x\nletter=data\n", Map{}, "line 2"},
		{"no equals sign", "letter E:\n", Map{}, "line 1"},
		{"binary", "letter=E:\n\x00", Map{}, "text"},
		{"not UTF-8", "letter=E:\nserver=\xff\n", Map{}, "text"},
		{"too long", "letter=E:\n" + strings.Repeat("#\n", maxMapFile), Map{}, "4096"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseMap([]byte(c.text))
			if got != c.want || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzParseMap(f *testing.F) {
	for _, s := range []string{"", "letter=E:", "LETTER = e \r\nserver=rocky\n", "letter=\x00", "\uFEFFletter=z:", "=\n",
		"volume=a=b\nletter=C:"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMap(b)
		if err != nil {
			if m != (Map{}) {
				t.Fatalf("%+v beside %v", m, err)
			}
			return
		}
		if l, err := letter(m.Letter); err != nil || l != m.Letter {
			t.Fatalf("letter %q", m.Letter)
		}
		again, err := ParseMap(m.Text())
		want := Map{m.Letter, strings.Join(strings.Fields(m.Server), " "), strings.Join(strings.Fields(m.Volume), " ")}
		if len(m.Text()) <= maxMapFile && (err != nil || again != want) {
			t.Fatalf("%+v comes back as %+v (%v)", m, again, err)
		}
	})
}

func TestMapFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadMap(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no map file: %v", err)
	}
	want := Map{"E:", "rocky", "LABEL=e"}
	if err := writeMap(dir, want); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, MapFileName)
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMap(dir); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
	if err := writeMap(dir, want); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
		t.Errorf("what it says already is written again: %v", err)
	}
	if err := os.WriteFile(name, []byte("letter=?\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := ReadMap(dir); !errors.As(err, &e) || e.Code != CodeMapRead || e.Next == "" {
		t.Errorf("%v", err)
	}
	if err := writeMap(filepath.Join(dir, "missing"), want); !errors.As(err, &e) || e.Code != CodeMapWrite {
		t.Errorf("%v", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

func TestFreeLetter(t *testing.T) {
	var all []string
	for c := 'C'; c <= 'Z'; c++ {
		all = append(all, string(c)+":")
	}
	without := func(l string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(x string) bool { return x == l })
	}
	for _, c := range []struct {
		want            string
		taken, reserved []string
		got             string
	}{
		{"E:", nil, nil, "E:"},
		{"E:", nil, []string{"E:"}, "E:"},
		{"E:", []string{"E:"}, nil, "F:"},
		{"E:", []string{"E:", "F:"}, []string{"G:"}, "H:"},
		{"Z:", []string{"Z:"}, nil, "C:"},
		{"E:", without("D:"), nil, "D:"},
		{"E:", without("D:"), []string{"D:"}, ""},
		{"E:", all, nil, ""},
	} {
		if got, ok := freeLetter(c.want, c.taken, c.reserved); got != c.got || ok != (c.got != "") {
			t.Errorf("%+v: %q %v", c, got, ok)
		}
	}
}
