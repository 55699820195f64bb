package access

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A search that finds nothing costs no memory: that is what almost all do.
func TestSearchesDoNotAllocate(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("coverage counts, too")
	}
	a, _, err := Load("../testdata/oracle.access", DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr("198.18.255.254"), netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:fffe")
	long := strings.Repeat("a.", 120) + "example"
	local := strings.Repeat("u", 60) + "+tag"
	for name, search := range map[string]func(){
		"domain":     func() { a.Domain(Connect, long, nil) },
		"upper case": func() { a.Domain(Connect, "MAIL.EXAMPLE.COM", nil) },
		"IPv4":       func() { a.Address(Connect, v4, nil) },
		"IPv6":       func() { a.Address(Connect, v6, nil) },
		"bracket":    func() { a.bracket(Connect, v4, nil) },
		"literal":    func() { a.Domain(To, "[192.0.2.1]", nil) },
		"mailbox":    func() { a.Full(From, Mailbox{local, long}, nil) },
		"user":       func() { a.User(From, "u+tag", nil) },
	} {
		if n := testing.AllocsPerRun(100, search); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// SKIP ends the search for one item; the next item is still asked for.
func TestSkip(t *testing.T) {
	e := Engine{Table: table(t, `Connect:skipped.example SKIP
Connect:198.18.0 REJECT
From:u@b.example SKIP
From:b.example REJECT
From:c.b.example SKIP
`, DefaultOptions())}
	client := func(ip, name string) (Hit, bool) {
		return e.ClientHit(Client{Addr: netip.MustParseAddr(ip), Name: name}, nil)
	}
	tests := []struct {
		name string
		find func() (Hit, bool)
		want bool
	}{
		{"name skipped, address listed", func() (Hit, bool) { return client("198.18.0.1", "x.skipped.example") }, true},
		{"name skipped, address not", func() (Hit, bool) { return client("198.19.0.1", "x.skipped.example") }, false},
		{"address skipped, domain listed", func() (Hit, bool) { return e.SenderHit(Mailbox{"u", "b.example"}, nil) }, true},
		{"domain skipped", func() (Hit, bool) { return e.SenderHit(Mailbox{"u", "c.b.example"}, nil) }, false},
	}
	for _, tt := range tests {
		if h, ok := tt.find(); ok != tt.want {
			t.Errorf("%s: %v %v, want %v", tt.name, h, ok, tt.want)
		}
	}
}

// table reads a text that must load.
func table(t testing.TB, text string, o Options) *Table {
	t.Helper()
	a, _, err := Parse("F", strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A key longer than the room on the stack is still found.
func TestLongKeys(t *testing.T) {
	domain := strings.Repeat("a234567890123456789012345678901234567890123456789012345678901.", 4) + "ex"
	local := strings.Repeat("u", 60) + "+tag"
	a := table(t, "From:"+local+"@"+domain+" REJECT\nTo:"+domain+" REJECT\n", DefaultOptions())
	if _, ok := a.Full(From, Mailbox{local, domain}, nil); !ok {
		t.Error("mailbox not found")
	}
	if _, ok := a.Domain(To, "x."+domain, nil); !ok {
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
	path := large(t, 25_000)
	start := time.Now()
	a, _, err := Load(path, DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loaded in %v", time.Since(start).Round(time.Millisecond))
	if h, ok := a.Domain(From, "a.spam-domain-24999.example", nil); !ok || h.Line != 99998 || h.Says != REJECT {
		t.Errorf("found %v, want line 99998", h)
	}
}

// BenchmarkLoadMillion tells what a map of a million lines costs for as long
// as it is used.
func BenchmarkLoadMillion(b *testing.B) {
	path := large(b, 250_000)
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := live()
		a, _, err := Load(path, DefaultOptions())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(live()-before)/1e6, "MB-live")
		runtime.KeepAlive(a)
	}
}

func BenchmarkSearchMillion(b *testing.B) {
	a, _, err := Load(large(b, 250_000), DefaultOptions())
	if err != nil {
		b.Fatal(err)
	}
	e := Engine{Table: a, Options: DefaultOptions()}
	ip4, ip6 := netip.MustParseAddr("198.18.0.9"), netip.MustParseAddr("2001:db8::9")
	from := Mailbox{"newsletter+4711", "mail.some.shop.example"}
	for name, search := range map[string]func(){
		"connect IPv4": func() { a.Address(Connect, ip4, nil) },
		"connect IPv6": func() { a.Address(Connect, ip6, nil) },
		"sender":       func() { e.SenderHit(from, nil) },
		"recipient":    func() { e.RecipientHit(from, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				search()
			}
		})
	}
}
