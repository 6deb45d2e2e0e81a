package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Kinds of records.
const (
	KindAgent       = "agent"
	KindLink        = "link"
	KindVerdict     = "verdict"
	KindArbitration = "arbitration"
	KindGroup       = "group"
	KindStep        = "step"
	KindStorage     = "storage"
	KindDrive       = "drive"
	KindApplication = "application"
	KindPlugin      = "plugin"
	KindOperator    = "operator"
	KindAlarm       = "alarm"
	KindArrival     = "arrival" // a group comes to this server, or leaves it (core/arrival)
)

// Kinds lists the kinds of records, for whoever wants some of them.
var Kinds = []string{
	KindAgent, KindLink, KindVerdict, KindArbitration, KindGroup, KindStep, KindStorage, KindDrive, KindApplication,
	KindPlugin, KindOperator, KindAlarm, KindArrival,
}

// Record is one event of the journal. Pos and At are set by the journal where they are zero.
type Record struct {
	Pos    uint64         `json:"pos"`              // 1, 2, …: grows by one with each record
	ID     string         `json:"id,omitempty"`     // of the decision that the record tells of; `orscore why ID`
	At     time.Time      `json:"at"`               // wall clock of this server
	Server string         `json:"server,omitempty"` // who wrote it
	Kind   string         `json:"kind,omitempty"`   // one of the Kind constants
	Group  string         `json:"group,omitempty"`
	Code   string         `json:"code,omitempty"` // ORS-nnnn
	Text   string         `json:"text,omitempty"` // what happened, a sentence
	Why    string         `json:"why,omitempty"`  // rule and evidence
	Op     uint64         `json:"op,omitempty"`   // operation id that the record belongs to
	Step   string         `json:"step,omitempty"` // step of that operation
	Data   map[string]any `json:"data,omitempty"`
	// Body is what the ledger and the record of decisions hold besides: it belongs to whoever writes it.
	Body json.RawMessage `json:"body,omitempty"`
}

// logKind tells the logs of a state directory apart.
type logKind struct {
	name  string // of its files: NAME-POSITION.log
	what  string // for people
	limit int64  // bytes of a file after which the next one is begun
	files int    // files kept, the one being written included
	queue int    // records waiting for the disk
}

// The names of the logs, for ReadLog.
const (
	JournalName   = "journal"
	LedgerName    = "ledger"
	DecisionsName = "decisions"
)

const journalFiles = 2

var (
	journalKind   = logKind{JournalName, "event journal", 8 << 20, journalFiles, 4096}
	ledgerKind    = logKind{LedgerName, "ownership ledger", 8 << 20, 4, 1024}
	decisionsKind = logKind{DecisionsName, "record of decisions", 8 << 20, 3, 1024}
)

const (
	batchLimit    = 256             // records flushed together
	appendTimeout = 1 * time.Minute // a disk that is silent for longer has failed
)

// journal is a sequence of files of frames: the event journal itself, and the logs made like it.
// One goroutine, run, writes; any other reads what is flushed.
type journal struct {
	dir   string
	kind  logKind
	warn  func(string)
	queue chan entry
	done  chan struct{} // closed when run has ended

	sendMu sync.RWMutex // keeps senders from a closed queue
	closed bool

	mu       sync.Mutex
	segments []segment     // oldest first; the last one is being written
	next     uint64        // position of the next record
	changed  chan struct{} // closed and replaced when something was flushed; closed for good at the end
	ended    bool
	lost     int // notes lost that no record tells of yet
	failure  error

	told int      // of the lost notes: those that the batch under way tells of. Owned by run
	file *os.File // last segment, open for writing; nil after a failure. Owned by run
}

// segment is one file. size counts the bytes that are known to be on the disk.
type segment struct {
	first uint64 // position of its first record
	path  string
	size  int64
}

// entry is a record on its way to the disk; answer is nil for notes.
type entry struct {
	record Record
	answer chan<- result
}

type result struct {
	record Record
	err    error
}

func openJournal(dir string, kind logKind, warn func(string)) (*journal, error) {
	j := &journal{
		dir: dir, kind: kind, warn: warn, next: 1,
		queue: make(chan entry, kind.queue), done: make(chan struct{}), changed: make(chan struct{}),
	}
	if err := j.reopen(); err != nil {
		return nil, err
	}
	go j.run()
	return j, nil
}

