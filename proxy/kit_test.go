package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// fakeStore keeps what is committed in memory and fails on demand.
type fakeStore struct {
	mu      sync.Mutex
	kept    []stored
	drafts  int // open ones
	ready   error
	write   error
	commit  error
	commits chan struct{} // when set, Commit waits for it
}

type stored struct {
	spool.Entry
	body string
}

// text is the whole message as it was sent to us: the stored one without the
// fields that we added.
func (s stored) text(t *testing.T) string {
	t.Helper()
	h, _, err := mail.SplitHeader(s.Header)
	if err != nil || len(h) < 2 || !h[0].Is("X-Gatepost-ID") || !h[1].Is("Received") {
		t.Fatalf("header %q does not begin with our two fields (%v)", s.Header, err)
	}
	return string(h[2:].Bytes()) + "\r\n" + s.body
}

type memDraft struct {
	store *fakeStore
	buf   []byte
	done  bool
}

func (f *fakeStore) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fakeStore) Draft(string) draft {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drafts++
	return &memDraft{store: f}
}

func (d *memDraft) Write(p []byte) (int, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if d.store.write != nil {
		return 0, d.store.write
	}
	d.buf = append(d.buf, p...)
	return len(p), nil
}

func (d *memDraft) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.buf).ReadAt(p, off)
}

func (d *memDraft) Size() int64 { return int64(len(d.buf)) }

func (d *memDraft) Discard() { d.end() }

func (d *memDraft) end() {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if !d.done {
		d.done = true
		d.store.drafts--
	}
}

func (f *fakeStore) Commit(ctx context.Context, d draft, entries ...spool.Entry) error {
	m := d.(*memDraft)
	m.end()
	if f.commits != nil {
		select {
		case <-f.commits:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.commit != nil {
		return f.commit
	}
	for _, e := range entries {
		f.kept = append(f.kept, stored{e, string(m.buf[e.Body:])})
	}
	return nil
}

func (f *fakeStore) messages() []stored {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.kept)
}

func (f *fakeStore) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drafts
}

// fakeHandler answers with what the test set, and notes what it was asked.
type fakeHandler struct {
	connect, helo, mailFrom, data func(*mail.Transaction) mail.Verdict
	rcpt                          func(*mail.Transaction, mail.Path) mail.Verdict
	message                       func(context.Context, *mail.Transaction) mail.Verdict

	broken bool // Abort and Close panic

	mu    sync.Mutex
	calls []string
}

func (h *fakeHandler) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, what)
}

func (h *fakeHandler) count(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.calls {
		if c == what {
			n++
		}
	}
	return n
}

func (h *fakeHandler) ask(what string, f func(*mail.Transaction) mail.Verdict, tx *mail.Transaction) mail.Verdict {
	h.note(what)
	if f == nil {
		return mail.Verdict{}
	}
	return f(tx)
}

func (h *fakeHandler) Connect(_ context.Context, tx *mail.Transaction) mail.Verdict {
	return h.ask("connect", h.connect, tx)
}

func (h *fakeHandler) Helo(_ context.Context, tx *mail.Transaction) mail.Verdict {
	return h.ask("helo", h.helo, tx)
}

func (h *fakeHandler) Mail(_ context.Context, tx *mail.Transaction) mail.Verdict {
	return h.ask("mail", h.mailFrom, tx)
}

// Rcpt, unless told otherwise, relays to b.example only.
func (h *fakeHandler) Rcpt(_ context.Context, tx *mail.Transaction, rcpt mail.Path) mail.Verdict {
	h.note("rcpt")
	if h.rcpt != nil {
		return h.rcpt(tx, rcpt)
	}
	return relayOnly(rcpt)
}

func relayOnly(rcpt mail.Path) mail.Verdict {
	if rcpt.Domain == "b.example" {
		return mail.Verdict{Action: mail.Accept}
	}
	return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "relaying denied"}}
}

func (h *fakeHandler) Data(_ context.Context, tx *mail.Transaction) mail.Verdict {
	return h.ask("data", h.data, tx)
}

func (h *fakeHandler) Message(ctx context.Context, tx *mail.Transaction) mail.Verdict {
	h.note("message")
	if h.message != nil {
		return h.message(ctx, tx)
	}
	return mail.Verdict{}
}

func (h *fakeHandler) Abort(*mail.Transaction) { h.end("abort") }
func (h *fakeHandler) Close()                  { h.end("close") }

func (h *fakeHandler) end(what string) {
	h.note(what)
	if h.broken {
		panic(what)
	}
}

// gate is a server under test.
type gate struct {
	t       *testing.T
	srv     *Server
	store   *fakeStore
	handler *fakeHandler
	stats   *fakeStats
	queue   *fakeQueue
	courier Courier
	log     *logBuffer
	level   slog.Level
	stop    context.CancelFunc
	ended   chan struct{}
	mu      sync.Mutex // what a test sets before it dials, the session sees
	dials   int
}

