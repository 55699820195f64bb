package rules

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// A search that finds nothing costs no memory: that is what almost all do.
func TestSearchesDoNotAllocate(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("coverage counts, too")
	}
	a := &oracle(t).access
	v4, v6 := netip.MustParseAddr("198.18.255.254"), netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe")
	long := strings.Repeat("a.", 120) + "example"
	local := strings.Repeat("u", 60) + "+tag"
	for name, search := range map[string]func(){
		"domain":     func() { a.domain(tagConnect, long) },
		"upper case": func() { a.domain(tagConnect, "MAIL.EXAMPLE.COM") },
		"IPv4":       func() { a.address(tagConnect, v4, "", "") },
		"IPv6":       func() { a.address(tagConnect, v6, "", "") },
		"bracket":    func() { a.address(tagConnect, v4, "[", "]") },
		"literal":    func() { a.domain(tagTo, "[192.0.2.1]") },
		"mailbox":    func() { a.mailbox(tagFrom, local, long) },
		"user":       func() { a.mailbox(tagFrom, "u+tag", "") },
	} {
		if n := testing.AllocsPerRun(100, search); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// SKIP ends the search for one item; the next item is still asked for.
func TestSkip(t *testing.T) {
	a, _, err := parseAccess("F", strings.NewReader(`Connect:skipped.example SKIP
Connect:198.18.0 REJECT
From:u@b.example SKIP
From:b.example REJECT
From:c.b.example SKIP
`))
	if err != nil {
		t.Fatal(err)
	}
	s := &Set{access: a}
	tests := []struct {
		name string
		find func() (hit, bool)
		want bool
	}{
		{"name skipped, address listed", func() (hit, bool) { return s.clientHit(session(t, "198.18.0.1", "x.skipped.example")) }, true},
		{"name skipped, address not", func() (hit, bool) { return s.clientHit(session(t, "198.19.0.1", "x.skipped.example")) }, false},
		{"address skipped, domain listed", func() (hit, bool) { return s.senderHit(address(t, "u@b.example")) }, true},
		{"domain skipped", func() (hit, bool) { return s.senderHit(address(t, "u@c.b.example")) }, false},
	}
	for _, tt := range tests {
		if h, ok := tt.find(); ok != tt.want {
			t.Errorf("%s: %v %v, want %v", tt.name, h, ok, tt.want)
		}
	}
}

// A key longer than the room on the stack is still found.
func TestLongKeys(t *testing.T) {
	domain := strings.Repeat("a234567890123456789012345678901234567890123456789012345678901.", 4) + "ex"
	local := strings.Repeat("u", 60) + "+tag"
	a, _, err := parseAccess("F", strings.NewReader("From:"+local+"@"+domain+" REJECT\nTo:"+domain+" REJECT\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := a.mailbox(tagFrom, local, domain); !ok {
		t.Error("mailbox not found")
	}
	if _, ok := a.domain(tagTo, "x."+domain); !ok {
		t.Error("domain not found")
	}
}

// large writes an access map of four times n lines.
func large(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		fmt.Fprintf(f, "From:spammer%d@mail%d.example REJECT\nFrom:spam-domain-%d.example\tREJECT\nConnect:%d.%d.%d ERROR:5.7.1:550 listed\nTo:user%d@example.org DISCARD\n",
			i, i%1000, i, 1+i>>16, i>>8&255, i&255, i)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLargeMap(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Relay.Access = large(t, 25_000)
	start := time.Now()
	s := load(t, cfg)
	t.Logf("loaded in %v", time.Since(start).Round(time.Millisecond))
	tx := &mail.Transaction{Stage: mail.StageMail, Session: session(t, "198.18.0.9", "")}
	tx.Envelope.Sender = path(t, "x@a.spam-domain-24999.example")
	if v := s.Decide(tx, nil); v.Action != mail.Reject || !strings.Contains(v.Reason, ":99998 ") {
		t.Errorf("verdict = %s (%s), want a rejection by line 99998", show(v), v.Reason)
	}
}

func BenchmarkLoadMillion(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Relay.Access = large(b, 250_000)
	for b.Loop() {
		if _, err := Load(cfg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearchMillion(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Relay.Access = large(b, 250_000)
	s := load(b, cfg)
	ip4, ip6 := netip.MustParseAddr("198.18.0.9"), netip.MustParseAddr("2001:db8::9")
	from := address(b, "newsletter+4711@mail.some.shop.example")
	b.Run("connect IPv4", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.access.address(tagConnect, ip4, "", "")
		}
	})
	b.Run("connect IPv6", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.access.address(tagConnect, ip6, "", "")
		}
	})
	b.Run("sender", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.senderHit(from)
		}
	})
	b.Run("recipient", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.recipientHit(from)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	s := oracle(b)
	tx := judged(b, []string{"u@local.example"}, append(spam(2.3, "ALL_TRUSTED", "HTML_MESSAGE"), clean())...)
	b.ReportAllocs()
	for b.Loop() {
		s.Decide(tx, nil)
	}
}
