// Package notesini reads and edits a Domino server's notes.ini byte for byte.
//
// Domino rewrites this file itself and keeps things in it that nobody else knows, in a character set of the
// platform. So a line that is not changed keeps every byte, its ending included, and only ASCII is ever written. The
// package must never drop, reorder or re-encode a line, and never choose between two lines of one key when it
// writes.
package notesini

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrTwice says that a key is there more than once, so that it is not known which line counts.
	ErrTwice = errors.New("the key is there more than once")
	// ErrNotPlain says that a key or a value is not printable ASCII, or cannot be written as it is.
	ErrNotPlain = errors.New("only printable ASCII can be written")
)

// section is the one section that servers read, in lower case.
const section = "[notes]"

// File is a notes.ini. The zero value is an empty one.
type File struct{ lines []line }

// line is one line in its parts, which together are its bytes.
type line struct {
	text []byte // without the ending
	end  string // "\n", "\r\n", or nothing at the end of the file
}

// Parse takes a file apart. Every sequence of bytes is a file.
func Parse(b []byte) *File {
	f := &File{}
	for len(b) > 0 {
		l := line{}
		if i := bytes.IndexByte(b, '\n'); i < 0 {
			l.text, b = b, nil
		} else {
			l.text, l.end, b = b[:i], "\n", b[i+1:]
		}
		if n := len(l.text); l.end != "" && n > 0 && l.text[n-1] == '\r' {
			l.text, l.end = l.text[:n-1], "\r\n"
		}
		l.text = bytes.Clone(l.text)
		f.lines = append(f.lines, l)
	}
	return f
}

// Bytes puts the file together again.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.Write(l.text)
		b.WriteString(l.end)
	}
	return b.Bytes()
}

// split finds key and value. The first = separates them; blanks around both are not theirs.
func (l line) split() (key, value string, ok bool) {
	k, v, ok := bytes.Cut(l.text, []byte("="))
	key = strings.Trim(string(k), " \t")
	return key, strings.TrimRight(strings.TrimLeft(string(v), " \t"), " \t\r"), ok && key != ""
}

// header is the name of a section in lower case with its brackets; "" when the line is no head of one.
func (l line) header() string {
	t := bytes.TrimSpace(l.text)
	if len(t) < 2 || t[0] != '[' || t[len(t)-1] != ']' {
		return ""
	}
	return strings.ToLower(string(t))
}

// entries calls do for each line with a key in the section of servers, and returns where that section ends. Lines
// above the first head of a section belong to it: servers that lack the head are told so by HasHeader.
func (f *File) entries(do func(i int, key, value string)) (end int) {
	in := true
	for i, l := range f.lines {
		if h := l.header(); h != "" {
			in = h == section
		} else if key, value, ok := l.split(); in && ok {
			do(i, key, value)
		}
		if in {
			end = i + 1
		}
	}
	return end
}

// HasBOM reports whether the file begins with the byte order mark of UTF-8, which editors put there unasked.
func (f *File) HasBOM() bool {
	return len(f.lines) > 0 && bytes.HasPrefix(f.lines[0].text, []byte("\xef\xbb\xbf"))
}

// HasHeader reports whether the first line is [Notes], as servers want it.
func (f *File) HasHeader() bool { return len(f.lines) > 0 && f.lines[0].header() == section }

// Get returns the value of a key, whatever its case: of its first line when there are several.
func (f *File) Get(key string) (value string, ok bool) {
	f.entries(func(_ int, k, v string) {
		if !ok && strings.EqualFold(k, key) {
			value, ok = v, true
		}
	})
	return value, ok
}

// Count says how many lines have the key.
func (f *File) Count(key string) int {
	n := 0
	f.entries(func(_ int, k, _ string) {
		if strings.EqualFold(k, key) {
			n++
		}
	})
	return n
}

// Keys are all keys as they are written, in the order of the file.
func (f *File) Keys() []string {
	var all []string
	f.entries(func(_ int, k, _ string) { all = append(all, k) })
	return all
}

// Set gives a key a value: in its line, of which everything else stays, or in a new line at the end of the section. A
// file without a last line ending has none afterwards either.
func (f *File) Set(key, value string) error {
	if !plain(key) || !plain(value) || key == "" || strings.ContainsAny(key, "=[] \t") ||
		value != strings.Trim(value, " ") {
		return fmt.Errorf("%w: %q = %q", ErrNotPlain, key, value)
	}
	at, n := -1, 0
	end := f.entries(func(i int, k, _ string) {
		if strings.EqualFold(k, key) {
			at = i
			n++
		}
	})
	switch {
	case n > 1:
		return fmt.Errorf("%w: %s", ErrTwice, key)
	case n == 1:
		f.lines[at].text = replaced(f.lines[at].text, value)
		return nil
	}
	l := line{text: []byte(key + "=" + value), end: f.ending()}
	if end == len(f.lines) && end > 0 && f.lines[end-1].end == "" {
		f.lines[end-1].end, l.end = l.end, ""
	}
	f.lines = append(f.lines[:end], append([]line{l}, f.lines[end:]...)...)
	return nil
}

// replaced is a line with another value; the blanks around the = and at the end stay.
func replaced(text []byte, value string) []byte {
	eq := bytes.IndexByte(text, '=')
	head := eq + 1
	for head < len(text) && (text[head] == ' ' || text[head] == '\t') {
		head++
	}
	tail := len(text)
	for tail > head && (bytes.IndexByte([]byte(" \t\r"), text[tail-1]) >= 0) {
		tail--
	}
	return append(append(bytes.Clone(text[:head]), value...), text[tail:]...)
}

// ending is how the lines of the file end.
func (f *File) ending() string {
	for _, l := range f.lines {
		if l.end != "" {
			return l.end
		}
	}
	return "\n"
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
