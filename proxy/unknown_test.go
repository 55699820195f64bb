package proxy

import (
	"context"
	"testing"

	"gatepost/internal/mail"
)

// curious is a handler that wants to hear of unknown commands.
type curious struct {
	*fakeHandler
	verdict func(tx *mail.Transaction, command string) mail.Verdict
}

func (c curious) Unknown(_ context.Context, tx *mail.Transaction, command string) mail.Verdict {
	c.note(tx.Stage.String() + ": " + command)
	return c.verdict(tx, command)
}

// The handler may refuse an unknown command in other words. It stays refused,
// and what was begun goes on.
func TestUnknownCommandIsPassedOn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict mail.Verdict
		want    string
	}{
		{"nothing to say", mail.Verdict{}, "500 5.5.1 unknown command"},
		{"accept is no answer", mail.Verdict{Action: mail.Accept}, "500 5.5.1 unknown command"},
		{"reject without words", mail.Verdict{Action: mail.Reject}, "500 5.5.1 unknown command"},
		{"its words", mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 502, Detail: "7.0", Text: "not here"}}, "502 5.7.0 not here"},
		{"for now", mail.Verdict{Action: mail.TempFail}, "451 4.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, nil)
			h := curious{g.handler, func(*mail.Transaction, string) mail.Verdict { return tt.verdict }}
			g.srv.deps.NewHandler = func() mail.Handler { return h }
			g.run()
			c := g.greeted()
			c.do("XYZZY  plugh", tt.want)
			c.run([]step{{"EHLO c.example", "250"}, {"MAIL FROM:<s@a.example>", "250"}, {"TURN", tt.want}, {"", "500"}, {"RCPT TO:<u@b.example>", "250"}, {"DATA", "354"}})
			if h.count("helo: XYZZY  plugh") != 1 || h.count("mail: TURN") != 1 || h.count("mail: ") != 0 {
				t.Errorf("it heard %q", h.calls)
			}
		})
	}
}

func TestUnknownCommandCanEndTheSession(t *testing.T) {
	g := newGate(t, nil)
	h := curious{g.handler, func(_ *mail.Transaction, command string) mail.Verdict {
		if command == "PANIC" {
			panic("bug")
		}
		return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 421, Detail: "7.0", Text: "go away"}}
	}}
	g.srv.deps.NewHandler = func() mail.Handler { return h }
	g.run()
	c := g.greeted()
	c.do("PANIC", "500 5.5.1 unknown command")
	c.do("XYZZY", "421 4.7.0 go away")
	if _, err := c.r.ReadString('\n'); err == nil {
		t.Error("the connection is still open")
	}
}
