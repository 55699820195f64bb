package rules

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ptr(x float64) *float64 { return &x }

// judged is a transaction at the end of its message.
func judged(t testing.TB, to []string, findings ...mail.Finding) *mail.Transaction {
	t.Helper()
	tx := &mail.Transaction{Stage: mail.StageMessage, Session: session(t, "198.18.0.9", ""), Findings: findings}
	tx.Envelope.Sender = path(t, "s@sender.example")
	for _, r := range to {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, path(t, r))
	}
	h, _, err := mail.SplitHeader([]byte("Received: from a by us\r\nReceived: from b by a\r\nSubject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Message = mail.NewMessage(h, strings.NewReader("body\r\n"), 6)
	return tx
}

func spam(score float64, rules ...string) []mail.Finding {
	f := []mail.Finding{{Filter: "spamassassin", Name: mail.FindingSpamScore, Score: score}}
	for _, r := range rules {
		f = append(f, mail.Finding{Filter: "spamassassin", Name: mail.FindingSpamRule, Value: r})
	}
	return f
}

func virus(name string) mail.Finding {
	return mail.Finding{Filter: "clamav", Name: mail.FindingVirus, Value: name}
}

func unscanned(why string) mail.Finding {
	return mail.Finding{Filter: "clamav", Name: mail.FindingNotScanned, Value: why}
}

func clean() mail.Finding { return mail.Finding{Filter: "clamav", Name: mail.FindingClean} }

// field returns a field that the verdict adds.
func field(v mail.Verdict, name string) (string, bool) {
	for _, e := range v.Edits {
		if ins, ok := e.(mail.InsertHeader); ok && ins.Field.Is(name) {
			return ins.Field.Value(), true
		}
	}
	return "", false
}

func TestScoreThresholds(t *testing.T) {
	tests := []struct {
		name   string
		score  float64
		limits Limits
		want   mail.Action
		tagged bool
	}{
		{"below all", 4.9, Limits{}, mail.Accept, false},
		{"negative", -3, Limits{}, mail.Accept, false},
		{"tag", 5, Limits{}, mail.Accept, true},
		{"below quarantine", 9.999, Limits{}, mail.Accept, true},
		{"quarantine", 10, Limits{}, mail.Quarantine, true},
		{"14.9 is not 15", 14.9, Limits{}, mail.Quarantine, true},
		{"15.0 is", 15.0, Limits{}, mail.Reject, true},
		{"above", 1000, Limits{}, mail.Reject, true},
		{"short of it by the last bit", math.Nextafter(15, 0), Limits{}, mail.Reject, true},
		{"negative threshold", -1, Limits{Tag: ptr(-1)}, mail.Accept, true},
		{"below a negative threshold", -1.1, Limits{Tag: ptr(-1)}, mail.Accept, false},
		{"zero", 0, Limits{Tag: ptr(0)}, mail.Accept, true},
		{"reject is off", 1000, Limits{Reject: ptr(math.Inf(1))}, mail.Quarantine, true},
		{"quarantine is off", 14.9, Limits{Quarantine: ptr(math.Inf(1))}, mail.Accept, true},
		{"tag is off", 9, Limits{Tag: ptr(math.Inf(1))}, mail.Accept, false},
		{"all the same", 5, Limits{Quarantine: ptr(5), Reject: ptr(5)}, mail.Reject, true},
		{"not a number", math.NaN(), Limits{}, mail.TempFail, false},
		{"infinite", math.Inf(1), Limits{}, mail.TempFail, false},
		{"minus infinite", math.Inf(-1), Limits{}, mail.TempFail, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			if tt.limits.Tag != nil {
				cfg.Policy.Tag = tt.limits.Tag
			}
			if tt.limits.Quarantine != nil {
				cfg.Policy.Quarantine = tt.limits.Quarantine
			}
			if tt.limits.Reject != nil {
				cfg.Policy.Reject = tt.limits.Reject
			}
			v := load(t, cfg).Decide(judged(t, []string{"a@example.com"}, spam(tt.score)...), nil)
			if v.Action != tt.want {
				t.Errorf("action = %v (%s), want %v", v.Action, v.Reason, tt.want)
			}
			if v.Action.Delivers() || v.Action == mail.Quarantine {
				if _, got := field(v, "X-Spam-Flag"); got != tt.tagged {
					t.Errorf("X-Spam-Flag: %v, want %v", got, tt.tagged)
				}
			}
		})
	}
}

