package arch

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRequirements holds docs/requirements.md to its word: each row that is not open names tests, and they exist.
func TestRequirements(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/requirements.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	rows, open := 0, 0
	for i, line := range strings.Split(string(text), "\n") {
		cells, ok := row(line)
		if !ok {
			continue
		}
		rows++
		what, named, state := cells[0], cells[len(cells)-1], "done"
		if len(cells) == 4 { // id, what, test, state; bad input has what, test
			named, state = cells[2], cells[3]
		}
		if kind, rest, _ := strings.Cut(state, ":"); kind != "done" && kind != "open" && (kind != "part" || rest == "") {
			t.Errorf("docs/requirements.md:%d: %s: state %q is none of done, part: WHAT IS MISSING, open", i+1, what, state)
		}
		if state == "open" {
			open++
			continue
		}
		if named == "" {
			t.Errorf("docs/requirements.md:%d: %s: no test is named", i+1, what)
			continue
		}
		for _, name := range strings.Split(named, ", ") {
			if !exists(t, tests, strings.TrimSpace(name)) {
				t.Errorf("docs/requirements.md:%d: %s: there is no test %s", i+1, what, name)
			}
		}
	}
	if rows == 0 {
		t.Error("docs/requirements.md: no rows were found")
	}
	t.Logf("%d rows, %d of them open", rows, open)
}

// row reads a line of a table, without its head and the line below it.
func row(line string) ([]string, bool) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") ||
		strings.HasPrefix(line, "| id |") || strings.HasPrefix(line, "| what |") {
		return nil, false
	}
	cells := strings.Split(strings.Trim(line, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells, true
}

// testNames are all tests of the module, as folder/TestName.
func testNames(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, f := range mustFiles(t) {
		if !f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names[f.folder+"/"+fn.Name.Name] = true
			}
		}
	}
	return names
}

var phaseLine = regexp.MustCompile(`(?m)^\s*phase\s+(\S+)(?:\s+for\s.*)?\s*$`)

func exists(t *testing.T, tests map[string]bool, name string) bool {
	t.Helper()
	file, phase, ok := strings.Cut(name, "#")
	if !ok {
		return tests[name]
	}
	if path.Dir(file) != "lab/scenarios" {
		return false
	}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		t.Log(err)
		return false
	}
	for _, m := range phaseLine.FindAllSubmatch(text, -1) {
		if string(m[1]) == phase {
			return true
		}
	}
	return false
}
