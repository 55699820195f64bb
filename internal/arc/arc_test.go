package arc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dkim"
	"gatepost/internal/dns"
	"gatepost/internal/mail"
)

// zone is a resolver of some TXT records; the names in away are not answered.
type zone struct {
	texts map[string]string
	away  string
	asked []string
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, bool, error) {
	z.asked = append(z.asked, name)
	text, ok := z.texts[name]
	switch {
	case z.away != "" && strings.HasSuffix(name, z.away):
		return nil, false, errors.New("no answer")
	case !ok:
		return nil, false, dns.ErrNoName
	}
	return []string{text}, false, nil
}

// newKey makes a key and publishes it.
func (z *zone) newKey(t *testing.T, domain string, kind dkim.KeyType) *dkim.Key {
	t.Helper()
	private, err := dkim.Generate(kind, 1024)
	if err != nil {
		t.Fatal(err)
	}
	k := &dkim.Key{Domain: domain, Selector: "s", Private: private}
	if z.texts == nil {
		z.texts = make(map[string]string)
	}
	if z.texts[k.Name()], err = k.Record(); err != nil {
		t.Fatal(err)
	}
	return k
}

const letter = "From: Alice <alice@example.com>\r\nTo: list@example.org\r\nSubject: Plans\r\nDate: Tue, 1 Jan 2030 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nHello,\r\nall of you.\r\n"

