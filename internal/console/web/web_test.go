package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/internal/console"
	"gatepost/internal/users"
)

// accounts are users whose password is their name backwards.
type accounts map[string]users.Account

func (a accounts) Verify(_ context.Context, l users.Login) (string, bool, error) {
	_, ok := a[l.User]
	return l.User, ok && l.Password == "secret", nil
}
func (a accounts) Account(name string) users.Account { return a[name] }

// api answers every request with who asked.
func api() http.Handler {
	return console.NewControl("", console.ControlDeps{
		Status: func() console.Status { return console.Status{Version: "<script>alert(1)</script>"} },
		Log:    slog.New(slog.DiscardHandler),
	}).Handler()
}

// browser keeps cookies, and tells where it was sent.
type browser struct {
	*http.Client
	t    *testing.T
	base string
}

func start(t *testing.T, cfg Config) (*Server, *browser) {
	t.Helper()
	s, err := New(cfg, Deps{API: api(), Log: slog.New(slog.DiscardHandler), Accounts: accounts{
		"alice": {Role: "admin"}, "bob": {Role: "viewer"}, "printer": {},
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return s, newBrowser(t, srv.URL)
}

func newBrowser(t *testing.T, base string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, t, base}
}

func (b *browser) do(req *http.Request, err error) (int, string, http.Header) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func (b *browser) get(path string) (int, string, http.Header) {
	return b.do(http.NewRequest(http.MethodGet, b.base+path, nil))
}

func (b *browser) post(path string, form url.Values, headers ...string) (int, string, http.Header) {
	req, err := http.NewRequest(http.MethodPost, b.base+path, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return b.do(req, err)
}

func (b *browser) cookie() string {
	u, _ := url.Parse(b.base)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "gatepost" {
			return c.Value
		}
	}
	return ""
}

func (b *browser) login(name string) {
	b.t.Helper()
	if code, _, _ := b.post("/login", url.Values{"name": {name}, "password": {"secret"}}); code != http.StatusSeeOther {
		b.t.Fatalf("login of %s: %d", name, code)
	}
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

func (b *browser) token() string {
	b.t.Helper()
	_, body, _ := b.get("/")
	m := tokenField.FindStringSubmatch(body)
	if m == nil {
		b.t.Fatalf("no token in %s", body)
	}
	return m[1]
}

func TestLogin(t *testing.T) {
	_, b := start(t, Config{Hostname: "mx1.example.com"})
	if code, _, h := b.get("/queue?lane=hold"); code != http.StatusSeeOther || h.Get("Location") != "/login?to=%2Fqueue%3Flane%3Dhold" {
		t.Errorf("a stranger: %d, %s", code, h.Get("Location"))
	}
	for name, form := range map[string]url.Values{
		"wrong password": {"name": {"alice"}, "password": {"x"}},
		"nobody":         {"name": {"eve"}, "password": {"secret"}},
		"no role":        {"name": {"printer"}, "password": {"secret"}},
		"nothing":        {},
	} {
		if code, body, _ := b.post("/login", form); code != http.StatusForbidden || !strings.Contains(body, "The name or the password is wrong.") || b.cookie() != "" {
			t.Errorf("%s: %d, cookie %q", name, code, b.cookie())
		}
	}
	code, _, h := b.post("/login", url.Values{"name": {"alice"}, "password": {"secret"}, "to": {"/queue?lane=hold"}})
	if c := h.Get("Set-Cookie"); code != http.StatusSeeOther || h.Get("Location") != "/queue?lane=hold" || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") {
		t.Errorf("%d to %s, %s", code, h.Get("Location"), c)
	}
	if code, body, _ := b.get("/"); code != http.StatusOK || !strings.Contains(body, "alice") || strings.Contains(body, "<script>alert") {
		t.Errorf("%d: %s", code, body)
	}
	for to, want := range map[string]string{"//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/login": "/", "/queue": "/queue"} {
		if got := ownPath(to); got != want {
			t.Errorf("to %q leads to %q", to, got)
		}
	}
}

// A key that was there before the login is worth nothing after it, and none
// after the logout.
func TestFixation(t *testing.T) {
	_, b := start(t, Config{})
	b.login("alice")
	planted := b.cookie()
	b.login("alice")
	if b.cookie() == planted {
		t.Error("the key stayed")
	}
	other := newBrowser(t, b.base)
	u, _ := url.Parse(b.base)
	other.Jar.SetCookies(u, []*http.Cookie{{Name: "gatepost", Value: planted}})
	if code, _, _ := other.get("/"); code != http.StatusSeeOther {
		t.Errorf("the old key opens: %d", code)
	}
	mine := b.cookie()
	if code, _, _ := b.post("/logout", url.Values{"token": {b.token()}}); code != http.StatusSeeOther {
		t.Errorf("logout: %d", code)
	}
	other.Jar.SetCookies(u, []*http.Cookie{{Name: "gatepost", Value: mine}})
	if code, _, _ := other.get("/"); code != http.StatusSeeOther {
		t.Errorf("the key opens after the logout: %d", code)
	}
}

func TestExpiry(t *testing.T) {
	s, b := start(t, Config{})
	now := time.Now()
	s.sessions.now = func() time.Time { return now }
	b.login("alice")
	for range 30 {
		now = now.Add(29 * time.Minute)
		if code, _, _ := b.get("/"); code != http.StatusOK {
			break
		}
	}
	if code, _, _ := b.get("/"); code != http.StatusSeeOther {
		t.Error("a session has no end")
	}
	b.login("alice")
	now = now.Add(idle + time.Second)
	if code, _, _ := b.get("/"); code != http.StatusSeeOther {
		t.Error("an idle session stays")
	}
	for range 2 * maxSessions {
		s.sessions.begin(console.Identity{Name: "x", Role: console.Viewer}, users.Account{})
	}
	if n := len(s.sessions.all); n > maxSessions {
		t.Errorf("%d sessions", n)
	}
}

// What another site makes a browser send does nothing.
func TestCrossSite(t *testing.T) {
	_, b := start(t, Config{})
	b.login("alice")
	good := url.Values{"token": {b.token()}, "id": {"x"}, "action": {"delete"}}
	none := url.Values{"id": {"x"}, "action": {"delete"}}
	wrong := url.Values{"token": {"x"}, "id": {"x"}, "action": {"delete"}}
	for _, tt := range []struct {
		name    string
		form    url.Values
		headers []string
		refused bool
	}{
		{"from another site", good, []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"from another origin", good, []string{"Origin", "https://evil.example"}, true},
		{"without a token", none, nil, true},
		{"with another's token", wrong, nil, true},
	} {
		if code, _, _ := b.post("/queue/act", tt.form, tt.headers...); (code == http.StatusForbidden || code == http.StatusBadRequest) != tt.refused {
			t.Errorf("%s: %d", tt.name, code)
		}
	}
	if code, _, _ := b.get("/queue/act?action=delete&id=x&token=" + good.Get("token")); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
		t.Errorf("GET acts: %d", code)
	}
	if code, _, _ := b.post("/api/v1/queue/delete", nil); code != http.StatusForbidden {
		t.Errorf("the API without a token: %d", code)
	}
}

// The API serves who is logged in, as what he is.
func TestAPI(t *testing.T) {
	_, b := start(t, Config{})
	if code, body, _ := b.get("/api/v1/status"); code != http.StatusUnauthorized || !strings.Contains(body, "not logged in") {
		t.Errorf("a stranger: %d %s", code, body)
	}
	b.login("bob")
	if code, _, _ := b.get("/api/v1/status"); code != http.StatusOK {
		t.Errorf("viewer: %d", code)
	}
	if code, body, _ := b.post("/api/v1/reload", nil, "X-CSRF-Token", b.token()); code != http.StatusForbidden || !strings.Contains(body, "may not administer") {
		t.Errorf("viewer reloads: %d %s", code, body)
	}
}

func TestHeaders(t *testing.T) {
	_, b := start(t, Config{})
	for _, path := range []string{"/login", "/static/console.css", "/nothing"} {
		_, _, h := b.get(path)
		if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", path, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
	}
	s, err := New(Config{Secure: true}, Deps{API: api(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if s.cookieName() != "__Host-gatepost" {
		t.Error(s.cookieName())
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/login", nil))
	if !strings.Contains(w.Body.String(), "gatepost user add") || w.Header().Get("Strict-Transport-Security") == "" {
		t.Errorf("%d %s", w.Code, w.Body.String())
	}
}
