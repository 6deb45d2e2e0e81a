//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/orscore/ors/core"
)

// TestBadInput plays the tables of testdata/badinput: every row is a broken configuration of a whole pair, on which
// `orscore check` is run as a user would, with the real plugins. testdata/badinput/README.md says how a row is written.
//
// A row fails when an expected finding is missing, is elsewhere, or does not say the expected words, and when an
// error is found that the row does not name.
func TestBadInput(t *testing.T) {
	plugins := sync.OnceValues(func() (string, error) { return buildPlugins(t.TempDir()) })
	tables, err := filepath.Glob(filepath.Join("testdata", "badinput", "*.txtar"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, path := range tables {
		table, err := readTable(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(table.name, func(t *testing.T) {
			if table.setup != "" && os.Geteuid() != 0 {
				t.Skip("SKIPPED: this table makes a network namespace, which needs root")
			}
			dir, err := plugins()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range table.rows {
				t.Run(row.name, func(t *testing.T) {
					t.Parallel()
					table.play(t, dir, row)
				})
			}
		})
	}
}

// badTable is one file of rows.
type badTable struct {
	name, base, setup string
	files             []badFile
	rows              []*badRow
}

type badFile struct {
	path    string
	mode    os.FileMode
	content []byte
}

// badRow is one broken configuration: lines of the base and what is there instead, and the findings that are wanted.
type badRow struct {
	name  string
	hunks []badHunk
	want  []badWant
	files []badFile
}

type badHunk struct{ old, new []string }

type badWant struct {
	severity, code string
	placed         bool // at the next mark
	words          []string
}

// place is written before the character at which a finding is expected.
const place = "▸"

func readTable(path string) (*badTable, error) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return nil, err
	}
	t := &badTable{name: strings.TrimSuffix(filepath.Base(path), ".txtar")}
	rows := map[string]*badRow{}
	for _, f := range archive.Files {
		fields := strings.Fields(f.Name)
		switch {
		case f.Name == "base":
			t.base = string(f.Data)
		case f.Name == "setup":
			t.setup = string(f.Data)
		case len(fields) > 1:
			file, err := readBadFile(fields, f.Data)
			if err != nil {
				return nil, fmt.Errorf("%s: -- %s --: %w", path, f.Name, err)
			}
			if row := rows[fields[0]]; row != nil {
				row.files = append(row.files, file)
			} else if fields[0] == "all" {
				t.files = append(t.files, file)
			} else {
				return nil, fmt.Errorf("%s: -- %s --: there is no row %q before it", path, f.Name, fields[0])
			}
		case rows[f.Name] != nil:
			return nil, fmt.Errorf("%s: there are two rows %q", path, f.Name)
		default:
			row, err := readRow(f.Name, string(f.Data))
			if err != nil {
				return nil, fmt.Errorf("%s: row %s: %w", path, f.Name, err)
			}
			rows[f.Name] = row
			t.rows = append(t.rows, row)
		}
	}
	if t.base == "" || len(t.rows) == 0 {
		return nil, fmt.Errorf("%s: it needs a base and rows", path)
	}
	t.rows = append(t.rows, &badRow{name: "base"})
	return t, nil
}

// readBadFile reads the head "ROW PATH [MODE]" of a file.
func readBadFile(fields []string, content []byte) (badFile, error) {
	f := badFile{path: fields[1], mode: 0o644, content: content}
	if len(fields) > 2 {
		mode, err := strconv.ParseUint(fields[2], 8, 12)
		if err != nil || len(fields) > 3 {
			return f, errors.New("wanted -- ROW PATH [MODE] --")
		}
		f.mode = os.FileMode(mode)
	}
	return f, nil
}

func readRow(name, data string) (*badRow, error) {
	row := &badRow{name: name}
	var hunk badHunk
	next := func() {
		if len(hunk.old)+len(hunk.new) > 0 {
			row.hunks = append(row.hunks, hunk)
		}
		hunk = badHunk{}
	}
	for line := range strings.Lines(data) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			next()
		case strings.HasPrefix(line, "-"):
			if len(hunk.new) > 0 {
				next()
			}
			hunk.old = append(hunk.old, line[1:])
		case strings.HasPrefix(line, "+"):
			hunk.new = append(hunk.new, line[1:])
		case strings.HasPrefix(line, "!"):
			want, err := readWant(line[1:])
			if err != nil {
				return nil, err
			}
			row.want = append(row.want, want)
		default:
			return nil, fmt.Errorf("line %q begins with none of - + ! #", line)
		}
	}
	next()
	if len(row.want) == 0 || len(row.hunks)+len(row.files) == 0 {
		return nil, errors.New("it changes nothing, or expects nothing")
	}
	return row, nil
}

// readWant reads "[nowhere] [warning] CODE words | words".
func readWant(s string) (badWant, error) {
	w := badWant{severity: "error", placed: true}
	for {
		head, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
		s = rest
		switch {
		case head == "nowhere":
			w.placed = false
		case head == "warning":
			w.severity = head
		case strings.HasPrefix(head, "ORS-"):
			w.code = head
			for words := range strings.SplitSeq(s, "|") {
				if words = strings.TrimSpace(words); words != "" {
					w.words = append(w.words, words)
				}
			}
			if len(w.words) == 0 {
				return w, fmt.Errorf("%s: which words?", w.code)
			}
			return w, nil
		default:
			return w, fmt.Errorf("%q: wanted [nowhere] [warning] CODE words | words", head)
		}
	}
}

