package mail

import "testing"

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "bob@example.com": "bob@example.com", "a+b=c d": "a+2Bb+3Dc+20d", "\r\n\x7f": "+0D+0A+7F", "\u00fc": "+C3+BC",
	} {
		if got := Xtext(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
