package forward

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// The tests of this file are named after the defects of go-smtp's client that
// would lose or misplace mail. Each runs over SMTP, where the loop is ours, and
// over LMTP, where it is go-smtp's inside the guard.

func bothWays(t *testing.T, scripts []script, run func(t *testing.T, p *peer, r Route)) {
	for _, lmtp := range []bool{false, true} {
		name := "smtp"
		if lmtp {
			name = "lmtp"
		}
		t.Run(name, func(t *testing.T) {
			p := startPeer(t, &peer{lmtp: lmtp, offers: allOffers, scripts: scripts})
			run(t, p, quick(p.url()))
		})
	}
}

// TestS1QuotedLocalPart: an address whose local part ends the path and names
// another recipient is refused, however it came to be.
func TestS1QuotedLocalPart(t *testing.T) {
	bad := []mail.Address{
		{Local: "user@outside.example> ORCPT=rfc822;x", Domain: "b.example"},
		{Local: "user@outside.example", Domain: "b.example"},
		{Local: "a\r\nRCPT TO:<x@y.example>", Domain: "b.example"},
		{Local: "a", Domain: "b.example>\r\nDATA"},
		{Local: "a b", Domain: "b.example"},
		{Local: `a"b`, Domain: "b.example"},
		{Local: "", Domain: "b.example"},
		{},
	}
	bothWays(t, nil, func(t *testing.T, p *peer, r Route) {
		f := newForwarder(t, r)
		env := envelope(t, "good@example.com")
		want := []string{sent}
		for _, a := range bad {
			env.Recipients = append(env.Recipients, mail.Path{Address: a})
			want = append(want, "bounced 550 5.1.3 the recipient's address can't be sent")
		}
		check(t, deliver(t, f, env, hello), want...)
		for _, a := range bad[:len(bad)-1] {
			env := envelope(t, "good@example.com")
			env.Sender = mail.Path{Address: a}
			check(t, deliver(t, f, env, hello), "bounced 550 5.1.7 the sender's address can't be sent")
		}
		for _, m := range p.got() {
			if strings.Join(m.rcpts, " ") != "<good@example.com>" {
				t.Errorf("the peer was asked for %q", m.rcpts)
			}
		}
		if n := len(p.got()); n != 1 {
			t.Errorf("%d messages, want 1", n)
		}
	})
}

// TestS1CanonicalForm: what can be printed is printed in its one form.
func TestS1CanonicalForm(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, p *peer, r Route) {
		f := newForwarder(t, r)
		env := envelope(t, `"plain"@EXAMPLE.com`, `"two..dots"@example.com`, "postmaster")
		env.Sender = mailPath(t, "")
		check(t, deliver(t, f, env, hello), sent, sent, sent)
		m := p.got()[0]
		if got := strings.Join(m.rcpts, " "); got != `<plain@example.com> <"two..dots"@example.com> <postmaster>` {
			t.Errorf("recipients %s", got)
		}
		if !strings.HasPrefix(m.from, "<> ") {
			t.Errorf("sender %s", m.from)
		}
	})
}

// failing is a message that can't be read to its end.
type failing struct {
	text
	at  int
	err error
}

func (m failing) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(m.text[:m.at])
	if err == nil {
		err = m.err
	}
	return int64(n), err
}

// TestS12NoDotAfterReadError (and Q10): a message that can't be read to its end
// must not be ended as if it were whole.
func TestS12NoDotAfterReadError(t *testing.T) {
	large := text(strings.Repeat("0123456789\r\n", 50<<10))
	tests := []struct {
		name    string
		content mail.Content
	}{
		{"at once", failing{hello, 0, errors.New("input/output error")}},
		{"in the first block", failing{hello, 10, errors.New("input/output error")}},
		{"later", failing{large, 300 << 10, errors.New("input/output error")}},
		{"at the end of a line", failing{large, 12 * 1000, io.ErrUnexpectedEOF}},
		{"short without an error", failing{large, 12 * 20000, nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, nil, func(t *testing.T, p *peer, r Route) {
				r.To = append(r.To, nobody(t)) // which would do no better
				f := newForwarder(t, r)
				check(t, deliver(t, f, envelope(t, "a@example.com"), tt.content), "deferred 451 4.3.0 the message can't be read: …")
				p.stop()
				if n := len(p.got()); n != 0 {
					t.Fatalf("the peer has %d messages", n)
				}
				for _, data := range p.broken() {
					if strings.HasSuffix(string(data), ".\r\n") {
						t.Errorf("the data ends in a dot: %q", data)
					}
				}
			})
		})
	}
}

