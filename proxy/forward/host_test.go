package forward

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
)

const sent = "sent 250 2.0.0 queued"

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "smtp://" + ln.Addr().String()
}

// TestFailOver says when the second host is asked.
func TestFailOver(t *testing.T) {
	tests := []struct {
		name   string
		script script
		want   string
		second bool // the second host has the message
	}{
		{"well", nil, sent, false},
		{"421 greeting", script{"banner": "421 4.3.2 busy!close"}, sent, true},
		{"554 greeting", script{"banner": "554 5.7.1 go away"}, sent, true},
		{"no greeting", script{"banner": "!close"}, sent, true},
		{"garbage greeting", script{"banner": "SSH-2.0-OpenSSH"}, sent, true},
		{"silent greeting", script{"banner": "!hang"}, sent, true},
		{"450 to EHLO", script{"EHLO": "450 4.3.2 busy"}, sent, true},
		{"5xx to EHLO and HELO", script{"EHLO": "550 no", "HELO": "550 no"}, sent, true},
		{"closed at MAIL", script{"MAIL": "!close"}, sent, true},
		{"421 to RCPT", script{"RCPT": "421 4.3.2 bye!close"}, sent, true},
		{"reset in the message", script{"body": "!reset"}, sent, true},
		{"451 to MAIL", script{"MAIL": "451 4.3.0 later"}, "deferred 451 4.3.0 later", false},
		{"450 to RCPT", script{"RCPT": "450 4.2.0 greylisted"}, "deferred 450 4.2.0 greylisted", false},
		{"451 to the message", script{"dot": "451 4.3.0 later"}, "deferred 451 4.3.0 later", false},
		{"Q8 closed after the message", script{"dot": "!close"}, "deferred 451 4.4.2…", false},
		{"421 to the message", script{"dot": "421 4.3.2 bye!close"}, "deferred 421 4.3.2 bye", false},
	}
	for _, lmtp := range []bool{false, true} {
		for _, tt := range tests {
			if lmtp && tt.script["EHLO"] != "" {
				continue
			}
			t.Run(fmt.Sprintf("lmtp=%v/%s", lmtp, tt.name), func(t *testing.T) {
				t.Parallel()
				one := startPeer(t, &peer{lmtp: lmtp, offers: allOffers, scripts: []script{tt.script}})
				two := startPeer(t, &peer{lmtp: lmtp, offers: allOffers})
				r := quick(one.url(), two.url())
				if strings.HasPrefix(tt.name, "silent") {
					r.CommandTimeout = time.Second
				}
				f := newForwarder(t, r)
				message := hello
				if tt.script["body"] != "" { // too large to be sent before the reset is seen
					message = text(strings.Repeat("0123456789\r\n", 500<<10))
				}
				check(t, deliver(t, f, envelope(t, "a@example.com"), message), tt.want)
				if got := len(two.got()) == 1; got != tt.second {
					t.Errorf("the second host has the message: %v, want %v", got, tt.second)
				}
				if n := len(one.got()) + len(two.got()); n > 1 {
					t.Errorf("%d copies", n)
				}
			})
		}
	}
}

// TestFailOverKeepsAnswers: who was refused for good by the first host is not
// asked for at the second.
func TestFailOverKeepsAnswers(t *testing.T) {
	one := startPeer(t, &peer{offers: allOffers, scripts: []script{{"RCPT TO:<a@": "550 5.1.1 who?", "RCPT TO:<b@": "421 4.3.2 bye!close"}}})
	two := startPeer(t, &peer{offers: allOffers})
	f := newForwarder(t, quick(one.url(), two.url()))
	check(t, deliver(t, f, envelope(t, "a@example.com", "b@example.com"), hello), "bounced 550 5.1.1 who?", sent)
	if got := two.got(); len(got) != 1 || !slices.Equal(got[0].rcpts, []string{"<b@example.com>"}) {
		t.Errorf("the second host got %v", got)
	}
}

