package alter_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/attachments"
	"gatepost/internal/alter"
	"gatepost/internal/mail"
	"gatepost/internal/mime"
	"gatepost/internal/testkit"
)

// TestHostileMail: of a message that hides a program from some readers the part
// is taken out for all of them, or the message is held. Nothing goes out in
// which anybody sees it, and nothing that nobody complains of.
func TestHostileMail(t *testing.T) {
	inspect := func(ctx context.Context, m *mail.Message) *mail.Inside {
		return mime.Inspect(ctx, m, mime.DefaultConfig())
	}
	f, err := alter.New(alter.Config{Inspect: inspect, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := attachments.DefaultConfig()
	cfg.Deny = []attachments.Deny{{Scope: attachments.Scope{Name: "programs"}, Standard: true}}
	lists, err := attachments.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "THE-CONTENT-OF-THE-PROGRAM-THAT-NOBODY-IS-TO-SEE-0123456789"
	count := map[string]int{}
	for _, h := range testkit.HostileMail(secret) {
		m, err := mail.ReadMessage(strings.NewReader(h.Raw), int64(len(h.Raw)))
		if err != nil {
			count["refused"]++
			continue
		}
		tx := &mail.Transaction{ID: "x", Stage: mail.StageMessage, Message: m, Inside: inspect(context.Background(), m)}
		r, err := lists.Check(context.Background(), tx)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		var alters []mail.Alteration
		for _, x := range r.Findings {
			if x.Part == "" {
				t.Errorf("%s: a finding without a part: %+v", h.Name, x)
			}
			alters = append(alters, mail.StripParts{Paths: []string{x.Part}, Why: x.Text})
		}
		if len(alters) == 0 { // then others have to hold it
			if len(tx.Inside.Ambiguous)+len(tx.Inside.Unseen) == 0 && h.ByName {
				t.Errorf("%s: nobody sees anything: %+v", h.Name, tx.Inside.Parts)
			}
			count["not found by name"]++
			continue
		}
		edits, err := f.Finish(context.Background(), tx, mail.Verdict{Alter: alters})
		var hold *filters.HoldError
		switch {
		case errors.As(err, &hold):
			count["held"]++
			continue
		case err != nil:
			t.Errorf("%s: %v", h.Name, err)
			continue
		}
		_, after := mail.Apply(mail.Envelope{}, m, edits)
		b, err := io.ReadAll(after.Reader())
		if err != nil {
			t.Fatal(err)
		}
		if text := string(b); strings.Contains(text, secret) || strings.Contains(text, "VEhFLUNPTlRFTlQ") || strings.Contains(text, "=54=48=45=2D") {
			t.Errorf("%s: the content is still there:\n%s", h.Name, text)
		}
		count["taken out"]++
	}
	t.Log(count)
	if count["taken out"] < 50 || count["held"] < 100 {
		t.Errorf("%v: is the list of messages still the same?", count)
	}
}
