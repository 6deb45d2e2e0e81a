//go:build linux

package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Screen writes what happens, for people, in 80 columns.
type Screen struct {
	Out     io.Writer
	Colour  bool
	Unicode bool // ticks and blocks may be written

	gone func(error) // is told that nothing can be written any more
	mu   sync.Mutex
	gap  bool // the last line was empty
}

const (
	red    = "\x1b[31;1m"
	green  = "\x1b[32m"
	dim    = "\x1b[2m"
	normal = "\x1b[0m"
)

func (s *Screen) line(colour, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gap = text == ""
	if s.Colour && colour != "" {
		text = colour + text + normal
	}
	if _, err := fmt.Fprintln(s.Out, text); err != nil && s.gone != nil {
		s.gone(fmt.Errorf("nobody reads what the demo writes: %w", err))
	}
}

// mark returns the sign, or what stands for it where the terminal does not have it.
func (s *Screen) mark(sign, plain string) string {
	if s.Unicode {
		return sign
	}
	return plain
}

// Say writes a sentence.
func (s *Screen) Say(format string, a ...any) { s.line("", fmt.Sprintf(format, a...)) }

// Good writes something that is as it should be.
func (s *Screen) Good(format string, a ...any) {
	s.line(green, s.mark("✓", "+")+" "+fmt.Sprintf(format, a...))
}

// Bad writes something that hurts.
func (s *Screen) Bad(format string, a ...any) {
	s.line(red, s.mark("✗", "!")+" "+fmt.Sprintf(format, a...))
}

// Quote writes a line that a command has said.
func (s *Screen) Quote(text string) {
	if text != "" {
		text = "  " + text
	}
	s.line("", text)
}

// Gap leaves a line free.
func (s *Screen) Gap() {
	s.mu.Lock()
	gap := s.gap
	s.mu.Unlock()
	if !gap {
		s.line("", "")
	}
}

// Event writes what happened at a time after the cut.
func (s *Screen) Event(at time.Duration, text string) {
	const width = 68
	first := true
	for _, l := range fold(text, width) {
		stamp := strings.Repeat(" ", 12)
		if first {
			stamp = fmt.Sprintf("%+9.3f s ", at.Seconds())
		}
		first = false
		s.line("", stamp+l)
	}
}

// fold breaks a text into lines of at most width characters.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + w)
	}
	return append(lines, line)
}

// Timeline shows where the time of the outage went.
func (s *Screen) Timeline(o *Outcome) {
	parts := []struct {
		name, colour string
		ms           float64
	}{
		{"until it was noticed: the time-out, 1 s here", dim, o.OutageMS - o.OverheadMS - o.ApplicationMS},
		{"ORS: verdict, claim, letters, and the client's way back", green, o.OverheadMS},
		{"the application's own start", normal, o.ApplicationMS},
	}
	s.Say("The client was not served for %.0f ms. Where they went:", o.OutageMS)
	from := 0.0
	for _, p := range parts {
		s.line("", fmt.Sprintf("  %6.0f ms  %s", p.ms, p.name))
		s.line(p.colour, "             "+s.bar(from/o.OutageMS, p.ms/o.OutageMS))
		from += p.ms
	}
	s.Say("A planned move of the same group, with failback: %.0f ms", o.MoveOutageMS)
}

// bar draws a part of a whole, from its begin on. Both are shares.
func (s *Screen) bar(begin, part float64) string {
	const width = 66
	b := min(width-1, max(0, int(begin*width)))
	n := min(width-b, max(1, int(part*width+0.5)))
	block, dot := s.mark("█", "#"), s.mark("·", ".")
	return strings.Repeat(dot, b) + strings.Repeat(block, n) + strings.Repeat(dot, width-b-n)
}
