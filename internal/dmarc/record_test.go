package dmarc

import "testing"

func TestParseRecord(t *testing.T) {
	base := Record{Policy: None, PSD: "u"}
	with := func(change func(*Record)) *Record {
		r := base
		change(&r)
		return &r
	}
	reject := with(func(r *Record) { r.Policy = Reject })
	for _, tt := range []struct {
		name, text string
		want       *Record // nil: no record
	}{
		{"plain", "v=DMARC1; p=reject", reject},
		{"everything", "v=DMARC1;p=none;sp=quarantine;np=reject;adkim=s;aspf=s;t=y;psd=y;rua=mailto:a@b.test", &Record{
			Policy: None, Subdomains: Quarantine, Missing: Reject, StrictDKIM: true, StrictSPF: true, Testing: true, PSD: "y"}},
		{"blanks", " v = DMARC1 ;\tp = reject ; ", reject},
		{"version in another case", "v=dmarc1; p=reject", nil},
		{"version not first", "p=reject; v=DMARC1", nil},
		{"another version", "v=DMARC2; p=reject", nil},
		{"longer version", "v=DMARC10; p=reject", nil},
		{"something else", "v=spf1 -all", nil},
		{"empty", "", nil},
		{"version only", "v=DMARC1", &base},
		{"no end in sight", "v=DMARC1; p=reject; rua=" + string(make([]byte, maxRecord)), nil},
		// What the library makes an error of, and with it "no policy".
		{"R-3 p=Reject", "v=DMARC1; p=Reject", reject},
		{"R-3 P=", "v=DMARC1; P=reject", reject},
		{"R-3 rf=iodef", "v=DMARC1; p=reject; rf=iodef", reject},
		{"R-3 ri=0", "v=DMARC1; p=reject; ri=0", reject},
		{"R-3 adkim=x", "v=DMARC1; p=reject; adkim=x", reject},
		{"R-3 bad pct", "v=DMARC1; p=reject; pct=x", reject},
		{"R-3 pct=0", "v=DMARC1; p=reject; pct=0", reject}, // RFC 9989 knows no pct
		{"R-3 trailing junk", "v=DMARC1; p=reject; hello world", reject},
		{"R-3 missing p with rua", "v=DMARC1; rua=mailto:a@b.test", &base},
		{"unknown p", "v=DMARC1; p=refuse", &base},
		{"unknown sp leaves p", "v=DMARC1; p=reject; sp=refuse", reject},
		{"twice", "v=DMARC1; p=reject; p=none", reject},
		{"unknown tag", "v=DMARC1; x-y=z; p=reject", reject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := ParseRecord(tt.text)
			if ok != (tt.want != nil) || ok && got != *tt.want {
				t.Errorf("got %+v, %v; want %+v", got, ok, tt.want)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; np=quarantine; adkim=s; t=y; psd=n")
	f.Add("v=DMARC1;;;=;p=")
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := ParseRecord(text); ok && r.Policy.weight() == 0 {
			t.Errorf("%q: policy %q", text, r.Policy)
		}
	})
}
