package filters

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// finisher does to each copy what its function says.
type finisher func(*mail.Transaction, mail.Verdict) ([]mail.Edit, error)

func (f finisher) Finish(_ context.Context, tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
	return f(tx, v)
}

// each sees the header as those before it made it, and the verdict's edits are
// in terms of the header as given.
func TestFinish(t *testing.T) {
	stamp := func(name string) finisher {
		return func(tx *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
			var names []string
			for _, f := range tx.Message.Header {
				names = append(names, f.Name())
			}
			return []mail.Edit{mail.InsertHeader{Field: mail.NewField(name, strings.Join(names, ","))}}, nil
		}
	}
	fails := func(err error) finisher {
		return func(*mail.Transaction, mail.Verdict) ([]mail.Edit, error) { return nil, err }
	}
	tests := []struct {
		name      string
		verdict   mail.Verdict
		finishers []Finisher
		action    mail.Action
		first     string // field of what goes out
	}{
		{"two in a row", mail.Verdict{Action: mail.Accept}, []Finisher{stamp("A"), stamp("B")}, mail.Accept, "B: A,Subject"},
		{"behind the policy's edits", mail.Verdict{Action: mail.Accept, Edits: []mail.Edit{mail.InsertHeader{Field: mail.NewField("P", "1")}}}, []Finisher{stamp("A")}, mail.Accept, "A: P,Subject"},
		{"held", mail.Verdict{Action: mail.Quarantine}, []Finisher{stamp("A")}, mail.Quarantine, "A: Subject"},
		{"refused", mail.Verdict{Action: mail.Reject}, []Finisher{stamp("A")}, mail.Reject, "Subject: x"},
		{"dropped", mail.Verdict{Action: mail.Discard}, []Finisher{stamp("A")}, mail.Discard, "Subject: x"},
		{"fails", mail.Verdict{Action: mail.Accept}, []Finisher{fails(errors.New("no key"))}, mail.TempFail, "Subject: x"},
		{"wants it held", mail.Verdict{Action: mail.Accept}, []Finisher{fails(&HoldError{"signed"}), stamp("A")}, mail.Quarantine, "A: Subject"},
		{"fails for one of two", mail.Verdict{Action: mail.Accept, Recipients: []mail.Verdict{{Action: mail.Accept}, {Action: mail.Accept, Alter: []mail.Alteration{mail.TagSubject{Text: "x"}}}}},
			[]Finisher{finisher(func(_ *mail.Transaction, v mail.Verdict) ([]mail.Edit, error) {
				if len(v.Alter) > 0 {
					return nil, errors.New("can't")
				}
				return nil, nil
			})}, mail.TempFail, "Subject: x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := New(Config{Finishers: tt.finishers}, nil, constant(tt.verdict), nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			msg, err := mail.ReadMessage(strings.NewReader("Subject: x\r\n\r\nbody\r\n"), 20)
			if err != nil {
				t.Fatal(err)
			}
			tx := &mail.Transaction{Session: &mail.Session{}, Message: msg}
			v := m.Handler().Message(t.Context(), tx)
			_, out := mail.Apply(tx.Envelope, msg, v.Edits)
			if got := strings.TrimSpace(string(out.Header[0].Raw())); v.Action != tt.action || got != tt.first {
				t.Errorf("%s, %q; want %s, %q (%s)", v.Action, got, tt.action, tt.first, v.Reason)
			}
		})
	}
}

// Recipients who get the same bytes share one list of edits: so they are told
// apart when the message is split.
func TestFinishOnce(t *testing.T) {
	calls := 0
	count := finisher(func(*mail.Transaction, mail.Verdict) ([]mail.Edit, error) {
		calls++
		return []mail.Edit{mail.ReplaceBody{Body: strings.NewReader("x"), Size: 1}}, nil
	})
	other := mail.Verdict{Action: mail.Accept, Alter: []mail.Alteration{mail.TagSubject{Text: "x"}}}
	v := mail.Verdict{Action: mail.Accept, Recipients: []mail.Verdict{{Action: mail.Accept}, other, {Action: mail.Accept}, other, {Action: mail.Quarantine}}}
	m, err := New(Config{Finishers: []Finisher{count}}, nil, constant(v), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	msg := mail.NewMessage(nil, strings.NewReader(""), 0)
	got := m.Handler().Message(t.Context(), &mail.Transaction{Session: &mail.Session{}, Message: msg})
	if calls != 3 || got.Action != mail.Quarantine || len(got.Recipients) != 5 {
		t.Fatalf("%d calls, %s, %d recipients", calls, got.Action, len(got.Recipients))
	}
	for _, pair := range [][2]int{{0, 2}, {1, 3}} {
		if a, b := got.Recipients[pair[0]], got.Recipients[pair[1]]; &a.Edits[0] != &b.Edits[0] || len(a.Alter) > 0 {
			t.Errorf("recipients %v don't share", pair)
		}
	}
}
