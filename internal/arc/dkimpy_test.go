package arc

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/dkim"
	"gatepost/internal/testkit"
)

// Chains of up to three sealers, each of them us or python3-dkim: both say the
// same of every one, and of what was done to it.
func TestChainsWithDKIMPy(t *testing.T) {
	py := testkit.NewDKIMPy(t)
	z := &zone{}
	keys := make([]*dkim.Key, 3)
	pems := make([]string, 3)
	for i := range keys {
		keys[i] = z.newKey(t, fmt.Sprintf("hop%d.test", i+1), dkim.RSA)
		text, err := dkim.EncodeKey(keys[i].Private)
		if err != nil {
			t.Fatal(err)
		}
		pems[i] = string(text)
	}
	theirs := func(text string, i int) string {
		host := "mx." + keys[i].Domain
		r := Verify(t.Context(), message(t, text), z, Limits{})
		results := "Authentication-Results: " + host + "; spf=pass smtp.mailfrom=example.com"
		if r.Value != None {
			results += "; arc=" + string(r.Value)
		}
		sealed, err := py.Seal([]byte(results+"\r\n"+text), keys[i].Domain, keys[i].Selector, pems[i], host)
		if err != nil {
			t.Fatal(err)
		}
		return string(sealed)
	}
	for sealers := range 8 { // a bit for each hop
		text, name := letter, ""
		for i := range 3 {
			if sealers>>i&1 == 0 {
				text, name = seal(t, text, keys[i], z), name+" ours"
			} else {
				text, name = theirs(text, i), name+" theirs"
			}
			check(t, py, z, fmt.Sprintf("%s (%d)", name, i+1), text, Pass)
		}
		check(t, py, z, name+", body changed", text+"x\r\n", Fail)
		check(t, py, z, name+", first results changed", strings.Replace(text, "i=1; mx.hop1.test; spf=pass", "i=1; mx.hop1.test; spf=fail", 1), Fail)
	}
}

func check(t *testing.T, py *testkit.DKIMPy, z *zone, name, text string, want Value) {
	t.Helper()
	if r := Verify(t.Context(), message(t, text), z, Limits{}); r.Value != want {
		t.Errorf("%s: we say %s (%s)\n%s", name, r.Value, r.Why, text)
	}
	got, err := py.VerifyARC([]byte(text), z.texts)
	if err != nil || got != string(want) {
		t.Errorf("%s: they say %q, %v\n%s", name, got, err, text)
	}
}
