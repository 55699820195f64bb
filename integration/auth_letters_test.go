package integration

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/internal/testkit"
)

// authors has domains with policies and keys, and whoever signs for them.
type authors struct {
	*testing.T
	zone    *testkit.DNS
	records map[string]string // of keys, by name, as python3-dkim and opendkim want them
	py      *testkit.DKIMPy
	keys    map[string]string // PEM, or the seed of Ed25519 in base64, by selector
	public  map[string]string // records by selector
	ed      ed25519.PrivateKey
}

func newAuthors(t *testing.T) *authors {
	t.Helper()
	a := &authors{T: t, py: testkit.NewDKIMPy(t), records: make(map[string]string), keys: make(map[string]string)}
	zone := []string{
		`good.test. 60 IN TXT "v=spf1 ip4:127.0.0.1 ip4:192.0.2.25 -all"`, `_dmarc.good.test. 60 IN TXT "v=DMARC1; p=reject; sp=quarantine; np=reject"`, "www.good.test. 60 IN A 192.0.2.1",
		`evil.test. 60 IN TXT "v=spf1 +all"`, `deny.test. 60 IN TXT "v=spf1 -all"`, `late.test. 60 IN TXT "v=spf1 +all foo:bar"`,
		`_dmarc.held.test. 60 IN TXT "v=DMARC1; p=quarantine"`, `_dmarc.watch.test. 60 IN TXT "v=DMARC1; p=none"`, `_dmarc.trial.test. 60 IN TXT "v=DMARC1; p=reject; t=y"`,
		`_dmarc.strict.test. 60 IN TXT "v=DMARC1; p=reject; adkim=s; aspf=s"`,
		`_dmarc.odd.test. 60 IN TXT "v=DMARC1; p=Reject; rf=iodef; pct=x; adkim=z"`,
		`_dmarc.two.test. 60 IN TXT "v=DMARC1; p=reject"`, `_dmarc.two.test. 60 IN TXT "v=DMARC1; p=quarantine"`,
		`_dmarc.github.io. 60 IN TXT "v=DMARC1; p=reject"`, `loop.test. 60 IN TXT "v=spf1 include:loop.test -all"`,
		`void.test. 60 IN TXT "v=spf1 a:n1.test a:n2.test a:n3.test -all"`, `ring.test. 60 IN CNAME ring2.test.`, `ring2.test. 60 IN CNAME ring.test.`,
	}
	zone = append(zone, dearSPF()...)
	for _, d := range []string{"good.test", "evil.test", "list.test", "strict.test", "mail.strict.test", "b.github.io", "odd.test"} {
		zone = append(zone, a.newKeys(d)...)
	}
	huge := make([]byte, 32<<10)
	zone = append(zone, `huge._domainkey.evil.test. 60 IN TXT "v=DKIM1; p=`+base64.StdEncoding.EncodeToString(huge)+`"`)
	var err error
	if a.zone, err = testkit.NewDNS(zone...); err != nil {
		t.Fatal(err)
	}
	a.zone.Fail("_dmarc.down.test.", "down.test.", "down._domainkey.good.test.")
	testkit.Up(t, a.zone)
	return a
}

// newKeys makes the keys r (RSA) and e (Ed25519), once for all domains.
func (a *authors) newKeys(domain string) (records []string) {
	if a.ed == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			a.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			a.Fatal(err)
		}
		if _, a.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
			a.Fatal(err)
		}
		a.keys["r"] = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
		a.keys["e"] = base64.StdEncoding.EncodeToString(a.ed.Seed())
		a.public = map[string]string{
			"r": "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public),
			"e": "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(a.ed.Public().(ed25519.PublicKey)),
		}
	}
	for selector, record := range a.public {
		name := selector + "._domainkey." + domain
		a.records[name] = record
		records = append(records, fmt.Sprintf("%s. 60 IN TXT %q", name, record))
	}
	return records
}

