package greylist

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/state"
)

// A sender that nobody can claim is not put off; any other is, whatever its
// record or the DNS says.
func TestSPF(t *testing.T) {
	records := []string{
		`big.test. 300 IN TXT "v=spf1 ip4:203.0.113.0/24 include:other.test -all"`, `other.test. 300 IN TXT "v=spf1 a:mx.other.test mx ip6:2001:db8::/32 -all"`,
		"mx.other.test. 300 IN A 198.51.100.1", "other.test. 300 IN MX 10 mx2.other.test.", "mx2.other.test. 300 IN A 198.51.100.2",
		`open.test. 300 IN TXT "v=spf1 ?all"`, `two.test. 300 IN TXT "v=spf1 +all"`, `two.test. 300 IN TXT "v=spf1 -all"`,
		`deep.test. 300 IN TXT "v=spf1 include:l0.test +all"`,
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
	cfg := DefaultConfig()
	cfg.Timeout = time.Second
	cfg.SPF = []string{"big.test", "open.test", "two.test", "deep.test", "down.test", "slow.test", "none.test"}
	f, err := Load(cfg, state.NewMemory(nil), client)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from, client string
		passes       bool
	}{
		{"a@big.test", "203.0.113.7", true},
		{"a@BIG.test", "203.0.113.8", true},
		{"a@big.test", "198.51.100.1", true},
		{"a@big.test", "198.51.100.2", true},
		{"a@big.test", "2001:db8::1", true},
		{"a@big.test", "192.0.2.1", false},
		{"a@other.test", "198.51.100.1", false}, // not listed
		{"a@open.test", "192.0.2.1", false},
		{"a@two.test", "192.0.2.1", false},
		{"a@deep.test", "192.0.2.1", false},
		{"a@down.test", "192.0.2.1", false},
		{"a@slow.test", "192.0.2.1", false},
		{"a@none.test", "192.0.2.1", false},
		{"", "203.0.113.7", false},
	} {
		t.Run(tt.from+" "+tt.client, func(t *testing.T) {
			tx := &mail.Transaction{Stage: mail.StageRcpt, Session: &mail.Session{
				Client: netip.AddrPortFrom(netip.MustParseAddr(tt.client), 4711), Helo: "client.test", Via: mail.ViaSMTP, Role: "mx",
			}}
			from, err := mail.ParseAddress(tt.from, false)
			if err != nil {
				t.Fatal(err)
			}
			tx.Envelope.Sender.Address = from
			tx.Envelope.Recipients = []mail.Path{{Address: mail.Address{Local: "u", Domain: "example.com"}}}
			r, err := f.Open().Check(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if passes := len(r.Findings) == 0; passes != tt.passes {
				t.Errorf("%+v, want it to pass: %v", r.Findings, tt.passes)
			}
		})
	}
}
