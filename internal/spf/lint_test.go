package spf

import (
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"net/netip"
)

func TestIsRecord(t *testing.T) {
	for _, tt := range []struct {
		terms string
		want  bool
	}{
		{"-all", true}, {"", true}, {"  +mx  -all ", true},
		{"a mx ptr a:x.test mx:x.test/24 a/24 a/24//64 mx//64 ptr:x.test", true},
		{"ip4:192.0.2.0/24 ip4:192.0.2.1 ip6:2001:db8::/32 ip6:::1", true},
		{"include:_spf.x.test exists:%{ir}.%{v}._spf.%{d2} redirect=x.test exp=e.%{d}", true},
		{"unknown=%{d}x another.one=", true}, {"MX -ALL Include:X.Test", true}, {"a:%{d1r+}", true}, {"a:x.test.", true}, {"a:x.xn--p1ai", true},
		// F-1: behind what fits, or where the library does not look.
		{"+all foo:bar", false}, {"+all redirect=", false}, {"+all exp=a.test exp=b.test", false}, {"+all redirect=a.test redirect=b.test", false},
		{"+all a:", false}, {"+all a:x", false}, {"+all include", false}, {"+all include:", false}, {"+all include:a..1", false}, {"+all exists", false},
		{"+all ip4:1.2.3", false}, {"+all ip4:1.2.3.4/33", false}, {"+all ip4:1.2.3.4/", false}, {"+all ip4:1.2.3.4/08", false}, {"+all ip4:::1", false}, {"+all ip6:1.2.3.4", false}, {"+all ip6:::1/129", false},
		{"+all a/33", false}, {"+all a//129", false}, {"+all a/", false}, {"+all all:x", false}, {"+all all/8", false},
		{"+all a:%{x}", false}, {"+all a:%", false}, {"+all a:%{d", false}, {"+all exp=%{z}", false}, {"+all x=%", false},
		{"+all a:x.test\x80", false}, {"+all\ta", false}, {"++all", false}, {"+all -", false}, {"+all 1x=y", false}, {"+all a:x.-1", false},
	} {
		if got := isRecord(tt.terms); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.terms, got, tt.want)
		}
	}
}

