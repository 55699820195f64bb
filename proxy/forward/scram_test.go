package forward

import (
	"strings"
	"testing"
)

// TestSCRAMVector is the exchange of RFC 7677 3.
func TestSCRAMVector(t *testing.T) {
	s := &scram{user: "user", password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO"}
	mech, first, err := s.Start()
	if mech != "SCRAM-SHA-256" || string(first) != "n,,n=user,r=rOprNGfwEbeRWgbNEkqO" || err != nil {
		t.Fatalf("%q %q %v", mech, first, err)
	}
	final, err := s.Next([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	const want = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	if string(final) != want || err != nil {
		t.Fatalf("got  %q %v\nwant %q", final, err, want)
	}
	if _, err := s.Next([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil || !s.proved {
		t.Errorf("proved = %v, %v", s.proved, err)
	}
}

// TestSCRAMHostile: what a server may not make us do.
func TestSCRAMHostile(t *testing.T) {
	tests := []struct{ name, first, want string }{
		{"another nonce", "r=theirs,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"},
		{"our nonce alone", "r=ours,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"},
		{"weak", "r=ours1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", "iterations"},
		{"endless", "r=ours1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999", "iterations"},
		{"no number", "r=ours1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=x", "iterations"},
		{"no salt", "r=ours1,s=,i=4096", "syntax"},
		{"no base64", "r=ours1,s=!,i=4096", "syntax"},
		{"an extension we must know", "m=x,r=ours1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "syntax"},
		{"empty", "", "syntax"},
	}
	for _, tt := range tests {
		s := &scram{user: "u", password: "p", nonce: "ours"}
		_, _, _ = s.Start()
		if _, err := s.Next([]byte(tt.first)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	s := &scram{user: "u", password: "p", nonce: "ours"}
	_, first, _ := s.Start()
	if _, err := s.Next([]byte("r=ours1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next([]byte("v=" + string(first))); err == nil || s.proved {
		t.Error("a server that does not know the password was believed")
	}
	if _, err := s.Next(nil); err == nil {
		t.Error("a third message was answered")
	}
}

func TestSCRAMName(t *testing.T) {
	s := &scram{user: "a=b,c", nonce: "n"}
	if _, first, _ := s.Start(); string(first) != "n,,n=a=3Db=2Cc,r=n" {
		t.Errorf("got %q", first)
	}
}
