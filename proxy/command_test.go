package proxy

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// step is a line that the client sends and the reply it wants.
type step struct{ send, want string }

func (c *client) run(steps []step) {
	c.t.Helper()
	for _, s := range steps {
		c.do(s.send, s.want)
	}
}

func TestSequence(t *testing.T) {
	const ehlo, from, to = "EHLO c.example", "MAIL FROM:<s@a.example>", "RCPT TO:<u@b.example>"
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"MAIL before HELO", []step{{from, "503 5.5.1"}, {"HELO c.example", "250"}, {from, "250"}}},
		{"RCPT before MAIL", []step{{ehlo, "250"}, {to, "503 5.5.1"}}},
		{"DATA before MAIL", []step{{ehlo, "250"}, {"DATA", "503 5.5.1"}, {from, "250"}}},
		{"DATA before RCPT", []step{{ehlo, "250"}, {from, "250"}, {"DATA", "554 5.5.1"}, {to, "250"}, {"DATA", "354"}}},
		{"C7 second MAIL", []step{{ehlo, "250"}, {from, "250"}, {to, "250"}, {"MAIL FROM:<ceo@victim.example>", "503 5.5.1"}}},
		{"RSET forgets the envelope", []step{{ehlo, "250"}, {from, "250"}, {to, "250"}, {"RSET", "250"}, {"DATA", "503"}, {from, "250"}, {"DATA", "554"}}},
		{"EHLO forgets the envelope", []step{{ehlo, "250"}, {from, "250"}, {to, "250"}, {ehlo, "250"}, {"DATA", "503"}}},
		{"a HELO that is refused changes nothing", []step{{ehlo, "250"}, {from, "250"}, {"EHLO !", "501 5.5.2"}, {to, "250"}}},
		{"verbs in any case", []step{{"eHlO c.example", "250"}, {"mail from:<s@a.example>", "250"}, {"Rcpt To:<u@b.example>", "250"}, {"data", "354"}}},
		{"VRFY, EXPN, HELP, NOOP", []step{{"VRFY u", "252"}, {"EXPN list", "502 5.5.1"}, {"HELP", "214"}, {"NOOP", "250 2.0.0"}, {"NOOP ignored text", "250"}}},
		{"unknown", []step{{"XYZZY", "500 5.5.1"}, {"", "500"}, {"MAILFROM:<a@b>", "500"}, {"AUTH PLAIN AAAA", "502"}, {"TURN", "500"}, {"DEBUG", "500"}}},
		{"RSET with an argument", []step{{"RSET x", "501"}}},
		{"QUIT", []step{{"QUIT", "221 2.0.0"}}},
	} {
		t.Run(tt.name, func(t *testing.T) { start(t, nil).greeted().run(tt.steps) })
	}
}

// C16
func TestHelo(t *testing.T) {
	for _, tt := range []struct{ arg, want string }{
		{"client.example", "250"},
		{"localhost", "250"},
		{"DESKTOP-1A", "250"},
		{"my_pc.lan", "250"},
		{"[192.0.2.1]", "250"},
		{"[IPv6:2001:db8::1]", "250"},
		{"192.0.2.1", "250"},
		{"client.example.", "250"},
		{"", "501 5.5.2"},
		{"<script>alert(1)</script>", "501 5.5.2"},
		{"two words", "501 5.5.2"},
		{"a..b", "501 5.5.2"},
		{"-a.example", "501 5.5.2"},
		{strings.Repeat("x", 1000), "501 5.5.2"},
		{strings.Repeat("x", 64) + ".example", "501 5.5.2"},
		{"[IPv6:zzz]", "501 5.5.2"},
		{"[IPv6:fe80::1%25eth0]", "501 5.5.2"},
		{"fe80::1%eth0", "501 5.5.2"},
		{"[192.0.2.256]", "501 5.5.2"},
		{"a\x01b", "501 5.5.2"},
		{"a\rX-Evil: 1", "501 5.5.2"},
		{"bücher.example", "501 5.5.2"},
		{"client.example\x00", "501 5.5.2"},
	} {
		for _, verb := range []string{"HELO", "EHLO"} {
			t.Run(fmt.Sprintf("%s %.30q", verb, tt.arg), func(t *testing.T) {
				start(t, nil).greeted().do(verb+" "+tt.arg, tt.want)
			})
		}
	}
}