func TestNaNIsNeverHiddenByOthers(t *testing.T) {
	s := load(t, DefaultConfig())
	for _, findings := range [][]mail.Finding{
		{{Name: mail.FindingSpamScore, Score: math.NaN()}, {Name: mail.FindingSpamScore, Score: 1}},
		{{Name: mail.FindingSpamScore, Score: math.Inf(1)}, {Name: "x", Score: math.Inf(-1)}},
		{{Name: "x", Score: math.NaN()}, clean()},
	} {
		if v := s.Decide(judged(t, []string{"a@example.com"}, findings...), nil); v.Action != mail.TempFail || v.Reply.Code != 451 {
			t.Errorf("%v: %v, want tempfail", findings, show(v))
		}
	}
}

// Nobody scored: thresholds of 0 and below are not reached by that.
func TestNoScoreIsNotZero(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Policy.Tag, cfg.Policy.Quarantine, cfg.Policy.Reject = ptr(-5), ptr(-4), ptr(-3)
	v := load(t, cfg).Decide(judged(t, []string{"a@example.com"}, clean()), nil)
	if v.Action != mail.Accept {
		t.Errorf("verdict = %s, want accept", show(v))
	}
}

func TestVirusAndUnscanned(t *testing.T) {
	tests := []struct {
		name     string
		limits   Limits
		findings []mail.Finding
		want     string
		reason   string
	}{
		{"virus", Limits{}, []mail.Finding{virus("Eicar-Signature")}, "reject 554 5.7.1 Message refused: virus found: Eicar-Signature", "virus Eicar-Signature"},
		{"virus, held", Limits{Virus: VirusQuarantine}, []mail.Finding{virus("X")}, "quarantine", "virus X"},
		{"virus, dropped", Limits{Virus: VirusDiscard}, []mail.Finding{virus("X")}, "discard", "virus X"},
		{"name from a hostile scanner", Limits{}, []mail.Finding{virus("a\r\n250 ok\x00")}, "reject 554 5.7.1 Message refused: virus found: a 250 ok", "virus a 250 ok"},
		{"no name", Limits{}, []mail.Finding{virus("")}, "reject 554 5.7.1 Message refused: virus found: unknown", "virus unknown"},
		{"virus beside clean", Limits{}, []mail.Finding{clean(), virus("X")}, "reject 554 5.7.1 Message refused: virus found: X", "virus X"},
		{"virus and score, dropped all the same", Limits{Virus: VirusDiscard}, append(spam(99), virus("X")), "discard", "virus X"},
		{"virus and no number", Limits{}, append(spam(math.NaN()), virus("X")), "reject 554 5.7.1 Message refused: virus found: X", "virus X"},
		{"virus and not scanned", Limits{Virus: VirusDiscard}, []mail.Finding{unscanned("encrypted"), virus("X")}, "discard", "virus X"},
		{"clean", Limits{}, []mail.Finding{clean()}, "accept", ""},
		{"nothing found", Limits{}, nil, "accept", ""},
		{"not scanned", Limits{}, []mail.Finding{unscanned("encrypted archive")}, "quarantine", "not scanned: clamav: encrypted archive"},
		{"not scanned, passed", Limits{Unscanned: UnscannedContinue}, []mail.Finding{unscanned("x")}, "accept", "not scanned: clamav: x"},
		{"not scanned, tagged", Limits{Unscanned: UnscannedTag}, []mail.Finding{unscanned("x")}, "accept", "not scanned: clamav: x"},
		{"not scanned, refused", Limits{Unscanned: UnscannedReject}, []mail.Finding{unscanned("x")}, "reject 550 5.7.1 Message refused: a part of it could not be scanned for viruses", "not scanned: clamav: x"},
		{"not scanned, later", Limits{Unscanned: UnscannedTempFail}, []mail.Finding{unscanned("x")}, "tempfail 451 4.7.1 The message could not be scanned; please try again later", "not scanned: clamav: x"},
		{"not scanned and spam", Limits{}, append(spam(20), unscanned("x")), "reject 550 5.7.1 Message refused: it looks like spam. If it is not, please reach the recipient in another way", "spam score 20.0 reaches reject 15.0"},
		{"not scanned and some spam", Limits{Unscanned: UnscannedTag}, append(spam(6), unscanned("x")), "accept", "not scanned: clamav: x; spam score 6.0 reaches tag 5.0"},
		{"both held", Limits{}, append(spam(11), unscanned("x")), "quarantine", "not scanned: clamav: x; spam score 11.0 reaches quarantine 10.0"},
		{"not scanned beats a low score", Limits{}, append(spam(1), unscanned("x")), "quarantine", "not scanned: clamav: x"},
		{"a failed filter is not ours", Limits{}, []mail.Finding{{Filter: "clamav", Name: mail.FindingFailed, Value: "tempfail"}}, "accept", ""},
		{"part of it", Limits{}, append(spam(1), mail.Finding{Name: mail.FindingPartial, Value: "1 MB"}), "accept", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			if tt.limits.Virus != "" {
				cfg.Policy.Virus = tt.limits.Virus
			}
			if tt.limits.Unscanned != "" {
				cfg.Policy.Unscanned = tt.limits.Unscanned
			}
			v := load(t, cfg).Decide(judged(t, []string{"a@example.com", "b@example.com"}, tt.findings...), nil)
			if got := short(v); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
			if v.Reason != tt.reason {
				t.Errorf("reason = %q, want %q", v.Reason, tt.reason)
			}
			if v.Recipients != nil {
				t.Errorf("%d verdicts for recipients that do not differ", len(v.Recipients))
			}
			if (v.Action == mail.Reject || v.Action == mail.Discard) && v.Edits != nil {
				t.Errorf("edits of a message that nobody gets: %v", v.Edits)
			}
		})
	}
}

