package filters

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// What the walk of a message doubts is a finding, and after a filter has given
// it another body what was found in the old one counts no more.
func TestInsideFindings(t *testing.T) {
	inside := func(_ context.Context, m *mail.Message) *mail.Inside {
		if m.BodySize() == 6 {
			return &mail.Inside{Ambiguous: []string{"boundary", "bad\r\nname"}, Unseen: []string{"parts"}}
		}
		return &mail.Inside{Unseen: []string{"depth"}}
	}
	replaces := func(context.Context, *mail.Transaction) (Report, error) {
		return Report{Edits: []mail.Edit{mail.ReplaceBody{Body: strings.NewReader("other"), Size: 5}}}, nil
	}
	for _, tt := range []struct {
		name  string
		steps []Step
		want  []string
	}{
		{"as given", nil, []string{"mime ambiguous boundary", "mime ambiguous bad  name", "mime not-scanned parts"}},
		{"with another body", []Step{{Name: "changer", Filter: checkFunc(replaces), Modifies: true}}, []string{"mime not-scanned depth"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := New(Config{Inspect: inside}, tt.steps, constant(mail.Verdict{Action: mail.Accept}), nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			msg, err := mail.ReadMessage(strings.NewReader("Subject: x\r\n\r\nbody\r\n"), 20)
			if err != nil {
				t.Fatal(err)
			}
			tx := &mail.Transaction{Session: &mail.Session{}, Message: msg}
			m.Handler().Message(t.Context(), tx)
			var got []string
			for _, f := range tx.Findings {
				got = append(got, f.Filter+" "+f.Name+" "+f.Value)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
