package proxy

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func TestStopIdleSessions(t *testing.T) {
	g := start(t, nil)
	idle, inMail, silent := g.hello(), g.envelope(), g.greeted()
	silent.send("EH") // half a command is no work
	began := time.Now()
	g.stop()
	for _, c := range []*client{idle, inMail, silent} {
		c.expect("421 4.3.2")
		c.expectClosed()
	}
	g.waitEnd()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := net.Dial("tcp", g.srv.Addr().String()); err == nil {
		t.Error("the socket is still open")
	}
}

// Q11: who is inside a message may end it.
func TestStopInsideMessage(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	c.do("DATA", "354")
	c.send("Subject: x\r\n")
	g.stop()
	poll(t, "stop", func() bool {
		g.srv.mu.Lock()
		defer g.srv.mu.Unlock()
		return g.srv.stopping
	})
	c.send("\r\nbody\r\n.\r\n")
	c.expect("250 2.0.0")
	c.expect("421 4.3.2")
	g.waitEnd()
	if n := len(g.store.messages()); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestStopWhileJudging(t *testing.T) {
	g := start(t, nil)
	judging, judged := make(chan struct{}), make(chan struct{})
	g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
		close(judging)
		<-judged
		return mail.Verdict{}
	}
	c := g.envelope()
	c.do("DATA", "354")
	c.send(simple + ".\r\n")
	<-judging
	g.stop()
	close(judged)
	c.expect("250 2.0.0")
	c.expect("421 4.3.2")
}

// When the grace time is over there is no 250 any more.
func TestStopCutsOff(t *testing.T) {
	short := func(c *Config, _ *gate) { c.Grace = 50 * time.Millisecond }
	t.Run("inside a message", func(t *testing.T) {
		g := start(t, short)
		c := g.envelope()
		c.do("DATA", "354")
		c.send("Subject: x\r\n")
		g.stop()
		c.expect("421 4.3.2")
		c.expectClosed()
		g.waitEnd()
		if n := len(g.store.messages()); n != 0 {
			t.Errorf("%d messages kept", n)
		}
	})
	t.Run("while judging", func(t *testing.T) {
		g := start(t, short)
		judging := make(chan struct{})
		g.handler.message = func(ctx context.Context, _ *mail.Transaction) mail.Verdict {
			close(judging)
			<-ctx.Done()
			return mail.Verdict{}
		}
		c := g.envelope()
		c.do("DATA", "354")
		c.send(simple + ".\r\n")
		<-judging
		g.stop()
		g.waitEnd()
		c.noSuccess()
		if n := len(g.store.messages()); n != 0 {
			t.Errorf("%d messages kept", n)
		}
	})
	t.Run("while committing", func(t *testing.T) {
		g := start(t, func(c *Config, g *gate) {
			short(c, g)
			g.store.commits = make(chan struct{})
		})
		c := g.envelope()
		c.do("DATA", "354")
		c.send(simple + ".\r\n")
		poll(t, "the question", func() bool { return g.handler.count("message") == 1 })
		g.stop()
		g.waitEnd()
		c.noSuccess()
		if n := len(g.store.messages()); n != 0 {
			t.Errorf("%d messages kept", n)
		}
	})
}

// noSuccess reads to the end and wants no 250.
func (c *client) noSuccess() {
	c.t.Helper()
	for {
		r, err := c.reply()
		if err != nil {
			return
		}
		if strings.HasPrefix(r, "2") {
			c.t.Errorf("got %q", r)
		}
	}
}

// A hundred sessions inside DATA: each is queued and told so, or neither.
func TestStopUnderLoad(t *testing.T) {
	g := start(t, func(c *Config, _ *gate) { c.Grace = 1500 * time.Millisecond })
	const n = 100
	var clients []*client
	for range n {
		c := g.envelope()
		c.do("DATA", "354")
		clients = append(clients, c)
	}
	g.stop()
	told := make(chan bool, n)
	for i, c := range clients {
		go func() {
			text := simple + ".\r\n"
			if i%2 == 1 {
				text = simple // never ends
			}
			_, _ = c.conn.Write([]byte(text))
			r, err := c.reply()
			told <- err == nil && strings.HasPrefix(r, "250")
		}()
	}
	queued := 0
	for range n {
		if <-told {
			queued++
		}
	}
	g.waitEnd()
	if kept := len(g.store.messages()); kept != queued || queued != n/2 {
		t.Errorf("%d kept, %d answered 250, want %d", kept, queued, n/2)
	}
}

// The handler is told of every end exactly once.
func TestHandlerLifecycle(t *testing.T) {
	g := start(t, nil)
	c := g.envelope()
	c.do("RSET", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("EHLO c.example", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250")
	c.do("MAIL FROM:<s@a.example>", "250")
	c.do("QUIT", "221")
	g.waitIdle()
	for what, want := range map[string]int{"connect": 1, "helo": 2, "mail": 4, "rcpt": 2, "data": 1, "message": 1, "abort": 3, "close": 1} {
		if got := g.handler.count(what); got != want {
			t.Errorf("%s: %d times, want %d", what, got, want)
		}
	}
}
