package dns_test

import (
	"net/netip"
	"slices"
	"testing"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
)

func TestZones(t *testing.T) {
	s := dnstest.Start(t,
		"1.2.0.192.list.test. 300 IN A 127.0.0.2",
		"2.2.0.192.list.test. 300 IN A 127.255.255.254",
		"3.2.0.192.list.test. 300 IN A 203.0.113.1",
		"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.list.test. 300 IN A 127.0.0.4",
		"hosted.test. 300 IN NS ns.isp.test.", "hosted.test. 300 IN MX 10 mx.isp.test.",
		"ns.isp.test. 300 IN A 192.0.2.53", "mx.isp.test. 300 IN A 192.0.2.25",
		"host.test. 300 IN A 192.0.2.80",
	)
	s.Misbehave("4.2.0.192.list.test", dnstest.Quirk{Rcode: 2})
	z := dns.Zones{Client: asking(t, s)}
	for addr, want := range map[string]bool{"192.0.2.1": true, "::ffff:192.0.2.1": true, "192.0.2.2": false, "192.0.2.3": false, "192.0.2.9": false, "2001:db8::5": true} {
		if got, err := z.Listed(t.Context(), "list.test", netip.MustParseAddr(addr)); got != want || err != nil {
			t.Errorf("%s: %v %v", addr, got, err)
		}
	}
	if got, err := z.Listed(t.Context(), "list.test", netip.MustParseAddr("192.0.2.4")); got || err == nil {
		t.Errorf("without an answer: %v %v", got, err)
	}
	hosts, addrs, err := z.Servers(t.Context(), "a.b.hosted.test")
	if err != nil || !slices.Equal(hosts, []string{"ns.isp.test", "mx.isp.test"}) || len(addrs) != 2 {
		t.Errorf("servers %v %v %v", hosts, addrs, err)
	}
	if hosts, _, err := z.Servers(t.Context(), "nothing.test"); err != nil || len(hosts) != 0 {
		t.Errorf("servers of nothing: %v %v", hosts, err)
	}
	for name, want := range map[string]bool{"host.test": true, "hosted.test": true, "a.hosted.test": false, "nothing.test": false} {
		if got, err := z.Exists(t.Context(), name); got != want || err != nil {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}
