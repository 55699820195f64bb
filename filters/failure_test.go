package filters

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func nopLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

var (
	accept     = mail.Verdict{Action: mail.Accept, Reason: "policy"}
	reject     = mail.Verdict{Action: mail.Reject, Reply: mail.Reply{Code: 550, Detail: "7.1", Text: "no"}, Reason: "policy"}
	quarantine = mail.Verdict{Action: mail.Quarantine, Reason: "policy"}
)

func constant(v mail.Verdict) *testPolicy {
	return &testPolicy{decide: func(*mail.Transaction, *mail.Path) mail.Verdict { return v }}
}

func TestOnError(t *testing.T) {
	tests := []struct {
		name   string
		policy mail.Verdict
		words  []OnError // of filters that fail, one each
		want   mail.Action
		reply  string
	}{
		{name: "nothing failed", policy: accept, want: mail.Accept},
		{name: "default", policy: accept, words: []OnError{""}, want: mail.TempFail, reply: "451 4.7.1 " + textLater},
		{name: "tempfail", policy: accept, words: []OnError{TempFail}, want: mail.TempFail, reply: "451 4.7.1 " + textLater},
		{name: "continue", policy: accept, words: []OnError{Continue}, want: mail.Accept},
		{name: "quarantine", policy: accept, words: []OnError{Quarantine}, want: mail.Quarantine},
		{name: "refuse at message", policy: accept, words: []OnError{Refuse}, want: mail.TempFail, reply: "451 4.7.1 " + textLater},
		{name: "the strongest of several", policy: accept, words: []OnError{Continue, TempFail, Quarantine}, want: mail.TempFail, reply: "451 4.7.1 " + textLater},
		{name: "quarantine of policy, tempfail", policy: quarantine, words: []OnError{TempFail}, want: mail.TempFail, reply: "451 4.7.1 " + textLater},
		{name: "quarantine of policy, continue", policy: quarantine, words: []OnError{Continue}, want: mail.Quarantine},
		{name: "a clean reject stands", policy: reject, words: []OnError{TempFail, Quarantine, Refuse}, want: mail.Reject, reply: "550 5.7.1 no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps := []Step{{Name: "good", Filter: finds(0)}}
			for i, word := range tt.words {
				steps = append(steps, Step{Name: "broken" + string(rune('a'+i)), Filter: fails("daemon\r\nsaid: nonsense"), OnError: word})
			}
			b := newBench(t, Config{}, constant(tt.policy), steps...)
			tx := message("Subject: x\n")
			v := b.message(t, tx)
			if v.Action != tt.want || !v.Reply.IsZero() && v.Reply.String() != tt.reply || v.Reply.IsZero() && tt.reply != "" {
				t.Errorf("got %v %q, want %v %q", v.Action, v.Reply, tt.want, tt.reply)
			}
			if strings.Contains(v.Reply.Text, "broken") || strings.Contains(v.Reply.Text, "nonsense") {
				t.Errorf("the client is told %q", v.Reply.Text)
			}
			found := tx.Find(mail.FindingFailed)
			if len(found) != len(tt.words) {
				t.Fatalf("findings = %v, want %d failures", tx.Findings, len(tt.words))
			}
			for i, f := range found {
				want := tt.words[i]
				if want == "" {
					want = TempFail
				}
				if f.Value != string(want) || f.Filter != "broken"+string(rune('a'+i)) || strings.ContainsAny(f.Text, "\r\n") {
					t.Errorf("finding = %+v", f)
				}
			}
			if len(tt.words) > 0 && !strings.Contains(b.log.String(), "filter could not tell") {
				t.Errorf("nothing in the log: %s", b.log)
			}
		})
	}
}