// perRecipient has a policy for several kinds of recipients.
func perRecipient(t testing.TB) *Set {
	cfg := DefaultConfig()
	cfg.Policy.For = map[string]Limits{
		"vip@example.com":     {Quarantine: ptr(7)},
		"Lax@Example.com":     {Tag: ptr(50), Quarantine: ptr(60), Reject: ptr(70)},
		"example.com":         {Reject: ptr(20)},
		".example.com":        {Reject: ptr(12)},
		"sink.example":        {Virus: VirusDiscard},
		"lab.example":         {Virus: VirusQuarantine, Unscanned: UnscannedContinue},
		"later.example":       {Unscanned: UnscannedTempFail},
		"tagged.example":      {Tag: ptr(5)},
		"strict.example":      {Unscanned: UnscannedReject},
		"mail.bücher.example": {Reject: ptr(11)},
	}
	return load(t, cfg)
}

func TestLimitsOfRecipients(t *testing.T) {
	tests := []struct{ to, want string }{
		{"a@other.example", "5 10 15"},
		{"a@example.com", "5 10 20"},
		{"vip@example.com", "5 7 20"},
		{"VIP@example.com", "5 7 20"},
		{"vip+news@example.com", "5 7 20"},
		{"vip@sub.example.com", "5 10 12"},
		{"a@b.sub.example.com", "5 10 12"},
		{"a@notexample.com", "5 10 15"},
		{"lax@example.com", "50 60 70"},
		{"a@mail.xn--bcher-kva.example", "5 10 11"},
		{"a@mail.bücher.example", "5 10 11"},
		{"postmaster", "5 10 15"},
		{"a@[192.0.2.1]", "5 10 15"},
	}
	s := perRecipient(t)
	for _, tt := range tests {
		l := s.limits.find(address(t, tt.to))
		if got := fmt.Sprint(l.tag, l.quarantine, l.reject); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.to, got, tt.want)
		}
	}
}

