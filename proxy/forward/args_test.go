package forward

import (
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// TestArguments: what is passed on to which next hop, and what is refused.
func TestArguments(t *testing.T) {
	const needsUTF8 = "bounced 550 5.6.7 the next hop does not offer SMTPUTF8, which this message needs"
	full := []string{"BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+2B314", "SIZE=99999", "AUTH=<>"}
	rcpt := []string{"NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;B+2Bob@example.com"}
	tests := []struct {
		name       string
		offers     []string
		sender     string
		args       []string
		rcpt       string
		rcptArgs   []string
		mail, line string // commands as the next hop sees them; "" for none
		want       string
		dsn        bool
	}{
		{name: "nothing offered", sender: "s@example.org", args: full, rcpt: "b@example.com", rcptArgs: rcpt,
			mail: "MAIL FROM:<s@example.org>", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "all offered", offers: allOffers, sender: "s@example.org", args: full, rcpt: "b@example.com", rcptArgs: rcpt,
			mail: "MAIL FROM:<s@example.org> SIZE=36 BODY=8BITMIME RET=HDRS ENVID=QQ+2B314",
			line: "RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bob@example.com", want: sent, dsn: true},
		{name: "DSN not offered", offers: without(allOffers, "DSN"), sender: "s@example.org", args: full, rcpt: "b@example.com", rcptArgs: rcpt,
			mail: "MAIL FROM:<s@example.org> SIZE=36 BODY=8BITMIME", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "8BITMIME not offered: just send eight bits", offers: without(allOffers, "8BITMIME"), sender: "s@example.org", args: full, rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36 RET=HDRS ENVID=QQ+2B314", line: "RCPT TO:<b@example.com>", want: sent, dsn: true},
		{name: "in lower case", offers: []string{"size", "8bitmime"}, sender: "s@example.org", args: []string{"body=8bitmime"}, rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36 BODY=8BITMIME", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "exactly as large as allowed", offers: []string{"SIZE 36"}, sender: "s@example.org", rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "too large", offers: []string{"SIZE 35"}, sender: "s@example.org", rcpt: "b@example.com",
			want: "bounced 552 5.3.4 the message has 36 bytes, the next hop takes 35"},
		{name: "SIZE 0 is no limit", offers: []string{"SIZE 0"}, sender: "s@example.org", rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "SIZE of nonsense", offers: []string{"SIZE -1x"}, sender: "s@example.org", rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "C11 SMTPUTF8 asked for", offers: []string{"SMTPUTF8"}, sender: "s@example.org", args: []string{"SMTPUTF8"}, rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SMTPUTF8", line: "RCPT TO:<b@example.com>", want: sent},
		{name: "C11 non-ASCII recipient", offers: []string{"SMTPUTF8"}, sender: "s@example.org", rcpt: "bób@bücher.example",
			mail: "MAIL FROM:<s@example.org> SMTPUTF8", line: "RCPT TO:<bób@bücher.example>", want: sent},
		{name: "C11 non-ASCII recipient, not offered", sender: "s@example.org", rcpt: "bób@example.com", want: needsUTF8},
		{name: "arguments that are more than one", offers: allOffers, sender: "s@example.org", args: []string{"ENVID=a b", "RET=FULL\r\nDATA"},
			rcpt: "b@example.com", rcptArgs: []string{"NOTIFY=NEVER ORCPT=x", "ORCPT=rfc822;bób@example.com"},
			mail: "MAIL FROM:<s@example.org> SIZE=36", line: "RCPT TO:<b@example.com>", want: sent, dsn: true},
		{name: "an argument without end", offers: allOffers, sender: "s@example.org", args: []string{"ENVID=" + strings.Repeat("x", 501)}, rcpt: "b@example.com",
			mail: "MAIL FROM:<s@example.org> SIZE=36", line: "RCPT TO:<b@example.com>", want: sent, dsn: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := startPeer(t, &peer{offers: tt.offers})
			f := newForwarder(t, quick(p.url()))
			env := mail.Envelope{Sender: mailPath(t, tt.sender, tt.args...), Recipients: []mail.Path{mailPath(t, tt.rcpt, tt.rcptArgs...)}}
			outs := deliver(t, f, env, hello)
			check(t, outs, tt.want)
			if outs[0].DSN != tt.dsn {
				t.Errorf("DSN = %v, want %v", outs[0].DSN, tt.dsn)
			}
			if got := find(p, "MAIL"); got != tt.mail {
				t.Errorf("got  %q\nwant %q", got, tt.mail)
			}
			if got := find(p, "RCPT"); got != tt.line {
				t.Errorf("got  %q\nwant %q", got, tt.line)
			}
			for _, m := range p.got() {
				if m.data != string(hello) {
					t.Errorf("the peer got %q", m.data)
				}
			}
		})
	}
}

// TestLMTPArguments pass through go-smtp's client, which prints them its way.
func TestLMTPArguments(t *testing.T) {
	p := startPeer(t, &peer{lmtp: true, offers: allOffers})
	f := newForwarder(t, quick(p.url()))
	env := mail.Envelope{
		Sender:     mailPath(t, "s@example.org", "RET=hdrs", "ENVID=QQ+2B314"),
		Recipients: []mail.Path{mailPath(t, "b@example.com", "NOTIFY=success,DELAY", "ORCPT=rfc822;B+2Bob@example.com")},
	}
	outs := deliver(t, f, env, hello)
	check(t, outs, sent)
	if !outs[0].DSN {
		t.Error("DSN = false")
	}
	if got, want := find(p, "MAIL"), "MAIL FROM:<s@example.org> BODY=8BITMIME SIZE=36 RET=HDRS ENVID=QQ+2B314"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, want := find(p, "RCPT"), "RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=RFC822;B+2Bob@example.com"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	f2 := newForwarder(t, quick(startPeer(t, &peer{lmtp: true, offers: []string{"SIZE 35"}}).url()))
	check(t, deliver(t, f2, env, hello), "bounced 552 5.3.4 …")
	env.Sender = mailPath(t, "é@example.org")
	check(t, deliver(t, f2, env, hello), "bounced 550 5.6.7…")
}

// TestPipelining: with it the envelope goes in one write, without it command by
// command.
func TestPipelining(t *testing.T) {
	for _, tt := range []struct {
		offers []string
		want   int
	}{{allOffers, 1}, {without(allOffers, "PIPELINING"), 4}} {
		p := startPeer(t, &peer{offers: tt.offers})
		f := newForwarder(t, quick(p.url()))
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
		h := firstHost(f)
		count := &countingConn{Conn: h.idle[0].conn}
		h.idle[0].conn = count
		check(t, deliver(t, f, envelope(t, "a@example.com", "b@example.com"), hello), sent, sent)
		if got := count.writes - 1; got != tt.want { // the last is the message
			t.Errorf("%v: %d writes, want %d", tt.offers, got, tt.want)
		}
		if n := len(p.commands()); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	}
}

func find(p *peer, verb string) string {
	for _, d := range p.commands() {
		for _, c := range d {
			if strings.HasPrefix(c, verb) {
				return c
			}
		}
	}
	return ""
}
