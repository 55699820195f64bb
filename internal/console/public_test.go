package console

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a service and stops it at the end of the test.
func run(t *testing.T, service func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func startPublic(t *testing.T, ready func() error) *Public {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "gatepost_up 1\n") })
	p, err := NewPublic(Config{Address: "127.0.0.1:0"}, Deps{Ready: ready, Metrics: metrics, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	run(t, p.Run)
	return p
}

func TestPublic(t *testing.T) {
	var down atomic.Bool
	p := startPublic(t, func() error {
		if down.Load() {
			return errors.New("draining")
		}
		return nil
	})
	tests := []struct {
		method, path string
		down         bool
		code         int
		body         string
	}{
		{"GET", "/healthz", false, 200, "ok\n"},
		{"GET", "/healthz", true, 200, "ok\n"},
		{"GET", "/readyz", false, 200, "ok\n"},
		{"GET", "/readyz", true, 503, "draining\n"},
		{"GET", "/metrics", true, 200, "gatepost_up 1\n"},
		{"POST", "/healthz", false, 405, ""},
		{"GET", "/", false, 404, ""},
		{"GET", "/debug/pprof/", false, 404, ""},
		{"GET", "/v1/queue", false, 404, ""},
	}
	for _, tt := range tests {
		down.Store(tt.down)
		req, _ := http.NewRequest(tt.method, "http://"+p.Addr().String()+tt.path, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.code || tt.body != "" && string(body) != tt.body {
			t.Errorf("%s %s (down %v) = %d %q, want %d %q", tt.method, tt.path, tt.down, resp.StatusCode, body, tt.code, tt.body)
		}
	}
}

// TestPublicLimits keeps a peer from holding more than it should.
func TestPublicLimits(t *testing.T) {
	p := startPublic(t, func() error { return nil })
	t.Run("header too large", func(t *testing.T) {
		c := dial(t, p)
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		if !strings.Contains(line, "431") {
			t.Errorf("answer = %q, want 431", line)
		}
	})
	t.Run("too many connections", func(t *testing.T) {
		for range maxConnections {
			dial(t, p)
		}
		c := dial(t, p)
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.0\r\n\r\n")
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("answer above the limit = %q, want none", b)
		}
	})
}

func dial(t *testing.T, p *Public) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestNewPublicAddress(t *testing.T) {
	if _, err := NewPublic(Config{Address: "127.0.0.1"}, Deps{Log: quiet()}); err == nil {
		t.Error("NewPublic without a port: no error")
	}
}

// W9: who gets the metrics.
func TestMetricsAccess(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x 1\n") })
	for _, tt := range []struct {
		access Metrics
		peer   string
		want   int
	}{
		{"", "192.0.2.1:4000", 200}, {MetricsOpen, "192.0.2.1:4000", 200},
		{MetricsLoopback, "192.0.2.1:4000", 404}, {MetricsLoopback, "127.0.0.1:4000", 200}, {MetricsLoopback, "[::1]:4000", 200}, {MetricsLoopback, "[::ffff:127.0.0.1]:4000", 200}, {MetricsLoopback, "@", 404},
		{MetricsOff, "127.0.0.1:4000", 404},
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = tt.peer
		r.Header.Set("X-Forwarded-For", "127.0.0.1") // anybody can say so
		w := httptest.NewRecorder()
		tt.access.guard(h).ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%q from %s: %d, want %d", tt.access, tt.peer, w.Code, tt.want)
		}
	}
	if err := Metrics("x").Validate(); err == nil {
		t.Error("x is a word")
	}
}
