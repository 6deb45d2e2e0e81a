// Package hosts keeps a block of lines in a hosts file, between markers, for as long as its owner wants it there.
//
// It must never change a byte outside its block, guess where a damaged block ends, or leave a file half written.
package hosts

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Entry is one line: an address and its names, the canonical one first.
type Entry struct {
	Addr  netip.Addr
	Names []string
}

const (
	beginMark = "# BEGIN ORS "
	endMark   = "# END ORS "
	// unfinished is said behind the owner where the line before the block had no end: dropping the block takes the end
	// away, too.
	unfinished = " (the line before had no end)"
)

// block is where an owner's lines are in a file, markers included.
type block struct {
	from, to int    // bytes
	end      string // of its lines
	opened   bool   // the line before got its end, the same one, from us
}

// Put returns the content of a hosts file with the owner's block: in its place where there is one, else at the end, so
// that lines of others go before. newline ends lines where the file itself has none to go by.
func Put(content []byte, owner string, entries []Entry, newline string) ([]byte, error) {
	at, err := find(content, owner)
	if err != nil {
		return nil, err
	}
	if at == nil {
		at = &block{end: lineEnd(content, newline), opened: len(content) > 0 && content[len(content)-1] != '\n'}
		if at.opened {
			content = append(bytes.Clone(content), at.end...)
		}
		at.from, at.to = len(content), len(content)
	}
	note := ""
	if at.opened {
		note = unfinished
	}
	var b strings.Builder
	b.WriteString(beginMark + owner + note + at.end)
	for _, e := range entries {
		b.WriteString(e.Addr.String() + "\t" + strings.Join(e.Names, " ") + at.end)
	}
	b.WriteString(endMark + owner + at.end)
	return splice(content, at.from, at.to, b.String()), nil
}

// Drop returns the content without the owner's block: what it was before Put, byte for byte.
func Drop(content []byte, owner string) ([]byte, error) {
	at, err := find(content, owner)
	if err != nil || at == nil {
		return content, err
	}
	if at.opened && at.to == len(content) {
		at.from -= len(at.end)
	}
	return splice(content, at.from, at.to, ""), nil
}

// Has says whether the owner's block is there with just these entries.
func Has(content []byte, owner string, entries []Entry) bool {
	want, err := Put(content, owner, entries, "\n")
	return err == nil && bytes.Equal(want, content)
}

func splice(content []byte, from, to int, middle string) []byte {
	out := make([]byte, 0, len(content)-(to-from)+len(middle))
	out = append(out, content[:from]...)
	out = append(out, middle...)
	return append(out, content[to:]...)
}

// lineEnd is how the file ends its lines.
func lineEnd(content []byte, otherwise string) string {
	i := bytes.IndexByte(content, '\n')
	switch {
	case i < 0:
		return otherwise
	case i > 0 && content[i-1] == '\r':
		return "\r\n"
	}
	return "\n"
}

// find looks for the owner's block; nil where there is none.
func find(content []byte, owner string) (*block, error) {
	if bytes.IndexByte(content, 0) >= 0 {
		return nil, fmt.Errorf("it is no text of single bytes")
	}
	var open, found *block
	number, at := 0, 0
	for raw := range bytes.Lines(content) {
		number++
		line := strings.TrimRight(string(raw), " \t\r\n") // an editor may have put blanks behind a marker
		from := at
		at += len(raw)
		switch line {
		case beginMark + owner, beginMark + owner + unfinished:
			if open != nil || found != nil {
				return nil, fmt.Errorf("line %d begins the block of %s a second time: remove one of them", number, owner)
			}
			open = &block{from: from, end: lineEnd(raw, "")}
			open.opened = strings.HasSuffix(line, unfinished) && strings.HasSuffix(string(content[:from]), open.end)
		case endMark + owner:
			if open == nil {
				return nil, fmt.Errorf("line %d ends a block of %s that has not begun: remove it", number, owner)
			}
			open.to, found, open = at, open, nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("the block of %s has no end: remove it, or write %q behind it", owner, endMark+owner)
	}
	return found, nil
}

// Clash is a line that names one of the wanted names for another address. Where such a line comes first, it wins.
type Clash struct {
	Line int
	Name string
	Addr netip.Addr
}

// Clashes lists lines outside of the owner's block that give an entry's names another address of the same family.
func Clashes(content []byte, owner string, entries []Entry) []Clash {
	at, err := find(content, owner)
	if err != nil || at == nil {
		at = &block{from: -1, to: -1}
	}
	var out []Clash
	number, pos := 0, 0
	for raw := range bytes.Lines(content) {
		number++
		from := pos
		pos += len(raw)
		text, _, _ := strings.Cut(string(raw), "#")
		f := strings.Fields(text)
		if from >= at.from && from < at.to || len(f) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			if gives(entries, name, addr) {
				out = append(out, Clash{number, name, addr})
			}
		}
	}
	return out
}

// gives says whether the entries know the name, with addresses of this family, but not with this one.
func gives(entries []Entry, name string, addr netip.Addr) bool {
	other := false
	for _, e := range entries {
		if e.Addr.Is4() != addr.Is4() {
			continue
		}
		for _, n := range e.Names {
			if strings.EqualFold(n, name) {
				if e.Addr == addr {
					return false
				}
				other = true
			}
		}
	}
	return other
}

var label = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// CheckName says what is wrong with the name of a host; nil when it is one. A dot at its end is not part of it.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > 253 {
		return fmt.Errorf("a name has 1 to 253 characters")
	}
	for _, l := range strings.Split(name, ".") {
		if !label.MatchString(l) {
			return fmt.Errorf("%q is not letters, digits and hyphens, 63 at most", l)
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("it is an address")
	}
	if strings.EqualFold(name, "localhost") {
		return fmt.Errorf("it is each server's name for itself")
	}
	return nil
}
