package child_test

import (
	"strings"
	"testing"
	"time"

	"gatepost/filters/child"
	"gatepost/internal/mail"

	gomilter "github.com/emersion/go-milter"
)

// unknown is a command that the proxy doesn't know.
func (s *smtp) unknown(line string) mail.Verdict {
	s.tx.Stage = mail.StageHelo
	if s.tx.ID != "" {
		s.tx.Stage = mail.StageMail
	}
	return mail.Unknown(s.t.Context(), s.h, s.tx, line)
}

func TestUnknownCommands(t *testing.T) {
	tests := []struct {
		name   string
		answer []byte
		action mail.Action
		reply  string
	}{
		{"continue", cont, mail.Continue, ""},
		{"its own words", reply("502 5.7.0 100%% forbidden"), mail.Reject, "502 5.7.0 100% forbidden"},
		{"for now", reply("450 4.7.0 not yet"), mail.TempFail, "450 4.7.0 not yet"},
		{"reject", reject, mail.Reject, ""},
		{"tempfail", tempfail, mail.TempFail, ""},
		{"shutdown", []byte{0, 0, 0, 1, '4'}, mail.TempFail, "421 4.4.2 Service unavailable, closing connection"},
		{"accept says nothing", accept, mail.Continue, ""},
		{"discard says nothing", discard, mail.Continue, ""},
		{"it goes away", closing, mail.Continue, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c1, c2 := newScript(t, at("U", tt.answer)), newScript(t, nil)
			m, _ := multiplexer(t, named{"c1", c1.config()}, named{"c2", c2.config()})
			s := session(t, m)
			s.greet()
			want(t, "before a message", s.unknown("XYZZY  plugh"), tt.action, tt.reply)
			s.mail("a@example.net")
			want(t, "within one", s.unknown("TURN"), tt.action, tt.reply)
			events := "C client.example.net 4 192.0.2.1:4025; H helo.example.net; U XYZZY  plugh; M <a@example.net>; U TURN"
			if tt.name == "it goes away" { // it is told again what it missed
				events = strings.Replace(events, "; M", "; C client.example.net 4 192.0.2.1:4025; H helo.example.net; M", 1)
			}
			if got := c1.log("CHUM"); got != events {
				t.Errorf("c1 saw %q, want %q", got, events)
			}
			if got, second := c2.log("U"), "U XYZZY  plugh; U TURN"; (got == second) != (tt.action < mail.TempFail) {
				t.Errorf("c2 saw %q", got)
			}
			if tt.name == "it goes away" {
				return // and then it is out of this message
			}
			want(t, "recipient", s.rcpt("r@example.com"), mail.Accept, "")
			want(t, "the message goes on", s.data(plain), mail.Accept, "")
			if c1.connections() != 1 {
				t.Errorf("%d connections", c1.connections())
			}
		})
	}
}

func TestWhoHearsOfUnknownCommands(t *testing.T) {
	deaf := newScript(t, nil)
	deaf.neg.Protocol |= gomilter.OptNoUnknown
	old := newScript(t, nil)
	old.neg.Version, old.neg.Protocol = 2, 0
	hears := newScript(t, nil)
	scored, shadow, elsewhere := hears.config(), hears.config(), hears.config()
	scored.Vote = child.Vote{Mode: child.Score, Score: 1}
	shadow.Vote = child.Vote{Mode: child.Shadow}
	elsewhere.Listeners = []string{"other"}
	tests := []struct {
		name   string
		cfg    child.Config
		before bool // it may want to, as long as it wasn't asked
		after  bool
	}{
		{"one that wants to", hears.config(), true, true},
		{"one that declined", deaf.config(), true, false},
		{"one of version 2", old.config(), true, false},
		{"a score has no place for it", scored, false, false},
		{"nor has a shadow", shadow, false, false},
		{"not where its conditions don't hold", elsewhere, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := multiplexer(t, named{"c1", tt.cfg})
			if got := m.HearsUnknown(); got != tt.before {
				t.Errorf("before: %t", got)
			}
			hears.forget()
			s := session(t, m)
			s.greet()
			want(t, "unknown", s.unknown("XYZZY"), mail.Continue, "")
			if got := m.HearsUnknown(); got != tt.after {
				t.Errorf("after: %t", got)
			}
			all := deaf.log("U") + old.log("U") + hears.log("U")
			if told := tt.name == "one that wants to"; told != (all == "U XYZZY") || !told && all != "" {
				t.Errorf("told: %q", all)
			}
		})
	}
}

// A milter that hangs at an unknown command costs its own time, and its part in
// the message only.
func TestUnknownCommandThatHangs(t *testing.T) {
	c1 := newScript(t, at("U", hang))
	slow := c1.config()
	slow.Timeout = 100 * time.Millisecond
	m, _ := multiplexer(t, named{"c1", slow})
	s := session(t, m)
	s.greet()
	s.mail("a@example.net")
	want(t, "unknown", s.unknown("XYZZY"), mail.Continue, "")
	want(t, "its failure counts for the message", s.rcpt("r@example.com"), mail.TempFail, later)
	s.h.Abort(s.tx)
	want(t, "the next message", s.send(plain), mail.Accept, "")
}