// TestHealth: a host that failed is asked last for a while.
func TestHealth(t *testing.T) {
	one := startPeer(t, &peer{offers: allOffers, scripts: []script{{"banner": "421 4.3.2 busy!close"}, nil}})
	two := startPeer(t, &peer{offers: allOffers})
	f := newForwarder(t, quick(one.url(), two.url()))
	for range 3 {
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	}
	if len(one.commands()) != 1 || len(two.got()) != 3 {
		t.Errorf("%d connections to the first, %d messages at the second", len(one.commands()), len(two.got()))
	}
	two.stop() // the last is better than none
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	if len(one.got()) != 1 {
		t.Error("the first did not get the fourth message")
	}
}

func TestNobodyAnswers(t *testing.T) {
	f := newForwarder(t, quick(nobody(t), nobody(t)))
	outs := deliver(t, f, envelope(t, "a@example.com", "b@example.com"), hello)
	check(t, outs, "deferred 451 4.4.1 connect to 127.0.0.1:…", "deferred 451 4.4.1 connect to 127.0.0.1:…")
	if !strings.Contains(outs[0].Reply.Text, "connection refused") || outs[0].Remote != "" {
		t.Errorf("got %q from %q", outs[0].Reply.Text, outs[0].Remote)
	}
	outs = f.Deliver(t.Context(), "gone.example", mail.Facts{ID: "ID"}, envelope(t, "a@example.com"), hello)
	check(t, outs, "deferred 451 4.4.4 no route gone.example")
}

func TestKept(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		p := startPeer(t, &peer{lmtp: lmtp, offers: allOffers})
		f := newForwarder(t, quick(p.url()))
		for range 3 {
			check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
		}
		if len(p.commands()) != 1 || len(p.got()) != 3 {
			t.Errorf("%d connections, %d messages", len(p.commands()), len(p.got()))
		}
		f.Close()
		until(t, "QUIT", func() bool { d := p.commands()[0]; return d[len(d)-1] == "QUIT" })
	}
}

// TestKeptIsDead: that a kept connection has died costs no attempt.
func TestKeptIsDead(t *testing.T) {
	tests := []struct {
		name    string
		second  script // of the first connection, from its second message on
		hangUp  bool
		want    string
		connect int
	}{
		{"closed before", nil, true, sent, 2},
		{"421 to MAIL", script{"MAIL FROM:<second": "421 4.4.2 idle too long!close"}, false, sent, 2},
		{"closed at MAIL", script{"MAIL FROM:<second": "!close"}, false, sent, 2},
		{"reset at MAIL", script{"MAIL FROM:<second": "!reset"}, false, sent, 2},
		{"closed at RCPT", script{"RCPT TO:<second": "!close"}, false, "deferred 451 4.4.2…", 1},
	}
	for _, lmtp := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("lmtp=%v/%s", lmtp, tt.name), func(t *testing.T) {
				p := startPeer(t, &peer{lmtp: lmtp, offers: allOffers, scripts: []script{tt.second, nil}})
				f := newForwarder(t, quick(p.url()))
				check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
				if tt.hangUp {
					p.hangUp()
				}
				env := envelope(t, "second@example.com")
				env.Sender = mailPath(t, "second@example.org")
				check(t, deliver(t, f, env, hello), tt.want)
				if n := len(p.commands()); n != tt.connect {
					t.Errorf("%d connections, want %d", n, tt.connect)
				}
			})
		}
	}
}

// TestQ8NoSecondCopy: a kept connection that dies after the final dot is not
// tried again in the same attempt: the next hop may have the message.
func TestQ8NoSecondCopy(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		p := startPeer(t, &peer{lmtp: lmtp, offers: allOffers, scripts: []script{{"dot <second": "!close"}, nil}})
		f := newForwarder(t, quick(p.url()))
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
		env := envelope(t, "second@example.com")
		env.Sender = mailPath(t, "second@example.org")
		check(t, deliver(t, f, env, hello), "deferred 451 4.4.2…")
		if n := len(p.got()); n != 2 {
			t.Errorf("lmtp %v: the peer has %d messages, want 2", lmtp, n)
		}
		if n := len(p.commands()); n != 1 {
			t.Errorf("lmtp %v: %d connections, want 1", lmtp, n)
		}
	}
}

