package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// run writes what is queued, all that waits in one flush, until the queue is closed and empty.
func (j *journal) run() {
	defer close(j.done)
	for e := range j.queue {
		batch := []entry{e}
		for len(batch) < batchLimit {
			more, ok := j.poll()
			if !ok {
				break
			}
			batch = append(batch, more)
		}
		j.commit(batch)
	}
	if j.file != nil {
		if err := j.file.Close(); err != nil {
			j.fail(err)
		}
	}
}

// poll takes an entry that is queued already.
func (j *journal) poll() (entry, bool) {
	select {
	case e, ok := <-j.queue:
		return e, ok
	default:
		return entry{}, false
	}
}

// commit writes a batch, flushes it, and answers. A batch is written as a whole or not at all: what a failure leaves
// behind is cut off, so that no record is read that its writer was told is not there.
func (j *journal) commit(batch []entry) {
	batch = j.encodeAll(j.withLost(batch))
	var data []byte
	pos := j.next
	for i := range batch {
		r := &batch[i].record
		r.Pos = pos
		pos++
		frame, err := encodeFrame(*r)
		if err != nil {
			// encodeAll let pass only what can be encoded.
			panic(err)
		}
		data = append(data, frame...)
	}
	err := j.write(data)
	if err != nil {
		err = fmt.Errorf("ORS-6004: the %s in %s cannot be written: %w", j.kind.what, j.dir, err)
	}
	j.settle(batch, pos, int64(len(data)), err)
}

// withLost puts a record before the batch that tells how many notes were lost.
func (j *journal) withLost(batch []entry) []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = j.lost
	if j.lost == 0 {
		return batch
	}
	r := Record{
		At: time.Now(), Kind: KindAgent, Code: "ORS-6009",
		Text: fmt.Sprintf("%d records of the %s were lost before this one.", j.lost, j.kind.what), Why: fmt.Sprint(j.failure),
		Data: map[string]any{"lost": j.lost},
	}
	return append([]entry{{record: r}}, batch...)
}

// encodeAll sets the times, and answers for those records that have no JSON form, so that they do not hold up others.
func (j *journal) encodeAll(batch []entry) []entry {
	good := batch[:0:0]
	for _, e := range batch {
		if e.record.At.IsZero() {
			e.record.At = time.Now()
		}
		e.record.At = e.record.At.Round(0).UTC() // wall clock only: what a reader gets back
		frame, err := json.Marshal(e.record)
		if err == nil && len(frame) > maxFrame-64 {
			err = fmt.Errorf("it has %d bytes, wanted at most %d", len(frame), maxFrame-64)
		}
		switch {
		case err == nil:
			good = append(good, e)
		case e.answer != nil:
			e.answer <- result{err: fmt.Errorf("ORS-6004: record cannot be written: %w", err)}
		default:
			good = append(good, entry{record: Record{
				At: e.record.At, Kind: e.record.Kind, Code: "ORS-6009",
				Text: fmt.Sprintf("A record of the %s was lost: %v.", j.kind.what, err),
			}})
		}
	}
	return good
}

// write appends data to the newest file and flushes it, beginning a new file where the last one is full or has failed.
func (j *journal) write(data []byte) error {
	last := &j.segments[len(j.segments)-1]
	if j.file != nil && last.size > 0 && last.size+int64(len(data)) > j.kind.limit {
		err := j.file.Close()
		j.file = nil
		if err != nil {
			return err
		}
	}
	if j.file == nil {
		if err := j.begin(); err != nil {
			return err
		}
		j.prune()
		last = &j.segments[len(j.segments)-1]
	}
	_, err := j.file.Write(data)
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		return nil
	}
	// After a failed flush nobody knows what the kernel still holds of this file: it gets no further records.
	f := j.file
	j.file = nil
	return errors.Join(err, f.Truncate(last.size), f.Close())
}

// settle publishes what was written, or counts what was lost, and answers.
func (j *journal) settle(batch []entry, next uint64, size int64, err error) {
	j.mu.Lock()
	j.failure = err
	if err == nil {
		j.next = next
		j.segments[len(j.segments)-1].size += size
		j.lost -= j.told
		close(j.changed)
		j.changed = make(chan struct{})
	}
	for _, e := range batch {
		if err != nil && e.answer == nil && e.record.Code != "ORS-6009" {
			j.lost++
		}
	}
	j.mu.Unlock()
	for _, e := range batch {
		if e.answer != nil {
			e.answer <- result{record: e.record, err: err}
		}
	}
}

func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failure = fmt.Errorf("ORS-6004: the %s in %s cannot be closed: %w", j.kind.what, j.dir, err)
}
