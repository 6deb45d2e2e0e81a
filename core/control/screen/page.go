package screen

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// style is how a span looks; without colours all look alike.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// span is text of one style.
type span struct {
	style style
	text  string
}

// state is how an item is, and has a symbol of its own, so that nothing depends on colours.
type state int

const (
	unknown state = iota
	running
	idle
	moving
	failed
	warning
)

var symbols = map[state]struct {
	unicode, ascii string
	style          style
}{
	unknown: {"?", "?", yellow},
	running: {"●", "*", green},
	idle:    {"○", "o", plain},
	moving:  {"◐", "~", yellow},
	failed:  {"✗", "X", red},
	warning: {"!", "!", yellow},
}

// itemWidth is the column of the names in a group's tree.
const itemWidth = 16

// page collects lines.
type page struct {
	o     Options
	brief bool // healthy groups without their trees
	now   time.Time
	lines []string
}

func (p *page) symbol(s state) span {
	sym := symbols[s]
	if p.o.Unicode {
		return span{sym.style, sym.unicode}
	}
	return span{sym.style, sym.ascii}
}

// branch returns the tree's lines before an item, and before what is told below it.
func (p *page) branch(last bool) (branch, trunk string) {
	switch {
	case !p.o.Unicode && last:
		return "`-", "  "
	case !p.o.Unicode:
		return "|-", "| "
	case last:
		return "└─", "  "
	}
	return "├─", "│ "
}

func (p *page) ellipsis() string {
	if p.o.Unicode {
		return "…"
	}
	return "~"
}

// Clean makes text harmless for a terminal: control characters, escape sequences among them, become blanks or "?".
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// text makes s fit for the terminal, also where that has ASCII only.
func (p *page) text(s string) string {
	s = Clean(s)
	if p.o.Unicode {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r < utf8.RuneSelf:
			return r
		case r == '…':
			return '~'
		case r == '–' || r == '—':
			return '-'
		}
		return '?'
	}, s)
}

func width(s string) int { return utf8.RuneCountInString(s) }

// cut shortens s to n columns.
func (p *page) cut(s string, n int) string {
	if width(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	return string([]rune(s)[:n-1]) + p.ellipsis()
}

// fit makes s exactly n columns wide.
func (p *page) fit(s string, n int) string {
	s = p.cut(p.text(s), n)
	return s + strings.Repeat(" ", n-width(s))
}

// line adds one line, cut at the terminal's width.
func (p *page) line(spans ...span) {
	var b strings.Builder
	room := p.o.Width
	for i, s := range spans {
		text := p.text(s.text)
		if width(text) > room || width(text) == room && more(spans[i+1:]) {
			text = p.cut(text+" ", room)
			b.WriteString(p.paint(s.style, text))
			break
		}
		b.WriteString(p.paint(s.style, text))
		room -= width(text)
	}
	p.lines = append(p.lines, strings.TrimRight(b.String(), " "))
}

func more(spans []span) bool {
	for _, s := range spans {
		if strings.TrimSpace(s.text) != "" {
			return true
		}
	}
	return false
}

func (p *page) paint(s style, text string) string {
	if !p.o.Colour || s == plain || strings.TrimSpace(text) == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// ends adds a line with something at its right end, which gives way when there is no room.
func (p *page) ends(left []span, right span) {
	used := 0
	for _, s := range left {
		used += width(s.text)
	}
	gap := p.o.Width - used - width(right.text)
	if right.text == "" || gap < 2 {
		p.line(left...)
		return
	}
	p.line(append(left, span{plain, strings.Repeat(" ", gap)}, right)...)
}

// wrap adds text behind head, broken at blanks; the lines that follow are indented as far as head is wide.
func (p *page) wrap(head []span, body span) {
	indent := 0
	for _, s := range head {
		indent += width(s.text)
	}
	for i, part := range fold(p.text(body.text), p.o.Width-indent) {
		if i > 0 {
			head = []span{{plain, strings.Repeat(" ", indent)}}
		}
		p.line(append(head[:len(head):len(head)], span{body.style, part})...)
	}
}

// fold breaks text into lines of at most n columns, at blanks where there are any. It returns at least one line.
func fold(text string, n int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for width(word) > n {
			if line != "" {
				lines = append(lines, line)
				line = ""
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:n])), string(r[n:])
		}
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) <= n:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// Fold breaks text into lines of at most n columns, at blanks.
func Fold(text string, n int) []string { return fold(Clean(text), max(n, 1)) }

func (p *page) title(text string) {
	p.lines = append(p.lines, "")
	p.line(span{bold, text})
}

// since says how long ago t was, as seen from the status; empty for no time at all.
func (p *page) since(t time.Time) string {
	if t.IsZero() || p.now.IsZero() {
		return ""
	}
	return duration(max(0, p.now.Sub(t)))
}

// duration writes d with its two largest units.
func duration(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}
