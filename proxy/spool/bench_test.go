package spool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/internal/mail"
)

// BenchmarkCommit commits and removes messages, as a gateway does whose next
// hop takes what it is given. "raw" is what the disk gives: one write and one
// sync for all that wait, and nothing else.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{5 << 10, 50 << 10, 1 << 20} {
		for _, writers := range []int{1, 20, 100} {
			raw := benchRaw
			if size >= 1<<20 {
				raw = benchRawFiles
			}
			b.Run(fmt.Sprintf("raw/%dk/%d", size>>10, writers), func(b *testing.B) { raw(b, size, writers) })
			b.Run(fmt.Sprintf("spool/%dk/%d", size>>10, writers), func(b *testing.B) { benchCommit(b, size, writers) })
		}
	}
}

func benchDir(b *testing.B) string {
	// b.TempDir may lie in memory.
	dir, err := os.MkdirTemp("/var/tmp", "spool-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// spread runs do b.N times in so many goroutines.
func spread(b *testing.B, writers int, do func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := do(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchCommit(b *testing.B, size, writers int) {
	s := open(b, Options{Dir: filepath.Join(benchDir(b), "spool")})
	stop := run(b, s)
	body := testBody("x", size)
	header := testHeader("x")
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.ResetTimer()
	start := time.Now()
	spread(b, writers, func(int) error {
		id := mail.NewID(time.Now())
		d := s.Draft(id)
		for at := 0; at < len(body); at += 32 << 10 {
			if _, err := d.Write(body[at:min(at+32<<10, len(body))]); err != nil {
				return err
			}
		}
		e := testEntry(id)
		e.Header = header
		if err := s.Commit(context.Background(), d, e); err != nil {
			return err
		}
		return s.Remove(id)
	})
	b.StopTimer()
	stats := s.Stats()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msgs/s")
	b.ReportMetric(float64(stats.Syncs)/time.Since(start).Seconds(), "syncs/s")
	stop()
}

// rawLog is the group commit that the spool is measured against.
type rawLog struct {
	f    *os.File
	mu   sync.Mutex
	wait []byte
	free []byte
	sync *syncer
}

func benchRaw(b *testing.B, size, writers int) {
	f, err := os.Create(filepath.Join(benchDir(b), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var syncs atomic.Int64
	l := &rawLog{f: f}
	l.sync = newSyncer(func() error {
		l.mu.Lock()
		out := l.wait
		l.wait = l.free[:0]
		l.mu.Unlock()
		if _, err := l.f.Write(out); err != nil {
			return err
		}
		syncs.Add(1)
		l.free = out
		return unix.Fdatasync(int(l.f.Fd()))
	})
	body := testBody("x", size)
	b.SetBytes(int64(size))
	b.ResetTimer()
	start := time.Now()
	spread(b, writers, func(int) error {
		l.mu.Lock()
		l.wait = append(l.wait, body...)
		ticket := l.sync.ticket()
		l.mu.Unlock()
		return l.sync.wait(ticket)
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msgs/s")
	b.ReportMetric(float64(syncs.Load())/time.Since(start).Seconds(), "syncs/s")
}

// benchRawFiles is a file for each message, and one sync of the directory for
// all that wait.
func benchRawFiles(b *testing.B, size, writers int) {
	name := benchDir(b)
	dir, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	sync := newSyncer(dir.Sync)
	body := testBody("x", size)
	b.SetBytes(int64(size))
	b.ResetTimer()
	start := time.Now()
	spread(b, writers, func(i int) error {
		name := filepath.Join(name, fmt.Sprint(i))
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer os.Remove(name)
		defer f.Close()
		if _, err := f.Write(body); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		return sync.wait(sync.ticket())
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msgs/s")
}

// BenchmarkOpen reads back a queue of 200,000 messages.
func BenchmarkOpen(b *testing.B) {
	const messages, size, writers = 200_000, 5 << 10, 100
	dir := filepath.Join(benchDir(b), "spool")
	s := open(b, Options{Dir: dir})
	body := testBody("x", size)
	header := testHeader("x")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for next.Add(1) <= messages {
				id := mail.NewID(time.Now())
				d := s.Draft(id)
				_, _ = d.Write(body)
				e := testEntry(id)
				e.Header = header
				if err := s.Commit(context.Background(), d, e); err != nil {
					b.Error(err)
					return
				}
				if err := s.Save(id, Progress{State: Slow, Recipients: make([]Recipient, 2)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	before := heap()
	b.ResetTimer()
	for b.Loop() {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if got := s.Stats().Messages[Slow]; got != messages {
			b.Fatalf("%d messages", got)
		}
		b.ReportMetric(float64(heap()-before)/1e6, "MB-index")
		start := time.Now()
		for range s.All() {
		}
		b.ReportMetric(time.Since(start).Seconds()*1e3, "ms-All")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
