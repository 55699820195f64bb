package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/history"
)

// book is a console.RuleBook whose texts are a stranger's.
type book struct {
	console.RuleBook
	asked []string
}

func (b *book) ApplyRules(_ context.Context, who string, c console.RuleChange) (console.RuleChanged, error) {
	b.asked = append(b.asked, "apply by "+who+": "+c.Reason)
	if c.Reason == "wrong" {
		return console.RuleChanged{}, errors.New("site.toml:3:1: " + evil)
	}
	if c.Force {
		return console.RuleChanged{}, nil
	}
	return console.RuleChanged{Number: 3, Changes: []string{"changed: " + evil}}, nil
}

func (b *book) RollBackRules(_ context.Context, who string, c console.RuleChange) (console.RuleChanged, error) {
	b.asked = append(b.asked, "back by "+who+": "+c.Reason)
	return console.RuleChanged{Number: c.Number + 2}, nil
}

func (b *book) RuleLog(int) (any, error) {
	return []map[string]any{
		{"time": time.Now(), "who": evil, "reason": evil, "number": 2, "changes": []string{evil}},
		{"time": time.Now(), "who": "alice", "reason": "first", "number": 1},
		{"time": time.Now(), "who": "alice", "reason": "no", "refused": evil},
	}, nil
}

func (b *book) RuleGenerations() (any, error) {
	return []map[string]any{{"number": 1, "rules": []string{"a.toml"}}, {"number": 2, "rules": []string{evil}, "reason": evil, "lists": []map[string]any{{"list": evil, "entries": 7}}}}, nil
}

func (b *book) Rehearse(_ context.Context, c console.Rehearsal) (any, error) {
	b.asked = append(b.asked, "rehearse "+time.Since(c.Since).Round(time.Hour).String())
	example := map[string]any{"id": idOf(1), "time": time.Now(), "from": evil, "to": evil, "subject": evil, "reason": evil}
	return map[string]any{"records": 40, "differing": 2, "notes": []string{evil}, "unknown": []map[string]any{{"what": evil, "records": 3}}, "groups": []map[string]any{
		{"rule": evil, "where": evil, "old": "accept", "new": "reject", "records": 1, "recipients": 2, "examples": []any{example}},
	}}, nil
}