// signed is a message with a signature by python3-dkim.
func (a *authors) signed(domain, selector, text string) string {
	a.Helper()
	field, err := a.py.Sign(wire(text), domain, selector, a.keys[selector], map[string]string{"r": "rsa-sha256", "e": "ed25519-sha256"}[selector])
	if err != nil {
		a.Fatal(err)
	}
	return strings.ReplaceAll(field, "\r\n", "\n") + text
}

// byOpenDKIM is a message with a signature by opendkim.
func (a *authors) byOpenDKIM(domain, canon, algorithm, text string) string {
	a.Helper()
	dir := testkit.Dir(a.T)
	for name, content := range map[string]string{
		"key": a.keys["r"], "message": string(wire(text)),
		"conf": "Mode s\nSyslog no\nRequireSafeKeys no\nSelector r\nDomain " + domain + "\nKeyFile " + filepath.Join(dir, "key") +
			"\nCanonicalization " + canon + "\nSignatureAlgorithm " + algorithm + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			a.Fatal(err)
		}
	}
	cmd := exec.CommandContext(a.Context(), testkit.Program(a.T, "opendkim", "opendkim"), "-x", filepath.Join(dir, "conf"), "-vvv", "-t", filepath.Join(dir, "message"))
	out, err := cmd.Output()
	if err != nil {
		a.Fatalf("opendkim: %v", err)
	}
	_, value, _ := strings.Cut(string(out), "hname='DKIM-Signature' hvalue='")
	value, _, ok := strings.Cut(value, "'")
	if !ok {
		a.Fatalf("opendkim did not sign: %s", out)
	}
	return "DKIM-Signature: " + value + "\n" + text
}

// crafted is a message with a signature that no program makes: with these tags,
// by the Ed25519 key, relaxed/relaxed. The text has no folded field and a body
// that is canonical as it stands.
func (a *authors) crafted(tags, text string) string {
	a.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	signed := wire(body)
	if _, l, ok := strings.Cut(tags, "; l="); ok {
		n, err := strconv.Atoi(l)
		if err != nil {
			a.Fatal(err)
		}
		signed = signed[:n]
	}
	bh := sha256.Sum256(signed)
	field := "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; " + tags + "; bh=" + base64.StdEncoding.EncodeToString(bh[:]) + "; b="
	_, names, _ := strings.Cut(tags, "h=")
	names, _, _ = strings.Cut(names, ";")
	var hashed strings.Builder
	for name := range strings.SplitSeq(names, ":") {
		for line := range strings.SplitSeq(head, "\n") {
			if n, value, _ := strings.Cut(line, ":"); strings.EqualFold(n, name) {
				hashed.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\r\n")
			}
		}
	}
	hashed.WriteString(strings.Replace(field, "DKIM-Signature: ", "dkim-signature:", 1))
	sum := sha256.Sum256([]byte(hashed.String()))
	return field + base64.StdEncoding.EncodeToString(ed25519.Sign(a.ed, sum[:])) + "\n" + text
}

// sealed is a message that a domain has passed on, of which it says results.
func (a *authors) sealed(domain, results, text string) string {
	a.Helper()
	text = "Authentication-Results: " + domain + "; " + results + "\n" + text
	raw, err := a.py.Seal(wire(text), domain, "r", a.keys["r"], domain)
	if err != nil {
		a.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "\r\n", "\n")
}

// sealedTwice has its seal, the first field, twice.
func sealedTwice(text string) string {
	seal, _, _ := strings.Cut(text, "ARC-Message-Signature:")
	return seal + text
}

