package milter

import (
	"context"
	"testing"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// hearing is a handler that wants to hear of unknown commands.
type hearing struct {
	*fakeHandler
	verdict mail.Verdict
}

func (h *hearing) Unknown(_ context.Context, tx *mail.Transaction, command string) mail.Verdict {
	h.note(tx.Stage.String() + " unknown " + command)
	return h.verdict
}

func unknown(line string) []byte { return wire.AppendText(nil, byte(wire.CodeUnknown), line) }

func hearingMTA(t *testing.T, h *hearing, hears bool) *mta {
	t.Helper()
	return dial(t, start(t, h.fakeHandler, func(_ *Config, d *Deps) {
		d.NewHandler = func() mail.Handler { return h }
		d.HearsUnknown = func() bool { return hears }
	}), full)
}

func TestServerUnknown(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict mail.Verdict
		want    string
	}{
		{"nothing to say", mail.Verdict{}, "c"},
		{"its words", mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 502, Detail: "5.1", Text: "100% no"}}, "y502 5.5.1 100%% no"},
		{"reject", mail.Verdict{Action: mail.Reject}, "r"},
		{"tempfail", mail.Verdict{Action: mail.TempFail}, "t"},
		{"what would last for a message is no answer", mail.Verdict{Action: mail.Quarantine, Reason: "why"}, "c"},
		{"nor is a discard", mail.Verdict{Action: mail.Discard}, "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &hearing{fakeHandler: &fakeHandler{}, verdict: tt.verdict}
			m := hearingMTA(t, h, true)
			if off := m.neg.Protocol & (milter.OptNoUnknown | milter.OptNoUnknownReply); off != 0 {
				t.Fatalf("declined: %x", off)
			}
			m.hello()
			if got := m.ask(unknown("XYZZY x")); got != tt.want {
				t.Errorf("before MAIL: %q, want %q", got, tt.want)
			}
			m.ask(envelope('M', "<a@b.example>"))
			if got := m.ask(unknown("TURN")); got != tt.want {
				t.Errorf("in a transaction: %q, want %q", got, tt.want)
			}
			m.ask(envelope('R', "<b@example.com>"))
			if got := m.content(plain, "x"); got[len(got)-1] != "c" || len(got) != 1 {
				t.Errorf("the message: %q", got)
			}
			if got, want := h.log(), "connect h.example[192.0.2.9]; helo helo.example; helo unknown XYZZY x; mail <a@b.example> ; mail unknown TURN; rcpt <b@example.com>"; len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("it saw %q, want %q", got, want)
			}
		})
	}
}

// Where nobody wants to hear, the MTA is told so, and what comes all the same
// is nobody's business.
func TestServerUnknownDeclined(t *testing.T) {
	h := &hearing{fakeHandler: &fakeHandler{}, verdict: mail.Verdict{Action: mail.Reject}}
	m := hearingMTA(t, h, false)
	if want := milter.OptNoUnknown | milter.OptNoUnknownReply; m.neg.Protocol&want != want {
		t.Fatalf("protocol = %x", m.neg.Protocol)
	}
	m.hello()
	m.send(unknown("XYZZY"))
	if got := m.ask(envelope('M', "<a@b.example>")); got != "c" {
		t.Errorf("MAIL: %q", got)
	}
	if got, want := h.log(), "connect h.example[192.0.2.9]; helo helo.example; mail <a@b.example> "; got != want {
		t.Errorf("it saw %q, want %q", got, want)
	}
}

// The client and the server pass a command on, and what is said of it.
func TestRemoteUnknown(t *testing.T) {
	h := &hearing{fakeHandler: &fakeHandler{}, verdict: mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 502, Detail: "5.1", Text: "100% no"}}}
	path := start(t, h.fakeHandler, func(_ *Config, d *Deps) {
		d.NewHandler = func() mail.Handler { return h }
		d.HearsUnknown = func() bool { return true }
	})
	r := newRemote(t, "unix:"+path, nil).Handler()
	defer r.Close()
	d := dialogueOf(1)
	tx := &mail.Transaction{Session: &d.session}
	r.Connect(t.Context(), tx)
	v := mail.Unknown(t.Context(), r, tx, "XYZZY")
	if got := said(v); v.Action != mail.Reject || v.Reply != h.verdict.Reply {
		t.Errorf("got %s", got)
	}
	h.verdict = mail.Verdict{}
	if v := mail.Unknown(t.Context(), r, tx, "XYZZY"); v.Action != mail.Continue {
		t.Errorf("got %s", said(v))
	}
	d.talk(t.Context(), r)
	if d.tx.Message == nil {
		t.Errorf("the message was not sent: %v", h.log())
	}
}
