package proxy

import (
	"testing"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/internal/users"
)

// FuzzScram: whatever a client says, it does not log in without the password,
// and its name comes back as it was meant.
func FuzzScram(f *testing.F) {
	f.Add("n,,n=bob,r=nonce", "c=biws,r=nonce,p=AAAA")
	f.Add("y,a=bob,n=bob,r=nonce,x=1", "c=eSxhPWJvYiw=,r=nonce,p=")
	f.Add("p=tls-unique,,n==2C=3D,r=%", ",p=")
	f.Add("n,,n=,r=", "")
	b := &book{passwords: map[string]string{"bob": "builder"}, scram: true}
	f.Fuzz(func(t *testing.T, first, final string) {
		s := &session{set: &settings{Config: Config{Sources: []users.Source{b}}}, deps: &Deps{Throttle: noThrottle{}}}
		s.facts = &mail.Session{}
		m := &scram{s: s}
		challenge, who, err := m.next(t.Context(), []byte(first))
		if who != nil || err == nil && (len(challenge) == 0 || len(challenge) > 300 || !utf8.Valid(challenge)) {
			t.Fatalf("first: %q, %v", challenge, who)
		}
		if err != nil {
			return
		}
		if _, who, err := m.next(t.Context(), []byte(final)); who != nil || err == nil {
			t.Fatalf("logged in as %v", who)
		}
	})
}

// FuzzPlain: the same for PLAIN.
func FuzzPlain(f *testing.F) {
	f.Add("\x00bob\x00x")
	f.Add("bob\x00alice\x00builder")
	f.Add("bob\x00bob\x00builder")
	b := &book{passwords: map[string]string{"bob": "builder"}}
	f.Fuzz(func(t *testing.T, response string) {
		s := &session{set: &settings{Config: Config{Sources: []users.Source{b}}}, deps: &Deps{Throttle: noThrottle{}}}
		s.facts = &mail.Session{}
		_, who, err := (&plain{s: s}).next(t.Context(), []byte(response))
		right := response == "\x00bob\x00builder" || response == "bob\x00bob\x00builder"
		if (who != nil && err == nil) != right {
			t.Fatalf("%q: %v, %v", response, who, err)
		}
	})
}
