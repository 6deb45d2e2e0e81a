package arch

import (
	"bytes"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// foreign is text of the machine that something was made on, which means nothing to whoever reads it. The patterns are put
// together here so that this file is not found itself.
var foreign = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"a path of the machine it was written on", regexp.MustCompile(`(^|[^\w./-])/(wor` + `k|home|Users)/\w`)},
	{"a host that passes packages on", regexp.MustCompile(`https?://[^/\s"']*(artifac` + `tory|nexu` + `s|goprox` + `y)[^/\s"']*`)},
	{"an address on a private network as a package's source", regexp.MustCompile(`(GOPRO` + `XY|Acquire::http)\S*=\S*\d+\.\d+\.\d+\.\d+`)},
	{"who wrote it", regexp.MustCompile(`(?i)helper ses` + `sion|sub-?age` + `nt|co-auth` + `ored-by|brief\.m` + `d`)},
	{"unfinished work", regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)},
}

func TestNothingForeign(t *testing.T) {
	err := walk(func(name string, text []byte) error {
		if bytes.HasPrefix(text, []byte("\x7fELF")) || bytes.HasPrefix(text, []byte("MZ\x90\x00")) {
			t.Errorf("%s: a program that was built here, not written", name)
		}
		if bytes.IndexByte(text, 0) >= 0 || path.Base(name) == "go.sum" {
			return nil
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, f := range foreign {
				if found := f.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: %s", name, i+1, found, f.what)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinksLeadSomewhere follows the links between the pages, without those to other places.
func TestLinksLeadSomewhere(t *testing.T) {
	err := walk(func(name string, text []byte) error {
		if path.Ext(name) != ".md" {
			return nil
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, err := url.Parse(m[1])
			if err != nil || to.Scheme != "" || to.Path == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), filepath.FromSlash(to.Path))); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
