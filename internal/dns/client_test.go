package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
)

func client(t testing.TB, cfg dns.ClientConfig) *dns.Client {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Second
	}
	c, err := dns.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func asking(t testing.TB, s *dnstest.Server) *dns.Client {
	return client(t, dns.ClientConfig{Servers: []string{s.Addr()}})
}

func TestLookups(t *testing.T) {
	s := dnstest.Start(t,
		"example.test. 300 IN MX 10 MX1.Example.test.", "example.test. 300 IN MX 20 mx2.example.test.",
		"null.test. 300 IN MX 0 .",
		"mx1.example.test. 300 IN A 192.0.2.1", "mx1.example.test. 300 IN AAAA 2001:db8::1",
		"four.test. 300 IN A 192.0.2.4",
		"alias.test. 300 IN CNAME again.test.", "again.test. 300 IN CNAME mx1.example.test.", "dangling.test. 300 IN CNAME gone.test.",
		"ring.test. 300 IN CNAME ring2.test.", "ring2.test. 300 IN CNAME ring.test.",
		"_25._tcp.mx1.example.test. 300 IN TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
		"_mta-sts.example.test. 300 IN TXT \"v=STSv1; \" \"id=1;\"",
		"1.2.0.192.in-addr.arpa. 300 IN PTR mx1.example.test.",
	)
	c := asking(t, s)
	ctx := t.Context()
	mx, authentic, err := c.LookupMX(ctx, "Example.TEST")
	slices.SortFunc(mx, func(a, b dns.MX) int { return int(a.Preference) - int(b.Preference) })
	if want := []dns.MX{{Host: "mx1.example.test", Preference: 10}, {Host: "mx2.example.test", Preference: 20}}; err != nil || authentic || !slices.Equal(mx, want) {
		t.Errorf("MX: %v, %v, %v", mx, authentic, err)
	}
	if mx, _, err := c.LookupMX(ctx, "null.test"); err != nil || !slices.Equal(mx, []dns.MX{{}}) {
		t.Errorf("null MX: %v, %v", mx, err)
	}
	if mx, _, err := c.LookupMX(ctx, "four.test"); err != nil || len(mx) != 0 {
		t.Errorf("no MX: %v, %v", mx, err)
	}
	for _, name := range []string{"gone.test", "", "..", "x..y", strings.Repeat("a", 64) + ".test"} {
		if _, _, err := c.LookupMX(ctx, name); !errors.Is(err, dns.ErrNoName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := c.LookupHost(ctx, name); !errors.Is(err, dns.ErrNoName) {
			t.Errorf("host %q: %v", name, err)
		}
	}
	hosts := map[string]dns.Host{
		"mx1.example.test": {Name: "mx1.example.test", Addrs: []netip.Addr{ip("2001:db8::1"), ip("192.0.2.1")}},
		"alias.test":       {Name: "mx1.example.test", Addrs: []netip.Addr{ip("2001:db8::1"), ip("192.0.2.1")}},
		"four.test":        {Name: "four.test", Addrs: []netip.Addr{ip("192.0.2.4")}},
		"example.test":     {Name: "example.test"},
	}
	for name, want := range hosts {
		if got, _, err := c.LookupHost(ctx, name); err != nil || got.Name != want.Name || !slices.Equal(got.Addrs, want.Addrs) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if got, _, err := c.LookupHost(ctx, "dangling.test"); len(got.Addrs) > 0 || err != nil && !errors.Is(err, dns.ErrNoName) {
		t.Errorf("dangling alias: %v, %v", got, err)
	}
	if got, _, err := c.LookupHost(ctx, "ring.test"); len(got.Addrs) > 0 {
		t.Errorf("aliases in a ring: %v, %v", got, err)
	}
	tlsa, _, err := c.LookupTLSA(ctx, 25, "mx1.example.test")
	if err != nil || len(tlsa) != 1 || tlsa[0].Usage != 3 || tlsa[0].Selector != 1 || tlsa[0].Matching != 1 || len(tlsa[0].Data) != 32 || tlsa[0].Data[1] != 0x11 {
		t.Errorf("TLSA: %v, %v", tlsa, err)
	}
	if texts, _, err := c.LookupTXT(ctx, "_mta-sts.example.test"); err != nil || !slices.Equal(texts, []string{"v=STSv1; id=1;"}) {
		t.Errorf("TXT: %q, %v", texts, err)
	}
	if got := names(t, dns.DefaultConfig(), c).ClientName(ctx, ip("192.0.2.1")); got != "mx1.example.test" {
		t.Errorf("the client's name: %q", got)
	}
	if addrs, err := c.LookupNetIP(ctx, "ip6", "mx1.example.test."); err != nil || !slices.Equal(addrs, []netip.Addr{ip("2001:db8::1")}) {
		t.Errorf("ip6: %v, %v", addrs, err)
	}
}

// TestMisbehaviour: what servers do wrong, and what that counts for.
func TestMisbehaviour(t *testing.T) {
	tests := []struct {
		name  string
		quirk dnstest.Quirk
		want  string // of the error; "": an answer
	}{
		{"none", dnstest.Quirk{}, ""},
		{"cut off over UDP", dnstest.Quirk{Truncate: true}, ""},
		{"no EDNS", dnstest.Quirk{NoEDNS: true}, ""},
		{"SERVFAIL", dnstest.Quirk{Rcode: wire.RcodeServerFailure}, "SERVFAIL"},
		{"REFUSED", dnstest.Quirk{Rcode: wire.RcodeRefused}, "REFUSED"},
		{"NOTIMP", dnstest.Quirk{Rcode: wire.RcodeNotImplemented}, "NOTIMP"},
		{"silence", dnstest.Quirk{Silent: true}, "no answer in time"},
		{"too late", dnstest.Quirk{Delay: 300 * time.Millisecond}, "no answer in time"},
		{"another question", dnstest.Quirk{Other: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Start(t, "x.test. 300 IN TXT here")
			s.Misbehave("x.test.", tt.quirk)
			c := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: 150 * time.Millisecond, Attempts: 1})
			texts, _, err := c.LookupTXT(t.Context(), "x.test")
			if tt.quirk.Other {
				if err == nil {
					t.Errorf("an answer to another question was taken: %q", texts)
				}
				return
			}
			if tt.want == "" && (err != nil || !slices.Equal(texts, []string{"here"})) {
				t.Errorf("got %q, %v", texts, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, dns.ErrNoName)) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if tt.quirk.Truncate && !slices.Contains(s.Asked(), "tcp TXT x.test.") {
				t.Errorf("asked %v, not over TCP", s.Asked())
			}
		})
	}
}

