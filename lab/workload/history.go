//go:build linux

package workload

import "fmt"

// Row is a row as it was read back, in the order in which the server has kept them. Line names the line of history
// that has written it: one start of the server on one host. A server that was started elsewhere is another line.
type Row struct {
	Number int64
	Line   string
}

// Verdict is what comparing a client's log with all rows has shown.
type Verdict struct {
	Acknowledged int      `json:"acknowledged"` // rows whose commit was acknowledged
	Rows         int      `json:"rows"`         // rows found
	Lines        int      `json:"lines"`        // lines of history that have written rows
	Lost         int      `json:"lost"`         // acknowledged and not found
	Doubled      int      `json:"doubled"`      // numbers found or acknowledged more than once
	Disordered   int      `json:"disordered"`   // rows that come before a row with a lower number
	Foreign      int      `json:"foreign"`      // rows that nobody has written
	Gaps         int      `json:"gaps"`         // numbers that the client says nothing about
	Diverged     int      `json:"diverged"`     // rows of a line that had ended, or of another one than acknowledged them
	Examples     []string `json:"examples,omitempty"`
}

// Wrong is how many things are not as they must be.
func (v Verdict) Wrong() int {
	return v.Lost + v.Doubled + v.Disordered + v.Foreign + v.Gaps + v.Diverged
}

func (v Verdict) String() string {
	return fmt.Sprintf("of %d acknowledged rows %d are lost, %d doubled, %d out of order, %d foreign, %d missing in the "+
		"numbering, %d of a line of history that had ended; %v",
		v.Acknowledged, v.Lost, v.Doubled, v.Disordered, v.Foreign, v.Gaps, v.Diverged, v.Examples)
}

const maxExamples = 5

func (v *Verdict) wrong(count *int, format string, a ...any) {
	*count++
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, a...))
	}
}

// Judge compares a client's log, which was read before the rows were, with the rows. Each acknowledged number must be
// there once, in order, written by the line that acknowledged it; one without an answer may be there or not. Lines
// follow each other: once a later one has written or acknowledged anything, an earlier one must not.
func Judge(entries []Entry, rows []Row) Verdict {
	v := Verdict{Rows: len(rows)}
	kept := make(map[int64]string, len(rows))
	lines := lineOrder{}
	for _, r := range rows {
		if _, again := kept[r.Number]; again {
			v.wrong(&v.Doubled, "%d is there more than once", r.Number)
		}
		kept[r.Number] = r.Line
		if !lines.next(r.Line) {
			v.wrong(&v.Diverged, "%d was written by line %s after that had ended", r.Number, r.Line)
		}
	}
	v.Lines = len(lines.seen)
	tried := v.answers(entries, kept) // true: acknowledged
	v.numbering(tried, kept)
	last := int64(0) // what was never answered may come late
	for _, r := range rows {
		switch {
		case !tried[r.Number]:
		case r.Number < last:
			v.wrong(&v.Disordered, "%d comes after %d", r.Number, last)
		default:
			last = r.Number
		}
	}
	return v
}

// answers holds the client's log against what is kept, and returns the numbers that it has tried; true for those that
// were acknowledged.
func (v *Verdict) answers(entries []Entry, kept map[int64]string) map[int64]bool {
	tried := make(map[int64]bool, len(entries))
	lines := lineOrder{}
	for _, e := range entries {
		if e.Kind == Broken {
			continue
		}
		if e.Kind != Served {
			if _, known := tried[e.Number]; !known { // a failure after an answer takes nothing back
				tried[e.Number] = false
			}
			continue
		}
		v.Acknowledged++
		line, found := kept[e.Number]
		switch {
		case tried[e.Number]:
			v.wrong(&v.Doubled, "%d was acknowledged twice", e.Number)
		case !found:
			v.wrong(&v.Lost, "%d is lost, acknowledged by line %s", e.Number, e.Text)
		case e.Text != line:
			v.wrong(&v.Diverged, "%d was acknowledged by line %s and is there from line %s", e.Number, e.Text, line)
		case !lines.next(e.Text):
			v.wrong(&v.Diverged, "%d was acknowledged by line %s after that had ended", e.Number, e.Text)
		}
		tried[e.Number] = true
	}
	return tried
}

// numbering wants no number but those that the client has tried, and each of those in its log.
func (v *Verdict) numbering(tried map[int64]bool, kept map[int64]string) {
	var lowest, highest int64
	for n := range tried {
		if lowest == 0 || n < lowest {
			lowest = n
		}
		highest = max(highest, n)
	}
	for n := range kept {
		if _, ok := tried[n]; !ok && n <= highest { // higher ones came after the log was read
			v.wrong(&v.Foreign, "%d was written by nobody", n)
		}
	}
	for n := lowest; n < highest; n++ {
		_, found := kept[n]
		if _, ok := tried[n]; !found && !ok {
			v.wrong(&v.Gaps, "%d is neither there nor in the client's log", n)
		}
	}
}

// lineOrder holds lines of history to their order: each ends when the next one begins.
type lineOrder struct {
	seen    map[string]bool
	current string
}

// next reports whether a line is the current one or a new one.
func (o *lineOrder) next(line string) bool {
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	if o.seen[line] {
		return line == o.current
	}
	o.seen[line], o.current = true, line
	return true
}