// TestS12PanicWhileReading is a read error too.
func TestS12PanicWhileReading(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, p *peer, r Route) {
		f := newForwarder(t, r)
		check(t, deliver(t, f, envelope(t, "a@example.com"), panicking{hello}), "deferred 451 4.3.0 internal error")
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
		p.stop()
		if n := len(p.got()); n != 1 {
			t.Errorf("the peer has %d messages, want 1", n)
		}
	})
}

type panicking struct{ text }

func (panicking) WriteTo(w io.Writer) (int64, error) {
	_, _ = io.WriteString(w, "Subject: half\r\n")
	panic("out of luck")
}

// TestS13StalledReader: a peer that stops reading the message does not hold us
// for ever.
func TestS13StalledReader(t *testing.T) {
	huge := text(strings.Repeat("0123456789\r\n", 2<<20))
	bothWays(t, []script{{"body": "!stall"}}, func(t *testing.T, p *peer, r Route) {
		r.WriteTimeout = 200 * time.Millisecond
		f := newForwarder(t, r)
		start := time.Now()
		env := envelope(t, "a@example.com")
		p.offers = without(allOffers, "SIZE")
		check(t, deliver(t, f, env, huge), "deferred 451 4.4.2 connection failed while sending the message: no answer in time")
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// TestS14EndlessReply: replies have a limit in every direction.
func TestS14EndlessReply(t *testing.T) {
	replies := map[string]string{
		"8 MB in one line": strings.Repeat("220-", 2<<20),
		"many lines":       strings.Repeat("220-x\r\n", 1<<18) + "220 x",
		"66 kB":            strings.Repeat("220-"+strings.Repeat("x", 1000)+"\r\n", 66) + "220 x",
		"101 lines":        strings.Repeat("220-x\r\n", 100) + "220 x",
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			for _, at := range []string{"banner", "RCPT", "dot"} {
				text := reply
				if at != "banner" {
					text = strings.ReplaceAll(reply, "220", "250")
				}
				bothWays(t, []script{{at: text}}, func(t *testing.T, p *peer, r Route) {
					f := newForwarder(t, r)
					check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.5.0 protocol error while…")
				})
			}
		})
	}
}

// TestS14SlowReply: a reply that comes byte by byte has no more time than one
// that comes at once.
func TestS14SlowReply(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		for {
			if _, err := server.Write([]byte("2")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	l := testLink(client)
	start := time.Now()
	_, err := l.reply(200 * time.Millisecond)
	if err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestS15SurplusReply: a reply that was not asked for is not the answer to the
// next command.
func TestS15SurplusReply(t *testing.T) {
	const surplus = "deferred 451 4.5.0 protocol error while…"
	tests := []struct {
		name   string
		script script
		want   string
	}{
		{"behind the greeting", script{"banner": "220 hi\r\n250 SIZE 1"}, surplus},
		{"behind EHLO", script{"EHLO": "250 peer\r\n250 ok", "LHLO": "250 peer\r\n250 ok"}, surplus},
		{"DATA refused, but 354 came before", script{"RCPT": "250 ok\r\n354 go\r\n250 queued", "DATA": "554 5.7.1 no"}, surplus},
		{"behind MAIL", script{"MAIL": "250 ok\r\n550 5.1.1 who?"}, surplus},
		{"behind DATA", script{"DATA": "354 go\r\n250 queued", "dot": "554 5.7.1 no"}, surplus},
		{"behind the message", script{"dot": "250 2.0.0 queued\r\n250 2.0.0 again"}, sent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, offers := range [][]string{allOffers, nil} {
				bothWays(t, []script{tt.script}, func(t *testing.T, p *peer, r Route) {
					p.offers = offers
					f := newForwarder(t, r)
					for range 2 {
						check(t, deliver(t, f, envelope(t, "a@example.com"), hello), tt.want)
					}
					if n := len(p.commands()); n != 2 {
						t.Errorf("%d connections, want 2: none may be kept", n)
					}
				})
			}
		})
	}
}

// TestS15Say: no command is sent while a reply waits to be read.
func TestS15Say(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_, _ = server.Write([]byte("250 ok\r\n250 again\r\n"))
		_, _ = io.Copy(io.Discard, server)
	}()
	l := testLink(client)
	if _, err := l.reply(time.Second); err != nil {
		t.Fatal(err)
	}
	var p protocolError
	if err := l.say([]byte("NOOP\r\n")); !errors.As(err, &p) {
		t.Errorf("got %v", err)
	}
	if l.quiet() {
		t.Error("the link is quiet")
	}
}

func testLink(c net.Conn) *link {
	return &link{raw: c, conn: c, in: newReader(c), patience: time.Second}
}