func wire(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\r\n")) }

// authLetter is one message of somebody.
type authLetter struct {
	name string
	helo string // client.test
	from string // envelope
	text string
	want string // "250 spf=pass dkim=none dmarc=pass", "250 held", "550"
	mta  string // the same through an MTA that changed it before we saw it; "": as want
}

// letters are the rows of H3, D1 to D10, and what is well.
func (a *authors) letters() []authLetter {
	const head = "To: u@example.com\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nMessage-ID: <1@good.test>\nMIME-Version: 1.0\nContent-Type: text/plain\n"
	by := func(from string) string { return "From: " + from + "\nSubject: x\n" + head + "\nbody\n" }
	good := by("Jane <a@good.test>")
	ours := a.signed("good.test", "r", good)
	craft := func(more string) string { return a.crafted("d=good.test; s=e; h=from:to:subject:date"+more, good) }
	const none = "dkim=none "
	rows := []authLetter{
		{"SPF", "", "a@good.test", good, "250 spf=pass " + none + "dmarc=pass", ""},
		{"signed with RSA by python3-dkim", "", "x@deny.test", ours, "250 spf=fail dkim=pass dmarc=pass", ""},
		{"signed by opendkim, relaxed/simple", "", "x@deny.test", a.byOpenDKIM("good.test", "relaxed/simple", "rsa-sha256", good), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"signed by opendkim, simple/simple", "", "x@deny.test", a.byOpenDKIM("good.test", "simple/simple", "rsa-sha256", good), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"signed by opendkim, simple/relaxed", "", "x@deny.test", a.byOpenDKIM("good.test", "simple/relaxed", "rsa-sha256", good), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"signed by opendkim with SHA-1", "", "x@deny.test", a.byOpenDKIM("good.test", "relaxed/simple", "rsa-sha1", good), "550", ""},
		{"signed with Ed25519 by python3-dkim", "", "x@deny.test", a.signed("good.test", "e", good), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"signed twice", "", "x@deny.test", a.signed("good.test", "e", ours), "250 spf=fail dkim=pass dkim=pass dmarc=pass", ""},
		{"forged", "", "x@deny.test", good, "550", ""},
		{"signed by somebody else", "", "x@deny.test", a.signed("evil.test", "r", good), "550", ""},
		{"changed on the way", "", "x@deny.test", ours + "more\n", "550", ""},
		{"p=quarantine", "", "x@deny.test", by("a@held.test"), "250 held", ""},
		{"p=none", "", "x@deny.test", by("a@watch.test"), "250 spf=fail " + none + "dmarc=fail", ""},
		{"t=y", "", "x@deny.test", by("a@trial.test"), "250 spf=fail " + none + "dmarc=fail", ""},
		{"no policy", "", "x@nothing.test", by("a@nothing.test"), "250 spf=none " + none + "dmarc=none", ""},

		{"H3 two From fields", "", "x@evil.test", "From: b@evil.test\n" + ours, "550", ""},
		{"H3 two From fields, the other way", "", "x@evil.test", a.signed("evil.test", "r", strings.Replace(good, "\n", "\nFrom: b@evil.test\n", 1)), "550", ""},
		{"H3 two addresses", "", "x@evil.test", a.signed("evil.test", "r", by("b@evil.test, a@good.test")), "550", ""},
		{"H3 group", "", "x@evil.test", a.signed("evil.test", "r", by("us: b@evil.test, a@good.test;")), "550", ""},
		{"H3 route", "", "a@good.test", by("<@x.test:a@good.test>"), "550", ""},
		{"H3 encoded address", "", "a@good.test", by("=?utf-8?b?YUBnb29kLnRlc3Q=?="), "550", ""},
		{"H3 folded address", "", "a@good.test", by("\n a@good.test"), "550", ""},
		{"H3 null", "", "a@good.test", by("<>"), "250 spf=pass " + none + "dmarc=permerror", ""},
		{"H3 none", "", "a@good.test", "Subject: x\n" + head + "\nbody\n", "250 spf=pass " + none + "dmarc=permerror", ""},
		{"H3 empty", "", "a@good.test", by(""), "250 spf=pass " + none + "dmarc=permerror", ""},
		{"H3 blank before the name", "", "a@good.test", "Subject: x\n From: a@good.test\n" + head + "\nbody\n", "250 spf=pass " + none + "dmarc=permerror", ""},
		// Postfix takes the blank out, so that nobody reads it in another way.
		{"H3 blank before the colon", "", "a@good.test", "Subject: x\nFrom : a@good.test\n" + head + "\nbody\n", "550", "250 spf=pass " + none + "dmarc=pass"},
		{"H3 shown as another", "", "x@evil.test", by("\"a@good.test\" <x@evil.test>"), "250 spf=pass " + none + "dmarc=none", ""},

		{"D1 l=, and more behind it", "", "x@deny.test", craft("; l=6") + "<b>more</b>\n", "550", ""},
		{"D2 a second Subject", "", "x@deny.test", "Subject: Buy\n" + ours, "550", ""},
		{"D2 expired", "", "x@deny.test", craft("; t=1500000000; x=1600000000"), "550", ""},
		{"D2 made in the future", "", "x@deny.test", craft("; t=4000000000"), "550", ""},
		{"as crafted, but well", "", "x@deny.test", craft(""), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"D3 names in h=", "", "x@deny.test", "DKIM-Signature: v=1; a=rsa-sha256; d=evil.test; s=r; h=from" + strings.Repeat(":\n x", 9000) + "; bh=AAAA; b=AAAA\n" + by("b@evil.test"), "250 spf=fail dkim=policy dmarc=none", ""},
		{"D3 a huge key", "", "x@deny.test", "DKIM-Signature: v=1; a=rsa-sha256; d=evil.test; s=huge; h=from; bh=AAAA; b=AAAA\n" + by("b@evil.test"), "250 spf=fail dkim=permerror dmarc=none", ""},
		{"D3 signatures", "", "x@deny.test", strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=evil.test; s=r; h=from; bh=AAAA; b=AAAA\n", 300) + by("b@evil.test"), "250 spf=fail" + strings.Repeat(" dkim=fail", 10) + " dkim=policy dmarc=none", ""},
		{"D4 d= with a comment", "", "x@deny.test", "DKIM-Signature: v=1; a=rsa-sha256; d=good.test(.evil.test); s=r; h=from; bh=AAAA; b=AAAA\n" + good, "550", ""},
		{"D4 d= with more results", "", "x@deny.test", "DKIM-Signature: v=1; a=rsa-sha256; d=\"x header.from=good.test\"; s=r; h=from; bh=AAAA; b=AAAA\n" + by("b@evil.test"), "250 spf=fail dkim=permerror dmarc=none", ""},
		{"D5 HELO is good, the sender is not", "good.test", "x@evil.test", good, "550", ""},
		{"D5 null sender, HELO is good", "good.test", "", good, "250 spf=pass " + none + "dmarc=pass", ""},
		{"D6 include loop", "", "x@loop.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D6 void look-ups", "", "x@void.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D6 a mistake behind +all", "", "x@late.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D4 sender with a comment", "", "a@good.test(.evil.test)", good, "501", "553"},
		{"D5 sender with two domains", "", "\"x@good.test\"@evil.test", good, "501", "553"},
		{"D6 eleven includes", "", "x@includes.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D6 eleven MX", "", "x@mx.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D6 thousands of terms", "", "x@terms.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D7 a hundred hosts", "", "x@many.test", by("a@nothing.test"), "250 spf=permerror " + none + "dmarc=none", ""},
		{"D8 SERVFAIL for SPF", "", "x@down.test", by("a@nothing.test"), "250 spf=temperror " + none + "dmarc=none", ""},
		{"D8 SERVFAIL for the policy", "", "x@deny.test", by("a@down.test"), "451", ""},
		{"D8 SERVFAIL for a key", "", "x@deny.test", a.crafted("d=good.test; s=down; h=from", good), "451", ""},
		{"D8 CNAMEs in a ring", "", "x@ring.test", by("a@ring.test"), "250 spf=none " + none + "dmarc=none", ""},
		{"D9 sp=", "", "x@deny.test", by("a@www.good.test"), "250 held", ""},
		{"D9 np=", "", "x@deny.test", by("a@nowhere.good.test"), "550", ""},
		{"D9 signed above", "", "x@deny.test", a.signed("good.test", "r", by("a@www.good.test")), "250 spf=fail dkim=pass dmarc=pass", ""},
		{"D9 strict: signed below", "", "x@deny.test", a.signed("mail.strict.test", "r", by("a@strict.test")), "550", ""},
		{"D9 two records", "", "x@deny.test", by("a@two.test"), "250 spf=fail " + none + "dmarc=none", ""},
		{"D9 bad optional tags", "", "x@deny.test", by("a@odd.test"), "550", ""},
		{"D9 private suffix", "", "x@deny.test", a.signed("b.github.io", "r", by("a@a.github.io")), "550", ""},
		{"D10 a chain, whose sealer is not trusted", "", "x@deny.test", a.sealed("evil.test", "dmarc=pass header.from=good.test", good), "550", ""},
		{"D10 a chain of a trusted sealer", "", "x@deny.test", a.sealed("list.test", "dmarc=pass header.from=good.test", good), "250 spf=fail " + none + "arc=pass dmarc=fail", ""},
		{"D10 the chain broken", "", "x@deny.test", a.sealed("list.test", "dmarc=pass header.from=good.test", good) + "more\n", "550", ""},
		{"D10 no seal", "", "x@deny.test", strings.Replace(a.sealed("list.test", "dmarc=pass header.from=good.test", good), "ARC-Seal:", "X-Seal:", 1), "550", ""},
		{"D10 i=51", "", "x@deny.test", strings.ReplaceAll(a.sealed("list.test", "dmarc=pass header.from=nothing.test", by("a@nothing.test")), "i=1", "i=51"), "250 spf=fail " + none + "arc=fail dmarc=none", ""},
		{"D10 two seals", "", "x@deny.test", sealedTwice(a.sealed("list.test", "dmarc=pass header.from=nothing.test", by("a@nothing.test"))), "250 spf=fail " + none + "arc=fail dmarc=none", ""},
		{"D10 cv=pass on the first", "", "x@deny.test", strings.Replace(a.sealed("list.test", "dmarc=pass header.from=nothing.test", by("a@nothing.test")), "cv=none", "cv=pass", 1), "250 spf=fail " + none + "arc=fail dmarc=none", ""},
	}
	rows = append(rows, a.forgeries(good)...)
	return rows
}

// dearSPF are policies that would cost many look-ups (D6, D7).
func dearSPF() (zone []string) {
	var includes, mx strings.Builder
	for i := range 11 {
		fmt.Fprintf(&includes, " include:i%d.includes.test", i)
		zone = append(zone, fmt.Sprintf(`i%d.includes.test. 60 IN TXT "v=spf1 ip4:192.0.2.9"`, i),
			fmt.Sprintf("mx.test. 60 IN MX 10 h%d.mx.test.", i), fmt.Sprintf("h%d.mx.test. 60 IN A 192.0.2.9", i))
	}
	for i := range 10 {
		fmt.Fprintf(&mx, " mx:m%d.many.test", i)
		for j := range 10 {
			zone = append(zone, fmt.Sprintf("m%d.many.test. 60 IN MX 10 h%d-%d.many.test.", i, i, j), fmt.Sprintf("h%d-%d.many.test. 60 IN A 192.0.2.9", i, j))
		}
	}
	terms := strings.Repeat(`" ip4:192.0.2.9 a:terms.test" `, 2000)
	return append(zone, `includes.test. 60 IN TXT "v=spf1`+includes.String()+` -all"`, `mx.test. 60 IN TXT "v=spf1 mx -all"`,
		`many.test. 60 IN TXT "v=spf1`+mx.String()+` -all"`, `terms.test. 60 IN TXT "v=spf1" `+terms+`" -all"`)
}

// forgeries are results in our name (H2): none of them may arrive.
func (a *authors) forgeries(good string) (rows []authLetter) {
	for i, field := range []string{
		"Authentication-Results: mx1.example.com; dmarc=pass FORGED", "AUTHENTICATION-RESULTS: MX1.EXAMPLE.COM; dmarc=pass FORGED",
		"Authentication-Results : mx1.example.com; dmarc=pass FORGED", "Authentication-Results:\n mx1.example.com; dmarc=pass FORGED",
		"Authentication-Results: \"mx1.example.com\"; dmarc=pass FORGED", "Authentication-Results: (a) mx1.example.com (b) 1 (c); dmarc=pass FORGED",
		"Authentication-Results: mx1.example.com 1; dmarc=pass FORGED", "Authentication-Results: example.com; dmarc=pass FORGED",
		"Authentication-Results: x.mx1.example.com; dmarc=pass FORGED", "Received-SPF: pass (mx1.example.com: FORGED) receiver=mx1.example.com",
		"X-Gatepost-Forged: FORGED", "X-Spam-Status: No, FORGED",
	} {
		rows = append(rows, authLetter{fmt.Sprintf("H2 forged %d", i), "", "a@good.test", field + "\n" + good, "250 spf=pass dkim=none dmarc=pass", ""})
	}
	// What was signed still holds, though the field is taken out.
	rows = append(rows, authLetter{"H2 forged and signed", "", "x@deny.test",
		a.crafted("d=good.test; s=e; h=from:x-spam-status:authentication-results", "X-Spam-Status: FORGED\nAuthentication-Results: mx1.example.com; dmarc=pass FORGED\n"+good), "250 spf=fail dkim=pass dmarc=pass", ""})
	return rows
}

// deliver speaks to an entry as a client does, and returns the last reply.
func (l authLetter) deliver(t *testing.T, addr string, i int) testkit.Reply {
	t.Helper()
	c, err := testkit.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Read(); err != nil || r.Code != 220 {
		t.Fatalf("greeting: %v, %v", r, err)
	}
	helo := l.helo
	if helo == "" {
		helo = "client.test"
	}
	var last testkit.Reply
	for _, line := range []string{"EHLO " + helo, "MAIL FROM:<" + l.from + ">", "RCPT TO:<u@example.com>", "DATA"} {
		if last, err = c.Cmd(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if last.Code >= 400 {
			return last
		}
	}
	// At the end, where it changes no rule about the beginning.
	head, body, _ := strings.Cut(l.text, "\n\n")
	text := fmt.Sprintf("%s\nX-Case: %d\n\n%s", head, i, body)
	if last, err = c.Cmd(string(testkit.Stuff(wire(text))) + "."); err != nil {
		t.Fatalf("%s: %v", l.name, err)
	}
	return last
}

// authResults is what Authentication-Results in our name say.
type authResults struct {
	fields  int
	results []authResult
}

type authResult struct{ method, value, properties string }

func (r authResult) property(name string) string {
	_, rest, _ := strings.Cut(" "+r.properties, " "+name+"=")
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// all are the values of a method, but of those with that property.
func (a authResults) all(method, without string) string {
	var values []string
	for _, r := range a.results {
		if r.method == method && (without == "" || r.property(without) == "") {
			values = append(values, r.value)
		}
	}
	return strings.Join(values, " ")
}

// words are all of them but iprev, which an MTA finds out itself.
func (a authResults) words() string {
	var words []string
	for _, r := range a.results {
		if r.method != "iprev" {
			words = append(words, r.method+"="+r.value)
		}
	}
	return strings.Join(words, " ")
}

func results(data []byte) (a authResults) {
	head, _, _ := strings.Cut(string(data), "\r\n\r\n")
	for line := range strings.SplitSeq(strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(head), "\r\n") {
		value, ok := strings.CutPrefix(line, "Authentication-Results: mx1.example.com;")
		if !ok {
			continue
		}
		a.fields++
		for part := range strings.SplitSeq(value, ";") {
			word, properties, _ := strings.Cut(strings.TrimSpace(part), " ")
			method, value, _ := strings.Cut(word, "=")
			a.results = append(a.results, authResult{method, value, properties})
		}
	}
	return a
}

const authWait = 60 * time.Second
