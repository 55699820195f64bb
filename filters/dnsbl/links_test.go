package dnsbl

import (
	"encoding/base64"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func message(t testing.TB, text string) *mail.Message {
	t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLinks(t *testing.T) {
	coded := base64.StdEncoding.EncodeToString([]byte("see HTTPS://Www.Coded.Example.Org/x"))
	for _, tt := range []struct{ name, text, want string }{
		{"none", "Subject: x\n\nhttp is a protocol, see also ftp://files.example.net and www.example.net\n", ""},
		{"plain", "Subject: x\n\nsee http://www.spammer.com/a?b and (https://deep.sub.phish.co.uk:8443/).\n", "spammer.com phish.co.uk"},
		{"no header", "\nhttp://spammer.com\n", "spammer.com"},
		{"user, port, final dot", "Subject: x\n\nhttp://paypal.example@spammer.com.:80/\n", "spammer.com"},
		{"percent", "Subject: x\n\nhttp://spam%6Der.com/\n", "spammer.com"},
		{"once", "Subject: x\n\nhttp://a.spammer.com http://b.spammer.com\n", "spammer.com"},
		{"addresses are left out", "Subject: x\n\nhttp://192.0.2.1/ http://[2001:db8::1]/ http://3232235777/\n", ""},
		{"base64", "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + coded + "\n", "example.org"},
		{"quoted-printable", "Content-Type: text/plain\nContent-Transfer-Encoding: Quoted-Printable\n\nhttp://spam=\nmer.c=6Fm/\n", "spammer.com"},
		{"entities", "Content-Type: text/html\n\n<a href='http:&#47;&#47;spammer&#46;com/'>x</a>\n", "spammer.com"},
		{"IDN", "Content-Type: text/html; charset=utf-8\n\n<a href=http://www.bücher.de/>x</a>\n", "xn--bcher-kva.de"},
		{"multipart", "Content-Type: multipart/mixed; boundary=b\n\nhttp://preamble.com\n--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nhttp://one.com\n--c\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + coded + "\n--c--\n--b\nContent-Type: image/png\n\nhttp://image.com\n--b--\n", "one.com example.org"},
		{"no boundary", "Content-Type: multipart/mixed\n\nhttp://spammer.com\n", "spammer.com"},
		{"broken type", "Content-Type: ;;;\n\nhttp://spammer.com\n", "spammer.com"},
		{"public suffix alone", "Subject: x\n\nhttp://co.uk/\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := linked(message(t, tt.text), 20)
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestLinksAreBounded(t *testing.T) {
	many := "Subject: x\n\n" + strings.Repeat("http://", 100_000) + "\n"
	for i := range 60 {
		many += "http://host" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".com\n"
	}
	got, err := linked(message(t, many), 20)
	if err != nil || len(got) != 20 {
		t.Errorf("%d hosts, %v", len(got), err)
	}
	deep := ""
	for range 50 {
		deep += "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
	}
	if _, err := linked(message(t, deep+"\nhttp://spammer.com\n"), 20); err != nil {
		t.Error(err)
	}
}

func TestListedLink(t *testing.T) {
	k := start(t, lists())
	tx := from("203.0.113.1", "", "")
	tx.Stage, tx.Message = mail.StageMessage, message(t, "Subject: x\n\nhttp://good.org http://x.spammer.com http://x.phish.co.uk\n")
	r, err := k.Check(t.Context(), tx)
	if got := said(r, err); got != "listed dbl.test 2.5" || r.Findings[0].Text != "link to spammer.com is listed by dbl.test (127.0.1.2)" {
		t.Errorf("%q: %+v", got, r.Findings)
	}
}

func FuzzLinks(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhttp://a.com\r\n--b--\r\n")
	f.Add("Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\naHR0cDovL2EuY29t")
	f.Add("\r\nhttp://a@b:%zz://https://[::")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		hosts, err := linked(m, 5)
		if err != nil || len(hosts) > 5 {
			t.Fatalf("%q, %v", hosts, err)
		}
		for _, h := range hosts {
			if back, err := mail.ParseDomain(h); err != nil || back != h {
				t.Fatalf("%q is no domain: %v", h, err)
			}
		}
	})
}
