package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/console/audit"
	"gatepost/internal/history"
	"gatepost/internal/users"
)

// hours is a history of figures only.
type hours struct{ history.Finder }

func (hours) Report(_ context.Context, since, _ time.Time, _ int) (history.Report, error) {
	return history.Report{Hours: []history.Bucket{
		{Hour: since, Stage: "message", Action: "accept", Count: 70}, {Hour: since.Add(time.Hour), Stage: "rcpt", Action: "reject", Count: 30},
		{Hour: since.Add(time.Hour), Stage: "message", Action: "quarantine", Count: 5},
	}}, nil
}

const evil = `<script>alert(1)</script>"><img src=x onerror=alert(1)>`

// whole is a console over a gateway with something of everything, whose names are
// a stranger's.
func whole(t *testing.T) (*Server, *browser, *audit.Log) {
	t.Helper()
	kept := audit.New(filepath.Join(t.TempDir(), "audit.jsonl"), slog.New(slog.DiscardHandler))
	ends := time.Now().Add(3 * 24 * time.Hour)
	api := console.NewControl("", console.ControlDeps{
		Log: slog.New(slog.DiscardHandler), Audit: kept, History: hours{}, Queue: fewMessages(),
		Reload: func(context.Context) error { return nil },
		Status: func() console.Status {
			return console.Status{Version: evil, Queue: map[string]int{"hold": 3}, Daemons: []console.Daemon{{Filter: "clamav", Version: evil, Late: true}}}
		},
		Health: func() console.Health {
			return console.Health{
				Over: 15 * time.Minute, Time: time.Now(),
				Filters:      []console.FilterHealth{{Name: "clamav", Stages: []string{"message"}, OnError: "tempfail", Timeout: time.Minute, Down: true, Results: map[string]int{"timeout": 3}, Latency: console.Latency{Count: 3, Mean: time.Second, Half: 3 * time.Second, Most: 10 * time.Second}}},
				NextHops:     []console.NextHopHealth{{Name: "exchange", State: "paused", Failures: 4, Reply: evil}},
				Lists:        []console.ListHealth{{Name: "zen", Down: true}},
				Certificates: []console.Certificate{{Name: "mx", Ends: ends}},
				Lanes:        []console.LaneHealth{{Lane: "retry", Messages: 7, Oldest: time.Now().Add(-5 * time.Hour)}},
			}
		},
		Settings: func() []console.Setting {
			return []console.Setting{{Key: "hostname", Value: `"mx1"`, File: "/etc/x.toml", Line: 1}, {Key: `policy.for."a.b@c".reject`, Value: "7"}, {Key: "queue.max_age", Value: evil}}
		},
		Users: func() []console.User { return []console.User{{Name: "alice", Role: "admin"}, {Name: evil}} },
	}).Handler()
	s, err := New(Config{}, Deps{API: api, Log: slog.New(slog.DiscardHandler), Audit: kept, Accounts: accounts{
		"alice": {Role: "admin"}, "bob": {Role: "viewer"}, "sue": {Role: "security"}, "hal": {Role: "helpdesk", Domains: []string{"example.com"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return s, newBrowser(t, srv.URL), kept
}

// Each page shows its facts to those who may, harmlessly.
func TestPages(t *testing.T) {
	_, b, kept := whole(t)
	if err := kept.Note(audit.Entry{Who: evil, What: "queue delete", IDs: []string{evil}, Detail: evil, Result: "done"}); err != nil {
		t.Fatal(err)
	}
	b.login("alice")
	tests := []struct {
		path  string
		wants []string
	}{
		{"/", []string{"The filter clamav does not answer: mail is put off until it is back.", "can&#39;t be reached", "certificate of mx ends in", "switched off", "waits in the lane retry since 5 h", "70 accepted", "30 refused", `class="k-bad"`, "live.js", "≤ 10 s"}},
		{"/?range=30d", []string{"the last 30d", `aria-current="true">30d`}},
		{"/?range=" + url.QueryEscape(evil), []string{`aria-current="true">24h`}},
		{"/filters", []string{"on_error = tempfail", "3 times in the last 15 min", "timeout 3", ">old<"}},
		{"/settings", []string{"Top level", "/etc/x.toml:1", "[policy.for.&#34;a.b@c&#34;]", "<code>reject</code>", "default"}},
		{"/settings?own=1", []string{"hostname", "2 keys are not shown"}},
		{"/settings?q=MAX_age", []string{"max_age", "2 keys are not shown"}},
		{"/audit", []string{"queue delete", "login"}},
		{"/audit?who=alice", []string{"login"}},
		{"/users", []string{"alice", "may not log in here"}},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			code, body, h := b.get(tt.path)
			if code != http.StatusOK || strings.Contains(body, "<script>alert") || strings.Contains(body, "<img") {
				t.Fatalf("%d, %s", code, body)
			}
			for _, want := range tt.wants {
				if !strings.Contains(body, want) {
					t.Errorf("lacks %q", want)
				}
			}
			if t.Failed() {
				t.Log(body)
			}
			if h.Get("Cache-Control") != "no-store" {
				t.Errorf("cached: %v", h)
			}
			if len(body) > 100<<10 {
				t.Errorf("%d bytes", len(body))
			}
		})
	}
	if code, _, _ := b.get("/audit?before=x"); code != http.StatusBadRequest {
		t.Errorf("a page that is none: %d", code)
	}
}

// W5: who may not, is not shown the page, nor a link to it.
func TestPagesByRole(t *testing.T) {
	shown := map[string]map[string]bool{
		"alice": {"/filters": true, "/settings": true, "/audit": true, "/users": true, "/queue": true, "/reports": true},
		"sue":   {"/filters": true, "/settings": true, "/queue": true, "/reports": true},
		"bob":   {"/filters": true, "/settings": true, "/queue": true, "/reports": true},
		"hal":   {"/queue": true},
	}
	for name, may := range shown {
		t.Run(name, func(t *testing.T) {
			_, b, _ := whole(t)
			b.login(name)
			_, home, _ := b.get("/")
			for _, path := range []string{"/filters", "/settings", "/audit", "/users", "/queue", "/reports"} {
				code, _, _ := b.get(path)
				if (code == http.StatusOK) != may[path] || (code == http.StatusForbidden) == may[path] {
					t.Errorf("%s: %d", path, code)
				}
				if linked := strings.Contains(home, `<a href="`+path+`"`); linked != may[path] {
					t.Errorf("%s: in the navigation %v", path, linked)
				}
			}
			if name == "hal" && (strings.Contains(home, "exchange") || strings.Contains(home, "70 accepted")) {
				t.Error("a helpdesk sees what is of all domains")
			}
		})
	}
}

// A page without a history, and one without anything, says so.
func TestOverviewWithoutHistory(t *testing.T) {
	_, b := start(t, Config{})
	b.login("alice")
	if code, body, _ := b.get("/"); code != http.StatusOK || !strings.Contains(body, "Nothing is recorded") {
		t.Errorf("%d %s", code, body)
	}
}

func TestChart(t *testing.T) {
	now := time.Date(2026, 11, 21, 18, 30, 0, 0, time.FixedZone("", 5400)) // half an hour beside the hours of the history
	for _, s := range spans() {
		since := s.begin(now)
		last := since.Add(s.width * time.Duration(s.bins-1))
		if last.After(now) || !last.Add(s.width).After(now) {
			t.Errorf("%s: the last bin begins at %v", s.name, last)
		}
		c := newChart([]history.Bucket{
			{Hour: since.Add(-time.Hour), Action: "accept", Count: 99}, {Hour: now.Add(48 * time.Hour), Action: "accept", Count: 99},
			{Hour: since, Action: "accept", Count: 3}, {Hour: since, Action: "reject", Count: 1}, {Hour: last, Action: "strange", Count: 17},
		}, s, since, now)
		if c.Top != 20 || c.Kinds[0].Total != 3 || c.Kinds[4].Total != 17 || len(c.Bars[0].Pieces) != 2 || len(c.Bars[s.bins-1].Pieces) != 1 {
			t.Errorf("%s: %+v", s.name, c)
		}
		if p := c.Bars[0].Pieces; p[0].Y+p[0].Height != 1000 || p[1].Y+p[1].Height != p[0].Y {
			t.Errorf("%s: pieces %+v", s.name, p)
		}
	}
	if c := newChart(nil, spans()[0], now.Add(-24*time.Hour), now); c.Top != 1 || c.Words != "No mail in the last 24h" {
		t.Errorf("%+v", c)
	}
	for n, want := range map[int]int{0: 1, 1: 1, 3: 5, 5: 5, 6: 10, 21: 50, 101: 200} {
		if got := roundUp(n); got != want {
			t.Errorf("roundUp(%d) = %d", n, got)
		}
	}
}

// W4: what an account is not any more, its sessions are not either.
func TestAccountThatChanges(t *testing.T) {
	for name, change := range map[string]users.Account{
		"gone": {}, "another role": {Role: "viewer"}, "other domains": {Role: "admin", Domains: []string{"x.example"}}, "another password": {Role: "admin", Stamp: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := start(t, Config{})
			b.login("alice")
			if code, _, _ := b.get("/"); code != http.StatusOK {
				t.Fatal(code)
			}
			s.deps.Accounts.(accounts)["alice"] = change
			if code, _, _ := b.get("/"); code != http.StatusSeeOther {
				t.Errorf("%d", code)
			}
			if len(s.sessions.all) != 0 {
				t.Error("the session stays")
			}
		})
	}
}

// W4: a page that is left open and refreshes itself does not keep anybody logged
// in.
func TestRefreshIsNoUse(t *testing.T) {
	s, b := start(t, Config{})
	now := time.Now()
	s.sessions.now = func() time.Time { return now }
	b.login("alice")
	refresh := func() int {
		req, err := http.NewRequest(http.MethodGet, b.base+"/", nil)
		if err == nil {
			req.Header.Set("X-Refresh", "1")
		}
		code, _, _ := b.do(req, err)
		return code
	}
	for range 3 {
		now = now.Add(9 * time.Minute)
		if code := refresh(); code != http.StatusOK {
			t.Fatal(code)
		}
	}
	now = now.Add(9 * time.Minute)
	if code := refresh(); code != http.StatusSeeOther {
		t.Errorf("after %v: %d", 36*time.Minute, code)
	}
}

// W9: one session can't ask without end.
func TestRate(t *testing.T) {
	s, b := start(t, Config{})
	now := time.Now()
	s.sessions.now = func() time.Time { return now }
	b.login("bob")
	refused := 0
	for range burst + 10 {
		if code, _, h := b.get("/api/v1/status"); code == http.StatusTooManyRequests {
			refused++
			if h.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	}
	if refused != 10 {
		t.Errorf("%d refused", refused)
	}
	now = now.Add(time.Second)
	if code, _, _ := b.get("/api/v1/status"); code != http.StatusOK {
		t.Errorf("later: %d", code)
	}
	if code, _, _ := b.get("/login"); code != http.StatusOK {
		t.Errorf("the login: %d", code)
	}
}

// W3: what can't be taken back is done on the second page only.
func TestConfirm(t *testing.T) {
	_, b, kept := whole(t)
	b.login("alice")
	token := b.token()
	code, _, h := b.post("/queue/act", url.Values{"token": {token}, "id": {idOf(1), idOf(2)}, "action": {"delete"}, "back": {"/queue?lane=hold"}})
	at := h.Get("Location")
	if code != http.StatusSeeOther || !strings.HasPrefix(at, "/queue/confirm?") {
		t.Fatalf("%d to %s", code, at)
	}
	code, body, _ := b.get(at)
	if code != http.StatusOK || !strings.Contains(body, idOf(1)) || strings.Contains(body, "<img") || !strings.Contains(body, "nobody is told") {
		t.Errorf("%d %s", code, body)
	}
	if all, _ := audit.Read(kept.Path(), audit.Query{What: "delete"}); len(all) != 0 {
		t.Errorf("done already: %+v", all)
	}
	form := url.Values{"token": {token}, "id": {idOf(1), idOf(2)}, "action": {"delete"}, "sure": {"yes"}, "back": {"/queue?lane=hold"}}
	if code, _, h := b.post("/queue/act", form); code != http.StatusSeeOther || h.Get("Location") != "/queue?lane=hold" {
		t.Errorf("%d %v", code, h)
	}
	if _, body, _ := b.get("/queue"); !strings.Contains(body, "delete: 2 of 2 done.") {
		t.Error(body)
	}
	if code, _, h := b.post("/queue/act", url.Values{"token": {token}, "id": {idOf(0)}, "action": {"retry"}}); code != http.StatusSeeOther || strings.Contains(h.Get("Location"), "confirm") {
		t.Errorf("retry: %d %s", code, h.Get("Location"))
	}
	for _, path := range []string{"/queue/confirm?action=release&id=" + idOf(1), "/queue/confirm?action=" + url.QueryEscape(evil)} {
		if code, _, _ := b.get(path); code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, code)
		}
	}
	hal := newBrowser(t, b.base)
	hal.login("hal")
	if code, _, _ := hal.get(at); code != http.StatusForbidden {
		t.Errorf("a helpdesk: %d", code)
	}
	if code, _, _ := hal.post("/queue/act", url.Values{"token": {hal.token()}, "id": {idOf(1)}, "action": {"delete"}, "sure": {"yes"}}); code != http.StatusForbidden {
		t.Errorf("a helpdesk acts: %d", code)
	}
}

// Who comes and goes is kept, who fails to come is not: strangers can't fill it.
func TestLoginIsKept(t *testing.T) {
	_, b, kept := whole(t)
	_, _, _ = b.post("/login", url.Values{"name": {"alice"}, "password": {"wrong"}})
	b.login("alice")
	_, _, _ = b.post("/logout", url.Values{"token": {b.token()}})
	all, err := audit.Read(kept.Path(), audit.Query{})
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprint(e.Who, " ", e.What, " ", e.From))
	}
	if want := "alice logout 127.0.0.1, alice login 127.0.0.1"; err != nil || strings.Join(got, ", ") != want {
		t.Errorf("%q, %v", got, err)
	}
}

// W9: a stranger can't make us read much.
func TestStrangersBody(t *testing.T) {
	s, b := start(t, Config{})
	form := url.Values{"name": {"alice"}, "password": {"secret"}, "x": {strings.Repeat("x", maxStranger)}}
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form.Encode())) // a connection might be cut before the answer is read
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, r); w.Code == http.StatusSeeOther || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("%d", w.Code)
	}
	b.login("alice")
	form = url.Values{"token": {b.token()}, "x": {strings.Repeat("x", 10*maxStranger)}, "action": {"none"}, "id": {"x"}}
	if code, body, _ := b.post("/queue/act", form); code != http.StatusBadRequest || !strings.Contains(body, "That is no action") {
		t.Errorf("%d", code)
	}
}
