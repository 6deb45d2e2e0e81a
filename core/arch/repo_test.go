package arch

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/orscore/ors"

// root is the folder of the repository, seen from this package's own.
const root = "../.."

// platforms are those that ORS is built for; imports differ between them.
var platforms = [][2]string{{"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}

// pkg is what the tests need of a package's description by go list. The packages of this module are named without the
// module's path: "core/failover".
type pkg struct {
	ImportPath string
	Imports    []string // what its code without tests imports itself
	Deps       []string // and what that imports, down to the standard library
}

// packages lists this module's packages with their imports on all platforms, by name.
var packages = sync.OnceValues(func() (map[string]*pkg, error) {
	all := map[string]*pkg{}
	for _, p := range platforms {
		if err := list(all, p[0], p[1]); err != nil {
			return nil, err
		}
	}
	return all, nil
})

func list(all map[string]*pkg, goos, goarch string) error {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = decode(all, out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("go list for %s/%s: %w: %s", goos, goarch, err, stderr.String())
	}
	return nil
}

func decode(all map[string]*pkg, out io.Reader) error {
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name, ours := short(p.ImportPath)
		if !ours {
			continue
		}
		q := all[name]
		if q == nil {
			q = &pkg{ImportPath: name}
			all[name] = q
		}
		q.Imports = merge(q.Imports, p.Imports)
		q.Deps = merge(q.Deps, p.Deps)
	}
}

// short is the name of a package without the module's path, and whether it is of this module.
func short(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func merge(into, more []string) []string {
	for _, m := range more {
		m, _ = short(m)
		into = append(into, m)
	}
	slices.Sort(into)
	return slices.Compact(into)
}

// under says whether a package is the one that the pattern names, or, for a pattern that ends with "/...", one below it.
func under(name, pattern string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == tree || strings.HasPrefix(name, tree+"/")
	}
	return name == pattern
}

func underAny(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return under(name, p) })
}

// file is a Go file of the main module.
type file struct {
	path      string // from the root, with slashes
	folder    string
	text      []byte
	ast       *ast.File
	test      bool
	generated bool
}

var fset = token.NewFileSet()

// files parses all Go files of the main module, whatever platform they are for.
var files = sync.OnceValues(func() ([]file, error) {
	var all []file
	err := walk(func(path string, text []byte) error {
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		all = append(all, file{
			path: path, folder: folder, text: text, ast: parsed,
			test: strings.HasSuffix(path, "_test.go"), generated: ast.IsGenerated(parsed),
		})
		return nil
	})
	return all, err
})

// walk calls f for each file of the repository, with its path from the root.
func walk(f func(path string, text []byte) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // tests of other packages make files beside their own and remove them
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name == ".git" || name == "build" {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == ".git" { // a linked worktree has a file of that name
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(name, text)
	})
}

func mustPackages(t *testing.T) map[string]*pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustFiles(t *testing.T) []file {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
