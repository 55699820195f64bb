package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/arc"
	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
)

// key signs for every domain here; its seed is fixed.
func key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func record() string {
	return `"v=DKIM1; k=ed25519; p=` + base64.StdEncoding.EncodeToString(key().Public().(ed25519.PublicKey)) + `"`
}

// lab is a filter with a DNS.
type lab struct {
	*Filter
	dns *dnstest.Server
}

func newLab(t *testing.T, change func(*Config)) lab {
	t.Helper()
	s := dnstest.Start(t,
		`good.test. 300 IN TXT "v=spf1 ip4:192.0.2.1 -all"`, `_dmarc.good.test. 300 IN TXT "v=DMARC1; p=reject"`, "s._domainkey.good.test. 300 IN TXT "+record(),
		`evil.test. 300 IN TXT "v=spf1 +all"`, "s._domainkey.evil.test. 300 IN TXT "+record(),
		`watch.test. 300 IN TXT "v=spf1 -all"`, `_dmarc.watch.test. 300 IN TXT "v=DMARC1; p=none"`,
		"s._domainkey.list.test. 300 IN TXT "+record(), "s._domainkey.hop.test. 300 IN TXT "+record(),
	)
	s.Misbehave("down._domainkey.good.test", dnstest.Quirk{Rcode: 2})
	client, err := dns.NewClient(dns.ClientConfig{Servers: []string{s.Addr()}, Timeout: time.Minute, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Timeout = time.Minute // of a machine that has other things to do
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg, Deps{Resolver: client})
	if err != nil {
		t.Fatal(err)
	}
	return lab{f, s}
}

func message(t *testing.T, text string) *mail.Message {
	t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// signed signs a message for a domain.
func signed(t *testing.T, domain, text string) string {
	t.Helper()
	m := message(t, text)
	sum, err := dkim.BodyHash(m.Body(), dkim.Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	field, err := dkim.Signing{
		Key: &dkim.Key{Domain: domain, Selector: "s", Private: key()}, Names: []string{"from", "to", "subject"}, BodyHash: sum, At: time.Now(),
	}.Sign(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(field.Raw()), "\r\n", "\n") + text
}

// sealed passes a message on as a domain does, which says results of it.
func sealed(t *testing.T, domain, results string, l lab, text string) string {
	t.Helper()
	m := message(t, text)
	chain := arc.Verify(t.Context(), m, l.deps.Resolver, arc.Limits{})
	sum, err := dkim.BodyHash(m.Body(), dkim.Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := arc.Sealing{
		Key: &dkim.Key{Domain: domain, Selector: "s", Private: key()}, Fields: dkim.Fields{Present: []string{"from", "to", "subject"}},
		BodyHash: sum, At: time.Now(), Incoming: chain.Value, Results: results,
	}.Seal(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	head := ""
	for _, f := range fields {
		head += string(f.Raw())
	}
	return strings.ReplaceAll(head, "\r\n", "\n") + text
}

// check asks the filter at both stages, as the multiplexer does.
func (l lab) check(t *testing.T, sess mail.Session, from, text string) []mail.Finding {
	t.Helper()
	sender, err := mail.ParseAddress(from, false)
	if err != nil {
		t.Fatal(err)
	}
	if sess.Helo == "" {
		sess.Helo = "client.test"
	}
	tx := &mail.Transaction{Stage: mail.StageMail, Session: &sess, Envelope: mail.Envelope{Sender: mail.Path{Address: sender}}}
	for _, stage := range []mail.Stage{mail.StageMail, mail.StageMessage} {
		if tx.Stage = stage; stage == mail.StageMessage {
			tx.Message = message(t, text)
		}
		r, err := l.Check(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		tx.Findings = append(tx.Findings, r.Findings...)
	}
	return tx.Findings
}

func from(addr string) mail.Session {
	return mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 25)}
}

// words are findings as "name=value properties".
func words(found []mail.Finding) string {
	var all []string
	for _, f := range found {
		w := f.Name + "=" + f.Value
		if f.Name == mail.FindingDKIM { // its beginning is another every time
			w += " " + f.Property("header.d")
		} else if f.Text != "" && f.Name != mail.FindingFrom {
			w += " " + f.Text
		}
		all = append(all, strings.TrimSpace(w))
	}
	return strings.Join(all, "; ")
}

const letter = "From: Jane <a@good.test>\nTo: b@example.com\nSubject: x\n\nbody\n"

func TestCheck(t *testing.T) {
	l := newLab(t, nil)
	const rejected = "header.from=good.test policy.published=reject policy.applied=reject"
	for _, tt := range []struct{ name, client, sender, text, want string }{
		{"by SPF", "192.0.2.1", "a@good.test", letter, "spf=pass smtp.mailfrom=good.test; dkim=none; dmarc=pass header.from=good.test policy.published=reject policy.applied=none"},
		{"by a signature", "198.51.100.1", "x@evil.test", signed(t, "good.test", letter), "spf=pass smtp.mailfrom=evil.test; dkim=pass good.test; dmarc=pass header.from=good.test policy.published=reject policy.applied=none"},
		{"forged", "198.51.100.1", "a@good.test", letter, "spf=fail smtp.mailfrom=good.test; dkim=none; dmarc=fail " + rejected},
		{"D5 SPF of somebody else", "198.51.100.1", "x@evil.test", letter, "spf=pass smtp.mailfrom=evil.test; dkim=none; dmarc=fail " + rejected},
		{"somebody else's signature", "198.51.100.1", "x@evil.test", signed(t, "evil.test", letter), "spf=pass smtp.mailfrom=evil.test; dkim=pass evil.test; dmarc=fail " + rejected},
		{"IPv6", "2001:db8::1", "a@good.test", letter, "spf=fail smtp.mailfrom=good.test; dkim=none; dmarc=fail " + rejected},
		{"p=none", "198.51.100.1", "a@watch.test", strings.Replace(letter, "good", "watch", 1), "spf=fail smtp.mailfrom=watch.test; dkim=none; dmarc=fail header.from=watch.test policy.published=none policy.applied=none"},
		{"no policy", "198.51.100.1", "a@nothing.test", strings.Replace(letter, "good", "nothing", 1), "spf=none smtp.mailfrom=nothing.test; dkim=none; dmarc=none header.from=nothing.test policy.applied=none"},
		{"D8 the key's server is away", "198.51.100.1", "", strings.Replace(signed(t, "good.test", letter), "s=s;", "s=down;", 1), "spf=none smtp.helo=client.test; dkim=temperror good.test; dmarc=temperror header.from=good.test policy.published=reject policy.applied=unknown"},
		{"H3 two authors", "192.0.2.1", "a@good.test", "From: b@evil.test\n" + signed(t, "good.test", letter), "spf=pass smtp.mailfrom=good.test; dkim=policy good.test; dmarc=fail " + rejected + "; from=duplicate"},
		{"H3 shown as somebody else", "198.51.100.1", "x@evil.test", "From: \"ceo@good.test\" <x@evil.test>\n\n", "spf=pass smtp.mailfrom=evil.test; dkim=none; dmarc=none header.from=evil.test policy.applied=none; from=display"},
		{"H3 no author", "192.0.2.1", "a@good.test", "To: x\n\n", "spf=pass smtp.mailfrom=good.test; dkim=none; dmarc=permerror policy.applied=none; from=missing"},
		{"D-8 no header at all", "192.0.2.1", "a@good.test", "\nhello\n", "spf=pass smtp.mailfrom=good.test; dkim=none; dmarc=permerror policy.applied=none; from=missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := words(l.check(t, from(tt.client), tt.sender, tt.text)); got != tt.want {
				t.Errorf("\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

func TestIPRev(t *testing.T) {
	l := newLab(t, nil)
	for resolve, want := range map[mail.Resolve]string{
		mail.ResolveOK: "pass", mail.ResolveForged: "fail", mail.ResolveFail: "permerror", mail.ResolveTemp: "temperror", "": "",
	} {
		s := from("2001:db8::1")
		s.Resolve = resolve
		got := ""
		for _, f := range l.check(t, s, "a@good.test", letter) {
			if f.Name == mail.FindingIPRev {
				got = f.Value
				if f.Text != "policy.iprev=2001:db8::1" {
					t.Errorf("%s: %s", resolve, f.Text)
				}
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", resolve, got, want)
		}
	}
}

// Whoever is ours is not looked at, unless that is asked for.
func TestOurs(t *testing.T) {
	for _, tt := range []struct {
		name string
		sess mail.Session
		all  bool
		want bool
	}{
		{"stranger", from("192.0.2.1"), false, true},
		{"user", mail.Session{Client: from("192.0.2.1").Client, User: "a"}, false, false},
		{"trusted", mail.Session{Client: from("192.0.2.1").Client, Trusted: true}, false, false},
		{"this host", from("127.0.0.1"), false, false},
		{"user, asked for", mail.Session{Client: from("192.0.2.1").Client, User: "a"}, true, true},
		{"this host, asked for", from("127.0.0.1"), true, true},
		{"a file", mail.Session{Via: mail.ViaScan}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.CheckOurs = tt.all })
			if got := len(l.check(t, tt.sess, "a@good.test", letter)) > 0; got != tt.want {
				t.Errorf("looked at: %v", got)
			}
		})
	}
}

// What is over a limit, or set aside, is said.
func TestManySignatures(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxSignatures = 2 })
	text := signed(t, "good.test", letter)
	field := strings.TrimSuffix(text, letter)
	found := l.check(t, from("198.51.100.1"), "", strings.Repeat(strings.Replace(field, "d=good.test", "d=evil.test", 1), 500)+text)
	var got []string
	for _, f := range found {
		if f.Name == mail.FindingDKIM {
			got = append(got, f.Value+" "+f.Property("policy.skipped"))
		}
	}
	if fmt.Sprint(got) != "[fail  fail  policy 499]" {
		t.Errorf("%q", got)
	}
}

func TestOverride(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.TrustedSealers = []string{"List.test", ".hops.test"}
		c.Forwarders = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	const pass = "list.test; dmarc=pass header.from=good.test"
	by := func(domain, results string) string { return sealed(t, domain, results, l, letter) }
	for _, tt := range []struct{ name, client, text, want string }{
		{"trusted sealer", "198.51.100.1", by("list.test", pass), "fail none arc list.test"},
		{"with all results", "198.51.100.1", by("list.test", "list.test (a; dmarc=fail) 1; spf=fail smtp.mailfrom=\"x; dmarc=fail\"; dmarc = pass (p=reject) header.from = Good.test"), "fail none arc list.test"},
		{"somebody else sealed", "198.51.100.1", by("hop.test", pass), "fail reject  "},
		{"it says fail", "198.51.100.1", by("list.test", "list.test; dmarc=fail header.from=good.test"), "fail reject  "},
		{"of somebody else", "198.51.100.1", by("list.test", "list.test; dmarc=pass header.from=evil.test"), "fail reject  "},
		{"AR-2 in quotes", "198.51.100.1", by("list.test", `list.test; spf=pass smtp.mailfrom="x; dmarc=pass header.from=good.test"`), "fail reject  "},
		{"AR-2 in a comment", "198.51.100.1", by("list.test", "list.test; spf=pass (; dmarc=pass header.from=good.test)"), "fail reject  "},
		{"twice", "198.51.100.1", by("list.test", "list.test; dmarc=fail header.from=good.test; dmarc=pass header.from=good.test"), "fail reject  "},
		{"changed afterwards", "198.51.100.1", by("list.test", pass) + "more\n", "fail reject  "},
		{"a stranger sealed after it", "198.51.100.1", sealed(t, "hop.test", "hop.test; arc=pass", l, by("list.test", pass)), "fail reject  "},
		{"a trusted one sealed after a stranger, who says so", "198.51.100.1", sealed(t, "list.test", "list.test; arc=pass; dmarc=fail header.from=good.test", l, by("hop.test", pass)), "fail reject  "},
		{"two trusted ones, the first saw it", "198.51.100.1", sealed(t, "list.test", "list.test; arc=pass", l, by("list.test", pass)), "fail none arc list.test"},
		{"forwarder", "203.0.113.7", letter, "fail none forwarder "},
		{"forwarder, no clear author", "203.0.113.7", "From: b@evil.test\n" + letter, "fail reject  "},
		{"sealer, no clear author", "198.51.100.1", sealed(t, "list.test", pass, l, "From: b@evil.test\n"+letter), "fail reject  "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tx := mail.Transaction{Findings: l.check(t, from(tt.client), "x@watch.test", tt.text)}
			f := tx.Find(mail.FindingDMARC)[0]
			got := strings.Join([]string{f.Value, f.Property("policy.applied"), f.Property("policy.override"), f.Property("policy.sealer")}, " ")
			if got != tt.want {
				t.Errorf("%q, want %q (%s)", got, tt.want, words(tx.Findings))
			}
			if tx.IsForgedAuthor() != strings.Contains(tt.want, "reject") {
				t.Errorf("forged: %v", tx.IsForgedAuthor())
			}
		})
	}
}

func TestScores(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Score = Scores{SPFFail: 1, DKIMNone: 2, DMARCFail: 4, FromMalformed: 8, SPFPass: -16, DKIMPass: -32, DMARCPass: -64, DKIMFail: 128, FromDisplay: 256}
	})
	sum := func(found []mail.Finding) float64 { return (&mail.Transaction{Findings: found}).Score() }
	for _, tt := range []struct {
		name, client, sender, text string
		want                       float64
	}{
		{"forged", "198.51.100.1", "a@good.test", letter, 1 + 2 + 4},
		{"all well", "192.0.2.1", "a@good.test", signed(t, "good.test", signed(t, "good.test", letter)), -16 - 32 - 64},
		{"changed", "192.0.2.1", "a@good.test", signed(t, "good.test", letter) + "x\n", -16 + 128 - 64},
		{"two authors", "198.51.100.1", "a@good.test", "From: b@evil.test\n" + letter, 1 + 2 + 4 + 8},
		{"display", "192.0.2.1", "a@good.test", "From: \"x@evil.test\" <a@good.test>\n\n", -16 + 2 - 64 + 256},
	} {
		if got := sum(l.check(t, from(tt.client), tt.sender, tt.text)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Timeout = 0 }, func(c *Config) { c.OnError = "x" }, func(c *Config) { c.MaxConcurrent = 0 }, func(c *Config) { c.MaxSignatures = 51 },
		func(c *Config) { c.TrustedSealers = []string{"com"} }, func(c *Config) { c.TrustedSealers = []string{"a b.test"} },
		func(c *Config) { c.Forwarders = []netip.Prefix{netip.MustParsePrefix("::/0")} }, func(c *Config) { c.Score.ARCFail = 1e9 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := New(cfg, Deps{}); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// D4: nothing that a sender writes ends a property.
func TestProperties(t *testing.T) {
	for _, v := range []string{"", "a b", "a;b", "a\nb", `a"b`, "a(b)", "a\\b", "é", "a\x00b", strings.Repeat("x", 256)} {
		if got := properties("header.d", v, "header.s", "ok"); got != "header.s=ok" {
			t.Errorf("%q: %q", v, got)
		}
	}
}

func FuzzSaysPass(f *testing.F) {
	f.Add("mx.test; dmarc=pass header.from=good.test", true)
	f.Add(`mx.test; spf=pass smtp.mailfrom="x; dmarc=pass header.from=good.test"`, false)
	f.Fuzz(func(t *testing.T, results string, _ bool) {
		if saysPass(results, "good.test") && !strings.Contains(strings.ToLower(results), "good.test") {
			t.Errorf("%q", results)
		}
	})
}