// C6
func TestForeignProtocols(t *testing.T) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<i@x.example>\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nEHLO x\r\nMAIL FROM:<i@x.example>\r\n",
		"post / HTTP/1.1\r\n",
		"CONNECT mx:25 HTTP/1.1\r\n\r\n",
		"PATCH /x HTTP/1.0\r\n",
		"OPTIONS sip:x@b.example SIP/2.0\r\n",
		"INVITE sip:x@b.example SIP/2.0\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // ClientHello, without a line end
		"\x00\x00\x00\x00",
		"\x80\r\n",
	} {
		t.Run(fmt.Sprintf("%.12q", text), func(t *testing.T) {
			g := start(t, nil)
			c := g.greeted()
			c.send(text)
			c.expect("554 5.5.1")
			c.expectClosed()
			if g.handler.count("mail") != 0 {
				t.Error("commands behind were run")
			}
		})
	}
}

// C10: a line with a control character is no command.
func TestControlCharacters(t *testing.T) {
	for _, cmd := range []string{
		"RCPT TO:<a\rb@b.example>", "RCPT TO:<a\x00b@b.example>", "RCPT TO:<a\x1bb@b.example>", "RCPT TO:<a\x7fb@b.example>",
		"RCPT TO:<u@b.example>\t", "RCPT TO:<u@b.example>\r", "NOOP \x00",
	} {
		t.Run(fmt.Sprintf("%q", cmd), func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			c.do("MAIL FROM:<s@a.example>", "250")
			c.do(cmd, "501 5.5.2")
			c.do("DATA", "554") // no recipient was taken
		})
	}
}

// A bare LF ends a command for trusted clients of a listener that normalises.
func TestBareLFCommands(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		c := start(t, nil).greeted()
		c.send("EHLO c.example\nMAIL FROM:<s@a.example>\r\n")
		c.expect("500 5.5.2")
		c.expect("503")
	})
	t.Run("taken", func(t *testing.T) {
		g := start(t, func(c *Config, _ *gate) {
			c.LineEndings = Normalise
			c.Trusted = prefixes("127.0.0.0/8")
		})
		c := g.greeted()
		c.send("EHLO c.example\nMAIL FROM:<s@a.example>\r\n")
		c.expect("250")
		c.expect("250")
	})
}

// C9: no line is longer than the buffer, and nothing behind it is run.
func TestLineLimit(t *testing.T) {
	const limit = 2048
	t.Run("exactly", func(t *testing.T) {
		c := start(t, nil).greeted()
		c.do("NOOP "+strings.Repeat("x", limit-len("NOOP \r\n")), "250")
		c.do("NOOP", "250")
	})
	for _, n := range []int{limit - len("NOOP \r\n") + 1, 10_000, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := start(t, nil).greeted()
			go func() { _, _ = io.WriteString(c.conn, "NOOP "+strings.Repeat("x", n)+"\r\nNOOP\r\n") }()
			c.expect("500 5.5.2")
			c.expectClosed()
		})
	}
}