func ruled(t *testing.T, deps console.ControlDeps) *browser {
	t.Helper()
	deps.Log, deps.Queue = slog.New(slog.DiscardHandler), fewMessages()
	s, err := New(Config{}, Deps{API: console.NewControl("", deps).Handler(), Log: deps.Log, Accounts: accounts{"alice": {Role: "admin"}, "sue": {Role: "security"}, "bob": {Role: "viewer"}, "hal": {Role: "helpdesk", Domains: []string{"example.com"}}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return newBrowser(t, srv.URL)
}

func TestRules(t *testing.T) {
	made := &book{}
	b := ruled(t, console.ControlDeps{RuleBook: made, RuleHits: func() []console.RuleHit {
		return []console.RuleHit{{Rule: "seldom", Count: 1, Where: "a.toml:1", Last: time.Now()}, {Rule: evil, Count: 5, Where: evil, Last: time.Now()}, {Rule: "never", Where: "a.toml:9"}}
	}})
	b.login("sue")
	code, body, _ := b.get("/rules")
	for _, want := range []string{"Generation <strong>2</strong>", "&lt;script&gt;", "1 that never matched", "Go back to 1", "refused", ": 7 entries"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d: no %q in %s", code, want, body)
		}
	}
	if strings.Contains(body, "<script>") || strings.Contains(body, "<img") || strings.Contains(body, "Go back to 2") || strings.Index(body, "seldom") < strings.Index(body, "&lt;img") {
		t.Errorf("rules: %s", body)
	}
	for _, tt := range []struct {
		path  string
		form  url.Values
		code  int
		says  string
		asked string
	}{
		{"/rules/apply", url.Values{"reason": {" why "}}, 303, "Generation 3 is in use. changed: &lt;script&gt;", "apply by sue: why"},
		{"/rules/apply", url.Values{"reason": {"why"}, "force": {"yes"}}, 303, "There was nothing to change.", "apply by sue: why"},
		{"/rules/apply", url.Values{"reason": {" "}}, 400, "Say why", ""},
		{"/rules/apply", url.Values{"reason": {"wrong"}}, 422, "site.toml:3:1: &lt;script&gt;", "apply by sue: wrong"},
		{"/rules/rollback", url.Values{"reason": {"why"}, "number": {"1"}}, 303, "Generation 3 is in use.", "back by sue: why"},
		{"/rules/rollback", url.Values{"reason": {"why"}, "number": {"x"}}, 400, "Say why", ""},
		{"/rules/rehearse/run", url.Values{"days": {"1 day"}}, 200, "<strong>2</strong> of 40 messages would end in another way", "rehearse 24h0m0s"},
		{"/rules/rehearse/run", url.Values{"days": {"forever"}}, 200, "&lt;script&gt;", "rehearse 168h0m0s"},
	} {
		made.asked = nil
		tt.form.Set("token", b.token())
		code, body, _ := b.post(tt.path, tt.form)
		if code == http.StatusSeeOther {
			_, body, _ = b.get("/rules")
		}
		if code != tt.code || !strings.Contains(body, tt.says) || strings.Contains(body, "<script>") || strings.Join(made.asked, "; ") != tt.asked {
			t.Errorf("%s %v: %d, asked %v, want %d, %q\n%s", tt.path, tt.form, code, made.asked, tt.code, tt.asked, body)
		}
	}
	made.asked = nil
	for who, want := range map[string]int{"bob": http.StatusOK, "hal": http.StatusForbidden} {
		b.login(who)
		code, body, _ := b.get("/rules")
		if code != want || strings.Contains(body, "/rules/apply") || strings.Contains(body, "/rules/rollback") {
			t.Errorf("%s: %d %s", who, code, body)
		}
		for _, path := range []string{"/rules/apply", "/rules/rollback", "/rules/rehearse/run"} {
			if code, _, _ := b.post(path, url.Values{"reason": {"mine"}, "number": {"1"}, "token": {b.token()}}); code != http.StatusForbidden {
				t.Errorf("%s, %s: %d", who, path, code)
			}
		}
	}
	if made.asked != nil {
		t.Errorf("somebody who may not asked %v", made.asked)
	}
	b.login("alice")
	if code, _, _ := b.post("/rules/rehearse/run", nil); code != http.StatusBadRequest {
		t.Errorf("without a token: %d", code)
	}
}

// Where nothing is known of rules, the page says so.
func TestNoRules(t *testing.T) {
	b := ruled(t, console.ControlDeps{})
	b.login("alice")
	if code, body, _ := b.get("/rules"); code != http.StatusOK || !strings.Contains(body, "Nothing has matched yet") {
		t.Errorf("%d %s", code, body)
	}
}

func TestTrial(t *testing.T) {
	var asked console.ScanRequest
	b := ruled(t, console.ControlDeps{Scan: func(_ context.Context, req console.ScanRequest) (history.Record, error) {
		asked = req
		if req.Sender == "bad" {
			return history.Record{}, console.ErrScan
		}
		return history.Record{Action: "reject", Stage: "message", Reason: evil, Subject: evil, Reply: "550 5.7.1 " + evil, Findings: []history.Finding{{Filter: "clamav", Name: "virus", Value: evil, Text: strings.Repeat("long ", 60)}}}, nil
	}})
	b.login("alice")
	form := func(more ...string) url.Values {
		f := url.Values{"token": {b.token()}, "client": {" 192.0.2.1 "}, "helo": {"h"}, "sender": {"a@b.example"}, "recipients": {"x@y.example, z@y.example\r\n"}, "message": {"Subject: x\r\n\r\n</textarea>" + evil}}
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f
	}
	code, body, _ := b.post("/test/judge", form())
	if code != http.StatusOK || !strings.Contains(body, "Refused, because: &lt;script&gt;") || !strings.Contains(body, `value="a@b.example"`) || !strings.Contains(body, "the whole text") {
		t.Errorf("%d %s", code, body)
	}
	if strings.Contains(body, "<script>") || strings.Contains(body, "<img") || strings.Count(body, "</textarea>") != 1 {
		t.Errorf("not escaped: %s", body)
	}
	if asked.Client != "192.0.2.1" || len(asked.Recipients) != 2 || asked.Recipients[1] != "z@y.example" || !strings.HasPrefix(string(asked.Message), "Subject: x\r\n") {
		t.Errorf("asked %+v", asked)
	}
	if code, body, _ := b.post("/test/judge", form("sender", "bad")); code != http.StatusBadRequest || !strings.Contains(body, "not to be judged") || !strings.Contains(body, "&lt;/textarea&gt;") {
		t.Errorf("bad: %d %s", code, body)
	}
	if code, _, _ := b.post("/test/judge", form("message", " ")); code != http.StatusBadRequest {
		t.Errorf("empty: %d", code)
	}
	if code, _, _ := b.post("/test/judge", form("token", "x")); code != http.StatusBadRequest {
		t.Errorf("without a token: %d", code)
	}
	b.login("hal")
	if code, _, _ := b.post("/test/judge", form()); code != http.StatusForbidden {
		t.Errorf("helpdesk: %d", code)
	}
}
