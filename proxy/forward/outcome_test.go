package forward

import (
	"strings"
	"testing"
	"time"
)

// TestOutcomes says what becomes of two recipients, a@example.com and
// b@example.com, for every way a next hop may answer. Each row runs with and
// without PIPELINING, and over LMTP.
func TestOutcomes(t *testing.T) {
	const sent = "sent 250 2.0.0 queued"
	const a, b = "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>"
	tests := []struct {
		name   string
		script script
		want   [2]string
		lmtp   *[2]string // where it differs
		kept   bool       // the connection may take the next message
	}{
		{name: "accepted", want: [2]string{sent, sent}, kept: true},
		{name: "Q9 one deferred at RCPT", script: script{a: "450 4.2.1 later"},
			want: [2]string{"deferred 450 4.2.1 later", sent}, kept: true},
		{name: "one refused at RCPT", script: script{b: "550 5.1.1 who?"},
			want: [2]string{sent, "bounced 550 5.1.1 who?"}, kept: true},
		{name: "both refused at RCPT", script: script{"RCPT": "550 5.1.1 who?"},
			want: [2]string{"bounced 550 5.1.1 who?", "bounced 550 5.1.1 who?"}, kept: true},
		{name: "both refused, DATA accepted (RFC 2920 3.1)", script: script{a: "550 5.1.1 a?", b: "450 4.1.1 b?", "DATA": "354 go", "dot": "554 5.5.1 nobody"},
			want: [2]string{"bounced 550 5.1.1 a?", "deferred 450 4.1.1 b?"}, kept: true},
		{name: "452 too many recipients", script: script{b: "452 4.5.3 too many"},
			want: [2]string{sent, "deferred 452 4.5.3 too many"}, kept: true},
		{name: "552 too many recipients", script: script{b: "552 too many"},
			want: [2]string{sent, "deferred 452 too many"}, kept: true},
		{name: "552 mailbox full", script: script{b: "552 5.2.2 full"},
			want: [2]string{sent, "bounced 552 5.2.2 full"}, kept: true},
		{name: "251 forwarded", script: script{a: "251 will forward"}, want: [2]string{sent, sent}, kept: true},
		{name: "reply without text", script: script{a: "550"}, want: [2]string{"bounced 550", sent}, kept: true},
		{name: "reply of several lines", script: script{a: "550-5.7.1 one\r\n550 5.7.1 two"},
			want: [2]string{"bounced 550 5.7.1 one two", sent}, kept: true},
		{name: "enhanced code of another class", script: script{a: "550 4.7.1 odd"},
			want: [2]string{"bounced 550 4.7.1 odd", sent}, kept: true},
		{name: "MAIL deferred", script: script{"MAIL": "451 4.3.0 later"},
			want: [2]string{"deferred 451 4.3.0 later", "deferred 451 4.3.0 later"}, kept: true},
		{name: "MAIL refused", script: script{"MAIL": "550 5.7.1 not you"},
			want: [2]string{"bounced 550 5.7.1 not you", "bounced 550 5.7.1 not you"}, kept: true},
		{name: "DATA deferred", script: script{a: "550 5.1.1 who?", "DATA": "451 4.3.0 later"},
			want: [2]string{"bounced 550 5.1.1 who?", "deferred 451 4.3.0 later"}, kept: true},
		{name: "DATA refused", script: script{"DATA": "554 5.7.1 no"},
			want: [2]string{"bounced 554 5.7.1 no", "bounced 554 5.7.1 no"}, kept: true},
		{name: "Q9 message refused", script: script{a: "450 4.2.1 later", "dot": "554 5.7.1 spam"},
			want: [2]string{"deferred 450 4.2.1 later", "bounced 554 5.7.1 spam"}, kept: true},
		{name: "message deferred", script: script{"dot": "452 4.3.1 disk full"},
			want: [2]string{"deferred 452 4.3.1 disk full", "deferred 452 4.3.1 disk full"}, kept: true},
		{name: "Q9 accepted, then reset", script: script{"dot": "250 2.0.0 queued!reset"}, want: [2]string{sent, sent}, kept: true,
			lmtp: &[2]string{sent, "deferred 451 4.4.2 connection failed while waiting…"}},
		{name: "Q9 421 to MAIL", script: script{"MAIL": "421 4.3.2 bye!close"},
			want: [2]string{"deferred 421 4.3.2 bye", "deferred 421 4.3.2 bye"}},
		{name: "Q9 421 to RCPT", script: script{b: "421 4.3.2 bye!close"},
			want: [2]string{"deferred 421 4.3.2 bye", "deferred 421 4.3.2 bye"}},
		{name: "421 to RCPT after a refusal", script: script{a: "550 5.1.1 who?", b: "421 4.3.2 bye!close"},
			want: [2]string{"bounced 550 5.1.1 who?", "deferred 421 4.3.2 bye"}},
		{name: "Q9 421 to DATA", script: script{"DATA": "421 4.3.2 bye!close"},
			want: [2]string{"deferred 421 4.3.2 bye", "deferred 421 4.3.2 bye"}},
		{name: "Q9 421 to the message", script: script{"dot": "421 4.3.2 bye!close"},
			want: [2]string{"deferred 421 4.3.2 bye", "deferred 421 4.3.2 bye"}},
		{name: "closed at MAIL", script: script{"MAIL": "!close"},
			want: [2]string{"deferred 451 4.4.2 connection failed while…", "deferred 451 4.4.2 connection failed while…"}},
		{name: "closed in the message", script: script{"body": "!reset"},
			want: [2]string{"deferred 451 4.4.2 connection failed while…", "deferred 451 4.4.2 connection failed while…"}},
		{name: "Q8 closed after the message", script: script{"dot": "!close"},
			want: [2]string{"deferred 451 4.4.2 connection failed while…", "deferred 451 4.4.2 connection failed while…"}},
		{name: "Q9 garbage to MAIL", script: script{"MAIL": "hello!"},
			want: [2]string{"deferred 451 4.5.0 protocol error while…", "deferred 451 4.5.0 protocol error while…"}},
		{name: "Q9 garbage to the message", script: script{"dot": "\x00\xff\x1b]0;x"},
			want: [2]string{"deferred 451 4.5.0 protocol error while…", "deferred 451 4.5.0 protocol error while…"}},
		{name: "two codes in one reply", script: script{b: "250-ok\r\n550 no"},
			want: [2]string{"deferred 451 4.5.0 protocol error while…", "deferred 451 4.5.0 protocol error while…"}},
		{name: "354 to RCPT", script: script{b: "354 go"},
			want: [2]string{"deferred 451 4.5.0 protocol error while…", "deferred 451 4.5.0 protocol error while…"}},
		{name: "250 to DATA", script: script{"DATA": "250 ok"},
			want: [2]string{"deferred 451 4.5.0 protocol error while…", "deferred 451 4.5.0 protocol error while…"}},
		{name: "no answer to RCPT", script: script{b: "!hang"},
			want: [2]string{"deferred 451 4.4.2 connection failed while waiting for the answer to RCPT: no answer in time", "deferred 451 4.4.2 connection…"},
			lmtp: &[2]string{"deferred 451 4.4.2 connection failed while sending RCPT: no answer in time", "deferred 451 4.4.2 connection…"}},
		{name: "no answer to the message", script: script{"dot": "!hang"},
			want: [2]string{"deferred 451 4.4.2 connection failed while waiting for the answer to the message: no answer in time", "deferred 451 4.4.2 connection…"}},
	}
	modes := []struct {
		name   string
		lmtp   bool
		offers []string
	}{
		{"pipelining", false, allOffers},
		{"one by one", false, without(allOffers, "PIPELINING")},
		{"bare", false, nil},
		{"lmtp", true, allOffers},
	}
	for _, mode := range modes {
		for _, tt := range tests {
			t.Run(mode.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				p := startPeer(t, &peer{lmtp: mode.lmtp, offers: mode.offers, scripts: []script{tt.script}})
				r := quick(p.url())
				if strings.HasPrefix(tt.name, "no answer") {
					r.CommandTimeout, r.DataTimeout = time.Second, time.Second
				}
				f := newForwarder(t, r)
				outs := deliver(t, f, envelope(t, "a@example.com", "b@example.com"), hello)
				want := tt.want
				if mode.lmtp && tt.lmtp != nil {
					want = *tt.lmtp
				}
				check(t, outs, want[:]...)
				for _, o := range outs {
					if o.Remote != "127.0.0.1[127.0.0.1]"+strings.TrimPrefix(p.ln.Addr().String(), "127.0.0.1") || o.TLS != "" {
						t.Errorf("remote %q, tls %q", o.Remote, o.TLS)
					}
				}
				if n := len(p.commands()); n != 1 {
					t.Errorf("%d connections, want 1", n)
				}
				for _, m := range p.got() {
					if m.data != string(hello) {
						t.Errorf("the peer got %q", m.data)
					}
				}
				if n := idle(f); n > 0 && !tt.kept {
					t.Error("the connection is kept")
				}
			})
		}
	}
}