// C8: commands that lead nowhere end in 421. The first EHLO counts, too.
func TestCommandAbuse(t *testing.T) {
	for _, tt := range []struct {
		name, cmd string
		limit     int
	}{
		{"NOOP", "NOOP", 99},
		{"RSET", "RSET", 99},
		{"VRFY", "VRFY u", 99},
		{"HELP", "HELP", 99},
		{"unknown", "XYZZY", 20},
		{"bad RCPT", "RCPT TO:<u@out.example>", 20},
		{"bad MAIL", "MAIL FROM:<", 20},
		{"the same RCPT", "RCPT TO:<u@b.example>", 100},
		{"EXPN", "EXPN x", 20},
		{"EHLO", "EHLO c.example", 99},
		{"STARTTLS", "STARTTLS", 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			c := g.hello()
			if strings.Contains(tt.cmd, "RCPT") {
				c.do("MAIL FROM:<s@a.example>", "250")
			}
			for i := 0; ; i++ {
				c.send(tt.cmd + "\r\n")
				r, err := c.reply()
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(r, "421 4.7.0") {
					if i != tt.limit {
						t.Errorf("closed after %d, want %d", i, tt.limit)
					}
					break
				}
				if i > tt.limit {
					t.Fatalf("still %q after %d", r, i)
				}
			}
			c.expectClosed()
		})
	}
}

// A message that was taken clears the account.
func TestMessageForgives(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.MaxErrors = 3 })
	c := g.hello()
	for range 5 {
		c.do("XYZZY", "500")
		c.do("XYZZY", "500")
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RCPT TO:<u@b.example>", "250")
		c.do("DATA", "354")
		c.do(simple+".", "250")
	}
}

// C15
func TestManyRecipients(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.MaxRecipients = 5 })
	c := g.hello()
	c.do("MAIL FROM:<s@a.example>", "250")
	for i := range 5 {
		c.do(fmt.Sprintf("RCPT TO:<u%d@b.example>", i), "250")
	}
	for i := range 5 {
		c.do(fmt.Sprintf("RCPT TO:<v%d@b.example>", i), "452 4.5.3")
	}
	c.do("RCPT TO:<u0@b.example>", "250") // known already
	c.do("DATA", "354")
	c.do(simple+".", "250")
	if n := len(g.store.messages()[0].Envelope.Recipients); n != 5 {
		t.Errorf("%d recipients, want 5", n)
	}
	c.do("MAIL FROM:<s@a.example>", "250")
	for i := range 5 {
		c.do(fmt.Sprintf("RCPT TO:<u%d@b.example>", i), "250")
	}
	for i := 0; ; i++ {
		c.send(fmt.Sprintf("RCPT TO:<v%d@b.example>\r\n", i))
		r, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r, "421") {
			break
		}
		if i > 50 {
			t.Fatalf("no end: %q", r)
		}
	}
}

func TestMessagesPerConnection(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Limits.MaxMessages = 2 })
	c := g.hello()
	for range 2 {
		c.do("MAIL FROM:<s@a.example>", "250")
		c.do("RSET", "250")
	}
	c.do("MAIL FROM:<s@a.example>", "421 4.7.0")
	c.expectClosed()
}

// Replies never repeat what the client sent.
func TestRepliesReflectNothing(t *testing.T) {
	c := start(t, nil).hello()
	for _, cmd := range []string{"XEVIL", "MAIL FROM:<xevil@a.example> XEVIL=1", "VRFY xevil", "EHLO xevil.example", "HELP xevil", "NOOP xevil", "MAIL FROM:<xevil>"} {
		c.send(cmd + "\r\n")
		r, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ToLower(r), "xevil") {
			t.Errorf("%q is answered %q", cmd, r)
		}
	}
}