// TestLargeAnswer does not fit UDP.
func TestLargeAnswer(t *testing.T) {
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("big.test. 300 IN MX %d host-with-a-long-name-%d.test.", i, i))
	}
	s := dnstest.Start(t, records...)
	if mx, _, err := asking(t, s).LookupMX(t.Context(), "big.test"); err != nil || len(mx) != 200 {
		t.Errorf("%d records, %v", len(mx), err)
	}
}

// TestOneFamilyBroken: what is known of a host counts, also where a server has no
// idea of IPv6.
func TestOneFamilyBroken(t *testing.T) {
	s := dnstest.Start(t, "h.test. 300 IN A 192.0.2.1", "none.test. 300 IN TXT x")
	c := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, Attempts: 1, Timeout: 200 * time.Millisecond})
	for _, rcode := range []int{wire.RcodeServerFailure, wire.RcodeNameError, wire.RcodeNotImplemented} {
		s.Misbehave("h.test.", dnstest.Quirk{Rcode: rcode, Type: wire.TypeAAAA})
		if h, _, err := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, Attempts: 1}).LookupHost(t.Context(), "h.test"); err != nil || len(h.Addrs) != 1 {
			t.Errorf("%s: %v, %v", wire.RcodeToString[rcode], h, err)
		}
	}
	s.Misbehave("none.test.", dnstest.Quirk{Rcode: wire.RcodeServerFailure, Type: wire.TypeAAAA})
	if _, _, err := c.LookupHost(t.Context(), "none.test"); err == nil || errors.Is(err, dns.ErrNoName) {
		t.Errorf("no A record, AAAA unknown: %v", err)
	}
}

