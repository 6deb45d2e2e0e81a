package config

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Codes of configuration mistakes. A code stays with its meaning for good: documents and alarms quote it.
const (
	codeUnreadable     = "ORS-2000" // the file cannot be read
	codeSyntax         = "ORS-2001" // not HCL
	codeUnknownName    = "ORS-2002" // attribute or block that does not belong there
	codeMissing        = "ORS-2003" // attribute, block or label that is not there
	codeValue          = "ORS-2004" // value that cannot be evaluated or has the wrong type
	codeDuration       = "ORS-2005" // not a duration, or out of range
	codeNumber         = "ORS-2006" // out of range
	codeName           = "ORS-2007" // name with characters that a name may not have
	codeDuplicate      = "ORS-2008" // name or block given twice
	codePath           = "ORS-2009" // path that is not absolute
	codeServers        = "ORS-2010" // not exactly two servers
	codeSelf           = "ORS-2011" // this host is none of the servers
	codeMode           = "ORS-2012" // mode of the pair
	codeOnShutdown     = "ORS-2013" // on_shutdown of the pair
	codeAutostart      = "ORS-2014" // an autostart command
	codeBeats          = "ORS-2020" // time-out too short for the interval
	codeNoLink         = "ORS-2021" // no link
	codeLineCapacity   = "ORS-2022" // beats would fill the serial line
	codePerServer      = "ORS-2023" // a value is needed for each server, and for no other
	codeAddress        = "ORS-2024" // address of a link or of a network check
	codeKeyMissing     = "ORS-2025" // key file absent or unreadable
	codeKeyContent     = "ORS-2026" // key too short or not hexadecimal
	codeKeyMode        = "ORS-2027" // key readable by others
	codeShared         = "ORS-2028" // two links or units are one and the same thing
	codeBaud           = "ORS-2029" // not a speed that serial ports have
	codeNoStorage      = "ORS-2030" // group without storage unit
	codeNotServer      = "ORS-2031" // primary or survivor is not a server
	codeLetter         = "ORS-2032" // malformed drive letter
	codeLetterOverlap  = "ORS-2033" // one drive letter for two drives of the pair
	codeUnsafe         = "ORS-2034" // directory switch without unsafe_demo
	codeSwitchDriver   = "ORS-2035" // switch missing, given twice, or of an unknown driver
	codeEndpoint       = "ORS-2036" // endpoint of a Recovery Server Switch
	codeDrive          = "ORS-2037" // volume, filesystem or fsck of a drive
	codeFailback       = "ORS-2038" // failback other than "manual"
	codeTooMany        = "ORS-2039" // more storage units than beats can name
	codeAfterUnknown   = "ORS-2040" // after names no application of the group
	codeAfterCycle     = "ORS-2041" // applications wait for each other
	codeProbeTimeout   = "ORS-2042" // a probe may take longer than its interval
	codeSHA256         = "ORS-2050" // not a SHA-256 sum
	codeVersion        = "ORS-2051" // not a version constraint
	codeSchema         = "ORS-2060" // a plugin's schema is broken
	codeFinding        = "ORS-2061" // a plugin finds fault with its configuration
	codeNotReady       = "ORS-2062" // a plugin says that an application could not be started on this server
	codeNoteUnpinned   = "ORS-2090" // plugin runs without a pinned hash
	codeNoteUnused     = "ORS-2091" // plugin block without an application
	codeNoteSingleLink = "ORS-2092" // one link only
)

// mistake returns an error diagnostic. The summary says what is wrong, the detail what would be right.
func mistake(code string, at hcl.Range, summary, detail string) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  code + ": " + summary,
		Detail:   detail,
		Subject:  at.Ptr(),
	}
}