// TestRetryDropsTheRest: where one kept connection is dead, the others are not
// tried, and do not count beside the new one.
func TestRetryDropsTheRest(t *testing.T) {
	old := script{"MAIL FROM:<second": "421 4.4.2 idle too long"}
	p := startPeer(t, &peer{offers: allOffers, scripts: []script{old, old, nil}})
	f := newForwarder(t, quick(p.url()))
	m := gated{hello, make(chan struct{}), make(chan struct{})}
	done := make(chan []mail.Outcome)
	go func() { done <- f.Deliver(t.Context(), ".", mail.Facts{ID: "ID"}, envelope(t, "a@example.com"), m) }()
	<-m.reading
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	close(m.gate)
	check(t, <-done, sent)
	if n := idle(f); n != 2 {
		t.Fatalf("%d connections are kept, want 2", n)
	}
	env := envelope(t, "a@example.com")
	env.Sender = mailPath(t, "second@example.org")
	check(t, deliver(t, f, env, hello), sent)
	if n := idle(f); n != 1 || len(p.commands()) != 3 {
		t.Errorf("%d of %d connections are kept, want 1 of 3", n, len(p.commands()))
	}
}

// TestQuiet: a dead connection is known without asking the peer.
func TestQuiet(t *testing.T) {
	ends := map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.Close() },
		"reset":  func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() },
		"421":    func(c net.Conn) { _, _ = c.Write([]byte("421 4.4.2 idle too long\r\n")) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			l := testLink(client)
			if !l.quiet() {
				t.Error("not quiet at first")
			}
			end(server)
			until(t, "the end is seen", func() bool { return !l.quiet() })
		})
	}
}

func TestMaxMessages(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers})
	r := quick(p.url())
	r.MaxMessages = 2
	f := newForwarder(t, r)
	for range 5 {
		check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	}
	if n := len(p.commands()); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	if d := p.commands()[0]; d[len(d)-1] != "QUIT" {
		t.Errorf("the first ended with %q", d[len(d)-1])
	}
}

func TestIdleTimeout(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers})
	r := quick(p.url())
	r.IdleTimeout = 20 * time.Millisecond
	f := newForwarder(t, r)
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	until(t, "QUIT", func() bool { d := p.commands()[0]; return d[len(d)-1] == "QUIT" })
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	if n := len(p.commands()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestReset: RSET is sent only where a transaction was left open.
func TestReset(t *testing.T) {
	for _, offers := range [][]string{allOffers, nil} {
		for _, lmtp := range []bool{false, true} {
			p := startPeer(t, &peer{lmtp: lmtp, offers: offers, scripts: []script{{"RCPT TO:<no": "550 5.1.1 no"}}})
			f := newForwarder(t, quick(p.url()))
			for _, rcpt := range []string{"a@example.com", "b@example.com", "no@example.com", "c@example.com", "d@example.com"} {
				deliver(t, f, envelope(t, rcpt), hello)
			}
			var mails []string
			for _, c := range p.commands()[0] {
				if c[:4] == "MAIL" || c == "RSET" {
					mails = append(mails, c[:4])
				}
			}
			if got := strings.Join(mails, " "); got != "MAIL MAIL MAIL RSET MAIL MAIL" {
				t.Errorf("lmtp %v, %v: %s", lmtp, offers, got)
			}
			if n := len(p.got()); n != 4 {
				t.Errorf("%d messages, want 4", n)
			}
		}
	}
}

// gated is a message that is read only when the gate opens.
type gated struct {
	text
	reading, gate chan struct{}
}

func (m gated) WriteTo(w io.Writer) (int64, error) {
	close(m.reading)
	<-m.gate
	return m.text.WriteTo(w)
}

// TestCloseUnderWay: a delivery that was under way when the Forwarder was closed
// ends well, and its connection with it.
func TestCloseUnderWay(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers})
	f := newForwarder(t, quick(p.url()))
	m := gated{hello, make(chan struct{}), make(chan struct{})}
	done := make(chan []mail.Outcome)
	go func() { done <- f.Deliver(t.Context(), ".", mail.Facts{ID: "ID"}, envelope(t, "a@example.com"), m) }()
	<-m.reading
	f.Close()
	close(m.gate)
	check(t, <-done, sent)
	if d := p.commands()[0]; d[len(d)-1] != "QUIT" {
		t.Errorf("the connection ended with %q", d[len(d)-1])
	}
}