func TestRecipientsDiffer(t *testing.T) {
	const (
		plain, vip, lax = "a@other.example", "vip@example.com", "lax@example.com"
		sink, lab       = "a@sink.example", "a@lab.example"
		later, strict   = "a@later.example", "a@strict.example"
	)
	tests := []struct {
		name     string
		to       []string
		findings []mail.Finding
		want     string // the verdict, then those of the recipients if they differ
	}{
		{"same limits", []string{plain, "b@other.example"}, spam(11), "quarantine"},
		{"other limits, same outcome", []string{plain, vip}, spam(1), "accept"},
		{"other reasons, same copy", []string{later, "b@other.example", "a@tagged.example"}, spam(6), "accept"},
		{"one is held", []string{plain, vip}, spam(8), "quarantine: accept quarantine"},
		{"one refuses, the other gets it: held", []string{plain, lax}, spam(16), "quarantine: quarantine accept"},
		{"one refuses, the other holds", []string{plain, "a@example.com"}, spam(16), "quarantine: quarantine quarantine"},
		{"all refuse by different limits", []string{plain, "a@sub.example.com"}, spam(16), "reject"},
		{"virus: refuse and drop is to refuse", []string{sink, plain}, []mail.Finding{virus("X")}, "reject"},
		{"virus: all drop", []string{sink, "b@sink.example"}, []mail.Finding{virus("X")}, "discard"},
		{"virus: refuse and hold", []string{plain, lab}, []mail.Finding{virus("X")}, "quarantine: quarantine quarantine"},
		{"virus: drop and hold", []string{sink, lab}, []mail.Finding{virus("X")}, "quarantine: discard quarantine"},
		{"virus: refuse, drop and hold", []string{plain, sink, lab}, []mail.Finding{virus("X")}, "quarantine: quarantine discard quarantine"},
		{"not scanned: later and refuse is later", []string{later, strict}, []mail.Finding{unscanned("x")}, "tempfail"},
		{"not scanned: later and pass", []string{later, lab}, []mail.Finding{unscanned("x")}, "quarantine: quarantine accept"},
		{"not scanned: refuse and pass", []string{lab, strict}, []mail.Finding{unscanned("x")}, "quarantine: accept quarantine"},
		{"tags differ, so headers differ", []string{plain, lax}, spam(6), "accept: accept accept"},
		{"no recipients", nil, spam(16), "reject"},
	}
	s := perRecipient(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := s.Decide(judged(t, tt.to, tt.findings...), nil)
			got := v.Action.String()
			for i, r := range v.Recipients {
				if i == 0 {
					got += ":"
				}
				got += " " + r.Action.String()
			}
			if got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
			if n := len(v.Recipients); n != 0 && n != len(tt.to) {
				t.Errorf("%d verdicts for %d recipients", n, len(tt.to))
			}
			for _, r := range v.Recipients {
				if r.Action == mail.Quarantine && (r.Reason == "" || !r.Reply.IsZero()) {
					t.Errorf("held with reason %q and reply %q", r.Reason, r.Reply)
				}
			}
		})
	}
}

func TestRecipientsGetTheirOwnHeaders(t *testing.T) {
	v := perRecipient(t).Decide(judged(t, []string{"a@other.example", "lax@example.com"}, spam(6)...), nil)
	for i, want := range []string{"Yes, score=6.0 required=5.0 tests=none", "No, score=6.0 required=50.0 tests=none"} {
		if got, _ := field(v.For(i), "X-Spam-Status"); got != want {
			t.Errorf("recipient %d: X-Spam-Status: %s, want %s", i, got, want)
		}
	}
}

func TestHeldReasonSaysWhoseLimit(t *testing.T) {
	v := perRecipient(t).Decide(judged(t, []string{"a@other.example", "vip@example.com"}, spam(8)...), nil)
	if got, want := v.Recipients[1].Reason, `spam score 8.0 reaches quarantine 7.0 for "vip@example.com"`; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
}

