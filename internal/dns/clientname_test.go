package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
)

func names(t *testing.T, cfg dns.Config, r dns.Resolver) *dns.ClientNames {
	t.Helper()
	c, err := dns.New(cfg, r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestClientName(t *testing.T) {
	fake := func() *dnstest.Resolver {
		return &dnstest.Resolver{
			PTR: map[string][]string{
				"192.0.2.1":   {"MX.Example.com."},
				"192.0.2.2":   {"forged.example.com."},
				"192.0.2.3":   {"nowhere.example.com.", "mx3.example.com."},
				"192.0.2.4":   {"a.", "b.", "c.", "d.", "e.", "mx4.example.com."},
				"192.0.2.5":   {"192.0.2.5."},
				"192.0.2.6":   {"[192.0.2.6]"},
				"192.0.2.7":   {"bad name.example.com.", "-x.example.com.", ""},
				"192.0.2.8":   {"only6.example.com."},
				"192.0.2.9":   {"no-dot.example.com"},
				"192.0.2.10":  {"x\r\ny.example.com."},
				"192.0.2.11":  {"localhost."},
				"2001:db8::1": {"six.example.com."},
			},
			Hosts: map[string][]string{
				"mx.example.com.":     {"198.51.100.1", "192.0.2.1"},
				"forged.example.com.": {"198.51.100.1"},
				"mx3.example.com.":    {"192.0.2.3"},
				"mx4.example.com.":    {"192.0.2.4"},
				"192.0.2.5.":          {"192.0.2.5"},
				"only6.example.com.":  {"::ffff:192.0.2.8"},
				"no-dot.example.com.": {"192.0.2.9"},
				"localhost.":          {"127.0.0.1"},
				"six.example.com.":    {"192.0.2.1", "2001:db8::1"},
			},
		}
	}
	tests := []struct{ name, addr, want string }{
		{"confirmed, canonical form", "192.0.2.1", "mx.example.com"},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", "mx.example.com"},
		{"leads elsewhere", "192.0.2.2", ""},
		{"the second leads back", "192.0.2.3", "mx3.example.com"},
		{"too many names", "192.0.2.4", ""},
		{"a number for a name", "192.0.2.5", ""},
		{"a literal for a name", "192.0.2.6", ""},
		{"no names at all", "192.0.2.7", ""},
		{"of the other family", "192.0.2.8", ""},
		{"without final dot", "192.0.2.9", "no-dot.example.com"},
		{"control characters", "192.0.2.10", ""},
		{"a stranger who says localhost", "192.0.2.11", ""},
		{"not in the reverse zone", "203.0.113.1", ""},
		{"IPv6", "2001:db8::1", "six.example.com"},
		{"IPv6 with zone", "2001:db8::1%eth0", "six.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fake()
			if got := names(t, dns.DefaultConfig(), r).ClientName(t.Context(), ip(tt.addr)); got != tt.want {
				t.Errorf("name = %q, want %q", got, tt.want)
			}
			for _, q := range r.Asked() {
				if !strings.HasPrefix(q, "PTR ") && !strings.HasSuffix(q, ".") {
					t.Errorf("asked %q: not absolute, so the search list would be used", q)
				}
			}
		})
	}
}

func TestNoQuestion(t *testing.T) {
	r := &dnstest.Resolver{Err: errors.New("asked")}
	c := names(t, dns.DefaultConfig(), r)
	for addr, want := range map[netip.Addr]string{ip("127.0.0.1"): "localhost", ip("127.8.8.8"): "localhost", ip("::1"): "localhost", ip("::ffff:127.0.0.1"): "localhost", {}: ""} {
		if got := c.ClientName(t.Context(), addr); got != want {
			t.Errorf("%v: %q, want %q", addr, got, want)
		}
	}
	if q := r.Asked(); len(q) != 0 {
		t.Errorf("asked %v", q)
	}
}

func one() *dnstest.Resolver {
	return &dnstest.Resolver{
		PTR:   map[string][]string{"192.0.2.1": {"mx.example.com."}},
		Hosts: map[string][]string{"mx.example.com.": {"192.0.2.1"}},
	}
}

func count(asked []string, question string) int {
	n := 0
	for _, q := range asked {
		if q == question {
			n++
		}
	}
	return n
}

func TestCacheExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := one()
		c := names(t, dns.DefaultConfig(), r)
		ask := func(addr, want string) {
			t.Helper()
			if got := c.ClientName(t.Context(), ip(addr)); got != want {
				t.Errorf("%s: %q, want %q", addr, got, want)
			}
		}
		times := func(addr string, want int) {
			t.Helper()
			if got := count(r.Asked(), "PTR "+addr); got != want {
				t.Errorf("%s was looked up %d times, want %d", addr, got, want)
			}
		}
		ask("192.0.2.1", "mx.example.com")
		ask("192.0.2.2", "")
		time.Sleep(59 * time.Second)
		ask("192.0.2.1", "mx.example.com")
		ask("192.0.2.2", "")
		times("192.0.2.1", 1)
		times("192.0.2.2", 1)
		time.Sleep(2 * time.Second)
		ask("192.0.2.2", "")
		times("192.0.2.2", 2)
		time.Sleep(9 * time.Minute)
		ask("192.0.2.1", "mx.example.com")
		times("192.0.2.1", 2)
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := one()
		r.Gate = make(chan struct{}) // never answers
		c := names(t, dns.DefaultConfig(), r)
		start := time.Now()
		if got := c.ClientName(t.Context(), ip("192.0.2.1")); got != "" {
			t.Errorf("name = %q", got)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v, want 3s", took)
		}
		// A dead resolver does not cost each session of the client as much.
		start = time.Now()
		c.ClientName(t.Context(), ip("192.0.2.1"))
		if took := time.Since(start); took != 0 {
			t.Errorf("the second took %v", took)
		}
	})
}

func TestConcurrentQuestionsShareOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := one()
		r.Gate = make(chan struct{})
		c := names(t, dns.DefaultConfig(), r)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := c.ClientName(t.Context(), ip("192.0.2.1")); got != "mx.example.com" {
					t.Errorf("name = %q", got)
				}
			})
		}
		synctest.Wait()
		close(r.Gate)
		wg.Wait()
		if want := []string{"PTR 192.0.2.1", "ip4 mx.example.com."}; !slices.Equal(r.Asked(), want) {
			t.Errorf("asked %v, want %v", r.Asked(), want)
		}
	})
}

// A caller that goes away takes only its own look-up with it: another of those
// who wait begins anew.
func TestCallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := one()
		r.Gate = make(chan struct{})
		c := names(t, dns.DefaultConfig(), r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := c.ClientName(ctx, ip("192.0.2.1")); got != "" {
				t.Errorf("the one that left got %q", got)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got := c.ClientName(t.Context(), ip("192.0.2.1")); got != "mx.example.com" {
				t.Errorf("the one that waited got %q", got)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(r.Gate)
		wg.Wait()
		if n := count(r.Asked(), "PTR 192.0.2.1"); n != 2 {
			t.Errorf("looked up %d times, want 2", n)
		}
	})
}

// panicky is a resolver with a defect.
type panicky struct{ *dnstest.Resolver }

func (panicky) LookupAddr(context.Context, string) ([]string, error) { panic("resolver") }

func TestPanicFreesThoseWhoWait(t *testing.T) {
	c := names(t, dns.DefaultConfig(), panicky{})
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic came out")
				}
			}()
			c.ClientName(t.Context(), ip("192.0.2.1"))
		}()
	}
}

func TestCacheIsBounded(t *testing.T) {
	cfg := dns.DefaultConfig()
	cfg.CacheSize = 10
	r := one()
	c := names(t, cfg, r)
	for i := range 1000 {
		c.ClientName(t.Context(), ip(fmt.Sprintf("198.51.%d.%d", i/250, i%250+1)))
	}
	if n := dns.CacheLen(c); n > 10 {
		t.Errorf("%d clients are remembered, want at most 10", n)
	}
	before := len(r.Asked())
	c.ClientName(t.Context(), ip("198.51.3.250"))
	if len(r.Asked()) != before {
		t.Error("the last one is not remembered")
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []dns.Config{{}, {Timeout: time.Second}, {Timeout: time.Second, CacheSize: 1, PositiveTTL: -1}, {CacheSize: 1}} {
		if _, err := dns.New(cfg, nil); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	if _, err := dns.New(dns.DefaultConfig(), nil); err != nil {
		t.Error(err)
	}
}
