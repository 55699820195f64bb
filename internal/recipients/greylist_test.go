package recipients

import (
	"context"
	"testing"

	"gatepost/internal/mail"
)

// greys puts each recipient off, as greylisting does, or for something else.
type greys struct {
	inner
	found bool
}

func (g greys) Rcpt(_ context.Context, tx *mail.Transaction, to mail.Path) mail.Verdict {
	if g.found {
		tx.Findings = append(tx.Findings, mail.Finding{Name: mail.FindingGreylisted, Rcpt: to.Address})
	}
	return mail.Verdict{Action: mail.TempFail, Reply: mail.Reply{Code: 450, Detail: "2.0", Text: "later"}}
}

// Who is put off by greylisting and is not there hears so at once; who is there
// still has to wait.
func TestGreylisted(t *testing.T) {
	c := load(t, configOf(file(t, "file", "bob@example.com\n")), Deps{})
	for _, tt := range []struct {
		to    string
		found bool
		want  int
	}{
		{"bob@example.com", true, 450},
		{"nobody@example.com", true, 550},
		{"nobody@example.com", false, 450},
	} {
		h := c.Handler(greys{found: tt.found})
		a, err := mail.ParseAddress(tt.to, false)
		if err != nil {
			t.Fatal(err)
		}
		tx := &mail.Transaction{Session: client("192.0.2.1")}
		if v := h.Rcpt(t.Context(), tx, mail.Path{Address: a}); v.Reply.Code != tt.want {
			t.Errorf("%s: %+v, want %d", tt.to, v, tt.want)
		}
	}
}