// What the access map said of client, sender and recipient before there was a
// message is done with the message.
func TestAccessMapAtTheMessage(t *testing.T) {
	tests := []struct {
		name, client, from string
		to                 []string
		findings           []mail.Finding
		want               string
	}{
		{"nothing", "198.18.0.9", "a@b.example", []string{"u@local.example"}, nil, "accept"},
		{"client held", "203.0.113.8", "a@b.example", []string{"u@local.example"}, nil, "quarantine"},
		{"client dropped", "203.0.113.9", "a@b.example", []string{"u@local.example"}, nil, "discard"},
		{"sender held", "198.18.0.9", "a@quar.example", []string{"u@local.example"}, nil, "quarantine"},
		{"sender dropped", "198.18.0.9", "a@disc.example", []string{"u@local.example"}, nil, "discard"},
		{"sender dropped, client held", "203.0.113.8", "a@disc.example", []string{"u@local.example"}, nil, "discard"},
		{"client dropped, sender held", "203.0.113.9", "a@quar.example", []string{"u@local.example"}, nil, "discard"},
		{"dropped, whatever is in it", "203.0.113.9", "a@b.example", []string{"u@local.example"}, []mail.Finding{virus("X")}, "discard"},
		{"held yields to a refusal", "203.0.113.8", "a@b.example", []string{"u@local.example"}, []mail.Finding{virus("X")}, "reject"},
		{"held yields to later", "203.0.113.8", "a@b.example", []string{"u@local.example"}, spam(math.NaN()), "tempfail"},
		{"OK is no pass for content", "198.18.0.9", "good@another.example", []string{"u@local.example"}, spam(99), "reject"},
		{"RELAY is no pass for content", "192.168.2.9", "a@b.example", []string{"u@elsewhere.example"}, []mail.Finding{virus("X")}, "reject"},
		{"null sender", "198.18.0.9", "", []string{"u@local.example"}, nil, "accept"},
	}
	s := oracle(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := judged(t, tt.to, tt.findings...)
			tx.Session = session(t, tt.client, "x.example")
			tx.Envelope.Sender = path(t, tt.from)
			if got := s.Decide(tx, nil).Action.String(); got != tt.want {
				t.Errorf("action = %s, want %s", got, tt.want)
			}
		})
	}
}

// DISCARD and QUARANTINE of one recipient leave the others alone, and do not
// open the relay.
func TestAccessMapForOneRecipient(t *testing.T) {
	file := t.TempDir() + "/access"
	text := "To:gone.example DISCARD\nTo:odd@here.example QUARANTINE:odd\nTo:x@elsewhere.example DISCARD\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Relay.Domains, cfg.Relay.Access = []string{"here.example", "gone.example"}, file
	s := load(t, cfg)
	for to, want := range map[string]string{"u@gone.example": "accept", "odd@here.example": "accept", "x@elsewhere.example": "reject 550 5.7.1 Relaying denied"} {
		rcpt := path(t, to)
		if got := short(s.Decide(&mail.Transaction{Stage: mail.StageRcpt, Session: session(t, "198.18.0.9", "")}, &rcpt)); got != want {
			t.Errorf("RCPT %s: %s, want %s", to, got, want)
		}
	}
	v := s.Decide(judged(t, []string{"u@here.example", "u@gone.example", "odd@here.example"}), nil)
	var got []string
	for _, r := range v.Recipients {
		got = append(got, r.Action.String())
	}
	if want := "accept discard quarantine"; strings.Join(got, " ") != want {
		t.Errorf("verdicts %v, want %s", got, want)
	}
}

