package child_test

import (
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/child"
	"gatepost/internal/mail"
)

const later = "451 4.7.1 Message could not be checked, please try again later"

// onErrorAt are the words for a milter that fails, with all the rest let
// through.
func onErrorAt(message filters.OnError) child.OnErrorAt {
	return child.OnErrorAt{
		Connect: filters.Continue, Helo: filters.Continue, Mail: filters.Continue,
		Rcpt: filters.Continue, Data: filters.Continue, Message: message,
	}
}

func TestOnErrorAt(t *testing.T) {
	type verdicts map[mail.Stage]mail.Action // Accept is left out
	tests := []struct {
		name    string
		fails   string // the event at which the milter goes; "": it isn't there
		onError filters.OnError
		at      child.OnErrorAt
		want    verdicts
	}{
		{"down, one word for all", "", filters.Continue, child.OnErrorAt{}, nil},
		{"down, only the message has to wait", "", filters.Continue, child.OnErrorAt{Message: filters.TempFail}, verdicts{mail.StageMessage: mail.TempFail}},
		{"down, held at the message", "", filters.TempFail, onErrorAt(filters.Quarantine), verdicts{mail.StageMessage: mail.Quarantine}},
		{"down, the client is let in", "", filters.TempFail, child.OnErrorAt{Connect: filters.Continue, Helo: filters.Continue}, verdicts{mail.StageMail: mail.TempFail}},
		{"fails at RCPT, which counts there", "R", filters.Continue, child.OnErrorAt{Rcpt: filters.TempFail}, verdicts{mail.StageRcpt: mail.TempFail}},
		{"failed at RCPT, which counts later", "R", filters.TempFail, onErrorAt(filters.TempFail), verdicts{mail.StageMessage: mail.TempFail}},
		{"fails at the end of the message", "E", filters.TempFail, child.OnErrorAt{Message: filters.Continue}, nil},
		{"fails at the end of the message, other stages don't count", "E", filters.TempFail, onErrorAt(""), verdicts{mail.StageMessage: mail.TempFail}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor("unix:/nonexistent/m.sock")
			if tt.fails != "" {
				cfg = newScript(t, at(tt.fails, closing)).config()
			}
			cfg.OnError, cfg.OnErrorAt = tt.onError, tt.at
			m, _ := multiplexer(t, named{"c1", cfg})
			s := session(t, m)
			got := verdicts{}
			ask := func(stage mail.Stage, v mail.Verdict) bool {
				if v.Action != mail.Accept {
					got[stage] = v.Action
				}
				return v.Action < mail.TempFail
			}
			s.tx.Stage = mail.StageConnect
			if ask(mail.StageConnect, s.h.Connect(t.Context(), s.tx)) {
				s.tx.Stage = mail.StageHelo
				ask(mail.StageHelo, s.h.Helo(t.Context(), s.tx))
				if ask(mail.StageMail, s.mail("a@example.net")) && ask(mail.StageRcpt, s.rcpt("r@example.com")) {
					ask(mail.StageMessage, s.data(plain)) // DATA is part of it
				}
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for stage, action := range tt.want {
				if got[stage] != action {
					t.Errorf("%s: %s, want %s", stage, got[stage], action)
				}
			}
		})
	}
}

// A milter that is down refuses connections where that is its word for them,
// as soon as the breaker knows.
func TestRefuseAtConnectOnly(t *testing.T) {
	cfg := configFor("unix:/nonexistent/m.sock")
	cfg.OnError, cfg.OnErrorAt = filters.Continue, child.OnErrorAt{Connect: filters.Refuse}
	m, _ := multiplexer(t, named{"c1", cfg})
	for range 3 { // the breaker's patience
		want(t, "the milter fails", session(t, m).greet(), mail.TempFail, later)
	}
	want(t, "it is known to be down", session(t, m).greet(), mail.TempFail, "421 4.3.2 Mail can not be checked now, please try again later")
}

func TestOnErrorAtIsChecked(t *testing.T) {
	tests := []struct {
		name string
		vote child.Mode
		at   child.OnErrorAt
		want string // "": it is taken
	}{
		{"every word where it can be meant", child.Enforce, child.OnErrorAt{Connect: filters.Refuse, Helo: filters.Continue, Mail: filters.TempFail, Message: filters.Quarantine}, ""},
		{"no word", child.Enforce, child.OnErrorAt{Mail: "accept"}, `on_error_at.mail: "accept" is not one of`},
		{"refuse is for connections", child.Enforce, child.OnErrorAt{Rcpt: filters.Refuse}, "on_error_at.rcpt: refuse is an answer to connections only"},
		{"a score is asked for at the message", child.Score, child.OnErrorAt{Message: filters.Continue}, ""},
		{"and nowhere else", child.Score, child.OnErrorAt{Helo: filters.Continue}, "on_error_at.helo: with this vote"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor("unix:/nonexistent/m.sock")
			cfg.Vote.Mode, cfg.OnErrorAt = tt.vote, tt.at
			err := cfg.Validate()
			if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