// reopen lists the files, cuts the newest one's torn tail off, and finds the next position.
func (j *journal) reopen() error {
	paths, firsts, err := logFiles(j.dir, j.kind.name)
	if err != nil {
		return err
	}
	for i, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		scan := scanFrames(raw, firsts[i+1])
		for _, d := range scan.damaged {
			j.warn(fmt.Sprintf("ORS-6008: %s %s: %d damaged bytes at %d passed over", j.kind.what, path, d.length, d.at))
		}
		j.next = max(j.next, firsts[i], scan.last+1)
		if i == len(paths)-1 && scan.good < int64(len(raw)) {
			j.warn(fmt.Sprintf("ORS-6008: %s %s: torn tail of %d bytes cut off at %d",
				j.kind.what, path, int64(len(raw))-scan.good, scan.good))
			if err := cut(path, scan.good); err != nil {
				return err
			}
		}
		j.segments = append(j.segments, segment{first: firsts[i], path: path, size: scan.good})
	}
	if len(j.segments) == 0 {
		return j.begin()
	}
	j.prune()
	j.file, err = os.OpenFile(j.segments[len(j.segments)-1].path, os.O_WRONLY|os.O_APPEND, 0o600)
	return err
}

// cut shortens a file on the disk.
func cut(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// begin starts a new file at the next position.
func (j *journal) begin() error {
	path := filepath.Join(j.dir, logFile(j.kind.name, j.next))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(j.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	j.file = f
	j.mu.Lock()
	defer j.mu.Unlock()
	// A file that was begun at this very position holds no record: the new one has replaced it.
	if n := len(j.segments); n > 0 && j.segments[n-1].first == j.next {
		j.segments = j.segments[:n-1]
	}
	j.segments = append(j.segments, segment{first: j.next, path: path})
	return nil
}

// prune removes the files that are too many. One that cannot be removed now is tried again with the next.
func (j *journal) prune() {
	j.mu.Lock()
	old := j.segments[:max(0, len(j.segments)-j.kind.files)]
	j.segments = slices.Clone(j.segments[len(old):])
	j.mu.Unlock()
	for _, s := range old {
		if err := os.Remove(s.path); err != nil {
			j.warn(fmt.Sprintf("ORS-6008: old file of the %s cannot be removed: %v", j.kind.what, err))
		}
	}
}

func (j *journal) append(r *Record) error {
	answer := make(chan result, 1)
	timer := time.NewTimer(appendTimeout)
	defer timer.Stop()
	j.sendMu.RLock()
	err := j.send(entry{record: *r, answer: answer}, timer.C)
	j.sendMu.RUnlock()
	if err != nil {
		return err
	}
	select {
	case res := <-answer:
		if res.err != nil {
			return res.err
		}
		*r = res.record
		return nil
	case <-timer.C:
		return j.silent()
	}
}

func (j *journal) silent() error {
	return fmt.Errorf("ORS-6004: the disk of %s has not answered for %s", j.dir, appendTimeout)
}

// send queues e, waiting for room until deadline; a nil deadline does not wait. The caller holds sendMu for reading.
func (j *journal) send(e entry, deadline <-chan time.Time) error {
	if j.closed {
		return ErrClosed
	}
	select {
	case j.queue <- e:
		return nil
	default:
	}
	if deadline == nil {
		return errors.New("the queue is full")
	}
	select {
	case j.queue <- e:
		return nil
	case <-deadline:
		return j.silent()
	}
}

func (j *journal) note(r Record) {
	if r.At.IsZero() {
		r.At = time.Now() // when it happened, not when the disk had time for it
	}
	// While the journal is being closed its lock may be waited for; a note never waits.
	if !j.sendMu.TryRLock() {
		return
	}
	defer j.sendMu.RUnlock()
	if err := j.send(entry{record: r}, nil); err != nil && !errors.Is(err, ErrClosed) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.lost++
		j.failure = fmt.Errorf("ORS-6004: a record was lost: %w", err)
	}
}

func (j *journal) lastError() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// close flushes what is queued and ends run.
func (j *journal) close() error {
	j.sendMu.Lock()
	if !j.closed {
		j.closed = true
		close(j.queue)
	}
	j.sendMu.Unlock()
	select {
	case <-j.done:
	case <-time.After(appendTimeout):
		return j.silent()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.ended {
		j.ended = true
		close(j.changed)
	}
	return j.failure
}
