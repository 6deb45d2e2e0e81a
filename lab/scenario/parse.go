//go:build linux

// Package scenario reads scenario files, plays them on a pair, and measures what the clients had of it. lab/README.md
// describes the files.
//
// It must never call an expectation met that was not looked at, and never go on after one that was not met.
package scenario

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orscore/ors/lab/pair"
	"github.com/orscore/ors/lab/workload"
)

// Scenario is a scenario file.
type Scenario struct {
	Path      string
	Title     string // first comment
	Setup     pair.Setup
	Workloads []Workload
	Limit     time.Duration // for the whole run
	Phases    []Phase
}

// Workload is a client that asks the whole time.
type Workload struct {
	Name string
	Kind string // "postgres", "store", "notes", "http"
	To   string // host:port, SERVER@HOST, or a URL
	// Patient says that it waits long for an answer, and so hears what a server says that was paused.
	Patient bool
}

// Phase is a named part of a scenario; each has its own measurements.
type Phase struct {
	Name  string
	Line  int
	Steps []Step
	each  string // the word for which it was written, of a phase that was written for several
}

// Step is one line.
type Step struct {
	Line int
	Text string
	verb *verb
	args args
	cond *condition    // of wait, expect and hold
	with args          // arguments of cond
	wait time.Duration // bound of a wait, length of a hold
}

const kindHTTP = "http"

// writesRows says whether what was acknowledged can be read back.
func (w Workload) writesRows() bool { return w.Kind != kindHTTP }

const (
	defaultLimit = 5 * time.Minute
	defaultWait  = 30 * time.Second
)

// Load reads a scenario file. The error names all mistakes, each with its line and what would be right.
func Load(path string) (*Scenario, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, string(raw))
}

// Parse reads a scenario from text; files that it names are looked for beside path.
func Parse(path, text string) (*Scenario, error) {
	p := &parser{sc: &Scenario{Path: path, Limit: defaultLimit}, dir: filepath.Dir(path)}
	for i, line := range strings.Split(text, "\n") {
		p.line = i + 1
		p.text = strings.TrimSpace(line)
		if strings.HasPrefix(p.text, "#") && p.sc.Title == "" {
			p.sc.Title = strings.TrimSpace(strings.TrimLeft(p.text, "#"))
		}
		words, err := split(p.text)
		if err != nil {
			p.wrong("%v", err)
			continue
		}
		if len(words) > 0 {
			p.statement(words)
		}
	}
	p.line, p.text = 0, ""
	p.whole()
	return p.sc, errors.Join(p.errs...)
}

type parser struct {
	sc   *Scenario
	dir  string
	line int
	text string
	from int // the first one of the phases to which steps belong
	errs []error
}

func (p *parser) wrong(format string, a ...any) {
	at := p.sc.Path
	if p.line > 0 {
		at = fmt.Sprintf("%s:%d: %s", p.sc.Path, p.line, p.text)
	}
	p.errs = append(p.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, a...)))
}

// split takes a line apart at blanks; quotes keep blanks, a # ends the line.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, open := false, false
	end := func() {
		if open {
			words = append(words, word.String())
			word.Reset()
			open = false
		}
	}
	for _, r := range line {
		switch {
		case r == '"':
			quoted, open = !quoted, true
		case quoted:
			word.WriteRune(r)
		case r == ' ' || r == '\t' || r == '\r':
			end()
		case r == '#' && !open:
			return words, nil
		default:
			open = true
			word.WriteRune(r)
		}
	}
	end()
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	return words, nil
}

// statement reads one line: a declaration before the first phase, a step after it.
func (p *parser) statement(words []string) {
	if words[0] == "phase" {
		p.phase(words[1:])
		return
	}
	if len(p.sc.Phases) == 0 {
		p.declaration(words)
		return
	}
	for i := p.from; i < len(p.sc.Phases); i++ {
		ph := &p.sc.Phases[i]
		text := strings.ReplaceAll(p.text, each, ph.each)
		words, _ := split(text) // it was split before
		step, err := p.sc.ParseStep(words)
		if err != nil {
			p.wrong("%v", err)
			return
		}
		step.Line, step.Text = p.line, text
		ph.Steps = append(ph.Steps, step)
	}
}

