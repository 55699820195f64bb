package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/milter"
)

// benchFlags are how much a milter is asked.
type benchFlags struct {
	letterFlags
	connections, messages, reuse int
	size                         string
}

func (a *app) milterBenchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench --to SOCKET",
		Short: "Measure how fast a milter answers",
		Long: `Shows a milter messages over several connections at a time, as fast as it
answers, and prints how many a second that were and how long each took, from
MAIL to the answer at the end of the message. As an MTA does, it connects anew
for each SMTP session; --reuse puts several messages into one.

The messages are all alike and harmless, but the milter takes them for real:
don't measure one that bounces, counts or learns. Exits with 69 when the milter
can't be reached or gave up on a message, with 76 when it broke the protocol.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.milterBench(ctx, f)
		},
	}
	f.add(c.Flags())
	c.Flags().IntVar(&f.connections, "connections", 10, "connections at a time, a `number`")
	c.Flags().IntVar(&f.messages, "messages", 1000, "messages in all, a `number`")
	c.Flags().IntVar(&f.reuse, "reuse", 1, "messages over one connection, a `number`")
	c.Flags().StringVar(&f.size, "size", "5kB", "of the body of a message, a `size`")
	return c
}

const maxBenchSize = 100 << 20

// benchResult is what was measured.
type benchResult struct {
	Milter      string         `json:"milter"`
	Connections int            `json:"connections"`
	Messages    int            `json:"messages"` // that were answered
	Failed      int            `json:"failed"`
	Bytes       int64          `json:"bytes"` // of one message
	Seconds     float64        `json:"seconds"`
	PerSecond   float64        `json:"messages_per_second"`
	Connect     spread         `json:"connect_ms"` // with the negotiation
	Latency     spread         `json:"latency_ms"`
	Answers     map[string]int `json:"answers"`
}

// spread is a distribution of times in milliseconds.
type spread struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newSpread(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	slices.Sort(times)
	at := func(percent int) float64 {
		return float64(times[(len(times)-1)*percent/100].Microseconds()) / 1000
	}
	return spread{at(50), at(95), at(99), at(100)}
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms", s.P50, s.P95, s.P99, s.Max)
}

func (a *app) milterBench(ctx context.Context, f benchFlags) error {
	size, err := config.ParseSize(f.size)
	switch {
	case err != nil || size < 0 || size > maxBenchSize:
		return exit(exitUsage, "--size %q: write a size up to 100MiB, like 5kB", f.size)
	case f.connections < 1 || f.connections > 10000 || f.messages < 1 || f.reuse < 1:
		return exit(exitUsage, "--connections (up to 10000), --messages and --reuse must be above 0")
	}
	const text = "All work and no play makes Jack a dull boy; he sleeps when it is dark.\r\n"
	body := bytes.Repeat([]byte(text), int(size)/len(text)+1)[:size]
	head, err := mail.ReadMessage(strings.NewReader(exampleMessage), int64(len(exampleMessage)))
	if err != nil {
		return exit(exitBug, "%w", err)
	}
	l, err := newLetter(f.letterFlags, mail.NewMessage(head.Header, bytes.NewReader(body), size))
	if err != nil {
		return err
	}
	r, err := l.bench(ctx, f)
	if err != nil && r.Messages == 0 {
		return milterError(err)
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.printBench(r)
	}
	if err != nil {
		return milterError(fmt.Errorf("%d messages failed; the first: %w", r.Failed, err))
	}
	return nil
}

// worker is what one connection at a time has measured.
type worker struct {
	connects, latencies []time.Duration
	answers             map[string]int
	failed              int
	err                 error // the first
}

// bench returns the first error of all, and what was measured nevertheless.
func (l *letter) bench(ctx context.Context, f benchFlags) (benchResult, error) {
	workers := make([]worker, min(f.connections, f.messages))
	var left atomic.Int64
	left.Store(int64(f.messages))
	start := time.Now()
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { workers[i].work(ctx, l, f.reuse, &left) })
	}
	wg.Wait()
	took := time.Since(start)

	r := benchResult{Milter: f.to, Connections: len(workers), Bytes: l.tx.Message.Size(), Seconds: took.Seconds(), Answers: make(map[string]int)}
	var connects, latencies []time.Duration
	var first error
	for _, w := range workers {
		connects, latencies = append(connects, w.connects...), append(latencies, w.latencies...)
		r.Failed += w.failed
		first = cmp.Or(first, w.err)
		for said, n := range w.answers {
			r.Answers[said] += n
		}
	}
	r.Messages = len(latencies)
	r.PerSecond = float64(r.Messages) / took.Seconds()
	r.Connect, r.Latency = newSpread(connects), newSpread(latencies)
	return r, first
}

// maxFailures in a row end a worker: the milter is gone.
const maxFailures = 3

// work takes messages from what is left.
func (w *worker) work(ctx context.Context, l *letter, reuse int, left *atomic.Int64) {
	w.answers = make(map[string]int)
	for failures := 0; ctx.Err() == nil && failures < maxFailures; {
		n := 0
		for n < reuse && left.Add(-1) >= 0 {
			n++
		}
		if n == 0 {
			return
		}
		done, err := w.session(ctx, l, n)
		failures++
		if err == nil {
			failures = 0
			continue
		}
		w.failed += n - done
		w.err = cmp.Or(w.err, err)
	}
}

// session shows n messages over one connection, and returns how many were
// answered.
func (w *worker) session(ctx context.Context, l *letter, n int) (done int, err error) {
	start := time.Now()
	c, err := milter.Dial(ctx, l.cfg, offer)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	w.connects = append(w.connects, time.Since(start))
	hear := func(answer) {}
	o, decided, err := l.open(ctx, c, hear)
	for ; done < n && err == nil; done++ {
		start = time.Now()
		if !decided {
			o, err = l.deliver(ctx, c, hear)
		}
		if err != nil {
			return done, err
		}
		w.latencies = append(w.latencies, time.Since(start))
		w.answers[words(o.said)]++
	}
	return done, err
}

func (a *app) printBench(r benchResult) {
	fmt.Fprintf(a.out, "%d messages of %d bytes over %d connections in %.2f s: %.0f a second\n", r.Messages, r.Bytes, r.Connections, r.Seconds, r.PerSecond)
	fmt.Fprintf(a.out, "connect  %s\nmessage  %s\n", r.Connect, r.Latency)
	for _, said := range slices.Sorted(maps.Keys(r.Answers)) {
		fmt.Fprintf(a.out, "answer   %s: %d\n", said, r.Answers[said])
	}
	if r.Failed > 0 {
		fmt.Fprintf(a.out, "failed   %d\n", r.Failed)
	}
}
