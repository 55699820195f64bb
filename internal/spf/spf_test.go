package spf

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

func TestCheck(t *testing.T) {
	records := []string{
		`big.test. 300 IN TXT "v=spf1 ip4:203.0.113.0/24 include:other.test -all"`, `other.test. 300 IN TXT "v=spf1 a:mx.other.test mx ip6:2001:db8::/32 -all"`,
		"mx.other.test. 300 IN A 198.51.100.1", "other.test. 300 IN MX 10 mx2.other.test.", "mx2.other.test. 300 IN A 198.51.100.2",
		`soft.test. 300 IN TXT "v=spf1 ~all"`, `two.test. 300 IN TXT "v=spf1 +all"`, `two.test. 300 IN TXT "v=spf1 -all"`, `no.test. 300 IN TXT "v=spf1 -all"`,
		`deep.test. 300 IN TXT "v=spf1 include:l0.test -all"`, `bad.test. 300 IN TXT "v=spf1 foo:bar -all"`,
	}
	for i := range 20 {
		records = append(records, fmt.Sprintf(`l%d.test. 300 IN TXT "v=spf1 include:l%d.test"`, i, i+1))
	}
	s := dnstest.Start(t, records...)
	s.Misbehave("down.test", dnstest.Quirk{Rcode: 2})
	s.Misbehave("slow.test", dnstest.Quirk{Silent: true})
	client, err := dns.NewClient(dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, client, want string }{
		{"a@big.test", "203.0.113.7", "passes"},
		{"a@BIG.test", "::ffff:203.0.113.7", "passes"},
		{"a@big.test", "198.51.100.1", "passes"},
		{"a@big.test", "198.51.100.2", "passes"},
		{"a@big.test", "2001:db8::1", "passes"},
		{"a@big.test", "192.0.2.1", "fails"},
		{"a@no.test", "192.0.2.1", "fails"},
		{"a@soft.test", "192.0.2.1", ""},
		{"a@two.test", "192.0.2.1", ""},
		{"a@bad.test", "192.0.2.1", ""},
		{"a@deep.test", "192.0.2.1", ""},
		{"a@down.test", "192.0.2.1", ""},
		{"a@slow.test", "192.0.2.1", ""},
		{"a@none.test", "192.0.2.1", ""},
		{"a@[192.0.2.1]", "192.0.2.1", ""},
		{"", "192.0.2.1", ""},
	} {
		t.Run(tt.from+" "+tt.client, func(t *testing.T) {
			from, err := mail.ParseAddress(tt.from, false)
			if err != nil {
				t.Fatal(err)
			}
			got, addr := "", netip.MustParseAddr(tt.client)
			if Passes(t.Context(), client, addr, "client.test", from) {
				got += "passes"
			}
			if Fails(t.Context(), client, addr, "client.test", from) {
				got += "fails"
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