func TestParameters(t *testing.T) {
	for _, tt := range []struct{ cmd, want string }{
		{"MAIL FROM:<s@a.example>", "250"},
		{"MAIL FROM: <s@a.example>", "250"},
		{"MAIL FROM:<>", "250"},
		{"MAIL FROM:<s@a.example> SIZE=0", "250"},
		{"MAIL FROM:<s@a.example> SIZE=52428800", "250"},
		{"MAIL FROM:<s@a.example> SIZE=52428801", "552 5.3.4"},
		{"MAIL FROM:<s@a.example> SIZE=4294967297", "552 5.3.4"},
		{"MAIL FROM:<s@a.example> SIZE=18446744073709551617", "552 5.3.4"},
		{"MAIL FROM:<s@a.example> SIZE=184467440737095516170", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SIZE=-1", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SIZE=", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SIZE", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SIZE=1 size=2", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> BODY=7bit", "250"},
		{"MAIL FROM:<s@a.example> BODY=9BIT", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> BODY", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> RET=HDRS ENVID=abc+2B", "250"},
		{"MAIL FROM:<s@a.example> RET=ALL", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> ENVID=a+0D+0Ab", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> ENVID=a+zz", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> ENVID=a+", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> ENVID=" + strings.Repeat("x", 101), "501 5.5.4"},
		{"MAIL FROM:<s@a.example> AUTH=<>", "250"},
		{"MAIL FROM:<s@a.example> AUTH=e+3Dmc2@a.example", "250"},
		{"MAIL FROM:<s@a.example> AUTH=+0", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> AUTH", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SMTPUTF8=1", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> REQUIRETLS", "530 5.7.10"}, // in clear
		{"MAIL FROM:<s@a.example> REQUIRETLS=1", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> X-UNKNOWN=1", "555 5.5.4"},
		{"MAIL FROM:<s@a.example> NOTIFY=NEVER", "555 5.5.4"},
		{"MAIL FROM:<s@a.example> =1", "501 5.5.4"},
		{"MAIL FROM:<s@a.example> SIZE=1=2", "501 5.5.4"},
		{"MAIL FROM:<s@a.example>SIZE=1", "501 5.5.2"},
		{"MAIL FROM:s@a.example", "501 5.5.2"},
		{"MAIL FROM:<s@a.example", "501 5.5.2"},
		{"MAIL FROM <s@a.example>", "501 5.5.2"},
		{"MAIL TO:<s@a.example>", "501 5.5.2"},
		{"MAIL", "501 5.5.2"},
		{"MAIL FROM:<é@a.example>", "553 5.6.7"},
		{"MAIL FROM:<é@a.example> SMTPUTF8", "250"},
		{"MAIL FROM:<\xff@a.example>", "553 5.6.7"},
		{"MAIL FROM:<\xff@a.example> SMTPUTF8", "501 5.1.7"},
		{"MAIL FROM:<postmaster>", "553 5.1.7"},
	} {
		t.Run(fmt.Sprintf("C11 %.60q", tt.cmd), func(t *testing.T) {
			start(t, nil).hello().do(tt.cmd, tt.want)
		})
	}
	for _, tt := range []struct{ arg, want string }{
		{"<u@b.example> NOTIFY=NEVER", "250"},
		{"<u@b.example> NOTIFY=success,FAILURE,Delay", "250"},
		{"<u@b.example> NOTIFY=NEVER,FAILURE", "501 5.5.4"},
		{"<u@b.example> NOTIFY=FAILURE,FAILURE", "501 5.5.4"},
		{"<u@b.example> NOTIFY=", "501 5.5.4"},
		{"<u@b.example> NOTIFY", "501 5.5.4"},
		{"<u@b.example> ORCPT=rfc822;u+2B@b.example", "250"},
		{"<u@b.example> ORCPT=rfc822;u+0D+0Ax", "501 5.5.4"},
		{"<u@b.example> ORCPT=rfc822", "501 5.5.4"},
		{"<u@b.example> ORCPT=;x", "501 5.5.4"},
		{"<u@b.example> ORCPT=rfc822;", "501 5.5.4"},
		{"<u@b.example> ORCPT=rfc822;" + strings.Repeat("x", 500), "501 5.5.4"},
		{"<u@b.example> ORCPT=utf-8;é@b.example", "501 5.5.4"},
		{"<u@b.example> SIZE=1", "555 5.5.4"},
		{"<u@b.example> ORCPT=rfc822;a ORCPT=rfc822;b", "501 5.5.4"},
		{"<é@b.example>", "553 5.6.7"},
	} {
		t.Run(fmt.Sprintf("C11 RCPT %.60q", tt.arg), func(t *testing.T) {
			c := start(t, nil).hello()
			c.do("MAIL FROM:<s@a.example>", "250")
			c.do("RCPT TO:"+tt.arg, tt.want)
		})
	}
	t.Run("C11 RCPT inside SMTPUTF8", func(t *testing.T) {
		g := start(t, nil)
		c := g.hello()
		c.do("MAIL FROM:<é@a.example> SMTPUTF8", "250")
		c.do("RCPT TO:<é@b.example> ORCPT=utf-8;é@b.example", "250")
		c.do("DATA", "354")
		c.do(simple+".", "250")
		m := g.store.messages()[0]
		if !m.Envelope.UTF8() || !strings.Contains(string(m.Header), "with UTF8SMTP ") {
			t.Errorf("envelope %+v, header %q", m.Envelope, m.Header)
		}
	})
}

// C12: 8-bit text without BODY=8BITMIME is taken as it is. Whether the next hop
// wants it is decided on the way out.
func TestEightBitWithoutBody(t *testing.T) {
	const text = "Subject: x\r\n\r\n\xe9\xe8\r\n"
	g := start(t, nil)
	c := g.hello()
	c.do("MAIL FROM:<s@a.example> BODY=7BIT", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(text+".", "250")
	if got := g.store.messages()[0].text(t); got != text {
		t.Errorf("text %q", got)
	}
}

// AUTH= is accepted, and goes nowhere.
func TestAuthParameterIsDropped(t *testing.T) {
	p, refusal := parseMail("FROM:<s@a.example> AUTH=boss@b.example SIZE=1", 10)
	if !refusal.IsZero() || len(p.Args) != 1 || p.Args[0] != "SIZE=1" {
		t.Errorf("args %q, refusal %v", p.Args, refusal)
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"EHLO x\r\n", "MAIL FROM:<a@b>\n", "bdat 10 LAST\r\n", "\r\n", "GET / HTTP/1.1\r\n", "NOOP \x00\r\n", "STARTTLS", "\x16\x03\x01\n"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, line []byte, lax bool) {
		c, err := parseCommand(line, lax)
		if err != nil && !errors.Is(err, errControl) && !errors.Is(err, errNoCRLF) {
			t.Fatalf("%q: error %v", line, err)
		}
		if err != nil {
			return
		}
		if !lax && !strings.HasSuffix(string(line), "\r\n") {
			t.Fatalf("%q was taken", line)
		}
		if strings.ContainsAny(c.arg, "\r\n\x00\x1b") || strings.TrimSpace(c.arg) != c.arg && strings.Trim(c.arg, " ") != c.arg {
			t.Fatalf("%q: argument %q", line, c.arg)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	for _, s := range relayAddresses() {
		f.Add(s, true)
		f.Add(s+" ORCPT=rfc822;x NOTIFY=NEVER", false)
	}
	for _, s := range []string{"<a@b.example> SIZE=1 BODY=7BIT", "<> ENVID=x+2B RET=FULL", "<é@b.example> SMTPUTF8 AUTH=<>"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, arg string, sender bool) {
		var p mail.Path
		var r mail.Reply
		if sender {
			p, r = parseMail("FROM:"+arg, 1000)
		} else {
			p, r = parseRcpt("TO:"+arg, true)
		}
		if !r.IsZero() {
			if class := r.Code / 100; class != 5 {
				t.Fatalf("%q is refused with %v", arg, r)
			}
			return
		}
		// What we pass on reads the same again, and is one address.
		again, err := mail.ParseAddress(p.Address.String(), true)
		if err != nil || again != p.Address || p.HasHops() {
			t.Fatalf("%q: %q reads as %+v, %v", arg, p.Address, again, err)
		}
		if line := p.Path() + strings.Join(p.Args, " "); strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("%q: control character in %q", arg, line)
		}
		for _, a := range p.Args {
			if strings.Contains(a, " ") {
				t.Fatalf("%q: blank in argument %q", arg, a)
			}
		}
	})
}