func message(t *testing.T, text string) *mail.Message {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// seal puts one more set on a message, as a gateway does: what the chain is it
// finds out itself.
func seal(t *testing.T, text string, key *dkim.Key, z *zone) string {
	t.Helper()
	return sealAs(t, text, key, Verify(t.Context(), message(t, text), z, Limits{}).Value)
}

// sealAs is seal by somebody who knows what the chain is.
func sealAs(t *testing.T, text string, key *dkim.Key, incoming Value) string {
	t.Helper()
	m := message(t, text)
	hash, err := dkim.BodyHash(m.Body(), dkim.Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := Sealing{
		Key: key, Fields: dkim.Fields{Over: []string{"Subject", "Date"}, Present: []string{"To", "DKIM-Signature"}}, BodyHash: hash, At: time.Now(),
		Incoming: incoming, Results: fmt.Sprintf("mx.%s; spf=pass smtp.mailfrom=example.com; arc=%s", key.Domain, incoming),
	}.Seal(m.Header)
	if err != nil {
		t.Fatalf("%v (%s)", err, incoming)
	}
	var b strings.Builder
	for _, f := range fields {
		b.Write(f.Raw())
	}
	return b.String() + text
}

func TestChain(t *testing.T) {
	z := &zone{}
	text := letter
	if r := Verify(t.Context(), message(t, text), z, Limits{}); r.Value != None {
		t.Fatalf("without a chain: %+v", r)
	}
	for i, domain := range []string{"one.test", "two.test", "three.test"} {
		kind := dkim.RSA
		if i == 1 {
			kind = dkim.Ed25519
		}
		text = seal(t, text, z.newKey(t, domain, kind), z)
		r := Verify(t.Context(), message(t, text), z, Limits{})
		if r.Value != Pass || len(r.Sets) != i+1 || r.Sealer() != domain || r.OldestPass != 0 {
			t.Fatalf("after %s: %+v\n%s", domain, r, text)
		}
		if !strings.HasPrefix(r.Sets[i].Results, "mx."+domain+"; spf=pass") {
			t.Errorf("results of %s: %q", domain, r.Sets[i].Results)
		}
	}
}

// Who changes the message and seals it breaks the older signatures of it, not
// the chain.
func TestOldestPass(t *testing.T) {
	z := &zone{}
	text := seal(t, letter, z.newKey(t, "one.test", dkim.RSA), z)
	key := z.newKey(t, "two.test", dkim.RSA)
	r := Verify(t.Context(), message(t, text), z, Limits{})
	m := message(t, strings.Replace(text, "Subject: Plans", "Subject: [list] Plans", 1)+"-- \r\nfooter\r\n")
	hash, err := dkim.BodyHash(m.Body(), dkim.Relaxed)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := Sealing{Key: key, BodyHash: hash, At: time.Now(), Incoming: r.Value, Results: "mx.two.test; arc=pass"}.Seal(m.Header)
	if err != nil {
		t.Fatal(err)
	}
	m.Header = slices.Concat(fields, m.Header)
	if r := Verify(t.Context(), m, z, Limits{}); r.Value != Pass || r.OldestPass != 2 {
		t.Errorf("%+v", r)
	}
}

// D10: whatever is done to a chain, it does not pass.
func TestBrokenChains(t *testing.T) {
	z := &zone{}
	good := seal(t, seal(t, letter, z.newKey(t, "one.test", dkim.RSA), z), z.newKey(t, "two.test", dkim.RSA), z)
	set := func(n int) string { // of three fields
		m := message(t, good)
		var b strings.Builder
		for _, f := range m.Header[(2-n)*3 : (2-n)*3+3] {
			b.Write(f.Raw())
		}
		return b.String()
	}
	field := func(n int, name string) string {
		for _, f := range message(t, set(n)+"\r\n").Header {
			if f.Is(name) {
				return string(f.Raw())
			}
		}
		t.Fatalf("no %s", name)
		return ""
	}
	less := func(part string) string { return strings.Replace(good, part, "", 1) }
	swap := func(part, old, new string) string {
		changed := strings.Replace(part, old, new, 1)
		if changed == part {
			t.Fatalf("no %q in %s", old, part)
		}
		return strings.Replace(good, part, changed, 1)
	}
	for _, tt := range []struct{ name, text string }{
		{"body changed", good + "more\r\n"},
		{"subject changed", strings.Replace(good, "Plans", "Money", 1)},
		{"a second From", "From: evil@example.org\r\n" + good},
		{"no AAR of the newest", less(field(2, fieldResults))},
		{"no AMS of the newest", less(field(2, fieldSignature))},
		{"no AS of the newest", less(field(2, fieldSeal))},
		{"no AS of the first", less(field(1, fieldSeal))},
		{"no AAR of the first", less(field(1, fieldResults))},
		{"the first set gone", less(set(1))},
		{"a field twice", field(1, fieldSeal) + good},
		{"a set twice", set(2) + good},
		{"a copy with another case", strings.Replace(field(2, fieldResults), "ARC-", "arc-", 1) + good},
		{"a copy with blanks before the colon", strings.Replace(field(2, fieldResults), "Results:", "Results :", 1) + good},
		{"results changed", swap(field(1, fieldResults), "spf=pass", "spf=pass ; dkim=pass")},
		{"newest results changed", swap(field(2, fieldResults), "spf=pass", "dmarc=pass")},
		{"i=51", swap(field(2, fieldSeal), "i=2", "i=51")},
		{"i=0", swap(field(2, fieldSeal), "i=2", "i=0")},
		{"i=02", swap(field(2, fieldSeal), "i=2", "i=02")},
		{"i=-1", swap(field(2, fieldResults), "i=2", "i=-1")},
		{"no i=", swap(field(2, fieldResults), "i=2;", "")},
		{"i= not first in results", swap(field(2, fieldResults), "i=2;", "mx.two.test; i=2;")},
		{"cv=pass on the first", swap(field(1, fieldSeal), "cv=none", "cv=pass")},
		{"cv=none on the second", swap(field(2, fieldSeal), "cv=pass", "cv=none")},
		{"cv=fail on the second", swap(field(2, fieldSeal), "cv=pass", "cv=fail")},
		{"cv of nothing", swap(field(2, fieldSeal), "cv=pass;", "")},
		{"h= in a seal", swap(field(2, fieldSeal), "cv=pass;", "cv=pass; h=from;")},
		{"another domain", swap(field(2, fieldSeal), "d=two.test", "d=one.test")},
		{"a domain with NUL", swap(field(2, fieldSeal), "d=two.test", "d=two.test\x00.evil.test")},
		{"a domain with a blank", swap(field(2, fieldSeal), "d=two.test", "d=two.test evil")},
		{"no selector", swap(field(2, fieldSeal), "s=s", "s=")},
		{"rsa-sha1", swap(field(2, fieldSeal), "rsa-sha256", "rsa-sha1")},
		{"another algorithm than the key", swap(field(2, fieldSeal), "rsa-sha256", "ed25519-sha256")},
		{"l= in a signature (D1)", swap(field(2, fieldSignature), "c=relaxed/relaxed", "c=relaxed/relaxed; l=5")},
		{"x= in the past", swap(field(2, fieldSignature), "c=relaxed/relaxed", "c=relaxed/relaxed; x=5")},
		{"h= without From", swap(field(2, fieldSignature), "h=from:from", "h=to:to")},
		{"h= with the seal", swap(field(2, fieldSignature), "h=from:from", "h=from:arc-seal")},
		{"h= with 300 names", swap(field(2, fieldSignature), "h=from:from", "h="+strings.Repeat("a:", 300)+"from:from")},
		{"c= unknown", swap(field(2, fieldSignature), "relaxed/relaxed", "nofws/relaxed")},
		{"a tag twice", swap(field(2, fieldSignature), "c=relaxed/relaxed", "c=relaxed/relaxed; c=simple/simple")},
		{"rubbish", "ARC-Seal: x\r\n" + good},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Verify(t.Context(), message(t, tt.text), z, Limits{})
			if r.Value != Fail || r.Why == "" {
				t.Errorf("%+v\n%s", r, tt.text)
			}
		})
	}
	if r := Verify(t.Context(), message(t, good), z, Limits{}); r.Value != Pass {
		t.Errorf("the good one: %+v", r)
	}
}