// TestLMTPPerRecipient: over LMTP each recipient has its own answer to the
// message.
func TestLMTPPerRecipient(t *testing.T) {
	p := startPeer(t, &peer{lmtp: true, offers: allOffers, scripts: []script{{
		"dot <b@example.com>": "452 4.2.2 full",
		"dot <c@example.com>": "550-5.7.1 no,\r\n550 5.7.1 really",
	}}})
	f := newForwarder(t, quick(p.url()))
	for range 2 {
		check(t, deliver(t, f, envelope(t, "a@example.com", "b@example.com", "c@example.com"), hello),
			"sent 250 2.0.0 queued", "deferred 452 4.2.2 full", "bounced 550 5.7.1 no, really")
	}
	if n := len(p.commands()); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestCutShort: a next hop that closes in the middle of the message, and says
// why, is believed.
func TestCutShort(t *testing.T) {
	p := startPeer(t, &peer{offers: without(allOffers, "SIZE"), scripts: []script{{"body": "552 5.3.4 too large!close"}}})
	f := newForwarder(t, quick(p.url()))
	large := text(strings.Repeat("0123456789\r\n", 1<<20))
	check(t, deliver(t, f, envelope(t, "a@example.com"), large), "bounced 552 5.3.4 too large")
	if len(p.got()) != 0 {
		t.Error("the peer has a message")
	}
}

// TestCutShortStays: nor is its connection used again, should it not close.
func TestCutShortStays(t *testing.T) {
	p := startPeer(t, &peer{offers: without(allOffers, "SIZE"), scripts: []script{{"body": "552 5.3.4 too large!stall"}, nil}})
	r := quick(p.url())
	r.WriteTimeout = 200 * time.Millisecond
	f := newForwarder(t, r)
	large := text(strings.Repeat("0123456789\r\n", 1<<20))
	check(t, deliver(t, f, envelope(t, "a@example.com"), large), "bounced 552 5.3.4 too large")
	if n := idle(f); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "sent 250 2.0.0 queued")
	if n := len(p.commands()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	if n := idle(f); n != 1 {
		t.Errorf("%d connections are kept, want 1", n)
	}
}

// TestLMTPHangsUp in the answer for the last recipient: that one was the last of
// the connection.
func TestLMTPHangsUp(t *testing.T) {
	p := startPeer(t, &peer{lmtp: true, offers: allOffers, scripts: []script{{"dot <b@example.com>": "421 4.3.2 bye"}}})
	f := newForwarder(t, quick(p.url()))
	check(t, deliver(t, f, envelope(t, "a@example.com", "b@example.com"), hello), "sent 250 2.0.0 queued", "deferred 421 4.3.2 bye")
	if n := idle(f); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// TestEmptyMessage: data that was asked for with no recipient left is ended, and
// the connection is as good as before (RFC 2920 3.1). Without PIPELINING it is
// not asked for.
func TestEmptyMessage(t *testing.T) {
	for _, tt := range []struct {
		offers []string
		want   int
	}{{allOffers, 2}, {nil, 1}} {
		p := startPeer(t, &peer{offers: tt.offers, scripts: []script{{"RCPT TO:<no@": "550 5.1.1 who?", "DATA": "354 go"}}})
		f := newForwarder(t, quick(p.url()))
		check(t, deliver(t, f, envelope(t, "no@example.com"), hello), "bounced 550 5.1.1 who?")
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "sent 250 2.0.0 queued")
		if n := len(p.commands()); n != 1 || len(p.got()) != 1 {
			t.Errorf("%d connections and %d messages, want 1 and 1", n, len(p.got()))
		}
		if n := strings.Count(strings.Join(p.commands()[0], " ")+" ", "DATA "); n != tt.want {
			t.Errorf("%v: DATA was sent %d times, want %d", tt.offers, n, tt.want)
		}
	}
}

// TestContradiction: a peer that refuses the sender and accepts the recipients
// gets nothing, not even an empty message, and is not believed.
func TestContradiction(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers, scripts: []script{{"MAIL": "550 5.7.1 not you", "RCPT": "250 ok", "DATA": "354 go"}}})
	f := newForwarder(t, quick(p.url()))
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), "deferred 451 4.5.0 protocol error while…")
	p.stop()
	if len(p.got()) != 0 || len(p.broken()) != 1 || len(p.broken()[0]) != 0 {
		t.Errorf("the peer got %+v and %q", p.got(), p.broken())
	}
}

// TestManyRecipients: 250 of them make three transactions on one connection.
func TestManyRecipients(t *testing.T) {
	for _, offers := range [][]string{allOffers, nil} {
		p := startPeer(t, &peer{offers: offers, scripts: []script{{"RCPT TO:<u7": "550 5.1.1 no 7"}}})
		f := newForwarder(t, quick(p.url()))
		var rcpts, want []string
		long := strings.Repeat("x", 50)
		for i := range 250 {
			r := "u" + string(rune('0'+i%10)) + long + string(rune('a'+i/10)) + "@example.com"
			rcpts = append(rcpts, r)
			if i%10 == 7 {
				want = append(want, "bounced 550 5.1.1 no 7")
			} else {
				want = append(want, "sent 250 2.0.0 queued")
			}
		}
		check(t, deliver(t, f, envelope(t, rcpts...), hello), want...)
		var got []string
		for _, m := range p.got() {
			got = append(got, m.rcpts...)
		}
		if len(got) != 225 || len(p.got()) != 3 || len(p.commands()) != 1 {
			t.Errorf("%d recipients in %d messages over %d connections", len(got), len(p.got()), len(p.commands()))
		}
	}
}
