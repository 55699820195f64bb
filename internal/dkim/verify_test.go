package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// keys answers with records by name; it counts.
type keys struct {
	mu    sync.Mutex
	texts map[string][]string
	fails map[string]error
	asked []string
}

func (k *keys) LookupTXT(_ context.Context, name string) ([]string, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, name)
	if err := k.fails[name]; err != nil {
		return nil, false, err
	}
	if texts, ok := k.texts[name]; ok {
		return texts, false, nil
	}
	return nil, false, fmt.Errorf("%w: %s", dns.ErrNoName, name)
}

const (
	rsaRecord     = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
	edRecord      = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	rsaRecord8463 = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
	appendixA2    = `DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
`
	rfc8463A3 = `DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`
)

func message(t testing.TB, text string) *mail.Message {
	t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func values(list []Verification) string {
	var all []string
	for _, v := range list {
		all = append(all, v.Value)
	}
	return strings.Join(all, " ")
}

func TestVectors(t *testing.T) {
	r := &keys{texts: map[string][]string{
		"brisbane._domainkey.example.com.":          {rsaRecord},
		"brisbane._domainkey.football.example.com.": {edRecord},
		"test._domainkey.football.example.com.":     {rsaRecord8463},
	}}
	for _, tt := range []struct{ name, in, want string }{
		{"RFC 6376 A.2, and its body", appendixA2, "pass"},
		{"RFC 8463 A.3", rfc8463A3, "pass pass"},
		{"another body", strings.Replace(rfc8463A3, "hungry", "thirsty", 1), "fail fail"},
		{"another subject", strings.Replace(rfc8463A3, "dinner", "lunch", 1), "fail fail"},
		{"blanks, relaxed", strings.Replace(rfc8463A3, "We lost the", "We \t lost  the", 1), "pass pass"},
		{"blanks, simple", strings.Replace(appendixA2, "We lost the", "We  lost the", 1), "fail"},
		{"empty lines at the end", appendixA2 + "\n\n", "pass"},
		{"a field that was not signed", "X-New: 1\n" + rfc8463A3, "pass pass"},
		{"one more From than was signed", "From: a@evil.test\n" + rfc8463A3, "fail fail"}, // over-signed
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, _, err := Verify(t.Context(), message(t, tt.in), r, Limits{}, time.Unix(1600000000, 0))
			if got := values(list); err != nil || got != tt.want {
				t.Errorf("%s, want %s (%+v, %v)", got, tt.want, list, err)
			}
		})
	}
}

// made makes messages that are signed as nobody should.
type made struct {
	keys
	key  crypto.Signer
	kind string
}

func newMade(t testing.TB) *made {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &made{key: key, kind: "ed25519-sha256"}
	public := base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	m.texts = map[string][]string{
		"s._domainkey.good.test.":      {"v=DKIM1; k=ed25519; p=" + public},
		"trial._domainkey.good.test.":  {"v=DKIM1; k=ed25519; t=y; p=" + public},
		"strict._domainkey.good.test.": {"v=DKIM1; k=ed25519; t=s; p=" + public},
		"other._domainkey.good.test.":  {"v=DKIM1; k=ed25519; s=other; p=" + public},
		"sha1._domainkey.good.test.":   {"v=DKIM1; k=ed25519; h=sha1; p=" + public},
		"gone._domainkey.good.test.":   {"v=DKIM1; k=ed25519; p="},
		"two._domainkey.good.test.":    {"v=DKIM1; k=ed25519; p=" + public, "v=DKIM1; k=ed25519; p="},
		"rsa._domainkey.good.test.":    {rsaRecord},
		"junk._domainkey.good.test.":   {"hello"},
		"long._domainkey.good.test.":   {"v=DKIM1; k=ed25519; n=" + strings.Repeat("x", 8000) + "; p=" + public},
		"none._domainkey.good.test.":   {},
	}
	m.fails = map[string]error{
		"down._domainkey.good.test.":  errors.New("SERVFAIL"),
		"slow._domainkey.good.test.":  context.DeadlineExceeded,
		"temp._domainkey.good.test.":  &net.DNSError{Err: "x", IsTemporary: true},
		"gone2._domainkey.good.test.": &net.DNSError{Err: "x", IsNotFound: true},
	}
	return m
}

const letter = "From: a@good.test\nTo: b@example.com\nSubject: Hello\nDate: Fri, 11 Jul 2003 21:00:37 -0700\n"

