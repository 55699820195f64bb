package proxy

import (
	"testing"
	"time"

	"gatepost/internal/mail"
)

const early = "EHLO x.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n" + simple + ".\r\nQUIT\r\n"

// A client that talks before the banner may go on, and the filters hear of it.
func TestPregreetIsAFact(t *testing.T) {
	facts := make(chan bool, 2)
	g := start(t, func(c *Config, _ *gate) { c.GreetPause, c.Pregreet = 300*time.Millisecond, PregreetScore })
	g.handler.mailFrom = func(tx *mail.Transaction) mail.Verdict {
		facts <- tx.Session.Pregreet
		return mail.Verdict{}
	}
	c := g.dial()
	c.send(early)
	for _, want := range []string{"220", "250", "250", "250", "354", "250", "221"} {
		c.expect(want)
	}
	c = g.dial()
	c.expect("220")
	c.send(early)
	for _, want := range []string{"250", "250", "250", "354", "250", "221"} {
		c.expect(want)
	}
	if first, second := <-facts, <-facts; !first || second {
		t.Errorf("pregreet = %v, then %v", first, second)
	}
}

// GreetPause: entries go before the listener's own pause, in both directions.
func TestPausesOfAccess(t *testing.T) {
	for _, tt := range []struct {
		name     string
		pause    time.Duration
		own      time.Duration
		ok       bool
		pregreet bool
	}{
		{"nothing is said", 10 * time.Second, 0, false, true},
		{"none for this client", 10 * time.Second, 0, true, false},
		{"for this client only", 0, 10 * time.Second, true, true},
		{"none at all", 0, 0, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, func(c *Config, _ *gate) { c.GreetPause = tt.pause })
			g.srv.deps.Pauses = func(s *mail.Session) (time.Duration, bool) {
				if !s.Client.IsValid() {
					t.Error("no client")
				}
				return tt.own, tt.ok
			}
			g.run()
			c := g.dial()
			c.send(early)
			if tt.pregreet {
				c.expect("554 5.5.0")
				c.expectClosed()
				return
			}
			c.expect("220")
		})
	}
}
