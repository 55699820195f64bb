package dmarc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

func TestJudge(t *testing.T) {
	s := dnstest.Start(t,
		`_dmarc.good.test. 300 IN TXT "v=DMARC1; p=reject; sp=quarantine; np=reject"`, "www.good.test. 300 IN A 192.0.2.1",
		`_dmarc.strict.test. 300 IN TXT "v=DMARC1; p=reject; adkim=s; aspf=s"`,
		`_dmarc.trial.test. 300 IN TXT "v=DMARC1; p=reject; t=y"`,
		`_dmarc.watch.test. 300 IN TXT "v=DMARC1; p=none; rua=mailto:a@watch.test"`,
		`_dmarc.two.test. 300 IN TXT "v=DMARC1; p=reject"`, `_dmarc.two.test. 300 IN TXT "v=DMARC1; p=none"`,
		`_dmarc.beside.test. 300 IN TXT "v=spf1 -all"`, `_dmarc.beside.test. 300 IN TXT "v=DMARC1; p=reject"`,
		`_dmarc.split.test. 300 IN TXT "v=DMARC1; p" "=reject"`,
		`_dmarc.held.test. 300 IN TXT "v=DMARC1; p=quarantine"`,
		// A public suffix, as its operator says, and organizations below.
		`_dmarc.bank. 300 IN TXT "v=DMARC1; p=reject; sp=reject; np=reject; psd=y"`,
		"some.bank. 300 IN A 192.0.2.1", "mail.some.bank. 300 IN A 192.0.2.1", "other.bank. 300 IN A 192.0.2.1",
		// A department on its own.
		`_dmarc.corp.test. 300 IN TXT "v=DMARC1; p=none"`, `_dmarc.dept.corp.test. 300 IN TXT "v=DMARC1; p=reject; psd=n"`,
		// A public suffix by the list only.
		`_dmarc.github.io. 300 IN TXT "v=DMARC1; p=reject"`, "a.github.io. 300 IN A 192.0.2.1",
		// Far below.
		`_dmarc.f.g.h.deep.test. 300 IN TXT "v=DMARC1; p=none"`, `_dmarc.deep.test. 300 IN TXT "v=DMARC1; p=reject"`,
	)
	s.Misbehave("_dmarc.down.test", dnstest.Quirk{Rcode: 2})
	s.Misbehave("_dmarc.slow.test", dnstest.Quirk{Silent: true})
	s.Misbehave("_dmarc.cut.test", dnstest.Quirk{Truncate: true})
	s.Add(`_dmarc.cut.test. 300 IN TXT "v=DMARC1; p=reject"`)
	s.Misbehave("_dmarc.halftop", dnstest.Quirk{Rcode: 2})
	s.Add(`_dmarc.own.halftop. 300 IN TXT "v=DMARC1; p=reject"`)
	client, impatient := ask(t, s, time.Minute), ask(t, s, 100*time.Millisecond)
	for _, tt := range []struct{ name, from, ids, want string }{
		{"signed", "good.test", "dkim good.test", "pass reject none"},
		{"SPF", "good.test", "spf good.test", "pass reject none"},
		{"nothing", "good.test", "", "fail reject reject"},
		{"somebody else's", "good.test", "dkim evil.test, spf evil.test", "fail reject reject"},
		{"a name that ends alike", "good.test", "dkim notgood.test", "fail reject reject"},
		{"relaxed: signed below", "good.test", "dkim mail.good.test", "pass reject none"},
		{"relaxed: signed above", "www.good.test", "spf good.test", "pass quarantine none"},
		{"relaxed: signed beside", "www.good.test", "dkim mail.good.test", "pass quarantine none"},
		{"strict: signed below", "strict.test", "dkim mail.strict.test", "fail reject reject"},
		{"strict: SPF below", "strict.test", "spf mail.strict.test", "fail reject reject"},
		{"strict: the same", "strict.test", "dkim strict.test", "pass reject none"},
		{"D9 sp for a name that exists", "www.good.test", "", "fail quarantine quarantine"},
		{"D9 np for one that doesn't", "nowhere.good.test", "", "fail reject reject"},
		{"D9 p=none", "watch.test", "", "fail none none"},
		{"t=y", "trial.test", "", "fail reject none"},
		{"R-2 two records count for none", "two.test", "", "none  none"},
		{"a record beside something else", "beside.test", "", "fail reject reject"},
		{"a record in two strings", "split.test", "", "fail reject reject"},
		{"no record", "nothing.test", "dkim nothing.test", "none  none"},
		{"R-4 upper case and a final dot", "GOOD.test.", "dkim good.test", "pass reject none"},
		{"psd: nobody's name", "missing.bank", "", "fail reject reject"},
		{"psd: organizations are apart", "some.bank", "dkim other.bank", "fail reject reject"},
		{"psd: an organization is one", "some.bank", "dkim mail.some.bank", "pass reject none"},
		{"psd: the suffix signs for nobody", "some.bank", "dkim bank", "fail reject reject"},
		{"psd=n: a department on its own", "dept.corp.test", "dkim corp.test", "fail reject reject"},
		{"psd=n: below it", "x.dept.corp.test", "dkim dept.corp.test", "pass reject none"},
		{"D9 a private suffix of the list", "a.github.io", "dkim b.github.io", "fail reject reject"},
		{"a private suffix: its own", "a.github.io", "dkim x.a.github.io", "pass reject none"},
		{"long names skip to seven labels", "a.b.c.d.e.f.g.h.deep.test", "dkim deep.test", "pass reject none"},
		{"D8 SERVFAIL", "down.test", "dkim down.test", "temperror  none unknown"},
		{"D8 no answer", "slow.test", "", "temperror  none unknown"},
		{"D8 truncated is asked again over TCP", "cut.test", "", "fail reject reject"},
		{"D8 SERVFAIL above: own record stands", "own.halftop", "", "fail reject reject"},
		{"D8 SERVFAIL above: same domain", "own.halftop", "dkim own.halftop", "pass reject none"},
		{"D8 SERVFAIL above: whose it is can't be told", "own.halftop", "dkim x.own.halftop", "temperror reject none"},
		{"D8 a key that can't be had", "good.test", "dkim? good.test", "temperror reject none"},
		{"D8 somebody else's key that can't be had", "good.test", "dkim? evil.test", "fail reject reject"},
		{"D8 one can't be had, another holds", "good.test", "dkim? good.test, spf good.test", "pass reject none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := Authors(header(t, "From: <a@"+tt.from+">\n"))
			client := client
			if tt.from == "slow.test" {
				client = impatient
			}
			res := Discover(t.Context(), client, from).Judge(t.Context(), identities(tt.ids))
			got := fmt.Sprintf("%s %s %s", res.Value, res.Published, res.Applied)
			if res.Unknown {
				got += " unknown"
			}
			if got != tt.want {
				t.Errorf("%s (%s), want %s", got, res.Why, tt.want)
			}
		})
	}
}