// sign puts a signature with these tags on top: bh= and b= are added.
func (m *made) sign(t testing.TB, tags, text string) string {
	t.Helper()
	msg := message(t, text)
	parsed, err := ParseTags(tags)
	if err != nil {
		t.Fatal(err)
	}
	head, body, err := ParseCanon(parsed["c"])
	if err != nil {
		t.Fatal(err)
	}
	bh, err := BodyHash(msg.Body(), body)
	if err != nil {
		t.Fatal(err)
	}
	field := "DKIM-Signature: " + tags + "; bh=" + base64.StdEncoding.EncodeToString(bh) + "; b="
	sum := sha256.New()
	for _, f := range Select(msg.Header, parsed.List("h")) {
		sum.Write(head.Field(f.Raw()))
	}
	own := head.Field([]byte(strings.ReplaceAll(field, "\n", "\r\n") + "\r\n"))
	sum.Write(own[:len(own)-2])
	var b []byte
	if k, ok := m.key.(*rsa.PrivateKey); ok {
		b, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum.Sum(nil))
	} else {
		b, err = m.key.Sign(rand.Reader, sum.Sum(nil), crypto.Hash(0))
	}
	if err != nil {
		t.Fatal(err)
	}
	return field + base64.StdEncoding.EncodeToString(b) + "\n" + text
}

func TestVerify(t *testing.T) {
	m := newMade(t)
	now := time.Unix(1_700_000_000, 0)
	text := letter + "\nbody\n"
	const tags = "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=good.test; s=s; h=from:to:subject:date"
	change := func(pairs ...string) string { return m.sign(t, strings.NewReplacer(pairs...).Replace(tags), text) }
	with := func(more string) string { return m.sign(t, tags+"; "+more, text) }
	for _, tt := range []struct{ name, in, want string }{
		{"plain", change(), "pass"},
		{"folded h=", change("from:to", "from :\n to"), "pass"},
		{"simple", change("relaxed/relaxed", "simple/simple"), "pass"},
		{"simple by default", change("c=relaxed/relaxed; ", ""), "pass"},
		{"relaxed header only", change("relaxed/relaxed", "relaxed"), "pass"},
		{"upper-case d=", change("d=good", "d=GOOD"), "pass"},
		{"D-5 a copy of b= elsewhere", with("z=From:x|b=abc"), "pass"},
		{"D-5 a tag that ends in b", with("xb=abc"), "pass"},
		{"D-5 i= in another case", with("i=a@MAIL.Good.Test"), "pass"},
		{"i= of somebody else", with("i=a@evil.test"), "permerror"},
		{"i= that ends alike", with("i=a@notgood.test"), "permerror"},
		{"D-7 t= in the future", with("t=1800000000"), "policy"},
		{"D-7 a clock a little ahead", with("t=1700000600"), "pass"},
		{"D-7 x before t", with("t=1600000000; x=1500000000"), "permerror"},
		{"D2 x= in the past", with("t=1500000000; x=1600000000"), "policy"},
		{"x= in the future", with("t=1600000000; x=1800000000"), "pass"},
		{"x= is no time", with("x=tomorrow"), "permerror"},
		{"D-7 t=s, i= below", m.sign(t, strings.Replace(tags, "s=s;", "s=strict;", 1)+"; i=@mail.good.test", text), "permerror"},
		{"D-7 t=s, i= the same", m.sign(t, strings.Replace(tags, "s=s;", "s=strict;", 1)+"; i=@good.test", text), "pass"},
		{"D-7 t=y", change("s=s;", "s=trial;"), "pass"},
		{"D1 l=", with("l=2"), "policy"},
		{"D2 a second Subject", "Subject: Buy\n" + change(), "policy"},
		{"D-9 a second From", "From: b@evil.test\n" + change(), "policy"},
		{"D2 a second To", "To: c@example.com\n" + change(), "policy"},
		{"D4 NUL in d=", "DKIM-Signature: v=1; a=ed25519-sha256; d=good.test\x00.evil.test; s=s; h=from; bh=AA==; b=AA==\n" + text, "permerror"},
		{"D4 words in d=", "DKIM-Signature: v=1; a=ed25519-sha256; d=good.test(.evil.test); s=s; h=from; bh=AA==; b=AA==\n" + text, "permerror"},
		{"D4 quote in d=", "DKIM-Signature: v=1; a=ed25519-sha256; d=good'.test; s=s; h=from; bh=AA==; b=AA==\n" + text, "permerror"},
		{"D4 blank in s=", "DKIM-Signature: v=1; a=ed25519-sha256; d=good.test; s=a,b; h=from; bh=AA==; b=AA==\n" + text, "permerror"},
		{"the record is not there", change("s=s;", "s=missing;"), "permerror"},
		{"no record of that type", change("s=s;", "s=none;"), "permerror"},
		{"revoked", change("s=s;", "s=gone;"), "permerror"},
		{"two records", change("s=s;", "s=two;"), "permerror"},
		{"key of another kind", change("s=s;", "s=rsa;"), "permerror"},
		{"key for something else", change("s=s;", "s=other;"), "permerror"},
		{"key for SHA-1", change("s=s;", "s=sha1;"), "permerror"},
		{"no record at all", change("s=s;", "s=junk;"), "permerror"},
		{"D-2 a record of 8 kB", change("s=s;", "s=long;"), "permerror"},
		{"D-6 SERVFAIL", change("s=s;", "s=down;"), "temperror"},
		{"D-6 context.DeadlineExceeded", change("s=s;", "s=slow;"), "temperror"},
		{"D-6 temporary", change("s=s;", "s=temp;"), "temperror"},
		{"D-6 not found", change("s=s;", "s=gone2;"), "permerror"},
		{"without From in h=", change("from:to", "to"), "permerror"},
		{"unknown version", change("v=1", "v=2"), "permerror"},
		{"rsa-sha1", change("ed25519-sha256", "rsa-sha1"), "policy"},
		{"unknown algorithm", change("ed25519-sha256", "dsa-sha256"), "permerror"},
		{"a tag twice", "DKIM-Signature: v=1; d=good.test; d=evil.test; b=AA==\n" + text, "permerror"},
		{"not a tag list", "DKIM-Signature: hello\n" + text, "permerror"},
		{"empty", "DKIM-Signature:\n" + text, "permerror"},
		{"body changed", change() + "more\n", "fail"},
		{"unknown q=", with("q=ldap"), "permerror"},
		{"q=dns/txt among others", with("q=ldap:dns/txt"), "pass"},
		{"D-8 no body", m.sign(t, tags, letter+"\n"), "pass"},
		{"D-8 not even an empty line", "DKIM-Signature: x\n" + letter, "permerror"},
		{"none", text, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, _, err := Verify(t.Context(), message(t, tt.in), m, Limits{}, now)
			if got := values(list); err != nil || got != tt.want {
				t.Errorf("%q, want %q (%+v, %v)", got, tt.want, list, err)
			}
		})
	}
}

