package arch

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	linesMax = 80  // of a function, without its comment
	charsMax = 120 // of a line, a tab counted as one
)

// pure is code that computes and does nothing else: its own files, without tests. The decision besides has no goroutines and
// no maps, whose order changes from run to run.
var pure = []struct {
	files         string // pattern of path.Match
	deterministic bool
}{
	{"core/failover/*.go", true},
	{"core/node/loop/*.go", false},
	{"core/interconnect/detector.go", false},
	{"core/interconnect/codec.go", false},
	{"internal/cobs/splitter.go", false},
	{"core/storage/rsw/wire.go", false},
	{"core/control/screen/screen.go", false},
}

// banned are calls that make code depend on more than what it is given, by import path.
var banned = map[string][]string{
	"time": {
		"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker",
	},
	"os":           nil, // all of it
	"net":          nil,
	"math/rand":    nil,
	"math/rand/v2": nil,
	"crypto/rand":  nil,
	"runtime":      nil,
	"syscall":      nil,
}

func TestPureCodeCallsNothing(t *testing.T) {
	all := mustFiles(t)
	for _, p := range pure {
		found := false
		for _, f := range all {
			if ok, err := path.Match(p.files, f.path); err != nil {
				t.Fatal(err)
			} else if !ok || f.test {
				continue
			}
			found = true
			bannedCalls(t, f)
			if p.deterministic {
				bannedStatements(t, f)
			}
		}
		if !found {
			t.Errorf("there is no file %s, though a rule names it", p.files)
		}
	}
}

func bannedCalls(t *testing.T, f file) {
	t.Helper()
	names := map[string]string{} // as the file calls a package: its path
	for _, i := range f.ast.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		name := strings.TrimSuffix(p, "/v2")
		name = path.Base(name)
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := s.X.(*ast.Ident)
		if !ok || x.Obj != nil { // a variable of this name
			return true
		}
		calls, ok := banned[names[x.Name]]
		if ok && (calls == nil || slices.Contains(calls, s.Sel.Name)) {
			t.Errorf("%s: %s.%s in code that only computes: give it what it needs", fset.Position(s.Pos()), x.Name, s.Sel.Name)
		}
		return true
	})
}

func bannedStatements(t *testing.T, f file) {
	t.Helper()
	ast.Inspect(f.ast, func(n ast.Node) bool {
		what := ""
		switch n.(type) {
		case *ast.GoStmt:
			what = "a goroutine"
		case *ast.SelectStmt, *ast.ChanType, *ast.SendStmt:
			what = "a channel"
		case *ast.MapType:
			what = "a map, whose order is another one in each run"
		}
		if what != "" {
			t.Errorf("%s: %s in the decision", fset.Position(n.Pos()), what)
		}
		return true
	})
}

// TestPackageComments demands that each package says what it is for and what it must never do.
func TestPackageComments(t *testing.T) {
	docs := map[string]string{}
	for _, f := range mustFiles(t) {
		if f.test || f.generated || path.Base(path.Dir(f.folder)) == "testdata" {
			continue
		}
		docs[f.folder] += f.ast.Doc.Text()
	}
	for folder, doc := range docs {
		switch {
		case doc == "":
			t.Errorf("%s: no package comment", folder)
		case !strings.HasPrefix(doc, "Package ") && !strings.HasPrefix(doc, "Command "):
			t.Errorf("%s: the package comment begins with %.20q, not with Package or Command", folder, doc)
		case !strings.Contains(strings.Join(strings.Fields(doc), " "), "never"):
			t.Errorf("%s: the package comment does not say what the package must never do", folder)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	for _, f := range mustFiles(t) {
		if f.test || f.generated {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			begin, end := fset.Position(fn.Pos()), fset.Position(fn.End())
			if n := end.Line - begin.Line + 1; n > linesMax {
				t.Errorf("%s: %s has %d lines, more than %d", begin, fn.Name.Name, n, linesMax)
			}
		}
	}
}

func TestLinesAreShort(t *testing.T) {
	for _, f := range mustFiles(t) {
		if f.test || f.generated {
			continue
		}
		for i, line := range strings.Split(string(f.text), "\n") {
			if n := utf8.RuneCountInString(line); n > charsMax {
				t.Errorf("%s:%d: %d characters, more than %d", f.path, i+1, n, charsMax)
			}
		}
	}
}
