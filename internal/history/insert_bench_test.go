package history

import (
	"context"
	"path/filepath"
	"testing"
)

// What writing costs, in batches of 500.
func BenchmarkInsert(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Path = filepath.Join(b.TempDir(), "history.db")
	s, err := Open(cfg, Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.open(context.Background()); err != nil {
		b.Fatal(err)
	}
	defer s.end()
	n := 0
	for b.Loop() {
		b.StopTimer()
		var batch []item
		for range atOnce {
			r := sampleRecord(b, n)
			batch = append(batch, item{record: &r})
			n++
		}
		b.StartTimer()
		if _, err := s.insert(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/record")
}
