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
	Out    io.Writer
	Colour bool

	mu  sync.Mutex
	gap bool // the last line was empty
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
	fmt.Fprintln(s.Out, text)
}

// Say writes a sentence.
func (s *Screen) Say(format string, a ...any) { s.line("", fmt.Sprintf(format, a...)) }

// Good writes something that is as it should be.
func (s *Screen) Good(format string, a ...any) { s.line(green, "✓ "+fmt.Sprintf(format, a...)) }

// Bad writes something that hurts.
func (s *Screen) Bad(format string, a ...any) { s.line(red, "✗ "+fmt.Sprintf(format, a...)) }

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
		name string
		ms   float64
	}{
		{"until it was noticed (the time-out)", o.OutageMS - o.OverheadMS - o.ApplicationMS},
		{"ORS: verdict, claim, letters, and the client's way back", o.OverheadMS},
		{"the application's own start", o.ApplicationMS},
	}
	s.Say("Outage for the client: %.0f ms", o.OutageMS)
	const width = 60
	from := 0.0
	for _, p := range parts {
		begin, length := int(from/o.OutageMS*width), max(1, int(p.ms/o.OutageMS*width+0.5))
		begin = min(begin, width-1)
		length = min(length, width-begin)
		s.line("", fmt.Sprintf("  %8.0f ms  %s", p.ms, p.name))
		bar := strings.Repeat("·", begin) + strings.Repeat("█", length) + strings.Repeat("·", width-begin-length)
		s.line(dim, "               "+bar)
		from += p.ms
	}
	s.Say("A planned move of the same group: %.0f ms", o.MoveOutageMS)
}
