package web

import (
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gatepost/internal/console"
	"gatepost/internal/mail"
	"gatepost/proxy/spool"
)

// letters is a quarantine whose messages are these.
type letters struct {
	*messages
	texts map[string]string
}

func newLetters(texts ...string) *letters {
	l := &letters{&messages{}, make(map[string]string)}
	for i, text := range texts {
		l.texts[idOf(i)] = strings.ReplaceAll(text, "\n", "\r\n")
		l.all = append(l.all, console.Message{ID: idOf(i), Lane: console.Held, Kind: mail.HeldSpam, Subject: evil, Reason: evil, Sender: "a@example.org", Recipients: []console.Recipient{{Address: "bob@example.com"}, {Address: "eve@other.example"}}})
	}
	return l
}

func (l *letters) WriteContent(id string, w io.Writer) error {
	text, ok := l.texts[id]
	if !ok {
		return spool.ErrNotFound
	}
	_, err := io.WriteString(w, text)
	return err
}

// over is a console over a quarantine.
func over(t *testing.T, l *letters, held console.HeldQueue) *browser {
	t.Helper()
	api := console.NewControl("", console.ControlDeps{Log: slog.New(slog.DiscardHandler), Queue: l, Held: held, Status: func() console.Status { return console.Status{} }}).Handler()
	s, err := New(Config{}, Deps{API: api, Log: slog.New(slog.DiscardHandler), Accounts: accounts{
		"alice": {Role: "admin"}, "bob": {Role: "viewer"}, "hal": {Role: "helpdesk", Domains: []string{"example.com"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return newBrowser(t, srv.URL)
}

// What is left of a message's HTML has no way out: nothing runs, nothing is
// fetched, nothing leads anywhere.
func TestContentHTML(t *testing.T) {
	for _, tt := range []struct{ name, html, keeps string }{
		{"script", `<p>kept</p><script>alert(1)</script>`, "kept"},
		{"handlers", `<p onclick=alert(1) onmouseover="alert(2)">kept</p>`, "<p>kept</p>"},
		{"pictures", `kept<img src="http://canary.invalid/x"><img srcset="http://canary.invalid/y 2x"><picture><source srcset="http://canary.invalid/z"></picture>`, "kept"},
		{"links", `<a href="javascript:alert(1)">kept</a><a href="http://canary.invalid/" ping="http://canary.invalid/p">too</a>`, "kept"},
		{"area", `<map><area href="http://canary.invalid/"></map>kept`, "kept"},
		{"styles", `<style>@import "http://canary.invalid/";</style><p style="background:url(http://canary.invalid/)">kept</p><link rel=stylesheet href=http://canary.invalid/>`, "kept"},
		{"background", `<table background="http://canary.invalid/"><tr><td background=http://canary.invalid/>kept</td></tr></table>`, "kept"},
		{"forms", `<form action="http://canary.invalid/"><input name=p><button formaction=http://canary.invalid/>kept</button></form>`, "kept"},
		{"base and refresh", `<base href="http://canary.invalid/"><meta http-equiv=refresh content="0;url=http://canary.invalid/">kept`, "kept"},
		{"frames", `<iframe src=http://canary.invalid/></iframe><object data=http://canary.invalid/></object><embed src=http://canary.invalid/>kept`, "kept"},
		{"svg", `<svg><animate onbegin=alert(1)></animate><a xlink:href="javascript:alert(1)"><text>x</text></a><image href="http://canary.invalid/"/></svg>kept`, "kept"},
		{"mutation", `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;"></table></math>kept`, "kept"},
		{"noscript", `<noscript><p title="</noscript><img src=x onerror=alert(1)>">kept</p></noscript>`, "kept"},
		{"unclosed", `kept<img src="http://canary.invalid/`, "kept"},
		{"entities", `<a href="&#106;avascript:alert(1)">kept</a>`, "kept"},
		{"comment", `<!--[if gte mso 9]><img src=http://canary.invalid/><![endif]-->kept`, "kept"},
		{"ids", `<p id=token name=token class=flash>kept</p>`, "<p>kept</p>"},
		{"nul and odd bytes", "<scr\x00ipt>alert(1)</scr\x00ipt>\xff\xfe kept", "kept"},
		{"end of ours", `</body></html><script>alert(1)</script>kept`, "kept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := over(t, newLetters("Subject: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"+
				base64.StdEncoding.EncodeToString([]byte(tt.html))+"\n"), nil)
			b.login("alice")
			code, body, h := b.get("/content/" + idOf(0) + "/html")
			if code != http.StatusOK || !strings.Contains(body, tt.keeps) {
				t.Errorf("%d: %q lost in %s", code, tt.keeps, body)
			}
			_, ours, _ := strings.Cut(strings.ToLower(body), "<body>")
			for _, gone := range []string{"canary", "href", "src=", "style", "<script", "<img", "<form", "<svg", "class=", "id=", "onclick"} {
				if strings.Contains(ours, gone) {
					t.Errorf("%q in %s", gone, ours)
				}
			}
			csp := h.Get("Content-Security-Policy")
			if !strings.HasPrefix(csp, "default-src 'none'") || !strings.Contains(csp, "sandbox;") || strings.Contains(csp, "allow-") || strings.Contains(csp, "script-src") {
				t.Errorf("policy %q", csp)
			}
		})
	}
}

func TestContent(t *testing.T) {
	letter := "From: =?utf-8?q?M=C3=BCller?= <m@example.org>\nTo: bob@example.com\nSubject: " + evil + "\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
		"--b\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe " + evil + "\n" +
		"--b\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"<b>evil</b>.exe\"\n\nMZ\n--b--\n"
	l := newLetters(letter, "Subject: large\n\n"+strings.Repeat("0123456789\n", maxShown/10))
	b := over(t, l, nil)
	b.login("alice")
	code, body, _ := b.get("/content/" + idOf(0))
	for _, want := range []string{"Müller", "Grüße", "&lt;b&gt;evil&lt;/b&gt;.exe", "&lt;script&gt;alert(1)"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d: no %q in %s", code, want, body)
		}
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "<img") || strings.Contains(body, "<b>evil") {
		t.Errorf("not escaped: %s", body)
	}
	if code, body, _ := b.get("/content/" + idOf(1)); code != http.StatusOK || !strings.Contains(body, "too large to be shown") {
		t.Errorf("a large one: %d %s", code, body)
	}
	code, raw, h := b.get("/content/" + idOf(0) + "/raw")
	if code != http.StatusOK || raw != l.texts[idOf(0)] || h.Get("Content-Disposition") != `attachment; filename="`+idOf(0)+`.eml"` || h.Get("Content-Type") != "application/octet-stream" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("raw: %d %v %q", code, h, raw)
	}
	for _, path := range []string{"/content/..%2f..%2fetc%2fpasswd/raw", "/content/%0d%0aX-Evil:1/raw", "/content/" + idOf(7) + "/raw"} {
		if code, _, h := b.get(path); code < 400 || h.Get("X-Evil") != "" {
			t.Errorf("%s: %d %v", path, code, h)
		}
	}
	for name, want := range map[string]int{"bob": http.StatusForbidden, "hal": http.StatusOK} {
		b.login(name)
		for _, path := range []string{"/content/" + idOf(0), "/content/" + idOf(0) + "/raw", "/content/" + idOf(0) + "/html"} {
			if code, _, _ := b.get(path); code != want {
				t.Errorf("%s, %s: %d, want %d", name, path, code, want)
			}
		}
	}
}
