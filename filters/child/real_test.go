package child_test

import (
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"gatepost/internal/mail"
	"gatepost/internal/testkit"
)

// A real opendkim signs, between two milters that change the message, in
// sessions that share its connection; the signature covers what the first one
// made of the header, and what the last one adds does not break it.
func TestRealOpenDKIM(t *testing.T) {
	signer := testkit.Up(t, testkit.NewOpenDKIM(testkit.Dir(t)))
	first := newScript(t, at("E", join(change(1, "Subject", " as the first made it\n\tfolded"), cont)))
	last := newScript(t, at("E", join(insert(0, "X-Above", " all"), add("X-Below", " all"), cont)))
	relay := testkit.Up(t, testkit.NewRelay(func() string { return signer.Addr }))
	cfg := configFor("inet:" + testkit.Port(relay.Addr) + "@127.0.0.1")
	cfg.Reuse = true
	m, log := multiplexer(t, named{"first", first.config()}, named{"signer", cfg}, named{"last", last.config()})
	const sessions = 4
	for i := range sessions {
		s := session(t, m)
		s.base.Client = mustAddrPort("127.0.0.1:4025") // whom it signs for
		want(t, "greet", s.greet(), mail.Accept, "")
		for range 2 {
			v := s.send("From: Sender <s@sender.test>\nSubject: old\nDate: Sat, 21 Nov 2026 10:00:00 +0000\nMessage-ID: <1@sender.test>\n\nbody\n")
			want(t, "message", v, mail.Accept, "")
			out := s.outcome(v)
			if !strings.HasPrefix(out, "X-Above: all\n") || strings.Count(out, "DKIM-Signature:") != 1 || !strings.Contains(out, "\nX-Below: all\n") {
				t.Fatalf("got\n%s\nlog %s", out, log)
			}
			checks, err := dkim.VerifyWithOptions(strings.NewReader(strings.ReplaceAll(out, "\n", "\r\n")), &dkim.VerifyOptions{
				LookupTXT: func(string) ([]string, error) { return []string{signer.Record}, nil },
			})
			if err != nil || len(checks) != 1 || checks[0].Err != nil {
				t.Errorf("verify: %+v, %v, of\n%s", checks, err, out)
			}
		}
		// opendkim ends a message with "accept", after which libmilter would
		// ignore QUIT_NC; after an abort it takes it.
		if i > 0 {
			s.mail("s@sender.test")
		}
		s.h.Close()
	}
	// The first one is not kept; the second serves all others. One that were kept
	// in vain would cost another one.
	if n := len(relay.Said()); n != 2 {
		t.Errorf("%d connections for %d sessions", n, sessions)
	}
}