func TestSettled(t *testing.T) {
	tests := []struct {
		name     string
		to       []string
		findings []mail.Finding
		want     bool
	}{
		{"nothing", []string{"a@other.example"}, nil, false},
		{"clean", []string{"a@other.example"}, []mail.Finding{clean()}, false},
		{"spam that is refused", []string{"a@other.example"}, spam(99), false}, // a later score may be negative
		{"virus, refused", []string{"a@other.example"}, []mail.Finding{virus("X")}, true},
		{"virus, dropped", []string{"a@sink.example"}, []mail.Finding{virus("X")}, true},
		{"virus, refused and dropped", []string{"a@sink.example", "a@other.example"}, []mail.Finding{virus("X")}, true},
		{"virus, held", []string{"a@lab.example"}, []mail.Finding{virus("X")}, false},
		{"virus, held for one", []string{"a@other.example", "a@lab.example"}, []mail.Finding{virus("X")}, false},
		{"virus, no recipients", nil, []mail.Finding{virus("X")}, true},
	}
	s := perRecipient(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.Settled(judged(t, tt.to), tt.findings); got != tt.want {
				t.Errorf("settled = %v, want %v", got, tt.want)
			}
		})
	}
}

// Settled promises that nothing that may still be found changes the verdict.
func TestSettledHolds(t *testing.T) {
	s := perRecipient(t)
	others := [][]mail.Finding{
		nil, spam(99), spam(-99), spam(math.NaN()), {unscanned("x")}, {clean()}, {virus("Y")},
		{{Name: mail.FindingFailed, Value: "tempfail"}}, {{Name: mail.FindingPartial}},
	}
	for _, to := range [][]string{{"a@other.example"}, {"a@sink.example"}, {"a@sink.example", "vip@example.com"}, {"a@later.example"}} {
		first := []mail.Finding{virus("X")}
		if !s.Settled(judged(t, to), first) {
			t.Fatalf("%v: not settled", to)
		}
		want := short(s.Decide(judged(t, to, first...), nil))
		for _, more := range others {
			if got := short(s.Decide(judged(t, to, append(first[:1:1], more...)...), nil)); got != want {
				t.Errorf("%v with %v: %q, want %q", to, more, got, want)
			}
		}
	}
}

func TestPolicyMistakes(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		want   string
	}{
		{"order", Policy{Limits: Limits{Tag: ptr(12), Quarantine: ptr(10)}}, "policy: tag 12.0 is above quarantine 10.0; write tag <= quarantine <= reject"},
		{"order of the outer two", Policy{Limits: Limits{Tag: ptr(12), Reject: ptr(10)}}, "policy: tag 12.0 is above reject 10.0"},
		{"not a number", Policy{Limits: Limits{Tag: ptr(math.NaN())}}, "policy.tag: is not a number"},
		{"virus", Policy{Limits: Limits{Virus: "drop"}}, `policy.virus: "drop" is unknown; write one of "reject", "quarantine", "discard"`},
		{"unscanned", Policy{Limits: Limits{Unscanned: "pass"}}, `policy.unscanned: "pass" is unknown; write one of "quarantine", "continue", "tag", "tempfail", "reject"`},
		{"order together with the base", Policy{Limits: Limits{Reject: ptr(15)}, For: map[string]Limits{"a@b.example": {Quarantine: ptr(20)}}}, `policy.for."a@b.example": quarantine 20.0 is above reject 15.0`},
		{"order together with the domain", Policy{For: map[string]Limits{"a@b.example": {Quarantine: ptr(20)}, "b.example": {Reject: ptr(9)}}}, `policy.for."a@b.example": quarantine 20.0 is above reject 9.0`},
		{"key", Policy{For: map[string]Limits{"a b": {}}}, `policy.for."a b": address: character ' ' in the domain; write user@example.com, example.com or .example.com`},
		{"address", Policy{For: map[string]Limits{"@b.example": {}}}, `policy.for."@b.example": address: source routes`},
		{"twice", Policy{For: map[string]Limits{"a@b.example": {}, "A@B.example": {}}}, `policy.for."a@b.example": the same as another one`},
		{"word in an override", Policy{For: map[string]Limits{"b.example": {Virus: "x"}}}, `policy.for."b.example".virus: "x" is unknown`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Config{Policy: tt.policy}.Validate()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v\nwant one with %s", err, tt.want)
			}
			if _, err := Load(Config{Policy: tt.policy}); err == nil {
				t.Error("loads")
			}
		})
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
}

