// Package codes knows the page of every message code of ORS: what the code means and what to do, for `orscore
// explain` and for the next step that the commands print with an error.
//
// A code keeps its meaning for good: documents, alarms and scripts quote it. This package imports nothing of ORS, and
// must never be asked to decide anything: other packages write a code into their messages and do not look here.
package codes

import (
	"cmp"
	_ "embed" // the pages
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Page is what there is to know about one code.
type Page struct {
	Code    string // "ORS-nnnn"
	Summary string // what it says, in a few words
	Next    string // what to do, as one sentence without a full stop
	Text    string // one paragraph: how it comes about, and what the agent does by itself
}

//go:embed pages.txt
var source string

// pages panics on a malformed file: it is part of the program.
var pages = sync.OnceValue(func() map[string]Page {
	m, err := parse(source)
	if err != nil {
		panic(err)
	}
	return m
})

// parse reads blocks of lines: "CODE summary", "> next step" (one or more), the paragraph (one or more).
func parse(source string) (map[string]Page, error) {
	m := make(map[string]Page)
	for block := range strings.SplitSeq(source, "\n\n") {
		head, rest, _ := strings.Cut(strings.TrimSpace(block), "\n")
		if strings.HasPrefix(head, "#") {
			continue
		}
		var p Page
		p.Code, p.Summary, _ = strings.Cut(head, " ")
		var next, text []string
		for line := range strings.SplitSeq(rest, "\n") {
			if step, ok := strings.CutPrefix(line, "> "); ok {
				next = append(next, step)
			} else {
				text = append(text, line)
			}
		}
		p.Next, p.Text = strings.Join(next, " "), strings.Join(text, " ")
		if _, twice := m[p.Code]; twice || !pattern.MatchString(p.Code) || p.Next == "" || p.Text == "" {
			return nil, fmt.Errorf("codes: block %q is malformed, or its code has two pages", head)
		}
		m[p.Code] = p
	}
	return m, nil
}

// Lookup returns the page of a code, which may be written without its "ORS-" and in lower case.
func Lookup(code string) (Page, bool) {
	code = strings.ToUpper(strings.TrimSpace(code))
	if !strings.HasPrefix(code, "ORS-") {
		code = "ORS-" + code
	}
	p, ok := pages()[code]
	return p, ok
}

// All lists every page in the order of the codes' numbers.
func All() []Page {
	all := make([]Page, 0, len(pages()))
	for _, p := range pages() {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Page) int { return cmp.Compare(number(a.Code), number(b.Code)) })
	return all
}

func number(code string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(code, "ORS-"))
	return n
}

var pattern = regexp.MustCompile(`\bORS-[0-9]+\b`)

// Find returns the first code in a message; empty when there is none.
func Find(message string) string { return pattern.FindString(message) }

// Split takes the first code out of a message: "x: ORS-6001: y" becomes "ORS-6001" and "x: y".
func Split(message string) (code, rest string) {
	code = Find(message)
	if code == "" {
		return "", message
	}
	before, after, _ := strings.Cut(message, code)
	return code, before + strings.TrimPrefix(strings.TrimPrefix(after, ":"), " ")
}
