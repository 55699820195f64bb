package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"gatepost/internal/users"
)

// W4: who guesses is locked out, whoever he says that he is, and with the right
// password, too.
func TestGuessing(t *testing.T) {
	cfg := users.DefaultThrottleConfig()
	cfg.ClientFailures = 3
	s, err := New(Config{}, Deps{
		API: api(), Log: slog.New(slog.DiscardHandler), Accounts: accounts{"alice": {Role: "admin"}},
		Throttle: users.NewThrottle(cfg, nil, slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(from, name, password string) (code int, body string, in bool) {
		form := url.Values{"name": {name}, "password": {password}}
		r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-For", "192.0.2.77") // which anybody can say
		r.RemoteAddr = from + ":4000"
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String(), w.Header().Get("Set-Cookie") != ""
	}
	for _, name := range []string{"alice", "eve", "bob"} {
		if code, body, in := try("192.0.2.1", name, "guess"); code != http.StatusForbidden || in || !strings.Contains(body, "name or the password is wrong") {
			t.Errorf("%s: %d %v", name, code, in)
		}
	}
	if code, body, in := try("192.0.2.1", "alice", "secret"); code != http.StatusForbidden || in || !strings.Contains(body, "Too many failed logins") {
		t.Errorf("after three: %d %v", code, in)
	}
	if code, _, in := try("192.0.2.2", "alice", "secret"); code != http.StatusSeeOther || !in {
		t.Errorf("from elsewhere: %d %v", code, in)
	}
}