// The zero policy does not pass viruses or what could not be scanned.
func TestZeroPolicyIsSafe(t *testing.T) {
	s := load(t, Config{})
	if v := s.Decide(judged(t, []string{"a@b.example"}, virus("X")), nil); v.Action != mail.Reject {
		t.Errorf("virus: %s", show(v))
	}
	if v := s.Decide(judged(t, []string{"a@b.example"}, unscanned("x")), nil); v.Action != mail.Quarantine {
		t.Errorf("not scanned: %s", show(v))
	}
	if v := s.Decide(judged(t, []string{"a@b.example"}, spam(99)...), nil); v.Action != mail.Accept {
		t.Errorf("score without thresholds: %s", show(v))
	}
}

// TestHeaders compares whole headers with testdata/headers.golden.
func TestHeaders(t *testing.T) {
	rules := make([]string, 40)
	for i := range rules {
		rules[i] = fmt.Sprintf("LONG_RULE_NAME_%02d", i)
	}
	tests := []struct {
		name     string
		via      mail.Via
		findings []mail.Finding
	}{
		{"clean and scored", mail.ViaSMTP, append(spam(2.3, "ALL_TRUSTED", "HTML_MESSAGE"), clean())},
		{"tagged", mail.ViaSMTP, append(spam(7.1, "A", "B"), clean())},
		{"quarantined", mail.ViaSMTP, append(spam(10, "A"), clean())},
		{"negative", mail.ViaSMTP, spam(-1.25, "USER_IN_WELCOMELIST")},
		{"below one", mail.ViaSMTP, spam(0.4)},
		{"many rules", mail.ViaSMTP, spam(6, rules...)},
		{"scores of several filters", mail.ViaSMTP, append(spam(4, "A"), mail.Finding{Name: "child", Score: 2.5})},
		{"hostile rule names", mail.ViaSMTP, spam(1, "A\r\nX-Evil: 1", "B, C=D", "ü", strings.Repeat("x", 200))},
		{"no spam filter", mail.ViaSMTP, []mail.Finding{clean()}},
		{"no filter at all", mail.ViaSMTP, nil},
		{"not scanned", mail.ViaSMTP, append(spam(1), clean(), unscanned("encrypted\r\narchive"))},
		{"over milter", mail.ViaMilter, append(spam(1), clean())},
	}
	var got bytes.Buffer
	cfg := DefaultConfig()
	cfg.Hostname = "mx1.example.net"
	cfg.Policy.Unscanned = UnscannedTag
	s := load(t, cfg)
	for _, tt := range tests {
		tx := judged(t, []string{"a@example.com"}, tt.findings...)
		tx.Session.Via = tt.via
		v := s.Decide(tx, nil)
		_, m := mail.Apply(tx.Envelope, tx.Message, v.Edits)
		fmt.Fprintf(&got, "-- %s: %s --\n%s", tt.name, v.Action, strings.ReplaceAll(string(m.Header.Bytes()), "\r\n", "\n"))
		for _, line := range strings.Split(string(m.Header.Bytes()), "\r\n") {
			if len(line) > 78 {
				t.Errorf("%s: line of %d octets: %s", tt.name, len(line), line)
			}
		}
	}
	const golden = "testdata/headers.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("headers:\n%s\nwant:\n%s", &got, want)
	}
}

// A copy that is held as not scanned does not claim to be scanned.
func TestNoClaimOfWhatWasNotScanned(t *testing.T) {
	v := load(t, DefaultConfig()).Decide(judged(t, []string{"a@example.com"}, clean(), unscanned("encrypted")), nil)
	if v.Action != mail.Quarantine {
		t.Fatalf("verdict = %s, want quarantine", show(v))
	}
	if got, ok := field(v, "X-Virus-Scanned"); ok {
		t.Errorf("X-Virus-Scanned: %s", got)
	}
}

func TestStarsAreBounded(t *testing.T) {
	cfg := Config{} // no thresholds
	v := load(t, cfg).Decide(judged(t, []string{"a@example.com"}, spam(1e300)...), nil)
	if got, _ := field(v, "X-Spam-Level"); got != strings.Repeat("*", 50) {
		t.Errorf("X-Spam-Level: %s", got)
	}
}
