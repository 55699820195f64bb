package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// filled is a history of n messages of the last ten days.
func filled(b *testing.B, n int) *history.Store {
	b.Helper()
	cfg := history.DefaultConfig()
	cfg.Path = filepath.Join(b.TempDir(), "history.db")
	s, err := history.Open(cfg, history.Options{Line: 2 << 30})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-ended })
	step := 240 * time.Hour / time.Duration(n)
	begin := time.Now().Add(-240 * time.Hour)
	actions := []string{"accept", "accept", "accept", "reject", "quarantine", "tempfail"}
	for i := range n {
		at := begin.Add(step * time.Duration(i))
		s.Decision(history.Record{
			ID: mail.NewID(at), Time: at, Stage: "message", Action: actions[i%len(actions)], Reason: "spam", Score: 3.5, Size: 20_000,
			Session: history.Session{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8 % 4), byte(i)}), 25), Name: "mail.example.org", Helo: "mail.example.org"},
			Sender:  history.Path{Address: fmt.Sprintf("sender%d@host%d.example.org", i%5000, i%100)}, Subject: fmt.Sprintf("invoice number %d", i),
			Recipients: []history.Recipient{{Path: history.Path{Address: fmt.Sprintf("rcpt%d@example%d.com", i%500, i%3)}, Action: actions[i%len(actions)]}},
			From:       "author@example.net", MessageID: fmt.Sprintf("<mid.%d@example.org>", i), Header: []byte("Subject: x\r\n" + strings.Repeat("X-Header: value of it\r\n", 60)),
			Findings: []history.Finding{{Filter: "spamassassin", Name: "spam-rule", Value: "HTML_MESSAGE", Score: .5}},
			Asked:    []history.Asked{{Filter: "clamav", Stage: "message", Result: "ok", Took: 3 * time.Millisecond}},
			Rules:    []history.Rule{{Rule: fmt.Sprintf("rule-%d", i%40), Where: "rules.toml:1", Did: "score 1"}},
		})
	}
	deadline := time.After(10 * time.Minute)
	for {
		p, err := s.Search(ctx, history.Query{MessageID: fmt.Sprintf("<mid.%d@example.org>", n-1)})
		if err == nil && len(p.Records) > 0 {
			return s
		}
		select {
		case <-deadline:
			b.Fatal("the history is not written")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// BenchmarkPages is how long each page takes with 100,000 messages in the history.
func BenchmarkPages(b *testing.B) {
	h := filled(b, 100_000)
	last, err := h.Search(b.Context(), history.Query{Descending: true, Limit: 1})
	if err != nil || len(last.Records) == 0 {
		b.Fatal(err)
	}
	api := console.NewControl("", console.ControlDeps{
		Log: slog.New(slog.DiscardHandler), History: h, Queue: fewMessages(), Status: func() console.Status { return console.Status{} },
		Health: func() console.Health { return console.Health{} },
	}).Handler()
	all := accounts{"alice": {Role: "admin"}, "hal": {Role: "helpdesk", Domains: []string{"example1.com"}}, "kim": {Role: "helpdesk", Domains: []string{"example1.com", "none.example"}}}
	s, err := New(Config{}, Deps{API: api, Log: slog.New(slog.DiscardHandler), Accounts: all})
	if err != nil {
		b.Fatal(err)
	}
	for _, page := range []struct{ who, path string }{
		{"alice", "/"}, {"alice", "/?range=7d"}, {"alice", "/?range=30d"}, {"alice", "/tracking"}, {"alice", "/tracking?q=sender7@host7.example.org"},
		{"alice", "/tracking?q=invoice"}, {"alice", "/tracking?q=is:refused+since:2h"}, {"alice", "/message/" + last.Records[0].ID}, {"alice", "/reports"}, {"alice", "/queue"},
		{"hal", "/"}, {"hal", "/tracking"}, {"hal", "/tracking?q=invoice"}, {"kim", "/tracking"}, {"kim", "/tracking?q=sender7@host7.example.org"},
	} {
		b.Run(page.who+page.path, func(b *testing.B) {
			key := s.sessions.begin(console.Identity{Name: page.who, Role: console.Role(all[page.who].Role), Domains: all[page.who].Domains}, users.Account(all[page.who]))
			size := 0
			for b.Loop() {
				s.sessions.all[key].left = burst
				r := httptest.NewRequest(http.MethodGet, page.path, nil)
				r.AddCookie(&http.Cookie{Name: s.cookieName(), Value: key})
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
				size = w.Body.Len()
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
