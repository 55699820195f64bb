package queue

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// fill puts messages into the spool that were tried before.
func (r *rig) fill(n int, rcpt string) {
	r.t.Helper()
	todo := make(chan int)
	var wg sync.WaitGroup
	for range 64 { // who share the syncs
		wg.Go(func() {
			for i := range todo {
				id := r.commit(r.entry("alice@sender.example", fmt.Sprintf(rcpt, i)))[0]
				if err := r.spool.Save(id, r.tried()); err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	wg.Wait()
}

// tried is the progress of a message after an hour.
func (r *rig) tried() spool.Progress {
	return spool.Progress{State: spool.Queue, Attempts: 4, Age: time.Hour, Next: r.clock().Add(time.Minute), Recipients: []spool.Recipient{{
		Reply:    mail.Reply{Code: 451, Detail: "4.1", Text: "connect to mx.dead.example[192.0.2.9]:25: connection timed out"},
		Attempts: 4, Last: r.clock(),
	}}}
}

// A full queue for a dead next hop costs that one probes only, and mail for a
// living one nothing at all: it goes in the moment it comes.
func TestBacklogForDeadDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const messages = 3000
		r.fill(messages, "user%d@dead.example")
		r.next.set("dead.example", dead)
		r.start(nil)
		synctest.Wait()
		for range 60 {
			at := time.Now()
			r.send("", "bob@live.example")
			synctest.Wait()
			got := r.next.attempts("live.example")
			if last := got[len(got)-1]; last.at != at {
				t.Fatalf("a living destination waited %v", last.at.Sub(at))
			}
			time.Sleep(time.Minute)
		}
		// A probe every five minutes or a little earlier, and the first window.
		if n := len(r.next.attempts("dead.example")); n < 10 || n > 30 {
			t.Errorf("%d attempts in an hour at the dead one", n)
		}
		if n := len(r.next.attempts("live.example")); n != 60 {
			t.Errorf("%d deliveries to the living one", n)
		}
		r.queue.mu.Lock()
		loaded, items := r.queue.loaded, len(r.queue.items)
		r.queue.mu.Unlock()
		if loaded > 0 || items != messages {
			t.Errorf("%d messages in memory of %d that wait", loaded, items)
		}
		r.next.set("dead.example", nil)
		time.Sleep(r.cfg.MaxPause)
		synctest.Wait()
		r.wantEmpty()
	})
}

// BenchmarkBacklog measures what so many messages for a dead next hop cost:
//
//	GATEPOST_BACKLOG=200000 go test ./proxy/queue -run '^$' -bench Backlog -benchtime 1x
func BenchmarkBacklog(b *testing.B) {
	messages, err := strconv.Atoi(os.Getenv("GATEPOST_BACKLOG"))
	if err != nil {
		messages = 2000
	}
	for range b.N {
		r := newRig(b)
		r.quiet = true
		empty := r.latencies(b)
		before, heapBefore := rss(b), liveHeap()
		r.fill(messages, "user%d@dead.example")
		r.close()
		debug.FreeOSMemory()
		began := time.Now()
		r.open()
		b.ReportMetric(time.Since(began).Seconds(), "s-to-open")
		r.next.set("dead.example", dead)
		began = time.Now()
		r.run()
		for r.waiting() < messages {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-to-schedule")
		r.stop()
		r.stop = nil
		full := r.latencies(b)
		b.ReportMetric(float64(rss(b)-before)/float64(messages), "B-RSS/msg")
		b.ReportMetric(float64(liveHeap()-heapBefore)/float64(messages), "B-heap/msg")
		for i, q := range []int{50, 95} {
			b.ReportMetric(empty[i], fmt.Sprintf("µs-p%d-empty", q))
			b.ReportMetric(full[i], fmt.Sprintf("µs-p%d-full", q))
		}
	}
}

func (r *rig) waiting() int {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	return len(r.queue.items)
}

// latencies runs the queue and returns median and 95th percentile, in
// microseconds, of the time from the commit of a message to its delivery. What
// is in the queue already is all due.
func (r *rig) latencies(b *testing.B) [2]float64 {
	arrived := make(chan time.Time, 1)
	r.next.set("live.example", func(ctx context.Context, s seen) []mail.Outcome {
		arrived <- time.Now()
		return accept(ctx, s)
	})
	r.remake()
	r.run()
	for full := r.spool.Stats().Messages[spool.Queue]; r.waiting() < full; {
		time.Sleep(time.Millisecond)
	}
	if _, err := r.queue.RetryAll(b.Context()); err != nil {
		b.Fatal(err)
	}
	var took []float64
	for range 2000 {
		at := time.Now()
		r.send("", "bob@live.example")
		took = append(took, float64((<-arrived).Sub(at).Microseconds()))
	}
	r.stop()
	r.stop = nil
	slices.Sort(took)
	return [2]float64{took[len(took)/2], took[len(took)*95/100]}
}

// rss is the resident memory of the process.
func rss(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb << 10
}

// liveHeap is what is in use after a collection.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
