package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
)

// maxFrame bounds one frame, so that a damaged file cannot make a reader take all memory.
const maxFrame = 1 << 20

// encodeFrame makes one line: the CRC-32C of the record's JSON, a blank, the JSON. JSON has no line feed inside, so a
// reader finds the next frame behind any damage, and people read the file with the tools they know.
func encodeFrame(r Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

// decodeFrame reads a line without its line feed.
func decodeFrame(line []byte) (Record, bool) {
	var r Record
	if len(line) < 9 || len(line) > maxFrame {
		return r, false
	}
	body := line[9:]
	want := fmt.Appendf(nil, "%08x ", crc32.Checksum(body, castagnoli))
	if !bytes.Equal(line[:9], want) || json.Unmarshal(body, &r) != nil {
		return r, false
	}
	return r, r.Pos > 0
}

// stretch is a run of bytes of a file.
type stretch struct{ at, length int64 }

// scan is what a file holds.
type scan struct {
	records []Record
	damaged []stretch // before the last good record
	good    int64     // end of the last good record: what follows is torn
	last    uint64    // highest position
}

// scanFrames reads raw. It passes damaged lines over and never fails. Positions only grow, and stay below the first
// one of the next file; a record with another position is what a failed write left behind, and counts as damage.
func scanFrames(raw []byte, below uint64) scan {
	var s scan
	var bad stretch
	for at := int64(0); at < int64(len(raw)); {
		line, _, whole := bytes.Cut(raw[at:], []byte("\n"))
		length := int64(len(line))
		if !whole {
			break
		}
		length++
		r, ok := decodeFrame(line)
		switch {
		case ok && r.Pos > s.last && r.Pos < below:
			if bad.length > 0 {
				s.damaged = append(s.damaged, bad)
				bad = stretch{}
			}
			s.records = append(s.records, r)
			s.last, s.good = r.Pos, at+length
		case bad.length == 0:
			bad = stretch{at: at, length: length}
		default:
			bad.length += length
		}
		at += length
	}
	return s
}

// cursor is where a reader stands: behind position pos, in the file that begins at first, at the byte offset.
type cursor struct {
	pos    uint64
	first  uint64
	offset int64
}

// advance returns the flushed records behind c and moves it. changed is closed when there is more.
func (j *journal) advance(c *cursor) (records []Record, changed <-chan struct{}, ended bool, err error) {
	j.mu.Lock()
	segments := slices.Clone(j.segments)
	changed, ended = j.changed, j.ended
	j.mu.Unlock()
	for i, s := range segments {
		newest := i == len(segments)-1
		if s.first < c.first || !newest && segments[i+1].first <= c.pos+1 {
			continue
		}
		from := int64(0)
		if s.first == c.first {
			from = c.offset
		}
		raw, err := readRange(s.path, from, s.size)
		if errors.Is(err, fs.ErrNotExist) && !newest {
			continue // removed as too old since segments was read
		}
		if err != nil {
			return nil, nil, false, fmt.Errorf("ORS-6010: %s %s cannot be read: %w", j.kind.what, s.path, err)
		}
		for _, r := range scanFrames(raw, math.MaxUint64).records {
			if r.Pos > c.pos {
				records = append(records, r)
				c.pos = r.Pos
			}
		}
		c.first, c.offset = s.first, s.size
	}
	return records, changed, ended, nil
}

// readRange returns the bytes from … to of a file.
func readRange(path string, from, to int64) ([]byte, error) {
	if from >= to {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, from, to-from))
	return raw, errors.Join(err, f.Close())
}

func (j *journal) read(after uint64, last int) ([]Record, error) {
	records, _, _, err := j.advance(&cursor{pos: after})
	if err != nil {
		return nil, err
	}
	if last > 0 && len(records) > last {
		records = records[len(records)-last:]
	}
	return records, nil
}

func (j *journal) follow(ctx context.Context, after uint64, fn func(Record) error) error {
	c := &cursor{pos: after}
	for {
		records, changed, ended, err := j.advance(c)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(r); err != nil {
				return err
			}
		}
		if ended {
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
