package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// nextHop is a Deliverer whose destinations are the domains.
type nextHop struct {
	mu      sync.Mutex
	seen    []seen
	answers map[string]answer // by domain; without one, it takes everything
	noRoute map[string]bool
}

// seen is one attempt.
type seen struct {
	at      time.Time
	dest    string
	id      string
	sender  string
	args    []string
	rcpts   []string
	content string
}

type answer func(ctx context.Context, s seen) []mail.Outcome

func newNextHop() *nextHop {
	return &nextHop{answers: make(map[string]answer), noRoute: make(map[string]bool)}
}

func (n *nextHop) Route(rcpt mail.Address) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return rcpt.Domain, !n.noRoute[rcpt.Domain]
}

// Group is the domain below .example, "" for any other.
func (n *nextHop) Group(dest string) string {
	for _, g := range []string{"local", "internal", "remote"} {
		if strings.HasSuffix(dest, g+".example") {
			return g
		}
	}
	return ""
}

func (n *nextHop) Deliver(ctx context.Context, dest string, facts mail.Facts, env mail.Envelope, content mail.Content) []mail.Outcome {
	var b bytes.Buffer
	if _, err := content.WriteTo(&b); err != nil {
		panic(err)
	}
	s := seen{at: time.Now(), dest: dest, id: facts.ID, sender: env.Sender.String(), args: env.Sender.Args, content: b.String()}
	for _, r := range env.Recipients {
		s.rcpts = append(s.rcpts, r.String())
	}
	n.mu.Lock()
	n.seen = append(n.seen, s)
	a := n.answers[dest]
	n.mu.Unlock()
	if a == nil {
		a = accept
	}
	return a(ctx, s)
}

func (n *nextHop) set(dest string, a answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[dest] = a
}

// forbid takes a destination's route away, or gives it back.
func (n *nextHop) forbid(dest string, gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noRoute[dest] = gone
}

// attempts returns what reached dest.
func (n *nextHop) attempts(dest string) []seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []seen
	for _, s := range n.seen {
		if s.dest == dest {
			out = append(out, s)
		}
	}
	return out
}

// all gives every recipient the same outcome.
func all(s seen, status mail.Status, code int, detail, text, remote string) []mail.Outcome {
	out := make([]mail.Outcome, len(s.rcpts))
	for i, r := range s.rcpts {
		a, err := mail.ParseAddress(r, true)
		if err != nil {
			panic(err)
		}
		out[i] = mail.Outcome{Recipient: a, Status: status, Reply: mail.Reply{Code: code, Detail: detail, Text: text}, Remote: remote, TLS: "TLSv1.3"}
	}
	return out
}

func remote(dest string) string { return "mx." + dest + "[192.0.2.1]:25" }

func accept(_ context.Context, s seen) []mail.Outcome {
	return all(s, mail.Delivered, 250, "0.0", "ok", remote(s.dest))
}

func deferAll(_ context.Context, s seen) []mail.Outcome {
	return all(s, mail.Deferred, 452, "2.2", "mailbox full", remote(s.dest))
}

func refuse(_ context.Context, s seen) []mail.Outcome {
	return all(s, mail.Failed, 550, "1.1", "user unknown", remote(s.dest))
}

func dead(_ context.Context, s seen) []mail.Outcome {
	return all(s, mail.Deferred, 451, "4.1", "connection refused", "")
}

// each asks one function per recipient.
func each(one func(rcpt string) answer) answer {
	return func(ctx context.Context, s seen) []mail.Outcome {
		var out []mail.Outcome
		for _, r := range s.rcpts {
			single := s
			single.rcpts = []string{r}
			out = append(out, one(r)(ctx, single)...)
		}
		return out
	}
}

// tally is Stats.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) Attempt(dest, result string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[dest+" "+result]++
}

func (c *tally) Notification(kind, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[kind+" "+result]++
}

func (c *tally) get(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[key]
}

// rig is a queue with a real spool.
type rig struct {
	t      testing.TB
	dir    string
	cfg    Config
	next   *nextHop
	tally  *tally
	fail   func(step string) error
	now    func() time.Time
	forged func(context.Context, *spool.Entry) string
	quiet  bool // nothing is kept of log and attempts

	spool *spool.Spool
	queue *Queue
	log   lockedBuffer
	stop  func() // ends Run and waits for it
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns what was logged under msg, optionally for one message.
func (l *lockedBuffer) lines(t testing.TB, msg, id string) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	d := json.NewDecoder(bytes.NewReader(l.b.Bytes()))
	for {
		var line map[string]any
		if err := d.Decode(&line); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if line["msg"] == msg && (id == "" || line["id"] == id) {
			out = append(out, line)
		}
	}
}