func ask(t *testing.T, s *dnstest.Server, timeout time.Duration) *dns.Client {
	t.Helper()
	client, err := dns.NewClient(dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: timeout, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func identities(s string) (ids []Identity) {
	for id := range strings.SplitSeq(s, ", ") {
		if kind, domain, ok := strings.Cut(id, " "); ok {
			ids = append(ids, Identity{Domain: domain, SPF: strings.HasPrefix(kind, "spf"), Temporary: strings.HasSuffix(kind, "?")})
		}
	}
	return ids
}

// TestUnclearNeverPasses has everybody sign for everybody.
func TestUnclearNeverPasses(t *testing.T) {
	s := dnstest.Start(t, `_dmarc.good.test. 300 IN TXT "v=DMARC1; p=reject"`, `_dmarc.held.test. 300 IN TXT "v=DMARC1; p=quarantine"`)
	s.Misbehave("_dmarc.down.test", dnstest.Quirk{Rcode: 2})
	client := ask(t, s, time.Minute)
	ids := identities("dkim good.test, dkim evil.test, dkim held.test, spf good.test, spf evil.test")
	for _, tt := range []struct{ in, want string }{
		{"From: a@good.test\nFrom: b@evil.test\n", "fail good.test reject"},
		{"From: b@evil.test, a@held.test, a@good.test\n", "fail good.test reject"},
		{"From: b@evil.test, a@held.test\n", "fail held.test quarantine"},
		{"From: b@evil.test, c@evil.test\n", "permerror  none"},
		{"From: b@evil.test, a@down.test\n", "temperror  none unknown"},
		{"From: a@good.test, a@down.test\n", "fail good.test reject unknown"},
		{"From : a@good.test\n", "fail good.test reject"},
		{"From: a@1.test, a@2.test, a@3.test, a@4.test, a@5.test, a@6.test, a@7.test, a@8.test, a@9.test, a@good.test\n", "fail good.test reject"},
		{"From: a@1.test, a@2.test, a@3.test, a@4.test, a@5.test, a@6.test, a@7.test, a@8.test, a@9.test, a@a.test, a@good.test\n", "fail  reject"},
		{"To: a@good.test\n", "permerror  none"},
		{"From: <>\n", "permerror  none"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			res := Discover(t.Context(), client, Authors(header(t, tt.in))).Judge(t.Context(), ids)
			got := fmt.Sprintf("%s %s %s", res.Value, res.Domain, res.Applied)
			if res.Unknown {
				got += " unknown"
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if res.Value == mail.AuthPass {
				t.Error("it passes")
			}
		})
	}
}

// D7: what a name can cost is bounded by the walk.
func TestQuestions(t *testing.T) {
	s := dnstest.Start(t, `_dmarc.h.deep.test. 300 IN TXT "v=DMARC1; p=reject; np=reject"`)
	client := ask(t, s, time.Minute)
	long := strings.Repeat("x.", 60) + "h.deep.test"
	var ids []Identity
	for i := range 10 {
		ids = append(ids, Identity{Domain: fmt.Sprintf("y%d.", i) + long})
	}
	from := Authors(header(t, "From: <a@"+long+">\n"))
	if res := Discover(t.Context(), client, from).Judge(t.Context(), ids); res.Value != mail.AuthPass {
		t.Errorf("%+v", res)
	}
	if n := len(s.Asked()); n > 20 {
		t.Errorf("%d questions: %v", n, s.Asked())
	}
}
