package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// null takes everything at once.
type null struct{ done atomic.Int64 }

func (n *null) Route(rcpt mail.Address) (string, bool) { return rcpt.Domain, true }

func (n *null) Deliver(_ context.Context, _ string, _ mail.Facts, env mail.Envelope, _ mail.Content) []mail.Outcome {
	out := make([]mail.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		out[i] = mail.Outcome{Recipient: r.Address, Status: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Remote: "mx[192.0.2.1]:25"}
	}
	n.done.Add(1)
	return out
}

// BenchmarkQueue measures a message from Accepted to its removal, without the
// commit before it and the next hop.
func BenchmarkQueue(b *testing.B) {
	for _, domains := range []int{1, 100} {
		b.Run(fmt.Sprintf("destinations=%d", domains), func(b *testing.B) { benchmark(b, domains) })
	}
}

func benchmark(b *testing.B, domains int) {
	sp, err := spool.Open(spool.Options{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	next := &null{}
	q, err := New(DefaultConfig(), Deps{Spool: sp, Deliverer: next, Log: slog.New(slog.DiscardHandler), Hostname: "mx1.example.com"})
	if err != nil {
		b.Fatal(err)
	}
	r := &rig{t: b, spool: sp, queue: q}
	var ids []string
	for len(ids) < b.N {
		d := sp.Draft(mail.NewID(r.clock()))
		var entries []spool.Entry
		for range min(b.N-len(ids), 100) {
			e := r.entry("alice@sender.example", fmt.Sprintf("bob@d%d.example", len(ids)%domains))
			entries, ids = append(entries, e), append(ids, e.ID)
		}
		if err := sp.Commit(b.Context(), d, entries...); err != nil {
			b.Fatal(err)
		}
	}
	q.workers.want, q.workers.have = r.cfg.MaxDeliveries, r.cfg.MaxDeliveries
	q.state = running // without reading the spool: each message is announced
	var workers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range r.cfg.MaxDeliveries {
		workers.Go(func() { q.work(b.Context()) })
	}
	for _, id := range ids {
		q.Accepted(id)
	}
	for q.busy() {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	q.halt()
	workers.Wait()
	if next.done.Load() != int64(b.N) {
		b.Errorf("%d deliveries of %d", next.done.Load(), b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	if err := sp.Close(); err != nil {
		b.Error(err)
	}
}

func (q *Queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) > 0
}