func TestVerificationTells(t *testing.T) {
	m := newMade(t)
	text := m.sign(t, "v=1; a=ed25519-sha256; d=Good.test; s=trial; h=from:date", letter+"\nx\n")
	list, _, err := Verify(t.Context(), message(t, text), m, Limits{}, time.Now())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	v := list[0]
	if v.Domain != "good.test" || v.Selector != "trial" || v.Algorithm != "ed25519-sha256" || !v.Testing || len(v.Start) != 8 || !slices.Equal(v.Unsigned, []string{"subject", "to"}) {
		t.Errorf("%+v", v)
	}
}

// The bombs of senders who also own the DNS that is asked.
func TestBombs(t *testing.T) {
	m := newMade(t)
	huge := new(strings.Builder) // 262144 bits of modulus
	der := make([]byte, 32<<10)
	der[0] = 0xff
	fmt.Fprintf(huge, "v=DKIM1; k=rsa; p=%s", base64.StdEncoding.EncodeToString(der))
	m.texts["huge._domainkey.good.test."] = []string{huge.String()}
	big, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&big.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	m.texts["rsa1k._domainkey.good.test."] = []string{"v=DKIM1; p=" + base64.StdEncoding.EncodeToString(public)}
	signature := func(selector, names string) string {
		return "DKIM-Signature: v=1; a=rsa-sha256; d=good.test; s=" + selector + "; h=" + names + "; bh=AAAA; b=AAAA\n"
	}
	for _, tt := range []struct {
		name, in string
		limits   Limits
		values   map[string]int
		skipped  int
		asked    int
	}{
		{"D-1 names in h=", signature("s", "from"+strings.Repeat(":x", 20000)) + letter, Limits{}, map[string]int{"policy": 1}, 0, 0},
		{"D-1 fields", m.sign(t, "v=1; a=ed25519-sha256; d=good.test; s=s; h=from"+strings.Repeat(":x", 190), strings.Repeat("X: y\n", 990)+letter+"\nbody\n"), Limits{}, map[string]int{"pass": 1}, 0, 1},
		{"D-1 a header over the limit", signature("s", "from") + strings.Repeat("X: y\n", 200) + letter, Limits{MaxFields: 100}, map[string]int{"policy": 1}, 0, 0},
		{"D-2 a huge key", signature("huge", "from") + letter, Limits{}, map[string]int{"permerror": 1}, 0, 1},
		{"D-3 signatures", strings.Repeat(signature("rsa1k", "from"), 900) + letter, Limits{}, map[string]int{"fail": 10}, 890, 1},
		{"a tag list without end", "DKIM-Signature: " + strings.Repeat("x=y;", 15000) + "\n" + letter, Limits{}, map[string]int{"permerror": 1}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.asked = nil
			in, _ := strings.CutSuffix(tt.in, "\nbody\n")
			text := strings.ReplaceAll(in+"\nbody\n", "\n", "\r\n")
			h, at, err := mail.SplitHeader([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			msg := mail.NewMessage(h, strings.NewReader(text[at:]), int64(len(text)-at))
			list, skipped, err := Verify(t.Context(), msg, m, tt.limits, time.Now())
			got := make(map[string]int)
			for _, v := range list {
				got[v.Value]++
			}
			if err != nil || !maps.Equal(got, tt.values) || skipped != tt.skipped || len(m.asked) != tt.asked {
				t.Errorf("%v, %d skipped, asked %v, %v", got, skipped, m.asked, err)
			}
		})
	}
}

// broken fails in the middle of the body.
type broken struct{}

func (broken) ReadAt(p []byte, at int64) (int, error) {
	if at > 0 {
		return 0, errors.New("disk on fire")
	}
	return len(p), nil
}

// D-4: a body that can't be read is an error, whatever the signatures, and
// nothing is left running: Verify starts nothing that it doesn't wait for.
func TestBodyThatCannotBeRead(t *testing.T) {
	m := newMade(t)
	const tags = "v=1; a=ed25519-sha256; d=good.test; s=s; h=from"
	text := m.sign(t, tags, m.sign(t, tags+"; c=relaxed/relaxed", letter+"\nx\n"))
	msg := message(t, text)
	_, _, err := Verify(t.Context(), mail.NewMessage(msg.Header, broken{}, 1<<20), m, Limits{}, time.Now())
	if err == nil {
		t.Error("no error")
	}
}

// Small keys, and keys of other sizes than were agreed on, don't count.
func TestKeySizes(t *testing.T) {
	for _, tt := range []struct {
		bits   int
		limits Limits
		want   string
	}{
		{1024, Limits{}, "pass"},
		{2048, Limits{}, "pass"},
		{1024, Limits{MinRSABits: 2048}, "policy"},
		{2048, Limits{MaxRSABits: 1536}, "policy"},
	} {
		key, err := rsa.GenerateKey(rand.Reader, tt.bits)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		m := newMade(t)
		m.key = key
		m.texts["k._domainkey.good.test."] = []string{"p=" + base64.StdEncoding.EncodeToString(der)}
		text := m.sign(t, "v=1; a=rsa-sha256; d=good.test; s=k; h=from", letter+"\nx\n")
		list, _, err := Verify(t.Context(), message(t, text), m, tt.limits, time.Now())
		if got := values(list); err != nil || got != tt.want {
			t.Errorf("%d bits, %+v: %q, want %q (%+v, %v)", tt.bits, tt.limits, got, tt.want, list, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; d=good.test; s=s; h=from; bh=AAAA; b=AAAA")
	f.Add("v=1; a=ed25519-sha256; d=good.test; s=s; h=from:to; c=relaxed/simple; l=1; t=1; x=2; i=@good.test; bh=AAAA; b=AAAA")
	m := newMade(f)
	f.Fuzz(func(t *testing.T, value string) {
		text := "DKIM-Signature: " + value + "\r\nFrom: a@good.test\r\n\r\nx\r\n"
		msg, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		list, _, err := Verify(t.Context(), msg, &keys{texts: m.texts}, Limits{}, time.Unix(1_700_000_000, 0))
		if err != nil || len(list) > 0 && list[0].Value == mail.AuthPass {
			t.Errorf("%q: %+v, %v", value, list, err)
		}
	})
}