type fakeQueue struct {
	mu  sync.Mutex
	ids []string
}

func (q *fakeQueue) Accepted(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids = append(q.ids, ids...)
}

func (q *fakeQueue) all() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.ids)
}

type fakeStats struct {
	mu     sync.Mutex
	counts map[string]int
}

func (s *fakeStats) add(key string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = make(map[string]int)
	}
	s.counts[key] += n
}

func (s *fakeStats) get(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[key]
}

func (s *fakeStats) Connection(_, result string) { s.add("connection "+result, 1) }
func (s *fakeStats) Active(_ string, delta int)  { s.add("active", delta) }
func (s *fakeStats) Message(_, action, reason string, _ int64) {
	s.add("message "+action+" "+reason, 1)
}
func (s *fakeStats) Login(_, mech, result string) { s.add("login "+mech+" "+result, 1) }
func (s *fakeStats) Recipient(_, action string)   { s.add("recipient "+action, 1) }

// logBuffer keeps the log for tests that look into it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Name = "mx"
	cfg.Address = "127.0.0.1:0"
	cfg.Hostname = "mx1.b.example"
	cfg.Grace = 5 * time.Second
	cfg.Limits.MaxConnectionsPerClient = 900
	return cfg
}

// start runs a server until the test ends. change may be nil.
func start(t *testing.T, change func(*Config, *gate)) *gate {
	t.Helper()
	g := newGate(t, change)
	g.run()
	return g
}

// newGate makes a server that listens.
func newGate(t *testing.T, change func(*Config, *gate)) *gate {
	t.Helper()
	g := &gate{t: t, store: &fakeStore{}, handler: &fakeHandler{}, stats: &fakeStats{}, queue: &fakeQueue{}, log: &logBuffer{}, level: slog.LevelDebug, ended: make(chan struct{})}
	cfg := testConfig()
	if change != nil {
		change(&cfg, g)
	}
	srv, err := newServer(cfg, Deps{
		NewHandler: func() mail.Handler {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.handler
		},
		Stats:   g.stats,
		Queue:   g.queue,
		Courier: g.courier,
		Log:     slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: g.level})),
	}, g.store)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	g.srv = srv
	return g
}

func (g *gate) run() {
	t := g.t
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	go func() {
		defer close(g.ended)
		if err := g.srv.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		g.waitEnd()
		if n := g.store.open(); n != 0 {
			t.Errorf("%d drafts left open", n)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", g.log)
		}
	})
}

func (g *gate) waitEnd() {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(10 * time.Second):
		g.t.Fatal("Run has not returned after 10s")
	}
}

// client is a scripted SMTP client.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (g *gate) dial() *client {
	g.t.Helper()
	g.mu.Lock()
	g.dials++
	g.mu.Unlock()
	conn, err := net.Dial("tcp", g.srv.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	return newClient(g.t, conn)
}

func newClient(t *testing.T, conn net.Conn) *client {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// greeted has read the banner.
func (g *gate) greeted() *client {
	g.t.Helper()
	c := g.dial()
	c.expect("220")
	return c
}

// hello has said EHLO.
func (g *gate) hello() *client {
	g.t.Helper()
	c := g.greeted()
	c.do("EHLO client.example", "250")
	return c
}

// envelope has sent a sender and a recipient.
func (g *gate) envelope() *client {
	g.t.Helper()
	c := g.hello()
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("sending %.40q: %v", s, err)
	}
}

// reply reads one reply, all its lines, without the last CRLF.
func (c *client) reply() (string, error) {
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		b.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
	}
}

// expect reads a reply and checks its beginning.
func (c *client) expect(prefix string) string {
	c.t.Helper()
	r, err := c.reply()
	if err != nil {
		c.t.Fatalf("want %q, got error %v", prefix, err)
	}
	if !strings.HasPrefix(r, prefix) {
		c.t.Fatalf("want %q, got %q", prefix, r)
	}
	return r
}

func (c *client) do(cmd, prefix string) string {
	c.t.Helper()
	c.send(cmd + "\r\n")
	return c.expect(prefix)
}

// expectClosed checks that the server has nothing more to say.
func (c *client) expectClosed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection is still open")
	}
	if len(rest) > 0 {
		c.t.Fatalf("got %q, want the end of the connection", rest)
	}
}

// replies closes our half and returns all that the server still says.
func (c *client) replies() []string {
	c.t.Helper()
	_ = c.conn.(*net.TCPConn).CloseWrite()
	var all []string
	for {
		r, err := c.reply()
		if err != nil {
			return all
		}
		all = append(all, r)
	}
}

// poll waits until ok.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never seen: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

const simple = "From: s@a.example\r\nSubject: test\r\n\r\nbody\r\n"