// source is the row's configuration in the folder dir, without marks, and the places of the marks.
func (t *badTable) source(row *badRow, dir string) (src string, marks [][2]int, err error) {
	lines := strings.Split(t.base, "\n")
	for _, h := range row.hunks {
		if lines, err = replaced(lines, h.old, h.new); err != nil {
			return "", nil, err
		}
	}
	for i, line := range lines {
		line = strings.ReplaceAll(line, "SANDBOX", dir)
		for {
			before, after, found := strings.Cut(line, place)
			if !found {
				break
			}
			marks = append(marks, [2]int{i + 1, len([]rune(before)) + 1})
			line = before + after
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n"), marks, nil
}

// replaced puts what is new in the place of old, which must be in lines exactly once. Blanks around a line don't
// count. Without anything old, the new lines are added at the end.
func replaced(lines, old, with []string) ([]string, error) {
	if len(old) == 0 {
		return append(slices.Clone(lines), with...), nil
	}
	at := -1
	for i := 0; i+len(old) <= len(lines); i++ {
		same := true
		for j := range old {
			same = same && strings.TrimSpace(lines[i+j]) == strings.TrimSpace(old[j])
		}
		if same && at >= 0 {
			return nil, fmt.Errorf("%q is in the base more than once", old)
		}
		if same {
			at = i
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("%q is not in the base", old)
	}
	return slices.Concat(lines[:at], with, lines[at+len(old):]), nil
}

// play runs the check of one row and compares.
func (t *badTable) play(tt *testing.T, plugins string, row *badRow) {
	dir := tt.TempDir()
	src, marks, err := t.source(row, dir)
	if err != nil {
		tt.Fatal(err)
	}
	key := badFile{path: "key", mode: 0o600, content: []byte(strings.Repeat("0123456789abcdef", 4) + "\n")}
	config := badFile{path: "config.hcl", mode: 0o644, content: []byte(src)}
	for _, f := range slices.Concat([]badFile{key, config}, t.files, row.files) {
		path := filepath.Join(dir, f.path)
		content := bytes.ReplaceAll(f.content, []byte("SANDBOX"), []byte(dir))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tt.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, content, f.mode), os.Chmod(path, f.mode)); err != nil {
			tt.Fatal(err)
		}
	}
	if err := os.Symlink(plugins, filepath.Join(dir, "plugins")); err != nil {
		tt.Fatal(err)
	}
	report := t.check(tt, dir)
	if report.OK != !slices.ContainsFunc(row.want, func(w badWant) bool { return w.severity == "error" }) {
		tt.Errorf("ok is %v", report.OK)
	}
	for i := range row.want {
		for j, words := range row.want[i].words {
			row.want[i].words[j] = strings.ReplaceAll(words, "SANDBOX", dir)
		}
	}
	row.compare(tt, marks, report.Problems)
	if tt.Failed() {
		tt.Logf("%s:\n%s", config.path, src)
	}
}

// check runs `orscore check` in the folder; where the table has a setup, that is run before in a network of its own.
func (t *badTable) check(tt *testing.T, dir string) checked {
	ctx, cancel := context.WithTimeout(tt.Context(), 2*time.Minute)
	defer cancel()
	argv := []string{"orscore", "check", "--json", "--config", "config.hcl", "--server", "rocky"}
	if t.setup != "" {
		script := "ip link set lo up\n" + t.setup + "\nexec " + strings.Join(argv, " ")
		argv = []string{"unshare", "-n", "--", "sh", "-ec", script}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var report checked
	if bad := json.Unmarshal(out, &report); bad != nil {
		tt.Fatalf("orscore check: %v, %v\n%s\n%s", err, bad, out, errs.String())
	}
	if got := cmd.ProcessState.ExitCode(); got != map[bool]int{true: exitOK, false: exitUsage}[report.OK] {
		tt.Errorf("ok is %v, and the exit code is %d", report.OK, got)
	}
	return report
}

// compare matches every wanted finding with one that was found. The placed ones are at the marks, in their order.
func (r *badRow) compare(t *testing.T, marks [][2]int, found []core.Problem) {
	placed := 0
	for _, w := range r.want {
		at := ""
		if w.placed {
			if placed == len(marks) {
				t.Fatalf("there are %d marks %s, and more findings with a place", len(marks), place)
			}
			at = fmt.Sprintf("config.hcl:%d:%d", marks[placed][0], marks[placed][1])
			placed++
		}
		i := slices.IndexFunc(found, func(p core.Problem) bool { return w.missing(p, at) == "" })
		if i < 0 {
			t.Errorf("not found: %s %s at %q with the words %q", w.severity, w.code, at, w.words)
			continue
		}
		found = slices.Delete(found, i, i+1)
	}
	if placed < len(marks) {
		t.Errorf("there are %d marks %s, and %d findings with a place", len(marks), place, placed)
	}
	for _, p := range found {
		if p.Severity == "error" || t.Failed() {
			t.Errorf("found: %s %s at %q: %s\n    %s", p.Severity, p.Code, where(p), p.Summary, p.Detail)
		}
	}
}

// missing says what keeps a finding from being the wanted one.
func (w badWant) missing(p core.Problem, at string) string {
	if p.Severity != w.severity || p.Code != w.code || where(p) != at {
		return "another finding"
	}
	for _, words := range w.words {
		if !strings.Contains(p.Summary+"\n"+p.Detail, words) {
			return words
		}
	}
	return ""
}

func where(p core.Problem) string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// buildPlugins builds every plugin of this repository into dir, as they are installed.
func buildPlugins(dir string) (string, error) {
	mains, err := filepath.Glob(filepath.Join("..", "..", "plugins", "*", "main.go"))
	if err != nil || len(mains) < 2 {
		return "", fmt.Errorf("there are %d plugins: %w", len(mains), err)
	}
	for _, m := range mains {
		folder := filepath.Dir(m)
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "ors-plugin-"+filepath.Base(folder)), "./"+folder)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", folder, err, out)
		}
	}
	return dir, nil
}
