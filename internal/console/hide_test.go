package console

import (
	"strings"
	"testing"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

func TestHide(t *testing.T) {
	hal := Identity{Role: Helpdesk, Domains: []string{"example.com"}}
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"no address", "no address"},
		{"for bob@example.com, eve@other.example", "for bob@example.com, (somebody else)"},
		{`virus X for "eve@other.example"`, `virus X for "(somebody else)"`},
		{"<Eve@Other.Example>: mailbox full.", "<(somebody else)>: mailbox full."},
		{"blocked: sender a@sender.example", "blocked: sender a@sender.example"},
		{"eve@other.example", "(somebody else)"},
		{"to eve@other.example.", "to (somebody else)"},
		{"to bob@example.com.", "to bob@example.com."},
	} {
		if got := hal.hide(tt.text, "a@sender.example"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
		if got := (Identity{Role: Admin}).hide(tt.text); got != tt.want && !strings.Contains(tt.want, hidden) {
			t.Errorf("an admin: %q of %q", got, tt.text)
		}
	}
}

// W5: what is told in words names nobody of other domains.
func TestHelpdeskWords(t *testing.T) {
	const words = `for "eve@other.example"`
	f := &finder{
		records: []history.Record{{
			ID: name(1), Reason: words, Reply: words, Edits: []string{words}, Rules: []history.Rule{{Rule: "r", Did: words}},
			Recipients: []history.Recipient{{Path: history.Path{Address: "bob@example.com"}, Reason: words, Reply: words, Edits: []string{words}}},
		}},
		events: []history.Event{{What: mail.EventQueued, Text: words}},
	}
	q := &memory{messages: []Message{{ID: name(1), Reason: words, Recipients: []Recipient{{Address: "bob@example.com"}}}}}
	client := ClientOf(NewControl("", ControlDeps{Queue: q, History: f, Log: quiet()}).Handler())
	for _, tt := range []struct {
		id   Identity
		want int
	}{{Identity{Role: Helpdesk, Domains: []string{"example.com"}}, 0}, {Identity{Role: Admin}, 9}} {
		ctx := WithIdentity(t.Context(), tt.id)
		life, err := client.History().Life(ctx, name(1))
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.Show(ctx, name(1))
		if err != nil {
			t.Fatal(err)
		}
		r := life.Records[0]
		p := r.Recipients[0]
		all := strings.Join([]string{r.Reason, r.Reply, r.Edits[0], r.Rules[0].Did, p.Reason, p.Reply, p.Edits[0], life.Events[0].Text, m.Reason}, "\n")
		if n := strings.Count(all, "eve@"); n != tt.want {
			t.Errorf("%s: named %d times, want %d:\n%s", tt.id.Role, n, tt.want, all)
		}
	}
}