// D8: what the DNS does not answer is not known, and no key is a failure.
func TestKeysOfChains(t *testing.T) {
	z := &zone{}
	good := seal(t, seal(t, letter, z.newKey(t, "one.test", dkim.RSA), z), z.newKey(t, "two.test", dkim.RSA), z)
	long := &zone{}
	long.newKey(t, "one.test", dkim.RSA)
	tests := []struct {
		name string
		edit func(*zone)
		want Value
	}{
		{"all there", func(*zone) {}, Pass},
		{"newest not answered", func(z *zone) { z.away = "two.test" }, TempError},
		{"oldest not answered", func(z *zone) { z.away = "one.test" }, TempError},
		{"newest gone", func(z *zone) { delete(z.texts, "s._domainkey.two.test") }, Fail},
		{"oldest gone", func(z *zone) { delete(z.texts, "s._domainkey.one.test") }, Fail},
		{"revoked", func(z *zone) { z.texts["s._domainkey.one.test"] = "v=DKIM1; p=" }, Fail},
		{"another key", func(z *zone) { z.texts["s._domainkey.one.test"] = long.texts["s._domainkey.one.test"] }, Fail},
		{"a key of 300 kB (D-2)", func(z *zone) { z.texts["s._domainkey.two.test"] = "p=" + strings.Repeat("A", 300<<10) }, Fail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := &zone{texts: make(map[string]string)}
			for k, v := range z.texts {
				other.texts[k] = v
			}
			tt.edit(other)
			if r := Verify(t.Context(), message(t, good), other, Limits{}); r.Value != tt.want {
				t.Errorf("%+v, want %s", r, tt.want)
			}
		})
	}
	r := Verify(t.Context(), message(t, good), z, Limits{MinRSABits: 2048})
	if r.Value != Fail || !strings.Contains(r.Why, "1024 bits") {
		t.Errorf("short keys: %+v", r)
	}
	z.asked = nil
	Verify(t.Context(), message(t, good), z, Limits{})
	if len(z.asked) != 2 {
		t.Errorf("asked %d times: %v", len(z.asked), z.asked)
	}
}

// A chain of 50 is the longest; nobody adds to it.
func TestLongestChain(t *testing.T) {
	z := &zone{}
	key := z.newKey(t, "one.test", dkim.RSA)
	text := sealAs(t, letter, key, None)
	for range MaxInstance - 1 {
		text = sealAs(t, text, key, Pass)
	}
	m := message(t, text)
	if r := Verify(t.Context(), m, z, Limits{}); r.Value != Pass || len(r.Sets) != MaxInstance {
		t.Fatalf("%s %s, %d sets", r.Value, r.Why, len(r.Sets))
	}
	_, err := Sealing{Key: key, BodyHash: make([]byte, 32), Incoming: Pass}.Seal(m.Header)
	if !errors.Is(err, ErrFull) {
		t.Errorf("the 51st: %v", err)
	}
	if r := Verify(t.Context(), m, z, Limits{MaxSets: 10}); r.Value != Fail {
		t.Errorf("with a limit of 10: %s", r.Value)
	}
}

// Nobody vouches for a chain that does not hold, or that he did not look at.
func TestSealingNeedsAGoodChain(t *testing.T) {
	z := &zone{}
	key := z.newKey(t, "one.test", dkim.RSA)
	sealed := seal(t, letter, key, z)
	for _, tt := range []struct {
		name, text string
		incoming   Value
	}{
		{"failed", sealed, Fail},
		{"not known", sealed, TempError},
		{"none said where there is one", sealed, None},
		{"pass said where there is none", letter, Pass},
		{"half a set", "ARC-Seal: i=2; cv=pass\r\n" + sealed, Pass},
	} {
		if _, err := (Sealing{Key: key, BodyHash: make([]byte, 32), Incoming: tt.incoming}).Seal(message(t, tt.text).Header); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(letter)
	f.Add("ARC-Seal: i=1; cv=none; a=rsa-sha256; d=a.test; s=s; b=AAAA\r\nARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=s; h=from; bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i=1; a.test; spf=pass\r\n" + letter)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := mail.ReadMessage(strings.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		if r := Verify(t.Context(), m, &zone{}, Limits{}); r.Value == Pass || r.Value == TempError {
			t.Errorf("without keys: %+v", r)
		}
	})
}