// stamped gives each diagnostic that came from the HCL library its code, by what its summary begins with. others is
// the code of the rest.
func stamped(in hcl.Diagnostics, others string) hcl.Diagnostics {
	out := make(hcl.Diagnostics, 0, len(in))
	for _, d := range in {
		c := *d
		c.Summary = codeOf(d.Summary, others) + ": " + strings.TrimSuffix(d.Summary, ".")
		if m := missingArgument.FindStringSubmatch(d.Detail); m != nil {
			c.Summary = fmt.Sprintf("%s: %s is missing", codeMissing, m[1])
			c.Detail = fmt.Sprintf("Add it to this block: %s = …", m[1])
		}
		if m := missingLabel.FindStringSubmatch(d.Summary); m != nil {
			c.Detail += fmt.Sprintf(" Write the %s in quotes before the brace.", m[1])
		}
		out = append(out, &c)
	}
	return out
}

// Texts of the HCL library that are said more plainly.
var (
	missingArgument = regexp.MustCompile(`^The argument "(.*)" is required, but (no definition was found|was not set)\.$`)
	missingLabel    = regexp.MustCompile(`^Missing (.*) for .*$`)
)

func codeOf(summary, others string) string {
	switch {
	case strings.HasPrefix(summary, "Unsupported argument"), strings.HasPrefix(summary, "Unsupported block type"),
		strings.HasPrefix(summary, "Extraneous label"), strings.HasPrefix(summary, "Unexpected "),
		strings.HasPrefix(summary, "Too many "):
		return codeUnknownName
	case strings.HasPrefix(summary, "Missing required argument"), strings.HasPrefix(summary, "Insufficient "),
		strings.HasPrefix(summary, "Missing ") && strings.Contains(summary, " for "),
		strings.HasPrefix(summary, "Missing ") && strings.HasSuffix(summary, " block"):
		return codeMissing
	case strings.HasPrefix(summary, "Duplicate "):
		return codeDuplicate
	}
	return others
}

// tidied sorts diagnostics by their place and drops what only repeats another: the same text at the same place, and a
// second finding about a value (codeValue) that could not be evaluated in the first place.
func tidied(in hcl.Diagnostics) hcl.Diagnostics {
	type key struct {
		file       string
		start, end int
		text       string
	}
	seen := make(map[key]bool)
	out := make(hcl.Diagnostics, 0, len(in))
	for _, d := range in {
		if d.Subject == nil {
			out = append(out, d)
			continue
		}
		k := key{d.Subject.Filename, d.Subject.Start.Byte, d.Subject.End.Byte, d.Summary + "\n" + d.Detail}
		if strings.HasPrefix(d.Summary, codeValue) {
			k.text = codeValue
		}
		if seen[k] {
			continue
		}
		seen[k] = true
		out = append(out, d)
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i].Subject, out[j].Subject
		if a == nil || b == nil {
			return a == nil && b != nil
		}
		if a.Start.Byte != b.Start.Byte {
			return a.Start.Byte < b.Start.Byte
		}
		return out[i].Summary < out[j].Summary
	})
	return out
}

// WriteDiagnostics writes d for people: severity and summary, file:line:column with the blocks around it, the source
// line with the place marked, and what would be right. files gives the source lines; where a file is not in it, the
// lines are left out.
func WriteDiagnostics(w io.Writer, files map[string]*hcl.File, d hcl.Diagnostics, colour bool) {
	for i, one := range d {
		if i > 0 {
			_, _ = io.WriteString(w, "\n")
		}
		_, _ = io.WriteString(w, render(files, one, colour))
	}
}

// WriteDiagnostics writes d with the source lines of the files that c was read from. It may be called on what Load
// and Parse return together with errors.
func (c *Config) WriteDiagnostics(w io.Writer, d hcl.Diagnostics, colour bool) {
	WriteDiagnostics(w, c.files, d, colour)
}

// Diagnostics returns the notes as warnings, for printing.
func (c *Config) Diagnostics() hcl.Diagnostics {
	var out hcl.Diagnostics
	for _, n := range c.Notes {
		out = append(out, &hcl.Diagnostic{
			Severity: hcl.DiagWarning, Summary: n.Code + ": " + n.Summary, Detail: n.Detail, Subject: n.Range.Ptr(),
		})
	}
	return out
}

