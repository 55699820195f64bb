package client

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestCheck(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Hostname, cfg.Names = "mx1.example.com", []string{"example.com", ".inside.example.com"}
	cfg.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.25")}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	zero, err := New(Config{Hostname: "mx1.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*mail.Session)
		want   string
		score  float64
	}{
		{"as it is to be", func(*mail.Session) {}, "", 0},
		{"us", func(s *mail.Session) { s.Helo = "MX1.Example.COM." }, "helo-ours", 5},
		{"our domain", func(s *mail.Session) { s.Helo = "example.com" }, "helo-ours", 5},
		{"below", func(s *mail.Session) { s.Helo = "pc7.inside.example.com" }, "helo-ours", 5},
		{"beside", func(s *mail.Session) { s.Helo = "mx2.example.com" }, "", 0},
		{"our address", func(s *mail.Session) { s.Helo = "[192.0.2.25]" }, "helo-ours", 5},
		{"our address, bare", func(s *mail.Session) { s.Helo = "192.0.2.25" }, "helo-ours", 5},
		{"no dot", func(s *mail.Session) { s.Helo = "localhost" }, "helo-no-dot", 2},
		{"a bare address", func(s *mail.Session) { s.Helo = "203.0.113.7" }, "helo-bare-address", 2},
		{"its own literal", func(s *mail.Session) { s.Helo = "[203.0.113.7]" }, "helo-literal", 1},
		{"another's", func(s *mail.Session) { s.Helo = "[203.0.113.8]" }, "helo-literal-mismatch", 3},
		{"IPv6, its own", func(s *mail.Session) {
			s.Client, s.Helo = netip.MustParseAddrPort("[2001:db8::7]:9"), "[IPv6:2001:DB8:0::7]"
		}, "helo-literal", 1},
		{"no name", func(s *mail.Session) { s.Resolve = mail.ResolveFail }, "no-ptr", 2},
		{"nobody knows the name", func(s *mail.Session) { s.Resolve = mail.ResolveTemp }, "", 0},
		{"not looked up", func(s *mail.Session) { s.Resolve = "" }, "", 0},
		{"forged", func(s *mail.Session) { s.Resolve, s.PTR = mail.ResolveForged, "bank.example" }, "forged-ptr", 1},
		{"pregreet", func(s *mail.Session) { s.Pregreet = true }, "pregreet", 4},
		{"all at once", func(s *mail.Session) { s.Helo, s.Resolve, s.Pregreet = "x", mail.ResolveFail, true }, "helo-no-dot no-ptr pregreet", 8},
		{"logged in", func(s *mail.Session) { s.Helo, s.User = "x", "joe" }, "", 0},
		{"trusted", func(s *mail.Session) { s.Helo, s.Trusted = "x", true }, "", 0},
		{"a peer that can't tell", func(s *mail.Session) { s.Helo, s.Proxied = "x", s.Client.Addr() }, "", 0},
		{"an MTA that tells no HELO", func(s *mail.Session) { s.Helo = "" }, "", 0},
	} {
		s := &mail.Session{Client: netip.MustParseAddrPort("203.0.113.7:25000"), Helo: "mx.sender.org", Resolve: mail.ResolveOK}
		tt.change(s)
		r, err := f.Check(t.Context(), &mail.Transaction{Session: s})
		var values []string
		score := 0.0
		for _, x := range r.Findings {
			values, score = append(values, x.Value), score+x.Score
		}
		if got := strings.Join(values, " "); err != nil || got != tt.want || score != tt.score {
			t.Errorf("%s: %q %g, %v; want %q %g", tt.name, got, score, err, tt.want, tt.score)
		}
		if r, _ := zero.Check(t.Context(), &mail.Transaction{Session: s}); len(r.Findings) > 0 {
			t.Errorf("%s: without scores %+v", tt.name, r.Findings)
		}
	}
	bad := DefaultConfig()
	bad.NoPTR, bad.Names = math.NaN(), []string{"a b"}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "no_ptr") || !strings.Contains(err.Error(), "names[0]") {
		t.Errorf("Validate = %v", err)
	}
}
