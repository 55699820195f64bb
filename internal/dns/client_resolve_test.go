package dns_test

import (
	"errors"
	"net/netip"
	"testing"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

// What sendmail calls ${client_resolve}.
func TestClientResolve(t *testing.T) {
	r := &dnstest.Resolver{
		PTR: map[string][]string{
			"192.0.2.1": {"MX.example.com."}, "192.0.2.2": {"bank.example."}, "192.0.2.3": {"nowhere.example."},
			"192.0.2.4": {"not a name.", "[192.0.2.4]"}, "192.0.2.5": {"bank.example.", "mx5.example.com."},
		},
		Hosts: map[string][]string{"mx.example.com.": {"192.0.2.1"}, "bank.example.": {"198.51.100.1"}, "mx5.example.com.": {"192.0.2.5"}},
	}
	c, err := dns.New(dns.DefaultConfig(), r)
	if err != nil {
		t.Fatal(err)
	}
	away, err := dns.New(dns.DefaultConfig(), &dnstest.Resolver{Err: errors.New("SERVFAIL")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		of              *dns.ClientNames
		addr, name, ptr string
		how             mail.Resolve
	}{
		{c, "192.0.2.1", "mx.example.com", "mx.example.com", mail.ResolveOK},
		{c, "::ffff:192.0.2.1", "mx.example.com", "mx.example.com", mail.ResolveOK},
		{c, "192.0.2.2", "", "bank.example", mail.ResolveForged},
		{c, "192.0.2.3", "", "nowhere.example", mail.ResolveForged},
		{c, "192.0.2.4", "", "", mail.ResolveFail},
		{c, "192.0.2.5", "mx5.example.com", "mx5.example.com", mail.ResolveOK},
		{c, "192.0.2.9", "", "", mail.ResolveFail},
		{c, "127.0.0.3", "localhost", "localhost", mail.ResolveOK},
		{away, "192.0.2.1", "", "", mail.ResolveTemp},
	} {
		for range 2 { // asked, and remembered
			name, ptr, how := tt.of.Client(t.Context(), netip.MustParseAddr(tt.addr))
			if name != tt.name || ptr != tt.ptr || how != tt.how {
				t.Errorf("%s: %q, %q, %s", tt.addr, name, ptr, how)
			}
		}
	}
}