const (
	bold, red, yellow, plain = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
)

func render(files map[string]*hcl.File, d *hcl.Diagnostic, colour bool) string {
	paint := func(codes, s string) string {
		if !colour {
			return s
		}
		return codes + s + plain
	}
	word, mark := "Error", red
	if d.Severity == hcl.DiagWarning {
		word, mark = "Warning", yellow
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", paint(bold+mark, word+":"), paint(bold, d.Summary))
	if d.Subject != nil && d.Subject.Filename != "" {
		at := d.Subject
		fmt.Fprintf(&b, "  %s:%d:%d", at.Filename, at.Start.Line, at.Start.Column)
		file := files[at.Filename]
		if around := around(file, at.Start.Byte); around != "" {
			fmt.Fprintf(&b, ", in %s", around)
		}
		b.WriteString("\n")
		if line, start, width, ok := sourceLine(file, *at); ok {
			prefix := fmt.Sprintf("  %4d: ", at.Start.Line)
			b.WriteString(prefix + line + "\n")
			b.WriteString(strings.Repeat(" ", len(prefix)+start) + paint(mark, strings.Repeat("^", width)) + "\n")
		}
	}
	for _, line := range strings.Split(d.Detail, "\n") {
		for line != "" {
			var head string
			head, line = wrapped(line, 110)
			b.WriteString("  " + head + "\n")
		}
	}
	return b.String()
}

// wrapped breaks a line at the last blank before width.
func wrapped(line string, width int) (head, rest string) {
	runes := []rune(line)
	if len(runes) <= width {
		return line, ""
	}
	at := strings.LastIndex(string(runes[:width]), " ")
	if at <= 0 {
		return line, ""
	}
	return line[:at], line[at+1:]
}

// around names the blocks that surround a byte of a file, such as `group "rocky", storage "storage2"`.
func around(file *hcl.File, at int) string {
	if file == nil || file.Body == nil {
		return ""
	}
	var names []string
	for _, b := range file.BlocksAtPos(hcl.Pos{Byte: at}) {
		name := b.Type
		for _, l := range b.Labels {
			name += fmt.Sprintf(" %q", l)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// sourceLine returns the line in which at starts, tabs widened to one blank, and where in it to mark how many
// characters.
func sourceLine(file *hcl.File, at hcl.Range) (line string, start, width int, ok bool) {
	if file == nil || at.Start.Byte < 0 || at.Start.Byte > len(file.Bytes) {
		return "", 0, 0, false
	}
	from := bytes.LastIndexByte(file.Bytes[:at.Start.Byte], '\n') + 1
	to := len(file.Bytes)
	if i := bytes.IndexByte(file.Bytes[at.Start.Byte:], '\n'); i >= 0 {
		to = at.Start.Byte + i
	}
	end := min(max(at.End.Byte, at.Start.Byte), to)
	text := func(from, to int) string {
		s := strings.ToValidUTF8(string(file.Bytes[from:to]), "?")
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, s)
	}
	const most = 160 // a longer line says nothing more on a terminal
	line = text(from, to)
	start, width = len([]rune(text(from, at.Start.Byte))), len([]rune(text(at.Start.Byte, end)))
	if runes := []rune(line); len(runes) > most {
		line = string(runes[:most]) + " …"
		start, width = min(start, most), min(width, most)
	}
	return line, start, max(width, 1), true
}

// meant returns ` Did you mean "x"?` for the candidate nearest to name, and nothing when none is near.
func meant(name string, candidates []string) string {
	best, distance := "", len([]rune(name))/2+1
	if distance > 32 {
		return "" // not a slip of a finger
	}
	for _, c := range candidates {
		if d := edits(strings.ToLower(name), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// edits is how many letters must be added, dropped, changed or swapped with their neighbour to make b of a.
func edits(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range t {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			change := rows[i-1][j-1]
			if s[i-1] != t[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(s)][len(t)]
}

// quoted lists names for a sentence: "a", "b".
func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}