// TestAuthentic: the AD bit counts only from a resolver that is trusted.
func TestAuthentic(t *testing.T) {
	s := dnstest.Start(t, "x.test. 300 IN MX 10 h.test.", "h.test. 300 IN A 192.0.2.1", "h.test. 300 IN AAAA 2001:db8::1", "plain.test. 300 IN A 192.0.2.1")
	s.Secure(true)
	s.Misbehave("plain.test.", dnstest.Quirk{Insecure: true})
	trusting := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, TrustedAD: true})
	for name, want := range map[string]bool{"h.test": true, "plain.test": false} {
		if _, authentic, err := trusting.LookupHost(t.Context(), name); err != nil || authentic != want {
			t.Errorf("%s: authentic %v, %v, want %v", name, authentic, err, want)
		}
	}
	if _, authentic, _ := trusting.LookupMX(t.Context(), "x.test"); !authentic {
		t.Error("MX: not authentic")
	}
	if _, authentic, err := trusting.LookupTLSA(t.Context(), 25, "h.test"); !authentic || !errors.Is(err, dns.ErrNoName) {
		t.Errorf("that there is nothing: authentic %v, %v", authentic, err)
	}
	if _, authentic, _ := asking(t, s).LookupMX(t.Context(), "x.test"); authentic {
		t.Error("a resolver that is not trusted is believed")
	}
}

func TestResolvConf(t *testing.T) {
	s := dnstest.Start(t, "x.test. 300 IN TXT here")
	s.Secure(true)
	for _, tt := range []struct {
		text string
		list []string
		ad   bool
	}{
		{"nameserver 127.0.0.1\noptions edns0 trust-ad\n", []string{"127.0.0.1:53"}, true},
		{"# x\nnameserver ::1\nnameserver 127.0.0.53\noptions trust-ad\n", []string{"[::1]:53", "127.0.0.53:53"}, true},
		{"nameserver 192.0.2.1\noptions trust-ad\n", []string{"192.0.2.1:53"}, false},
		{"nameserver 127.0.0.1\nnameserver 192.0.2.1\noptions trust-ad\n", []string{"127.0.0.1:53", "192.0.2.1:53"}, false},
		{"nameserver 127.0.0.1\n", []string{"127.0.0.1:53"}, false},
		{"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", []string{"1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"}, false},
		{"nameserver nonsense\nsearch x.test\n", []string{"127.0.0.1:53"}, false},
		{"", []string{"127.0.0.1:53"}, false},
	} {
		if list, ad := dns.ParseResolvConf(tt.text); !slices.Equal(list, tt.list) || ad != tt.ad {
			t.Errorf("%q: %v, %v", tt.text, list, ad)
		}
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	host, _, _ := net.SplitHostPort(s.Addr())
	if err := os.WriteFile(path, []byte("nameserver "+host+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dns.Servers(client(t, dns.ClientConfig{ResolvConf: path})); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("servers %v", got)
	}
	if got := dns.Servers(client(t, dns.ClientConfig{ResolvConf: path + ".missing"})); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("without a file: %v", got)
	}
}

// TestNextServer: one that fails is passed by, and not asked first again.
func TestNextServer(t *testing.T) {
	bad, good := dnstest.Start(t), dnstest.Start(t, "x.test. 300 IN TXT here", "y.test. 300 IN TXT here")
	bad.Misbehave("", dnstest.Quirk{Rcode: wire.RcodeServerFailure})
	c := client(t, dns.ClientConfig{Servers: []string{bad.Addr(), good.Addr()}, Attempts: 1})
	for _, name := range []string{"x.test", "y.test"} {
		if texts, _, err := c.LookupTXT(t.Context(), name); err != nil || len(texts) != 1 {
			t.Errorf("%s: %v, %v", name, texts, err)
		}
	}
	if n := len(bad.Asked()); n != 1 {
		t.Errorf("the bad one was asked %d times, want once", n)
	}
	both := client(t, dns.ClientConfig{Servers: []string{bad.Addr(), bad.Addr()}, Attempts: 3})
	before := len(bad.Asked())
	if _, _, err := both.LookupTXT(t.Context(), "z.test"); err == nil {
		t.Error("no error")
	}
	if n := len(bad.Asked()) - before; n != 6 {
		t.Errorf("asked %d times, want 2 servers 3 times", n)
	}
}

// TestClientCache: by the TTL, within bounds, and nothing that failed.
func TestClientCache(t *testing.T) {
	s := dnstest.Start(t, "x.test. 60 IN TXT here", "zero.test. 0 IN TXT here", "long.test. 999999 IN TXT here", "alias.test. 10 IN CNAME long.test.")
	s.Misbehave("fails.test.", dnstest.Quirk{Rcode: wire.RcodeServerFailure})
	c := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, Attempts: 1, MaxTTL: time.Hour})
	now := time.Now()
	dns.SetNow(c, func() time.Time { return now })
	asked := func(name string) int {
		n := 0
		for _, q := range s.Asked() {
			if q == "udp TXT "+name+"." {
				n++
			}
		}
		return n
	}
	steps := []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"x.test", 0, 1}, {"x.test", 59 * time.Second, 1}, {"x.test", 61 * time.Second, 2},
		{"zero.test", 0, 1}, {"zero.test", 4 * time.Second, 1}, {"zero.test", 6 * time.Second, 2},
		{"long.test", 0, 1}, {"long.test", 59 * time.Minute, 1}, {"long.test", 61 * time.Minute, 2},
		{"alias.test", 0, 1}, {"alias.test", 9 * time.Second, 1}, {"alias.test", 11 * time.Second, 2},
		{"gone.test", 0, 1}, {"gone.test", 59 * time.Second, 1}, {"gone.test", 61 * time.Second, 2},
		{"fails.test", 0, 1}, {"fails.test", time.Second, 2},
	}
	start := now
	for _, st := range steps {
		now = start.Add(st.after)
		if st.after == 0 {
			start = now
		}
		_, _, _ = c.LookupTXT(t.Context(), st.name)
		if got := asked(st.name); got != st.want {
			t.Errorf("%s after %v: asked %d times, want %d", st.name, st.after, got, st.want)
		}
	}
}