func TestKindsOfFailure(t *testing.T) {
	hang := checkFunc(func(ctx context.Context, _ *mail.Transaction) (Report, error) {
		<-ctx.Done()
		return Report{Findings: []mail.Finding{{Name: mail.FindingClean}}}, nil // even so
	})
	tests := []struct {
		name, result string
		filter       Filter
	}{
		{name: "error", filter: fails("no"), result: ResultError},
		{name: "timeout", filter: finds(time.Hour), result: ResultTimeout},
		{name: "panic", filter: panics(), result: ResultPanic},
		{name: "hangs and says clean when stopped", filter: hang, result: ResultTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{}, nil, Step{Name: "f", Filter: tt.filter, Timeout: time.Minute})
				v := b.message(t, message("Subject: x\n"))
				if v.Action != mail.TempFail {
					t.Errorf("action = %v, want tempfail", v.Action)
				}
				if b.count.count("f "+tt.result) != 1 {
					t.Errorf("results = %v, want %s", b.count.results, tt.result)
				}
				if tt.result == ResultPanic && !strings.Contains(b.log.String(), "fake_test.go") {
					t.Errorf("no stack in the log: %s", b.log)
				}
			})
		})
	}
}

func TestOnErrorByListener(t *testing.T) {
	cfg := Config{OnErrorByListener: map[string]OnError{"relay": Continue}}
	b := newBench(t, cfg, nil, Step{Name: "av", Filter: fails("down"), Breaker: Breaker{Failures: 100}})
	for listener, want := range map[string]mail.Action{"mx": mail.TempFail, "relay": mail.Accept} {
		tx := message("Subject: x\n")
		tx.Session.Listener = listener
		if v := b.message(t, tx); v.Action != want {
			t.Errorf("listener %s: %v, want %v", listener, v.Action, want)
		}
	}
}

func TestFailuresApplyToEveryRecipient(t *testing.T) {
	mixed := func(actions ...mail.Action) mail.Verdict {
		v := mail.Verdict{Reason: "policy"}
		for _, a := range actions {
			v.Action = max(v.Action, a)
			v.Recipients = append(v.Recipients, mail.Verdict{Action: a, Reason: "policy"})
		}
		return v
	}
	tests := []struct {
		name   string
		policy mail.Verdict
		word   OnError
		want   mail.Action
		each   []mail.Action
	}{
		{name: "continue", policy: mixed(mail.Accept, mail.Quarantine), word: Continue, want: mail.Quarantine, each: []mail.Action{mail.Accept, mail.Quarantine}},
		{name: "quarantine", policy: mixed(mail.Accept, mail.Reject), word: Quarantine, want: mail.Reject, each: []mail.Action{mail.Quarantine, mail.Reject}},
		{name: "one answer for all", policy: mixed(mail.Accept, mail.Reject), word: TempFail, want: mail.TempFail},
		{name: "all rejected", policy: mixed(mail.Reject, mail.Reject), word: TempFail, want: mail.Reject, each: []mail.Action{mail.Reject, mail.Reject}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{}, constant(tt.policy), Step{Name: "f", Filter: fails("no"), OnError: tt.word})
			v := b.message(t, message("Subject: x\n", "a", "b"))
			if v.Action != tt.want || len(v.Recipients) != len(tt.each) {
				t.Fatalf("verdict = %+v, want %v for %v", v, tt.want, tt.each)
			}
			for i, want := range tt.each {
				if got := v.Recipients[i].Action; got != want {
					t.Errorf("recipient %d: %v, want %v", i, got, want)
				}
			}
		})
	}
}

// What a client that goes away leaves behind is not taken for a clean answer.
func TestCancelledMessageIsNotPassed(t *testing.T) {
	b := newBench(t, Config{}, nil, Step{Name: "av", Filter: finds(time.Hour)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := b.Handler().Message(ctx, message("Subject: x\n")); v.Action != mail.TempFail {
		t.Errorf("action = %v, want tempfail", v.Action)
	}
	if b.count.count("av cancelled") != 1 {
		t.Errorf("results = %v", b.count.results)
	}
}
