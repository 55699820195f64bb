package spamassassin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teamwork/spamc"

	"gatepost/filters"
	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

const report = "Spam detection software, running on the system \"x\",\nhas identified this incoming email as possible spam.\n\n" +
	"Content analysis details:   (15.3 points, 5.0 required)\n\n" +
	" pts rule name              description\n" +
	"---- ---------------------- --------------------------------------------------\n" +
	" 1000 GTUBE                  BODY: Generic Test for Unsolicited Bulk Email\n" +
	"-0.0 NO_RELAYS              Informational: message was not relayed via SMTP\n" +
	" 1.2 MISSING_HEADERS        Missing To: header\n" +
	"                            on more than one line\n"

// P2: a score is believed only when the reply is whole and its numbers are
// numbers. The column theirs is what the library makes of the same bytes.
func TestReplies(t *testing.T) {
	tests := []struct {
		name, reply, want string
		theirs            string // "accepts", "panics"
	}{
		{name: "spam", reply: says("True ; 15.3 / 5.0", report), want: "score 15.3 / 5; rule GTUBE 1000; rule NO_RELAYS -0; rule MISSING_HEADERS 1.2"},
		{name: "ham", reply: says("False ; -4.2 / 5.0", ""), want: "score -4.2 / 5"},
		{name: "yes", reply: says("Yes ; 5 / 5", ""), want: "score 5 / 5"},
		{name: "blanks", reply: says("False;1/5 ", ""), want: "score 1 / 5"},
		{name: "not a number", reply: says("False ; nan / 5", ""), want: "error", theirs: "accepts"},
		{name: "infinite", reply: says("True ; inf / 5", ""), want: "error", theirs: "accepts"},
		{name: "infinite threshold", reply: says("True ; 5 / inf", ""), want: "error", theirs: "accepts"},
		{name: "exponent", reply: says("True ; 1e3 / 5", ""), want: "error", theirs: "accepts"},
		{name: "hexadecimal", reply: says("True ; 0x10p1 / 5", ""), want: "error", theirs: "accepts"},
		{name: "a comma", reply: says("True ; 15,3 / 5,0", ""), want: "error"},
		{name: "too many digits", reply: says("True ; "+strings.Repeat("9", 400)+" / 5", ""), want: "error"},
		{name: "no numbers", reply: says("True", ""), want: "error"},
		{name: "empty", reply: says("", ""), want: "error"},
		{name: "unknown word", reply: says("Maybe ; 1 / 5", ""), want: "error"},
		{name: "no Spam header", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\n\r\n", want: "error"},
		{name: "two Spam headers", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1 / 5\r\nspam: True ; 9 / 5\r\n\r\n", want: "error", theirs: "accepts"},
		{name: "no reply", reply: "", want: "error"},
		{name: "cut in the status", reply: "SPAMD/1.1 0", want: "error"},
		{name: "cut in the header", reply: "SPAMD/1.1 0 EX_OK\r\nSpam: Fal", want: "error"},
		{name: "cut behind the score", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 10\r\nSpam: False ; 1 / 5\r\n", want: "error"},
		{name: "cut in the body", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 10\r\nSpam: False ; 1 / 5\r\n\r\nabc", want: "error", theirs: "accepts"},
		{name: "length lies low", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: False ; 1 / 5\r\n\r\nabc", want: "error", theirs: "accepts"},
		{name: "no length", reply: "SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\n\r\n", want: "error", theirs: "accepts"},
		{name: "length is no number", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: x\r\nSpam: False ; 1 / 5\r\n\r\n", want: "error", theirs: "accepts"},
		{name: "timeout", reply: "SPAMD/1.0 79 Timeout: (300 second timeout while trying to REPORT)\r\n\r\n", want: "error"},
		{name: "bad header line", reply: "SPAMD/1.0 76 Bad header line: (Content-Length mismatch: Expected 10 bytes, got 9 bytes)\r\n\r\n", want: "error"},
		{name: "version 1.5", reply: strings.Replace(says("False ; 1 / 5", ""), "1.1", "1.5", 1), want: "error"},
		{name: "version 2.0", reply: strings.Replace(says("False ; 1 / 5", ""), "1.1", "2.0", 1), want: "error"},
		{name: "another protocol", reply: "HTTP/1.1 200 OK\r\nContent-length: 0\r\nSpam: False ; 1 / 5\r\n\r\n", want: "error"},
		{name: "bare LF", reply: strings.ReplaceAll(says("False ; 1 / 5", ""), "\r\n", "\n"), want: "error", theirs: "accepts"},
		{name: "header without a colon", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nnonsense\r\nSpam: False ; 1 / 5\r\n\r\n", want: "error"},
		{name: "unknown header", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nX-New: 1\r\nSpam: False ; 1 / 5\r\n\r\n", want: "score 1 / 5"},
		{name: "Set header panics the library", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1 / 5\r\nSet: foo\r\n\r\n", want: "error", theirs: "panics"},
		{name: "Message-class panics the library", reply: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 1 / 5\r\nMessage-class: zzz\r\n\r\n", want: "error", theirs: "panics"},
		{name: "endless body", reply: says("False ; 1 / 5", strings.Repeat("x\n", 5<<20)), want: "error", theirs: "accepts"},
		{name: "endless line", reply: strings.Repeat("x", 10<<20), want: "error"},
		{name: "many headers", reply: "SPAMD/1.1 0 EX_OK\r\n" + strings.Repeat("X: y\r\n", 1<<20) + "\r\n", want: "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, network := range []string{"tcp", "unix"} {
				fake := (&fakeSpamd{reply: tt.reply}).start(t, network)
				if got := check(t, judge(t, Config{}, fake.address), message(t, plain)); got != tt.want {
					t.Errorf("%s: %s, want %s", network, got, tt.want)
				}
			}
			if tt.theirs == "" || strings.HasPrefix(tt.name, "endless") { // that would take minutes
				return
			}
			fake := (&fakeSpamd{reply: tt.reply}).start(t, "tcp")
			if got := library(t, fake.address); got != tt.theirs {
				t.Logf("the library now %s, was seen as %s: it was repaired", got, tt.theirs)
			}
		})
	}
}

// library asks without the guard.
func library(t *testing.T, address string) (does string) {
	t.Helper()
	defer func() {
		if recover() != nil {
			does = "panics"
		}
	}()
	c := spamc.New(strings.TrimPrefix(address, "tcp:"), &net.Dialer{Timeout: 5 * time.Second})
	if _, err := c.Report(t.Context(), strings.NewReader(plain), nil); err != nil {
		return "refuses"
	}
	return "accepts"
}

func TestScoreCountsOnce(t *testing.T) {
	fake := (&fakeSpamd{reply: says("True ; 15.3 / 5.0", report)}).start(t, "tcp")
	tx := message(t, plain)
	r, err := judge(t, Config{}, fake.address).Check(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	tx.Findings = r.Findings
	if tx.Score() != 15.3 {
		t.Errorf("score of the transaction = %v, want 15.3", tx.Score())
	}
}

func TestManyRules(t *testing.T) {
	body := " pts rule name              description\n---- ---------------------- ----\n" + strings.Repeat(" 0.1 A_RULE text\n", 3000)
	fake := (&fakeSpamd{reply: says("False ; 1 / 5", body)}).start(t, "tcp")
	r, err := judge(t, Config{}, fake.address).Check(t.Context(), message(t, plain))
	if err != nil || len(r.Findings) != 2+maxRules { // score, report
		t.Errorf("%d findings, %v, want %d", len(r.Findings), err, 2+maxRules)
	}
}

// What spamd is sent, byte for byte.
func TestRequest(t *testing.T) {
	const envelope = "X-Envelope-From: <sender@sender.example>\r\n"
	milter := func(tx *mail.Transaction) { tx.Session.Via = mail.ViaMilter }
	tests := []struct {
		name   string
		cfg    Config
		text   string
		change func(*mail.Transaction)
		want   string
	}{
		{name: "proxy", text: plain, want: envelope + plain},
		{name: "null sender", text: plain, change: func(tx *mail.Transaction) { tx.Envelope.Sender = mail.Path{} }, want: "X-Envelope-From: <>\r\n" + plain},
		{name: "forged X-Envelope-From", text: "X-Envelope-From: a@trusted.example\r\nx-envelope-from : b\r\nFrom: a\r\n\r\n", want: envelope + "From: a\r\n\r\n"},
		{name: "milter", text: "From: a\r\n\r\n", change: milter, want: envelope +
			"Received: from helo.example (client.example [192.0.2.7]) by mx1.example.com\r\n (Gatepost) with ESMTP id T1; Sat, 21 Nov 2026 10:00:00 +0000\r\nFrom: a\r\n\r\n"},
		{name: "milter, a greeting that makes up an address", text: "From: a\r\n\r\n", change: func(tx *mail.Transaction) {
			milter(tx)
			tx.Session.Helo = "x (trusted.example [10.0.0.1])\r\nX-Evil: 1"
			tx.Session.Name = ""
			tx.Session.Client = netip.MustParseAddrPort("[2001:db8::1]:25")
			tx.Session.TLS, tx.Session.User = &mail.TLS{Version: "TLSv1.3"}, "u"
		}, want: envelope + "Received: from x??trusted.example??10.0.0.1????X-Evil:?1 (unknown\r\n [IPv6:2001:db8::1]) by mx1.example.com (Gatepost) with ESMTPSA id T1 (using\r\n TLSv1.3 with cipher unknown); Sat, 21 Nov 2026 10:00:00 +0000\r\nFrom: a\r\n\r\n"},
		{name: "milter, local", text: "From: a\r\n\r\n", change: func(tx *mail.Transaction) {
			milter(tx)
			tx.Session.Client = netip.AddrPort{}
		}, want: envelope + "From: a\r\n\r\n"},
		{name: "a file without an envelope", text: plain, change: func(tx *mail.Transaction) {
			tx.Session.Via, tx.Envelope = mail.ViaScan, mail.Envelope{}
		}, want: plain},
		{name: "no session", text: plain, change: func(tx *mail.Transaction) { tx.Session = nil }, want: envelope + plain},
		{name: "forged X-Envelope-To", text: "X-Envelope-To: a@trusted.example\r\nFrom: a\r\n\r\n", change: func(tx *mail.Transaction) { tx.Envelope.Recipients = rcpts("u@example.com", "v@example.com") }, want: envelope + "X-Envelope-To: <u@example.com>\r\nX-Envelope-To: <v@example.com>\r\nFrom: a\r\n\r\n"},
		{name: "protocol in the message", text: "From: a\r\n\r\nSPAMD/1.1 0 EX_OK\r\n\r\nSKIP SPAMC/1.5\r\n\r\n", want: envelope + "From: a\r\n\r\nSPAMD/1.1 0 EX_OK\r\n\r\nSKIP SPAMC/1.5\r\n\r\n"},
		{name: "above max_size", cfg: Config{MaxSize: 20}, text: "From: a\r\n\r\n" + strings.Repeat("x", 100), want: envelope + "From: a\r\n\r\n" + strings.Repeat("x", 9)},
		{name: "max_size within the header", cfg: Config{MaxSize: 5}, text: "From: a\r\n\r\nx", want: envelope + "From:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := (&fakeSpamd{reply: says("False ; 1 / 5", "")}).start(t, "tcp")
			tx := message(t, tt.text)
			if tt.change != nil {
				tt.change(tx)
			}
			tt.cfg.Hostname = "mx1.example.com"
			tt.cfg.User = "filter"
			got := check(t, judge(t, tt.cfg, fake.address), tx)
			request, content := fake.got()
			if content != tt.want {
				t.Errorf("spamd got\n%q, want\n%q", content, tt.want)
			}
			if want := "REPORT SPAMC/1.5\r\nContent-length: " + strconv.Itoa(len(tt.want)) + "\r\nUser: filter\r\n\r\n"; request != want {
				t.Errorf("request %q, want %q", request, want)
			}
			want := "score 1 / 5"
			if tt.cfg.MaxSize > 0 {
				want += fmt.Sprintf("; partial %d of %d bytes larger than max_size", tt.cfg.MaxSize, len(tt.text))
			}
			if got != want {
				t.Errorf("findings %s, want %s", got, want)
			}
		})
	}
}

// P3: what the operator writes can't inject a header; nothing else gets there.
func TestUserInjection(t *testing.T) {
	for _, user := range []string{"a\r\nContent-length: 0\r\n\r\nX", "a b", "ä", "A", strings.Repeat("a", 65), "a\x00", "..", ".a", "-a", "a/b"} {
		if _, err := New(Config{User: user}); err == nil || !strings.Contains(err.Error(), "user: ") {
			t.Errorf("user %q: %v", user, err)
		}
	}
	if _, err := New(Config{User: "mail-filter_1.x"}); err != nil {
		t.Error(err)
	}
}

// The library uses a context only to connect.
func TestContextEndsTheCheck(t *testing.T) {
	big := "From: a\r\n\r\n" + strings.Repeat("x", 20<<20)
	for name, tt := range map[string]struct {
		cfg  Config
		text string
	}{
		"never answers": {text: plain},
		"stops reading": {cfg: Config{MaxSize: 100 << 20}, text: big},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Timeout = time.Minute
			f := judge(t, tt.cfg, (&fakeSpamd{silent: true}).start(t, "tcp").address)
			start := time.Now()
			r, err := f.Check(short(t, 200*time.Millisecond), message(t, tt.text))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %v; want deadline exceeded", verdict(r, err), err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("own timeout", func(t *testing.T) {
		f := judge(t, Config{Timeout: 200 * time.Millisecond}, (&fakeSpamd{silent: true}).start(t, "unix").address)
		if got := check(t, f, message(t, plain)); got != "error" {
			t.Errorf("got %s", got)
		}
	})
}

// What spamd says without having read the message is not believed.
func TestReplyBeforeTheMessage(t *testing.T) {
	fake := (&fakeSpamd{reply: says("False ; 1 / 5", ""), early: true}).start(t, "tcp")
	f := judge(t, Config{MaxSize: 100 << 20}, fake.address)
	if got := check(t, f, message(t, "From: a\r\n\r\n"+strings.Repeat("x", 20<<20))); got != "error" {
		t.Errorf("got %s", got)
	}
}

func TestFailOver(t *testing.T) {
	bad := (&fakeSpamd{reply: says("False ; nan / 5", "")}).start(t, "tcp")
	good := (&fakeSpamd{reply: says("False ; 1 / 5", "")}).start(t, "tcp")
	f := judge(t, Config{}, "unix:/nonexistent/spamd", bad.address, good.address)
	for range 2 {
		if got := check(t, f, message(t, plain)); got != "score 1 / 5" {
			t.Errorf("got %s", got)
		}
	}
}

// trusted is a certificate that this process trusts: it reads once which those
// are, and never again.
var trusted = sync.OnceValues(func() (c *testkit.Certificate, err error) {
	dir, err := testkit.TempDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if c, err = testkit.NewCertificate(dir, "spamd.example"); err != nil {
		return nil, err
	}
	if err := os.Setenv("SSL_CERT_FILE", c.Cert); err != nil {
		return nil, err
	}
	defer os.Unsetenv("SSL_CERT_FILE")
	_, err = x509.SystemCertPool()
	return c, err
})

func TestTLS(t *testing.T) {
	ours, err := trusted()
	if err != nil {
		t.Fatal(err)
	}
	other, err := testkit.NewCertificate(t.TempDir(), "spamd.example")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c *testkit.Certificate) (string, error) {
		fake := (&fakeSpamd{reply: says("False ; 1 / 5", ""), tls: &tls.Config{Certificates: []tls.Certificate{c.Pair}}}).start(t, "tcp")
		f := judge(t, Config{}, strings.Replace(fake.address, "tcp:", "tls:", 1))
		r, err := f.Check(t.Context(), message(t, plain))
		return verdict(r, err), err
	}
	if got, err := ask(ours); got != "score 1 / 5" {
		t.Errorf("trusted: %s, %v", got, err)
	}
	var unknown x509.UnknownAuthorityError
	if got, err := ask(other); !errors.As(err, &unknown) {
		t.Errorf("not trusted: %s, %v; want an unknown authority", got, err)
	}
}

func TestPing(t *testing.T) {
	for pong, want := range map[string]bool{
		"SPAMD/1.5 0 PONG\r\n":                   true,
		"SPAMD/1.5 0 PONG\r\n\r\n":               true,
		"SPAMD/1.5 0 PONG":                       false,
		"SPAMD/1.5 69 Service Unavailable:\r\n":  false,
		"":                                       false,
		"HTTP/1.1 400 Bad Request\r\n\r\n":       false,
		strings.Repeat("SPAMD/1.5 0 PONG", 9999): false,
	} {
		fake := (&fakeSpamd{reply: pong}).start(t, "unix")
		if err := judge(t, Config{}, fake.address).Ping(t.Context()); (err == nil) != want {
			t.Errorf("%.40q: %v", pong, err)
		}
	}
	silent := (&fakeSpamd{silent: true}).start(t, "tcp")
	if err := judge(t, Config{}, silent.address).Ping(short(t, 50*time.Millisecond)); err == nil {
		t.Error("silence was taken for a pong")
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	f, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := f.Step()
	if s.Name != "spamassassin" || s.Timeout != time.Minute || s.OnError != filters.TempFail || s.MaxConcurrent != 5 || s.Modifies {
		t.Errorf("step = %+v", s)
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{name: "address", cfg: Config{Address: []string{"783"}}, want: "spamassassin: address[0]: "},
		{name: "on_error", cfg: Config{OnError: "later"}, want: "is not one of"},
		{name: "timeout", cfg: Config{Timeout: -1}, want: "timeout: is negative"},
		{name: "max_size", cfg: Config{MaxSize: -1}, want: "max_size: is negative"},
		{name: "max_concurrent", cfg: Config{MaxConcurrent: -1}, want: "max_concurrent: is negative"},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// canned is a connection with the reply already there.
type canned struct {
	net.Conn
	r io.Reader
}

func (c canned) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c canned) Write(p []byte) (int, error) { return len(p), nil }

// What the check lets through the library reads as the same numbers.
func FuzzReply(f *testing.F) {
	for _, s := range []string{says("True ; 15.3 / 5.0", report), says("False ; -1 / 5", ""), "SPAMD/1.1 0 EX_OK\r\n\r\n", "", says("nan ; nan / nan", "")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		if checkReport(reply) != nil {
			return
		}
		said, err := askReport(t.Context(), canned{r: bytes.NewReader(reply)}, "", (&Filter{cfg: Config{MaxSize: 1 << 20}}).excerpt(message(t, plain), nil))
		if err == nil && (said.Score != said.Score || said.Score > 1e9 || said.Score < -1e9) {
			t.Errorf("%q: score %v", reply, said.Score)
		}
	})
}
