package drive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Map is what a map file says: which letter its volume has on its primary server.
//
// The file is text, one `name=value` a line, names in any case, lines ended by LF or CRLF, `#` or `;` before a
// comment. Blanks around names and values are not part of them. Names that are not known are for later versions and
// are skipped. letter is required, and of a name that comes twice the last counts:
//
//	# Drive letter of this volume. Written by ORS; see "orscore map".
//	letter=E:
//	server=rocky
//	volume=LABEL=rocky_e
type Map struct {
	Letter string // "E:"
	Server string // name of the primary server; may be empty
	Volume string // as in the configuration of the primary; may be empty
}

// maxMapFile is the most bytes of a map file.
const maxMapFile = 4096

const mapHead = "# Drive letter of this volume. Written by ORS; see \"orscore map\".\n"

// ParseMap reads the text of a map file. An error says which line is wrong.
func ParseMap(b []byte) (Map, error) {
	var m Map
	if len(b) > maxMapFile {
		return Map{}, fmt.Errorf("more than %d bytes", maxMapFile)
	}
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return Map{}, errors.New("not a text file")
	}
	text := strings.TrimPrefix(string(b), "\uFEFF")
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return Map{}, fmt.Errorf("line %d: %.40q is not of the form name=value", i+1, line)
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "letter":
			l, err := letter(value)
			if err != nil {
				return Map{}, fmt.Errorf("line %d: %w", i+1, err)
			}
			m.Letter = l
		case "server":
			m.Server = value
		case "volume":
			m.Volume = value
		}
	}
	if m.Letter == "" {
		return Map{}, errors.New(`no line says "letter=E:"`)
	}
	return m, nil
}

// Text returns the text of a map file. ParseMap reads the same Map out of it.
func (m Map) Text() []byte {
	var b strings.Builder
	b.WriteString(mapHead)
	for _, f := range [][2]string{{"letter", m.Letter}, {"server", m.Server}, {"volume", m.Volume}} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%s=%s\n", f[0], strings.Join(strings.Fields(f[1]), " "))
		}
	}
	return []byte(b.String())
}

// ReadMap reads the map file in the root of a volume. Errors: fs.ErrNotExist when there is none; an *Error when it is
// damaged or cannot be read. It reads the volume itself and may hang with it.
func ReadMap(folder string) (Map, error) {
	name := filepath.Join(folder, MapFileName)
	f, err := os.Open(name)
	if err != nil {
		return Map{}, mapReadError(name, err)
	}
	m, err := readMapFile(f)
	return m, errors.Join(mapReadError(name, err), f.Close())
}

func readMapFile(r io.Reader) (Map, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxMapFile+1))
	if err != nil {
		return Map{}, err
	}
	return ParseMap(b)
}

// mapReadError dresses an error of reading a map file; nil and "there is none" stay what they are.
func mapReadError(name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &Error{Code: CodeMapRead,
		Text: fmt.Sprintf("map file %s is damaged or unreadable; the configured letter counts", name),
		Next: "orscore map on the primary server writes it anew", Err: err}
}

// writeMap makes the map file in folder say m. It writes nothing when it says so already, and else replaces it as a
// whole, durably.
func writeMap(folder string, m Map) error {
	name := filepath.Join(folder, MapFileName)
	text := m.Text()
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := replaceFile(name, text); err != nil {
		return &Error{Code: CodeMapWrite,
			Text: fmt.Sprintf("map file %s cannot be written; the partner will use the configured letter", name),
			Next: "look at the volume's free space and whether it is read-only", Err: err}
	}
	return nil
}

func replaceFile(name string, b []byte) error {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(name+".new"))
	}
	return syncFolder(filepath.Dir(name))
}