// newRig opens a spool and makes a queue that does not run yet.
func newRig(t testing.TB) *rig {
	r := &rig{t: t, dir: t.TempDir(), cfg: DefaultConfig(), next: newNextHop(), tally: &tally{counts: make(map[string]int)}}
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *rig) open() {
	r.t.Helper()
	sp, err := spool.Open(spool.Options{Dir: r.dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.spool = sp
	r.remake()
}

// remake makes the queue again, as another process would.
func (r *rig) remake() {
	r.t.Helper()
	q, err := New(r.cfg, Deps{
		Spool: r.spool, Deliverer: r.next, Stats: r.tally, Hostname: "mx1.example.com",
		Log: r.logger(), Now: func() time.Time { return r.clock() }, Forged: r.forged,
		Failpoint: func(step string) error {
			if r.fail == nil {
				return nil
			}
			return r.fail(step)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.queue = q
}

func (r *rig) logger() *slog.Logger {
	if r.quiet {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(&r.log, nil))
}

func (r *rig) clock() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

// run starts the queue.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	q := r.queue
	go func() { done <- q.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
}

// start is run with a changed configuration.
func (r *rig) start(change func(*Config)) {
	if change != nil {
		change(&r.cfg)
	}
	r.remake()
	r.run()
}

// restart is the next process on the same spool.
func (r *rig) restart() {
	r.close()
	r.open()
	r.run()
}

func (r *rig) close() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	if err := r.spool.Close(); err != nil {
		r.t.Error(err)
	}
}

// entry is a message that was just received.
func (r *rig) entry(sender string, rcpts ...string) spool.Entry {
	r.t.Helper()
	e := spool.Entry{
		ID: mail.NewID(time.Now()), Received: r.clock(), Origin: spool.FromSMTP, State: spool.Queue,
		Header: []byte("Subject: test\r\nMessage-ID: <1@sender.example>\r\n"), Subject: "test",
	}
	if sender != "" {
		e.Envelope.Sender = path(r.t, sender)
	}
	for _, a := range rcpts {
		address, args, _ := strings.Cut(a, " ")
		e.Envelope.Recipients = append(e.Envelope.Recipients, path(r.t, address, strings.Fields(args)...))
	}
	e.Group = e.ID
	return e
}

const body = "Hello.\r\n"

// commit puts messages into the spool without telling the queue.
func (r *rig) commit(entries ...spool.Entry) (ids []string) {
	r.t.Helper()
	for _, e := range entries {
		d := r.spool.Draft(e.ID)
		if _, err := io.WriteString(d, body); err != nil {
			r.t.Fatal(err)
		}
		if err := r.spool.Commit(context.Background(), d, e); err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// send commits a message and tells the queue.
func (r *rig) send(sender string, rcpts ...string) string {
	r.t.Helper()
	id := r.commit(r.entry(sender, rcpts...))[0]
	r.queue.Accepted(id)
	return id
}

// left returns the IDs in the spool.
func (r *rig) left() []string {
	var ids []string
	for m := range r.spool.All() {
		ids = append(ids, m.ID)
	}
	return ids
}

func (r *rig) wantEmpty() {
	r.t.Helper()
	if ids := r.left(); len(ids) > 0 {
		r.t.Errorf("left in the spool: %v", ids)
	}
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	timers := 0 // but for pauses
	for _, tm := range r.queue.timers {
		if tm.item != nil {
			timers++
		}
	}
	if len(r.queue.items) > 0 || r.queue.loaded != 0 || timers > 0 {
		r.t.Errorf("left in memory: %d items, %d loaded, %d timers", len(r.queue.items), r.queue.loaded, timers)
	}
}

// message returns a message that must be there.
func (r *rig) message(id string) *spool.Message {
	r.t.Helper()
	m, err := r.spool.Get(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// bounces returns the notifications that reached alice@sender.example's side.
func (r *rig) bounces() []parsed {
	r.t.Helper()
	var out []parsed
	for _, s := range r.next.attempts("sender.example") {
		if s.sender != "" {
			r.t.Errorf("a bounce from %q", s.sender)
		}
		out = append(out, parse(r.t, []byte(s.content)))
	}
	return out
}

// statuses is Final-Recipient=Action for each recipient, sorted.
func (p parsed) statuses() string {
	var out []string
	for _, h := range p.recipients {
		out = append(out, fmt.Sprintf("%s=%s", strings.TrimPrefix(h.Get("Final-Recipient"), "rfc822; "), h.Get("Action")))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
