package rules

import (
	"testing"

	"gatepost/internal/mail"
)

// wished is a list of u@example.com with one sender of each word.
type wished struct{}

func (wished) Find(rcpt mail.Address, senders ...mail.Address) (mail.Address, bool, bool) {
	for _, s := range senders {
		if rcpt.String() == "u@example.com" && (s.Local == "friend" || s.Local == "pest") {
			return s, s.Local == "friend", true
		}
	}
	return mail.Address{}, false, false
}

// A recipient's own list spares a sender the spam score, and nothing else.
func TestPersonal(t *testing.T) {
	spam := mail.Finding{Name: mail.FindingSpamScore, Score: 12}
	tests := []struct {
		name         string
		from, author string
		to           string
		findings     []mail.Finding
		want         mail.Action
		kind         mail.HeldKind
	}{
		{"nobody's", "s@sender.example", "s@sender.example", "u@example.com", []mail.Finding{spam}, mail.Quarantine, mail.HeldSpam},
		{"allowed", "friend@sender.example", "x@sender.example", "u@example.com", []mail.Finding{spam}, mail.Accept, ""},
		{"an allowed author", "bounce-7@list.example", "friend@sender.example", "u@example.com", []mail.Finding{spam}, mail.Accept, ""},
		{"for somebody else", "friend@sender.example", "friend@sender.example", "other@example.com", []mail.Finding{spam}, mail.Quarantine, mail.HeldSpam},
		{"allowed, with a virus", "friend@sender.example", "friend@sender.example", "u@example.com", []mail.Finding{spam, {Name: mail.FindingVirus, Value: "EICAR"}}, mail.Reject, mail.HeldVirus},
		{"allowed, not scanned", "friend@sender.example", "friend@sender.example", "u@example.com", []mail.Finding{{Name: mail.FindingNotScanned, Value: "encrypted"}}, mail.Quarantine, mail.HeldUnscanned},
		{"allowed, and forged", "friend@sender.example", "friend@sender.example", "u@example.com", []mail.Finding{spam, {Name: mail.FindingDMARC, Value: mail.AuthFail, Text: "header.from=sender.example policy.published=none policy.applied=none"}}, mail.Quarantine, mail.HeldSpam},
		{"allowed, and denied by SPF", "friend@sender.example", "friend@sender.example", "u@example.com", []mail.Finding{spam, {Name: mail.FindingSPF, Value: mail.AuthFail, Text: "smtp.mailfrom=sender.example"}}, mail.Quarantine, mail.HeldSpam},
		{"blocked", "pest@sender.example", "pest@sender.example", "u@example.com", nil, mail.Quarantine, mail.HeldRule},
		{"blocked, and to be refused", "pest@sender.example", "pest@sender.example", "u@example.com", []mail.Finding{{Name: mail.FindingSpamScore, Score: 20}}, mail.Reject, mail.HeldSpam},
	}
	cfg := DefaultConfig()
	cfg.Relay.Domains = []string{"example.com"}
	cfg.Personal = wished{}
	set, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address := func(s string) mail.Address {
		a, err := mail.ParseAddress(s, false)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := mail.Header{mail.NewField("From", "Somebody <"+tt.author+">")}
			tx := &mail.Transaction{
				ID: "1", Stage: mail.StageMessage, Session: &mail.Session{}, Message: mail.NewMessage(header, nil, 0), Findings: tt.findings,
				Envelope: mail.Envelope{Sender: mail.Path{Address: address(tt.from)}, Recipients: []mail.Path{{Address: address(tt.to)}}},
			}
			v := set.Decide(tx, nil)
			if v.Action != tt.want || tt.want >= mail.Quarantine && v.Kind != tt.kind {
				t.Errorf("%v %q (%s), want %v %q", v.Action, v.Kind, v.Reason, tt.want, tt.kind)
			}
		})
	}
}