// each is the place in a step where a phase that is written once for several words has its own one.
const each = "{}"

// phase begins a phase, or several with the same steps: "phase NAME for A B" is the phases NAME:A and NAME:B.
func (p *parser) phase(words []string) {
	if len(words) != 1 && (len(words) < 3 || words[1] != "for") {
		p.wrong("right would be: phase NAME, or phase NAME for WORD…")
		return
	}
	p.from = len(p.sc.Phases)
	names, eachs := words[:1], []string{""}
	if len(words) > 1 {
		names, eachs = nil, words[2:]
		for _, w := range eachs {
			names = append(names, words[0]+":"+w)
		}
	}
	for i, name := range names {
		for _, ph := range p.sc.Phases {
			if ph.Name == name {
				p.wrong("there is a phase %q at line %d", ph.Name, ph.Line)
			}
		}
		p.sc.Phases = append(p.sc.Phases, Phase{Name: name, Line: p.line, each: eachs[i]})
	}
}

// declarations and the forms that they have.
var declarations = map[string]string{
	"server": "server NAME client ADDRESS/BITS interconnect ADDRESS/BITS [dummy ADDRESS/BITS]",
	"client": "client ADDRESS/BITS",
	"cable":  "cable BAUD",
	"unit":   "unit NAME home SERVER size SIZE [label LABEL] [prepare FILE]",
	"config": "config FILE",
	"workload": "workload NAME postgres|store HOST:PORT [patient], workload NAME notes SERVER@HOST [patient], " +
		"or workload NAME http URL",
	"state":    "state SIZE",
	"programs": "programs own",
	"limit":    "limit DURATION",
}

func (p *parser) declaration(words []string) {
	form, ok := declarations[words[0]]
	if !ok {
		p.wrong("%q is not known before the first phase; known are %s", words[0],
			strings.Join(slices.Sorted(maps.Keys(declarations)), ", "))
		return
	}
	var err error
	switch words[0] {
	case "server":
		err = p.server(words[1:])
	case "client":
		err = set(&p.sc.Setup.Client, words[1:], address)
	case "cable":
		err = set(&p.sc.Setup.Baud, words[1:], strconv.Atoi)
	case "unit":
		err = p.unit(words[1:])
	case "config":
		err = set(&p.sc.Setup.Config, words[1:], p.file)
	case "workload":
		err = p.workload(words[1:])
	case "state":
		err = set(&p.sc.Setup.StateSize, words[1:], size)
	case "programs":
		if p.sc.Setup.OwnPrograms = len(words) == 2 && words[1] == "own"; !p.sc.Setup.OwnPrograms {
			err = errors.New("the servers have the lab's programs, unless each has its own")
		}
	case "limit":
		err = set(&p.sc.Limit, words[1:], time.ParseDuration)
	}
	if err != nil {
		p.wrong("%v; right would be: %s", err, form)
	}
}

func set[T any](to *T, words []string, parse func(string) (T, error)) error {
	if len(words) != 1 {
		return fmt.Errorf("%d words, wanted one", len(words))
	}
	v, err := parse(words[0])
	*to = v
	return err
}

func address(s string) (string, error) {
	_, err := netip.ParsePrefix(s)
	return s, err
}

func (p *parser) file(s string) (string, error) {
	path := filepath.Join(p.dir, s)
	_, err := os.Stat(path)
	return path, err
}

// options reads pairs of words: a key and a value.
func options(words []string, known ...string) (map[string]string, error) {
	m := map[string]string{}
	if len(words)%2 != 0 {
		return nil, fmt.Errorf("%q has no value", words[len(words)-1])
	}
	for i := 0; i < len(words); i += 2 {
		found := false
		for _, k := range known {
			found = found || k == words[i]
		}
		if !found {
			return nil, fmt.Errorf("%q is not known", words[i])
		}
		m[words[i]] = words[i+1]
	}
	return m, nil
}