func TestResults(t *testing.T) {
	var mx []string
	for i := range 10 {
		name := string(rune('a' + i))
		mx = append(mx, "many.test. 300 IN MX 10 "+name+".many.test.", name+".many.test. 300 IN A 192.0.2.9")
		for j := range 10 {
			host := name + string(rune('a'+j)) + ".amp.test."
			mx = append(mx, name+".amp.test. 300 IN MX 10 "+host, host+" 300 IN A 192.0.2.9")
		}
	}
	s := dnstest.Start(t, append(mx,
		`good.test. 300 IN TXT "v=spf1 ip4:192.0.2.1 -all"`, `soft.test. 300 IN TXT "v=spf1 ~all"`, `late.test. 300 IN TXT "v=spf1 +all foo:bar"`,
		`below.test. 300 IN TXT "v=spf1 include:late.test -all"`, `loop.test. 300 IN TXT "v=spf1 include:loop.test -all"`,
		`void.test. 300 IN TXT "v=spf1 a:n1.test a:n2.test a:n3.test -all"`, `two.test. 300 IN TXT "v=spf1 -all"`, `two.test. 300 IN TXT "v=spf1 +all"`,
		`amp.test. 300 IN TXT "v=spf1 mx:a.amp.test mx:b.amp.test mx:c.amp.test mx:d.amp.test mx:e.amp.test mx:f.amp.test mx:g.amp.test -all"`,
		`broken.test. 300 IN TXT "v=spf1 a:down.test -all"`, `inc.test. 300 IN TXT "v=spf1 include:down.test -all"`,
		`helo.test. 300 IN TXT "v=spf1 ip4:192.0.2.1 -all"`, `odd.test. 300 IN TXT "v=spf1 exists:%{l}.%{h}.x.test -all"`,
		`ring.test. 300 IN CNAME ring2.test.`, `ring2.test. 300 IN CNAME ring.test.`,
		"big.test. 300 IN TXT \"v=spf1"+strings.Repeat(`" " ip4:203.0.113.1 ip4:203.0.113.2 ip4:203.0.113.3 ip4:203.0.113.4`, 500)+"\" \" -all\"",
	)...)
	s.Misbehave("down.test", dnstest.Quirk{Rcode: 2})
	s.Misbehave("slow.test", dnstest.Quirk{Silent: true})
	s.Misbehave("good.test", dnstest.Quirk{Truncate: true})
	ask := func(timeout time.Duration) *dns.Client {
		client, err := dns.NewClient(dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: timeout, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	patient, impatient := ask(time.Minute), ask(100*time.Millisecond)
	for _, tt := range []struct{ name, client, helo, from, want string }{
		{"pass, over TCP (D8 truncated)", "192.0.2.1", "x.test", "a@good.test", "pass good.test"},
		{"fail", "192.0.2.2", "x.test", "a@good.test", "fail good.test"},
		{"softfail", "192.0.2.2", "x.test", "a@soft.test", "softfail soft.test"},
		{"none", "192.0.2.2", "x.test", "a@nothing.test", "none nothing.test"},
		{"F-1 a mistake behind +all", "192.0.2.2", "x.test", "a@late.test", "permerror late.test"},
		{"F-1 in what is included", "192.0.2.2", "x.test", "a@below.test", "permerror below.test"},
		{"F-2 SERVFAIL", "192.0.2.2", "x.test", "a@down.test", "temperror down.test"},
		{"F-2 no answer", "192.0.2.2", "x.test", "a@slow.test", "temperror slow.test"},
		{"D8 SERVFAIL of a host", "192.0.2.2", "x.test", "a@broken.test", "temperror broken.test"},
		{"D8 SERVFAIL of what is included", "192.0.2.2", "x.test", "a@inc.test", "temperror inc.test"},
		{"D8 CNAMEs in a ring", "192.0.2.2", "x.test", "a@ring.test", "none ring.test"},
		{"D5 null sender: HELO", "192.0.2.1", "helo.test", "", "pass helo.test helo"},
		{"D5 HELO counts for nothing beside a sender", "192.0.2.1", "helo.test", "a@soft.test", "softfail soft.test"},
		{"null sender, no name", "192.0.2.1", "[192.0.2.1]", "", "none "},
		{"null sender, one label", "192.0.2.1", "localhost", "", "none "},
		{"literal", "192.0.2.1", "x.test", "a@[192.0.2.1]", "none "},
		{"D6 include loop", "192.0.2.2", "x.test", "a@loop.test", "permerror loop.test"},
		{"D6 void look-ups", "192.0.2.2", "x.test", "a@void.test", "permerror void.test"},
		{"D6 two records", "192.0.2.2", "x.test", "a@two.test", "permerror two.test"},
		{"D6 2000 terms", "192.0.2.2", "x.test", "a@big.test", "fail big.test"},
		{"F-4 D7 hosts of MX", "192.0.2.2", "x.test", "a@amp.test", "permerror amp.test"},
		{"F-5 odd HELO", "192.0.2.2", "a\x00b\xff", "a@odd.test", "fail odd.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, err := mail.ParseAddress(tt.from, false)
			if err != nil {
				t.Fatal(err)
			}
			before := len(s.Asked())
			client := patient
			if tt.from == "a@slow.test" {
				client = impatient
			}
			res := Check(t.Context(), client, netip.MustParseAddr(tt.client), tt.helo, from)
			got := res.Value + " " + res.Domain
			if res.Helo {
				got += " helo"
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if n := len(s.Asked()) - before; n > 100 { // A and AAAA of each host
				t.Errorf("%d questions", n)
			}
		})
	}
	for _, q := range s.Asked() {
		if strings.ContainsFunc(q, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
			t.Errorf("asked %q", q)
		}
	}
}

func FuzzChecked(f *testing.F) {
	f.Add("v=spf1 a:%{d}/24//64 exp=x.test -all")
	f.Fuzz(func(t *testing.T, text string) { checked(text) })
}