func TestMaxConnections(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers})
	r := quick(p.url())
	r.MaxConnections = 3
	f := newForwarder(t, r)
	var wg sync.WaitGroup
	for i := range 60 {
		env := envelope(t, fmt.Sprintf("u%d@example.com", i))
		wg.Go(func() { check(t, deliver(t, f, env, hello), sent) })
	}
	wg.Wait()
	if n := len(p.commands()); n > 3 {
		t.Errorf("%d connections, want at most 3", n)
	}
	if n := len(p.got()); n != 60 {
		t.Errorf("%d messages, want 60", n)
	}
}

// TestWaitsForASlot, no longer than its context.
func TestWaitsForASlot(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers, scripts: []script{{"MAIL": "!hang"}}})
	r := quick(p.url())
	r.MaxConnections = 1
	f := newForwarder(t, r)
	long, stop := context.WithCancel(t.Context())
	done := make(chan []mail.Outcome)
	go func() { done <- f.Deliver(long, ".", mail.Facts{ID: "ONE"}, envelope(t, "a@example.com"), hello) }()
	until(t, "MAIL", func() bool { d := p.commands(); return len(d) == 1 && len(d[0]) > 1 })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	check(t, f.Deliver(short, ".", mail.Facts{ID: "TWO"}, envelope(t, "a@example.com"), hello), "deferred 451 4.3.2 the delivery was interrupted")
	stop()
	check(t, <-done, "deferred 451 4.3.2 the delivery was interrupted")
	if n := len(p.commands()); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestInterrupted at every place where a peer can keep us waiting.
func TestInterrupted(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, at := range []string{"banner", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "dot", "body"} {
			if lmtp && at == "EHLO" || !lmtp && at == "LHLO" {
				continue
			}
			t.Run(fmt.Sprintf("lmtp=%v/%s", lmtp, at), func(t *testing.T) {
				t.Parallel()
				p := startPeer(t, &peer{lmtp: lmtp, offers: allOffers, scripts: []script{{at: "!hang"}}})
				f := newForwarder(t, quick(p.url(), nobody(t)))
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				check(t, f.Deliver(ctx, ".", mail.Facts{ID: "ID"}, envelope(t, "a@example.com"), hello), "deferred 451 4.3.2 the delivery was interrupted")
			})
		}
	}
}

func TestUpdate(t *testing.T) {
	one := startPeer(t, &peer{offers: allOffers})
	two := startPeer(t, &peer{offers: allOffers})
	f := newForwarder(t, quick(one.url()))
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	if err := f.Update(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": {}}}); err == nil {
		t.Error("a bad configuration is taken")
	}
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	if err := f.Update(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": quick(two.url())}}); err != nil {
		t.Fatal(err)
	}
	if d := one.commands()[0]; d[len(d)-1] != "QUIT" {
		t.Errorf("the old connection ended with %q", d[len(d)-1])
	}
	check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
	if len(one.got()) != 2 || len(two.got()) != 1 {
		t.Errorf("%d and %d messages", len(one.got()), len(two.got()))
	}
}

// TestUpdateUnderLoad loses nothing.
func TestUpdateUnderLoad(t *testing.T) {
	p := startPeer(t, &peer{offers: allOffers})
	f := newForwarder(t, quick(p.url()))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				check(t, deliver(t, f, envelope(t, "a@example.com"), hello), sent)
			}
		})
	}
	for range 10 {
		if err := f.Update(Config{Hostname: "mx.example.net", Routes: map[string]Route{".": quick(p.url())}}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	f.Close()
	if n := len(p.got()); n != 200 {
		t.Errorf("%d messages, want 200", n)
	}
	until(t, "all connections end", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.open) == 0 })
}
