package filters

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/internal/mail"
)

// Edits of several filters, each on what the one before left, are together the
// same as one after the other.
func TestLedgerEqualsOneAfterTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "fields")
		var header strings.Builder
		for i := range n {
			fmt.Fprintf(&header, "F%d: given\n", i)
		}
		tx := message(header.String())
		m := tx.Message
		l := newLedger(m.Header)
		made := 0
		for range rapid.IntRange(0, 5).Draw(t, "filters") {
			edits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mail.Edit {
				at := rapid.IntRange(-1, len(m.Header)+1).Draw(t, "at")
				made++
				f := mail.NewField(fmt.Sprintf("N%d", made), "made")
				switch rapid.IntRange(0, 2).Draw(t, "kind") {
				case 0:
					return mail.InsertHeader{At: at, Field: f}
				case 1:
					return mail.ChangeHeader{At: at, Field: f}
				}
				return mail.DeleteHeader{At: at}
			}), 0, 4).Draw(t, "edits")
			_, m = mail.Apply(tx.Envelope, m, edits)
			l.add(edits)
		}
		_, got := mail.Apply(tx.Envelope, tx.Message, l.edits())
		if string(got.Header.Bytes()) != string(m.Header.Bytes()) {
			t.Fatalf("header:\n%s\nwant:\n%s", got.Header.Bytes(), m.Header.Bytes())
		}
	})
}

func TestLedgerKeepsEditsOfEnvelopeAndBody(t *testing.T) {
	tx := message("Subject: x\n", "a")
	l := newLedger(tx.Message.Header)
	l.add([]mail.Edit{mail.DeleteRecipient{Recipient: mail.Address{Local: "a", Domain: "example.com"}}})
	l.add([]mail.Edit{mail.ReplaceBody{Body: strings.NewReader("new"), Size: 3}})
	env, m := mail.Apply(tx.Envelope, tx.Message, l.edits())
	if len(env.Recipients) != 0 || text(t, m) != "Subject: x\n\nnew" {
		t.Errorf("recipients %v, message %q", env.Recipients, text(t, m))
	}
	before := len(l.edits())
	l.with([]mail.Edit{mail.AddRecipient{}, mail.InsertHeader{}})
	if len(l.edits()) != before {
		t.Error("with changed the ledger")
	}
}
