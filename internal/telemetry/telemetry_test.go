package telemetry

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// fake is a collector: it reads what OTLP over HTTP sends.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	spans  []*tracepb.Span
	raw    []byte
	bad    string
}

func newFake(t *testing.T) *fake {
	f := &fake{status: http.StatusOK}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			f.bad = err.Error()
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var req collector.ExportTraceServiceRequest
	switch {
	case f.status != http.StatusOK:
		w.WriteHeader(f.status)
		return
	case r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf":
		f.bad = r.URL.Path + " " + r.Header.Get("Content-Type")
	case err != nil:
		f.bad = err.Error()
	case proto.Unmarshal(b, &req) != nil:
		f.bad = "no protobuf"
	}
	f.raw = append(f.raw, b...)
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			f.spans = append(f.spans, ss.GetSpans()...)
		}
	}
	answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func (f *fake) got() []*tracepb.Span {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*tracepb.Span(nil), f.spans...)
}

type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) Spans(result string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[result] += n
}

func (c *tally) of(result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[result]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running is traces that run; end waits until all is sent.
func running(t *testing.T, cfg Config, stats *tally) (traces *Traces, end func()) {
	t.Helper()
	traces, err := New(cfg, Deps{Hostname: "mx1.example.com", Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Stats: stats})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- traces.Run(ctx) }()
	eventually(t, "Run", func() bool { return traces.tracer.Load() != nil })
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	return traces, end
}

func sample(id string, at time.Time) history.Record {
	return history.Record{
		ID: id, Time: at, Took: time.Second, Stage: "message", Action: "accept", Sender: history.Path{Address: "secret@sender.test"},
		Subject: "secret subject", Recipients: []history.Recipient{{Path: history.Path{Address: "secret@example.com"}}}, Reply: "250 secret",
		Session: history.Session{Listener: "mx", Via: "smtp"},
		Asked: []history.Asked{
			{Filter: "clamav", Stage: "message", Result: "ok", Start: 100 * time.Millisecond, Took: 300 * time.Millisecond},
			{Filter: "spamassassin", Stage: "message", Result: "timeout", Start: 200 * time.Millisecond, Took: 700 * time.Millisecond},
		},
	}
}

func TestTraces(t *testing.T) {
	f, stats := newFake(t), &tally{n: make(map[string]int)}
	traces, end := running(t, Config{OTLP: f.URL, Sample: 1}, stats)
	at := time.Now()
	traces.Decision(sample("abc", at))
	again := sample("abc", at.Add(time.Minute))
	again.Again, again.Asked = true, nil
	traces.Decision(again)
	traces.Event(mail.Event{ID: "abc2", Group: "abc", What: mail.EventAttempt, Status: mail.Deferred, Remote: "mail.example.com:25", Time: at.Add(2 * time.Second), Took: time.Second, Text: "451 secret"})
	traces.Event(mail.Event{ID: "abc", What: mail.EventQueued, Time: at})
	end()

	spans := f.got()
	byName := make(map[string]*tracepb.Span)
	for _, s := range spans {
		byName[s.GetName()] = s
	}
	root := byName["transaction"]
	if f.bad != "" || len(spans) != 5 || len(byName) != 5 || root == nil {
		t.Fatalf("bad %q, %d spans: %v", f.bad, len(spans), spans)
	}
	if len(root.GetParentSpanId()) != 0 || root.GetEndTimeUnixNano()-root.GetStartTimeUnixNano() != uint64(time.Second) {
		t.Errorf("root: %v", root)
	}
	for name, took := range map[string]time.Duration{"filter clamav": 300 * time.Millisecond, "filter spamassassin": 700 * time.Millisecond, "delivery": time.Second, "judged again": time.Second} {
		s := byName[name]
		if s == nil || string(s.GetTraceId()) != string(root.GetTraceId()) || string(s.GetParentSpanId()) != string(root.GetSpanId()) {
			t.Errorf("%s is not below the transaction: %v", name, s)
			continue
		}
		if got := time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()); got != took {
			t.Errorf("%s took %v, want %v", name, got, took)
		}
		failed := s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR
		if want := name == "filter spamassassin" || name == "delivery"; failed != want {
			t.Errorf("%s failed: %v, want %v", name, failed, want)
		}
	}
	if strings.Contains(string(f.raw), "secret") {
		t.Error("a span tells what is nobody's business")
	}
	if n := stats.of("sent"); n != 5 {
		t.Errorf("%d counted as sent, want 5", n)
	}
}

// A transaction has all of its spans or none, whoever makes them.
func TestSample(t *testing.T) {
	f := newFake(t)
	traces, end := running(t, Config{OTLP: f.URL, Sample: .5}, &tally{n: make(map[string]int)})
	at := time.Now()
	for i := range 200 {
		id := strings.Repeat("x", i+1)
		traces.Decision(sample(id, at))
		traces.Event(mail.Event{ID: id, What: mail.EventAttempt, Time: at, Status: mail.Delivered})
	}
	end()
	of := make(map[string]int)
	for _, s := range f.got() {
		of[string(s.GetTraceId())]++
	}
	if len(of) < 50 || len(of) > 150 {
		t.Errorf("%d traces of 200, want about half", len(of))
	}
	for id, n := range of {
		if n != 4 {
			t.Errorf("trace %x has %d spans, want 4", id, n)
		}
	}
}

// A collector that is away costs spans, and nobody waits for it.
func TestCollectorAway(t *testing.T) {
	f, stats := newFake(t), &tally{n: make(map[string]int)}
	f.status = http.StatusBadRequest // what is not tried again
	traces, end := running(t, Config{OTLP: f.URL, Sample: 1}, stats)
	for range 5 * mostWaiting {
		traces.Event(mail.Event{ID: "a", What: mail.EventAttempt, Time: time.Now()})
	}
	eventually(t, "failures are counted", func() bool { return stats.of("failed") > 0 })
	end()
	traces.Decision(sample("late", time.Now())) // and none of them panics
	if stats.of("sent") != 0 || len(f.got()) != 0 {
		t.Error("something was sent")
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"off", DefaultConfig(), true},
		{"a collector", Config{"http://127.0.0.1:4318", 1}, true},
		{"below a path", Config{"https://otlp.example.com/in", .01}, true},
		{"no scheme", Config{"127.0.0.1:4318", 1}, false},
		{"gRPC", Config{"grpc://127.0.0.1:4317", 1}, false},
		{"a password", Config{"http://u:p@127.0.0.1:4318", 1}, false},
		{"nothing sampled", Config{"", 0}, false},
		{"more than all", Config{"", 1.5}, false},
	} {
		if err := tt.cfg.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