func (p *parser) server(words []string) error {
	if len(words) == 0 {
		return errors.New("no name")
	}
	o, err := options(words[1:], "client", "interconnect", "dummy")
	if err != nil {
		return err
	}
	s := pair.Server{Name: words[0]}
	if s.Client, err = address(o["client"]); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if s.Interconnect, err = address(o["interconnect"]); err != nil {
		return fmt.Errorf("interconnect: %w", err)
	}
	if o["dummy"] != "" {
		if s.Dummy, err = address(o["dummy"]); err != nil {
			return fmt.Errorf("dummy: %w", err)
		}
	}
	for i := range p.sc.Setup.Servers {
		if p.sc.Setup.Servers[i].Name == "" {
			p.sc.Setup.Servers[i] = s
			return nil
		}
	}
	return errors.New("a pair has two servers")
}

func (p *parser) unit(words []string) error {
	if len(words) == 0 {
		return errors.New("no name")
	}
	o, err := options(words[1:], "home", "size", "label", "prepare")
	if err != nil {
		return err
	}
	u := pair.Unit{Name: words[0], Home: o["home"], Label: o["label"]}
	if !p.sc.isServer(u.Home) {
		return fmt.Errorf("home %q is no server above", u.Home)
	}
	if u.Size, err = size(o["size"]); err != nil {
		return err
	}
	if u.Label == "" {
		u.Label = u.Name
	}
	if len(u.Label) > 16 {
		return fmt.Errorf("label %q has more than 16 characters", u.Label)
	}
	if o["prepare"] != "" {
		if u.Prepare, err = p.file(o["prepare"]); err != nil {
			return err
		}
	}
	p.sc.Setup.Units = append(p.sc.Setup.Units, u)
	return nil
}

// size reads a number of bytes such as "64M".
func size(s string) (int64, error) {
	unit := map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}
	if s == "" || unit[s[len(s)-1]] == 0 {
		return 0, fmt.Errorf("size %q is not such as 64M", s)
	}
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("size %q is not such as 64M", s)
	}
	return n * unit[s[len(s)-1]], nil
}

func (p *parser) workload(words []string) error {
	kinds := []string{workload.KindPostgres, workload.KindStore, workload.KindNotes, kindHTTP}
	if len(words) < 3 || !slices.Contains(kinds, words[1]) {
		return errors.New("not understood")
	}
	patient := len(words) == 4 && words[3] == "patient" && words[1] != kindHTTP
	if len(words) > 3 && !patient {
		return errors.New("not understood")
	}
	if _, ok := p.sc.workload(words[0]); ok {
		return fmt.Errorf("there is a workload %q", words[0])
	}
	p.sc.Workloads = append(p.sc.Workloads, Workload{Name: words[0], Kind: words[1], To: words[2], Patient: patient})
	return nil
}

// whole looks at what only the whole file can show.
func (p *parser) whole() {
	s := p.sc.Setup
	if s.Servers[1].Name == "" {
		p.wrong("a pair has two servers; right would be two lines: %s", declarations["server"])
	}
	if s.Client == "" {
		p.wrong("no client; right would be: %s", declarations["client"])
	}
	if s.Config == "" {
		p.wrong("no configuration; right would be: %s", declarations["config"])
	}
	if len(s.Units) == 0 {
		p.wrong("no storage unit; right would be: %s", declarations["unit"])
	}
	if len(p.sc.Phases) == 0 {
		p.wrong("no phase; right would be: phase NAME, and steps below it")
	}
}

func (s *Scenario) isServer(name string) bool {
	return name != "" && (s.Setup.Servers[0].Name == name || s.Setup.Servers[1].Name == name)
}

func (s *Scenario) workload(name string) (Workload, bool) {
	for _, w := range s.Workloads {
		if w.Name == name {
			return w, true
		}
	}
	return Workload{}, false
}
