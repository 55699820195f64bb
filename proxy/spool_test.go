package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// onDisk is a server over a real spool.
type onDisk struct {
	gate
	spool *spool.Spool
}

func startOnDisk(tb testing.TB, failpoint func(string) error) *onDisk {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	sp, err := spool.Open(spool.Options{Dir: tb.TempDir() + "/spool", Log: log, Failpoint: failpoint})
	if err != nil {
		tb.Fatal(err)
	}
	g := &onDisk{spool: sp}
	g.handler, g.queue = &fakeHandler{}, &fakeQueue{}
	newHandler := func() mail.Handler { return g.handler }
	srv, err := New(testConfig(), Deps{NewHandler: newHandler, Spool: sp, Queue: g.queue, Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		tb.Fatal(err)
	}
	g.srv = srv
	ctx, stop := context.WithCancel(context.Background())
	spoolCtx, stopSpool := context.WithCancel(context.Background())
	var server, store sync.WaitGroup
	server.Go(func() { _ = srv.Run(ctx) })
	store.Go(func() { _ = sp.Run(spoolCtx) })
	tb.Cleanup(func() {
		stop()
		server.Wait()
		stopSpool()
		store.Wait()
		if err := sp.Close(); err != nil {
			tb.Errorf("closing the spool: %v", err)
		}
	})
	return g
}

// content returns a kept message without the two fields that we added.
func (g *onDisk) content(t *testing.T, id string) string {
	t.Helper()
	c, err := g.spool.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, name := range []string{"X-Gatepost-ID:", "Received:"} {
		if !strings.HasPrefix(text, name) {
			t.Fatalf("message begins with %.40q, want %s", text, name)
		}
		h, _, err := mail.SplitHeader([]byte(text[:min(len(text), 4096)]))
		if err != nil {
			t.Fatal(err)
		}
		text = text[len(h[0].Raw()):]
	}
	return text
}

func TestRealSpool(t *testing.T) {
	g := startOnDisk(t, nil)
	g.t = t
	c := g.hello()
	for _, size := range []int{0, 100, 5_000, 127_000, 129_000, 3_000_000} {
		text := "From: s@a.example\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72)
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
		c.do("DATA", "354")
		c.send(text)
		id := strings.TrimPrefix(c.do(".", "250 2.0.0 queued as "), "250 2.0.0 queued as ")
		if got := g.content(t, id); got != text {
			t.Errorf("%d bytes: kept %d, or others", len(text), len(got))
		}
		m, err := g.spool.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if m.Progress.State != spool.Queue || m.Envelope.Recipients[0].Local != "u" {
			t.Errorf("message %+v", m)
		}
	}
	if n := len(g.queue.all()); n != 6 {
		t.Errorf("the queue was told of %d messages, want 6", n)
	}
}

// Parts of one message share a body, in memory and in a file of its own.
func TestRealSpoolSplit(t *testing.T) {
	for _, size := range []int{1_000, 1_000_000} {
		g := startOnDisk(t, nil)
		g.t = t
		const replaced = "other\n"
		g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
			return mail.Verdict{Action: mail.Quarantine, Recipients: []mail.Verdict{
				{},
				{Action: mail.Quarantine, Reason: "held"},
				{Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader(replaced), Size: int64(len(replaced))}}},
				{Action: mail.Discard},
			}}
		}
		text := "From: s@a.example\r\n\r\n" + strings.Repeat("x", size) + "\r\n"
		c := g.hello()
		c.do("MAIL FROM:<s@a.example>", "250")
		for _, u := range []string{"a", "b", "c", "d"} {
			c.do("RCPT TO:<"+u+"@b.example>", "250")
		}
		c.do("DATA", "354")
		c.send(text)
		c.do(".", "250 2.0.0 queued as ")
		got := map[string]string{}
		for m := range g.spool.All() {
			got[m.Envelope.Recipients[0].Local+" "+string(m.Progress.State)] = g.content(t, m.ID)
		}
		want := map[string]string{"a queue": text, "b hold": text, "c queue": "From: s@a.example\r\n\r\nother\r\n"}
		if len(got) != len(want) {
			t.Errorf("%d messages, want %d", len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: kept %.60q", k, got[k])
			}
		}
	}
}

// Each step of accepting a message fails once: the client is told to come
// again, nothing is kept, and the next message is taken.
func TestRealSpoolFails(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, step := range spool.Steps() {
			t.Run(fmt.Sprintf("%s %v", step, errno), func(t *testing.T) {
				var armed atomic.Bool
				g := startOnDisk(t, func(s string) error {
					if s == step && armed.CompareAndSwap(true, false) {
						return errno
					}
					return nil
				})
				g.t = t
				armed.Store(true)
				queued := 0
				for _, size := range []int{100, 300_000} {
					c := g.hello()
					replies := c.attempt(size)
					last := replies[len(replies)-1]
					switch {
					case strings.HasPrefix(last, "250 2.0.0 queued"):
						queued++
					case !strings.HasPrefix(last, "451 4.3.0") && !strings.HasPrefix(last, "452 4.3.1"):
						t.Errorf("replies %q", replies)
					}
				}
				kept := len(slices.Collect(g.spool.All()))
				if kept != queued {
					t.Errorf("%d kept, %d answered 250", kept, queued)
				}
			})
		}
	}
}

