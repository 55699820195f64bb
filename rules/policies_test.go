package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/rules/policy"
)

// withFiles is a Set with a rule file.
func withFiles(t *testing.T, text string, change func(*Config)) *Set {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Relay.Domains = []string{"example.com"}
	cfg.Files = policy.Config{Files: []string{path}}
	if change != nil {
		change(&cfg)
	}
	return load(t, cfg)
}

// What is settled stays so, whatever rules make of further findings: they come
// behind a virus.
func TestSettledHoldsWithRules(t *testing.T) {
	s := withFiles(t, `
[[rule]]
name = "friend"
when = 'found("clean") or score < -5'
action = "accept"
final = true

[[rule]]
name = "lab"
when = 'virus != ""'
action = "hold"

[[rule]]
name = "drop"
when = 'score > 50'
action = "discard"
`, nil)
	to := []string{"a@example.com", "b@example.com"}
	first := []mail.Finding{virus("X")}
	if !s.Settled(judged(t, to), first) {
		t.Fatal("not settled")
	}
	if s.Settled(judged(t, to), spam(99)) {
		t.Error("a score is never certain: a later one may be negative")
	}
	want := short(s.Decide(judged(t, to, first...), nil))
	for _, more := range [][]mail.Finding{nil, spam(99), spam(-99), {unscanned("x")}, {clean()}, {virus("Y")}} {
		if got := short(s.Decide(judged(t, to, append(first[:1:1], more...)...), nil)); got != want {
			t.Errorf("with %v: %q, want %q", more, got, want)
		}
	}
}

// A rule that can't be asked is never taken for one that did not match.
func TestRulesOnError(t *testing.T) {
	const text = "[[rule]]\nname = \"parts\"\nwhen = 'any(parts, .program)'\naction = \"reject\"\n"
	for word, want := range map[RulesOnError]string{RulesQuarantine: "quarantine", RulesTempFail: "tempfail 451 4.3.0", RulesContinue: "accept", "": "quarantine"} {
		s := withFiles(t, text, func(c *Config) { c.Policy.RulesOnError = word })
		v := s.Decide(judged(t, []string{"a@example.com"}), nil) // not taken apart
		if !strings.HasPrefix(fmt.Sprint(v.Action, " ", v.Reply), want) || len(v.Rules) != 1 || !strings.HasPrefix(v.Rules[0].Did, "skipped: ") {
			t.Errorf("%q: %s, %+v", word, show(v), v.Rules)
		}
	}
}

// Rules of the envelope refuse behind the access map and the relay rule, and
// open nothing.
func TestRulesOfTheEnvelope(t *testing.T) {
	s := withFiles(t, `
[[rule]]
name = "all-welcome"
stage = "rcpt"
from = "friend.example"
action = "accept"
final = true

[[rule]]
name = "no"
stage = "rcpt"
to = "no@example.com"
action = "reject"

[[rule]]
name = "client"
stage = "connect"
client = "198.51.100.0/24"
action = "tempfail"
`, nil)
	ask := func(from, to string) mail.Verdict {
		rcpt := path(t, to)
		tx := &mail.Transaction{Stage: mail.StageRcpt, Session: session(t, "198.18.0.9", "")}
		tx.Envelope.Sender = path(t, from)
		return s.Decide(tx, &rcpt)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"a@b.example", "no@example.com", "reject 550 5.7.1 Message refused by local policy"},
		{"a@b.example", "yes@example.com", "accept"},
		{"a@friend.example", "no@example.com", "accept"},
		{"a@friend.example", "u@elsewhere.example", "reject 550 5.7.1 Relaying denied"},
	} {
		if got := short(ask(tt.from, tt.to)); got != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
	if got := s.Decide(&mail.Transaction{Stage: mail.StageConnect, Session: session(t, "198.51.100.7", "")}, nil); got.Action != mail.TempFail || got.Generation == "" || len(got.Rules) != 1 {
		t.Errorf("connect: %+v", got)
	}
}

// With one class for each message, who is treated in another way comes again.
func TestOneClass(t *testing.T) {
	s := withFiles(t, "[[rule]]\nname = \"no\"\nto = \"no@example.com\"\ntag = \"x\"\n", func(c *Config) {
		c.Policy.Recipients = RecipientsOneClass
		c.Policy.For = map[string]Limits{"vip@example.com": {Tag: ptr(3)}}
	})
	for to, want := range map[string]mail.Action{"b@example.com": mail.Accept, "no@example.com": mail.TempFail, "vip@example.com": mail.TempFail} {
		rcpt := path(t, to)
		tx := &mail.Transaction{Stage: mail.StageRcpt, Session: session(t, "198.18.0.9", "")}
		tx.Envelope.Recipients = []mail.Path{path(t, "a@example.com")}
		if v := s.Decide(tx, &rcpt); v.Action != want || want == mail.TempFail && v.Reply.Code != 452 {
			t.Errorf("%s: %s", to, show(v))
		}
	}
}

// A client that hears of each recipient gets each refusal.
func TestPRDRKeepsRefusals(t *testing.T) {
	s := withFiles(t, "[[rule]]\nname = \"no\"\nto = \"no@example.com\"\naction = \"reject\"\n", nil)
	tx := judged(t, []string{"no@example.com", "a@example.com"})
	if v := s.Decide(tx, nil); v.For(0).Action != mail.Quarantine {
		t.Errorf("without: %s", show(v))
	}
	tx.Envelope.Sender.Args = []string{"PRDR"}
	if v := s.Decide(tx, nil); v.For(0).Action != mail.Reject || v.For(1).Action != mail.Accept {
		t.Errorf("with: %s", show(v))
	}
}
