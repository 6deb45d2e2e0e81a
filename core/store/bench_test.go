package store

import (
	"slices"
	"testing"
	"time"
)

// measure runs fn b.N times and reports the median and the 99th percentile, which a mean would hide.
func measure(b *testing.B, fn func() error) {
	b.Helper()
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if err := fn(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(q int) float64 { return float64(took[(len(took)-1)*q/100]) / float64(time.Millisecond) }
	b.ReportMetric(ms(50), "ms-p50")
	b.ReportMetric(ms(99), "ms-p99")
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkSaveHard(b *testing.B) {
	s := benchStore(b)
	h := hard{Text: "a hard state of usual size, with a few groups and units"}
	measure(b, func() error { h.Epoch++; return s.SaveHard(h) })
}

func BenchmarkAppend(b *testing.B) {
	s := benchStore(b)
	measure(b, func() error {
		return s.Append(&Record{Kind: KindStep, Group: "rocky", Text: "The drives are mounted."})
	})
}

func BenchmarkNote(b *testing.B) {
	s := benchStore(b)
	measure(b, func() error {
		s.Note(Record{Kind: KindStep, Group: "rocky", Text: "The drives are mounted."})
		return nil
	})
}
