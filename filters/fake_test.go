package filters

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// checkFunc is a filter made of a function.
type checkFunc func(ctx context.Context, tx *mail.Transaction) (Report, error)

func (f checkFunc) Check(ctx context.Context, tx *mail.Transaction) (Report, error) {
	return f(ctx, tx)
}

// finds is a filter that answers after d with findings.
func finds(d time.Duration, findings ...mail.Finding) Filter {
	return checkFunc(func(ctx context.Context, _ *mail.Transaction) (Report, error) {
		select {
		case <-time.After(d):
			return Report{Findings: findings}, nil
		case <-ctx.Done():
			return Report{}, ctx.Err()
		}
	})
}

// fails is a filter that can't tell.
func fails(text string) Filter {
	return checkFunc(func(context.Context, *mail.Transaction) (Report, error) {
		return Report{}, fmt.Errorf("%s", text)
	})
}

// panics is a filter with a bug.
func panics() Filter {
	return checkFunc(func(context.Context, *mail.Transaction) (Report, error) {
		panic("index out of range")
	})
}

// edits is a filter that changes the message it sees.
func edits(change func(tx *mail.Transaction) []mail.Edit) Filter {
	return checkFunc(func(_ context.Context, tx *mail.Transaction) (Report, error) {
		return Report{Edits: change(tx)}, nil
	})
}

func virus(name string) mail.Finding { return mail.Finding{Name: mail.FindingVirus, Value: name} }
func score(n float64) mail.Finding   { return mail.Finding{Name: mail.FindingSpamScore, Score: n} }

// testPolicy rejects viruses, and scores from 10 on where no virus is found.
type testPolicy struct {
	decide func(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict // in place of the above

	mu    sync.Mutex
	asked []mail.Transaction
}

func (p *testPolicy) Decide(tx *mail.Transaction, rcpt *mail.Path) mail.Verdict {
	p.mu.Lock()
	p.asked = append(p.asked, *tx)
	p.mu.Unlock()
	if p.decide != nil {
		return p.decide(tx, rcpt)
	}
	if v := tx.Find(mail.FindingVirus); len(v) > 0 {
		return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "virus " + v[0].Value}}
	}
	if tx.Score() >= 10 {
		return mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Text: "spam"}}
	}
	return mail.Verdict{Action: mail.Accept}
}

// Settled is true once a virus was found: with a score alone a virus may still
// change the text.
func (p *testPolicy) Settled(_ *mail.Transaction, findings []mail.Finding) bool {
	return slices.ContainsFunc(findings, func(f mail.Finding) bool { return f.Name == mail.FindingVirus })
}

func (p *testPolicy) last() mail.Transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[len(p.asked)-1]
}

// counter is an Observer that remembers.
type counter struct {
	mu      sync.Mutex
	results []string // "name result"
	ups     []string // "name up"
}

func (c *counter) Filter(name, result string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results = append(c.results, name+" "+result)
}

func (c *counter) FilterUp(name string, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ups = append(c.ups, fmt.Sprintf("%s %t", name, up))
}

func (c *counter) count(s string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range append(slices.Clone(c.results), c.ups...) {
		if r == s {
			n++
		}
	}
	return n
}

// logLines collects what is logged.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bench is a multiplexer with its surroundings.
type bench struct {
	*Multiplexer
	policy *testPolicy
	count  *counter
	log    *logLines
}

func newBench(t *testing.T, cfg Config, policy *testPolicy, steps ...Step) *bench {
	t.Helper()
	if policy == nil {
		policy = &testPolicy{}
	}
	b := &bench{policy: policy, count: &counter{}, log: &logLines{}}
	m, err := New(cfg, steps, policy, b.count, slog.New(slog.NewTextHandler(b.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	b.Multiplexer = m
	return b
}

// message is a transaction at its end.
func message(header string, recipients ...string) *mail.Transaction {
	text := strings.ReplaceAll(header, "\n", "\r\n") + "\r\nbody\r\n"
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		panic(err)
	}
	tx := &mail.Transaction{ID: "T1", Stage: mail.StageMessage, Session: &mail.Session{Listener: "mx"}, Message: m}
	for _, r := range recipients {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, mail.Path{Address: mail.Address{Local: r, Domain: "example.com"}})
	}
	return tx
}

func (b *bench) message(t *testing.T, tx *mail.Transaction) mail.Verdict {
	t.Helper()
	return b.Handler().Message(t.Context(), tx)
}

func text(t *testing.T, m *mail.Message) string {
	t.Helper()
	b, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func names(findings []mail.Finding) string {
	var s []string
	for _, f := range findings {
		s = append(s, f.Filter+"/"+f.Name)
	}
	return strings.Join(s, " ")
}