// attempt sends one message and returns the replies up to the first refusal.
func (c *client) attempt(size int) []string {
	c.t.Helper()
	var all []string
	for _, send := range []string{"MAIL FROM:<s@a.example>\r\n", "RCPT TO:<u@b.example>\r\n", "DATA\r\n", "A: b\r\n\r\n" + strings.Repeat("x", size) + "\r\n.\r\n"} {
		c.send(send)
		r, err := c.reply()
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r)
		if r[0] >= '4' {
			break
		}
	}
	return all
}

// Many clients, many sizes, random divisions: what was answered 250 is there,
// byte for byte, and nothing else is.
func TestLedger(t *testing.T) {
	g := startOnDisk(t, nil)
	g.t = t
	g.handler.message = func(_ context.Context, tx *mail.Transaction) mail.Verdict {
		switch {
		case strings.Contains(tx.Message.Header.Get("Subject"), "spam"):
			return mail.Verdict{Action: mail.Reject}
		case strings.Contains(tx.Message.Header.Get("Subject"), "drop"):
			return mail.Verdict{Action: mail.Discard}
		}
		return mail.Verdict{}
	}
	var mu sync.Mutex
	ledger := map[string]string{}
	var wg sync.WaitGroup
	for k := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(k, 7))
			c := g.hello()
			for i := range 12 {
				subject := []string{"ham", "ham", "spam", "drop", "bare\n"}[rnd.IntN(5)]
				text := fmt.Sprintf("Subject: %s\r\n\r\n%d %d\r\n..dots\r\n%s\r\n", subject, k, i, strings.Repeat("y", rnd.IntN(200_000)))
				c.do("MAIL FROM:<s@a.example>", "250")
				c.do("RCPT TO:<u@b.example>", "250")
				c.do("DATA", "354")
				c.sendInPieces(rnd, text+".\r\n")
				r, err := c.reply()
				if err != nil {
					t.Error(err)
					return
				}
				id, ok := strings.CutPrefix(r, "250 2.0.0 queued as ")
				if ok && subject == "ham" {
					mu.Lock()
					ledger[id] = strings.ReplaceAll(text, "..dots", ".dots")
					mu.Unlock()
				}
				if want := subject == "ham" || subject == "drop"; ok != want {
					t.Errorf("%q is answered %q", subject, r)
				}
			}
		})
	}
	wg.Wait()
	kept := 0
	for m := range g.spool.All() {
		kept++
		if got := g.content(t, m.ID); got != ledger[m.ID] {
			t.Errorf("%s: kept %d bytes, accepted %d", m.ID, len(got), len(ledger[m.ID]))
		}
	}
	if kept != len(ledger) {
		t.Errorf("%d kept, %d answered 250", kept, len(ledger))
	}
}

func (c *client) sendInPieces(rnd *rand.Rand, text string) {
	for len(text) > 0 {
		n := min(len(text), 1+rnd.IntN(60_000))
		if _, err := io.WriteString(c.conn, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// BenchmarkMessage is one client that sends message after message. The client
// shares the processor.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{5 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			cfg := testConfig()
			cfg.Limits.MaxMessages = 1 << 30
			srv, err := newServer(cfg, Deps{NewHandler: func() mail.Handler { return &fakeHandler{} }, Log: slog.New(slog.DiscardHandler)}, &dropStore{})
			if err != nil {
				b.Fatal(err)
			}
			if err := srv.Listen(); err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { _ = srv.Run(ctx) })
			defer wg.Wait()
			defer stop()
			benchmarkMessages(b, srv, size)
		})
	}
}

// dropStore keeps nothing.
type dropStore struct{ fakeStore }

func (d *dropStore) Commit(_ context.Context, dr draft, _ ...spool.Entry) error {
	dr.Discard()
	return nil
}

func benchmarkMessages(b *testing.B, srv *Server, size int) {
	conn, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	ask := func(s string, replies int) {
		if _, err := io.WriteString(conn, s); err != nil {
			b.Fatal(err)
		}
		for range replies {
			line, err := r.ReadString('\n')
			if err != nil || line[0] > '3' {
				b.Fatalf("%q, %v", line, err)
			}
		}
	}
	line := strings.Repeat("x", 76) + "\r\n"
	text := "From: s@a.example\r\nSubject: test\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n"
	ask("HELO c.example\r\n", 2)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		ask("MAIL FROM:<s@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n", 3)
		ask(text, 1)
	}
}