func TestClientCacheIsBounded(t *testing.T) {
	s := dnstest.Start(t, "*.many.test. 300 IN TXT here")
	c := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, CacheSize: 10})
	for i := range 200 {
		if _, _, err := c.LookupTXT(t.Context(), fmt.Sprintf("h%d.many.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := dns.AnswerCount(c); n > 10 {
		t.Errorf("%d answers are remembered", n)
	}
}

// TestOneQuestion: many who ask the same wait for one answer; one who gives up
// leaves the others theirs.
func TestOneQuestion(t *testing.T) {
	s := dnstest.Start(t, "x.test. 300 IN TXT here")
	s.Misbehave("x.test.", dnstest.Quirk{Delay: 100 * time.Millisecond})
	c := asking(t, s)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			ctx := t.Context()
			if i%10 == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			texts, _, err := c.LookupTXT(ctx, "x.test")
			if i%10 != 0 && (err != nil || len(texts) != 1) {
				t.Errorf("%v, %v", texts, err)
			}
		})
	}
	wg.Wait()
	if n := len(s.Asked()); n > 4 {
		t.Errorf("asked %d times", n)
	}
}

func TestClientInterrupted(t *testing.T) {
	s := dnstest.Start(t)
	s.Misbehave("", dnstest.Quirk{Silent: true})
	c := client(t, dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: 20 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	if _, _, err := c.LookupMX(ctx, "x.test"); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestClientConfig(t *testing.T) {
	for _, bad := range []dns.ClientConfig{
		{Servers: []string{"localhost:53"}}, {Servers: []string{"127.0.0.1:0"}}, {Servers: []string{""}}, {Timeout: -1}, {Attempts: -1}, {CacheSize: -1}, {MaxTTL: -1},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if err := (dns.ClientConfig{Servers: []string{"192.0.2.1", "2001:db8::1", "[::1]:5353"}}).Validate(); err != nil {
		t.Error(err)
	}
}
