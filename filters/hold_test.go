package filters

import (
	"testing"

	"gatepost/internal/mail"
)

// Mail that a filter with on_error = "hold" could not judge is held for it, as
// it came but for what was forged; what is refused anyway is refused.
func TestHold(t *testing.T) {
	tag := []mail.Edit{mail.InsertHeader{Field: mail.NewField("X-Spam-Score", "1.0")}}
	each := func(vs ...mail.Verdict) mail.Verdict {
		return mail.Verdict{Action: mail.Reject, Reply: reject.Reply, Recipients: vs}
	}
	tests := []struct {
		name    string
		policy  mail.Verdict
		words   []OnError // of filters that fail
		want    mail.Action
		waits   string
		actions []mail.Action // for each recipient
	}{
		{name: "clean so far", policy: mail.Verdict{Action: mail.Accept, Edits: tag}, words: []OnError{Hold}, want: mail.Quarantine, waits: "a"},
		{name: "two of them", policy: accept, words: []OnError{Hold, Hold}, want: mail.Quarantine, waits: "a,b"},
		{name: "beside one that does not matter", policy: accept, words: []OnError{Continue, Hold}, want: mail.Quarantine, waits: "b"},
		{name: "beside one that wants the client to come again", policy: accept, words: []OnError{Hold, TempFail}, want: mail.TempFail},
		{name: "held by policy", policy: quarantine, words: []OnError{Hold}, want: mail.Quarantine, waits: "a"},
		{name: "dropped by policy so far", policy: mail.Verdict{Action: mail.Discard}, words: []OnError{Hold}, want: mail.Quarantine, waits: "a"},
		{name: "refused", policy: reject, words: []OnError{Hold}, want: mail.Reject},
		{
			name: "refused for one", policy: each(reject, mail.Verdict{Action: mail.Accept, Edits: tag}), words: []OnError{Hold},
			want: mail.Reject, actions: []mail.Action{mail.Reject, mail.Quarantine},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var steps []Step
			for i, word := range tt.words {
				steps = append(steps, Step{Name: string(rune('a' + i)), Filter: fails("away"), OnError: word})
			}
			b := newBench(t, Config{}, constant(tt.policy), steps...)
			tx := message("Subject: x\nX-Spam-Flag: NO\n", "1@example.com", "2@example.com")
			v := b.message(t, tx)
			if v.Action != tt.want || v.Unscanned != tt.waits {
				t.Errorf("%v for %q (%s), want %v for %q", v.Action, v.Unscanned, v.Reason, tt.want, tt.waits)
			}
			if tt.waits != "" {
				checkForgedOnly(t, v.Edits)
			}
			for i, want := range tt.actions {
				r := v.Recipients[i]
				if r.Action != want || (want == mail.Quarantine) != (r.Unscanned == "a") {
					t.Errorf("recipient %d: %v for %q", i, r.Action, r.Unscanned)
				}
				if r.Unscanned != "" {
					checkForgedOnly(t, r.Edits)
				}
			}
		})
	}
}

func checkForgedOnly(t *testing.T, edits []mail.Edit) {
	t.Helper()
	if len(edits) != 1 || edits[0] != (mail.DeleteHeader{At: 1}) {
		t.Errorf("edits %v, want the forged field gone and nothing else", edits)
	}
}

// Where nothing can be held, the client comes again.
func TestNoHold(t *testing.T) {
	b := newBench(t, Config{NoHold: []string{"main"}}, constant(accept), Step{Name: "a", Filter: fails("away"), OnError: Hold})
	tx := message("Subject: x\n")
	tx.Session = &mail.Session{Listener: "main"}
	if v := b.message(t, tx); v.Action != mail.TempFail || v.Unscanned != "" {
		t.Errorf("%v for %q, want tempfail", v.Action, v.Unscanned)
	}
}

// A failure in the envelope holds the message at its end, and nothing before.
func TestHoldOfAnEarlierStage(t *testing.T) {
	b := newBench(t, Config{}, constant(accept), Step{
		Name: "a", Filter: fails("away"), OnError: Hold, Stages: []mail.Stage{mail.StageMail}, Breaker: Breaker{Failures: 1},
	})
	h := b.Handler()
	defer h.Close()
	tx := message("Subject: x\n")
	whole := tx.Message
	tx.Message = nil
	if v := h.Mail(t.Context(), tx); v.Action != mail.Accept {
		t.Fatalf("at MAIL: %v", v.Action)
	}
	if b.Up("a", "b") || !b.Up("b") {
		t.Error("a failed and is up, or one that is not there is not")
	}
	tx.Message = whole
	if v := h.Message(t.Context(), tx); v.Action != mail.Quarantine || v.Unscanned != "a" {
		t.Errorf("at the message: %v for %q", v.Action, v.Unscanned)
	}
}
