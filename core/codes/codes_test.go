package codes

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCodeHasAPage reads every source file of the project: a code without a page would leave an operator alone
// with it.
func TestEveryCodeHasAPage(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	files := 0
	missing := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (name == "testdata" || name == "build" || strings.HasPrefix(name, ".")) {
			return fs.SkipDir
		}
		// Tests make codes up.
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, code := range pattern.FindAllString(string(raw), -1) {
			if _, ok := pages()[code]; !ok {
				missing[code] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were read", files)
	}
	for code, path := range missing {
		t.Errorf("%s in %s has no page in core/codes", code, path)
	}
}

var update = flag.Bool("update", false, "write docs/codes.md anew")

// TestDocument keeps docs/codes.md the same as what `orscore explain` says.
func TestDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Message codes\n\nThis page is made from core/codes/pages.txt by `go test ./core/codes -update`. " +
		"A code keeps its meaning for good.\n`orscore explain CODE` says the same.\n")
	for _, p := range All() {
		fmt.Fprintf(&b, "\n## %s: %s\n\n%s\n\nNext: %s.\n", p.Code, p.Summary, p.Text, p.Next)
	}
	path := filepath.Join("..", "..", "docs", "codes.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != b.String() {
		t.Errorf("%s is not what core/codes says; `go test ./core/codes -update` writes it anew", path)
	}
}

func TestPages(t *testing.T) {
	form := regexp.MustCompile(`^ORS-(1\d{3}|2\d{3}|3\d{3}|4\d{3}|5\d{3}|6\d{3}|7\d{3}|13\d{3})$`)
	for _, p := range All() {
		switch {
		case !form.MatchString(p.Code):
			t.Errorf("%s: not in a range", p.Code)
		case p.Summary == "" || strings.HasSuffix(p.Summary, "."):
			t.Errorf("%s: summary %q, wanted some words without a full stop", p.Code, p.Summary)
		case p.Next == "" || strings.HasSuffix(p.Next, "."):
			t.Errorf("%s: next step %q, wanted a sentence without a full stop", p.Code, p.Next)
		case !strings.HasSuffix(p.Text, ".") || strings.Contains(p.Text, "\n"):
			t.Errorf("%s: text %q, wanted one paragraph", p.Code, p.Text)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, code := range []string{"ORS-6001", "6001", " ors-6001 "} {
		if p, ok := Lookup(code); !ok || p.Code != "ORS-6001" {
			t.Errorf("Lookup(%q) = %+v, %v", code, p, ok)
		}
	}
	if _, ok := Lookup("ORS-9999"); ok {
		t.Error("Lookup of a code that does not exist")
	}
}

func TestSplit(t *testing.T) {
	for _, tc := range []struct{ message, code, rest string }{
		{"ORS-6001: held", "ORS-6001", "held"},
		{"x: ORS-6001: held: ORS-6002: y", "ORS-6001", "x: held: ORS-6002: y"},
		{"no code, ORS-40nn", "", "no code, ORS-40nn"},
	} {
		if code, rest := Split(tc.message); code != tc.code || rest != tc.rest {
			t.Errorf("Split(%q) = %q, %q", tc.message, code, rest)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"no code":   "Summary\n> next\ntext.",
		"no next":   "ORS-1001 Summary\ntext.",
		"no text":   "ORS-1001 Summary\n> next",
		"two pages": "ORS-1001 A\n> next\ntext.\n\nORS-1001 B\n> next\ntext.",
	} {
		if _, err := parse(source); err == nil {
			t.Errorf("%s: let pass", name)
		}
	}
}
