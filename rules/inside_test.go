package rules

import (
	"testing"

	"gatepost/internal/mail"
)

func ambiguous(why string) mail.Finding {
	return mail.Finding{Filter: "mime", Name: mail.FindingAmbiguous, Value: why}
}

// What mail programs read in different ways is held unless the policy says
// otherwise; a stronger outcome stands, and of equal ones both reasons.
func TestAmbiguous(t *testing.T) {
	two := []mail.Finding{ambiguous("boundary"), ambiguous("base64")}
	tests := []struct {
		name     string
		action   AmbiguousAction
		findings []mail.Finding
		want     string
		reason   string
		field    string
	}{
		{"held", "", two, "quarantine", "ambiguous: boundary; base64", ""},
		{"not at all", "", []mail.Finding{clean()}, "accept", "", ""},
		{"refused", AmbiguousReject, two, "reject 550 5.6.0 Message refused: mail programs would read it in different ways (boundary; base64)", "ambiguous: boundary; base64", ""},
		{"tagged", AmbiguousTag, two, "accept", "ambiguous: boundary; base64", "boundary; base64"},
		{"let pass", AmbiguousContinue, two, "accept", "ambiguous: boundary; base64", ""},
		{"tagged, and spam that is held", AmbiguousTag, append(spam(11), ambiguous("name")), "quarantine", "spam score 11.0 reaches quarantine 10.0", "name"},
		{"a virus decides alone", AmbiguousReject, append(two, virus("X")), "reject 554 5.7.1 Message refused: virus found: X", "virus X", ""},
		{"not scanned either", "", append(two, unscanned("x")), "quarantine", "not scanned: clamav: x; ambiguous: boundary; base64", ""},
		{"a reason from outside", AmbiguousTag, []mail.Finding{ambiguous("archive: a\r\nX: y")}, "accept", "ambiguous: archive: a X: y", "archive: a X: y"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			if tt.action != "" {
				cfg.Policy.Ambiguous = tt.action
			}
			v := load(t, cfg).Decide(judged(t, []string{"a@example.com"}, tt.findings...), nil)
			if got := short(v); got != tt.want {
				t.Errorf("verdict = %q, want %q", got, tt.want)
			}
			if v.Reason != tt.reason {
				t.Errorf("reason = %q, want %q", v.Reason, tt.reason)
			}
			if got, _ := field(v, "X-Gatepost-Ambiguous"); got != tt.field {
				t.Errorf("X-Gatepost-Ambiguous = %q, want %q", got, tt.field)
			}
		})
	}
}
