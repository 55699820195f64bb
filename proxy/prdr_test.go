package proxy

import (
	"context"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// A client that asks for it hears what becomes of its message for each
// recipient, and only those are kept who take it.
func TestPRDR(t *testing.T) {
	refuse := mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "no"}}
	later := mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 451, Detail: "7.1", Text: "later"}}
	hold := mail.Verdict{Action: mail.Quarantine, Reason: "held"}
	for _, tt := range []struct {
		name    string
		asks    string
		verdict []mail.Verdict // nil: one for all
		answers []string
		kept    string
	}{
		{"each its own", " PRDR", []mail.Verdict{{}, refuse, later, hold}, []string{"353", "250 2.1.5", "550 5.7.1 no", "451 4.7.1 later", "250 2.1.5", "250 2.0.0 queued"}, "a/queue d/hold"},
		{"in small letters", " prdr", []mail.Verdict{refuse, {}, {}, {}}, []string{"353", "550", "250", "250", "250", "250 2.0.0 queued"}, "b,c,d/queue"},
		{"not asked for", "", []mail.Verdict{{}, refuse, hold, {}}, []string{"250 2.0.0 queued"}, "a,d/queue b/hold c/hold"},
		{"all the same", " PRDR", nil, []string{"250 2.0.0 queued"}, "a,b,c,d/queue"},
		{"nobody", " PRDR", []mail.Verdict{refuse, refuse, later, refuse}, []string{"353", "550", "550", "451", "550", "451 4.7.1 taken for no recipient"}, ""},
		{"refused in different words", " PRDR", []mail.Verdict{refuse, refuse, refuse, refuse}, []string{"353", "550", "550", "550", "550", "550 5.7.1 refused for all"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, nil)
			g.handler.message = func(context.Context, *mail.Transaction) mail.Verdict {
				return mail.Verdict{Action: mail.Accept, Recipients: tt.verdict}
			}
			c := g.hello()
			c.do("MAIL FROM:<s@a.example>"+tt.asks, "250")
			for _, u := range []string{"a", "b", "c", "d"} {
				c.do("RCPT TO:<"+u+"@b.example>", "250")
			}
			c.do("DATA", "354")
			c.send(simple + ".\r\n")
			for _, want := range tt.answers {
				c.expect(want)
			}
			c.do("NOOP", "250") // nothing is left over
			var got []string
			for _, m := range g.store.messages() {
				var to []string
				for _, r := range m.Envelope.Recipients {
					to = append(to, r.Local)
				}
				got = append(got, strings.Join(to, ",")+"/"+string(m.State))
				if _, there := m.Envelope.Sender.Arg("PRDR"); there {
					t.Error("PRDR is kept: it would be asked for again")
				}
			}
			if strings.Join(got, " ") != tt.kept {
				t.Errorf("kept %s, want %s", strings.Join(got, " "), tt.kept)
			}
		})
	}
}

// A single recipient has the answer of the message, and PRDR takes no value.
func TestPRDRSyntax(t *testing.T) {
	g := start(t, nil)
	c := g.hello()
	c.do("MAIL FROM:<s@a.example> PRDR=yes", "501")
	c.do("MAIL FROM:<s@a.example> PRDR", "250")
	c.do("RCPT TO:<u@b.example>", "250")
	c.do("DATA", "354")
	c.do(simple+".", "250 2.0.0 queued")
	c.do("NOOP", "250")
}
