package forward

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
)

// TestVerifyDANE: usages, selectors, matching types, and what does not count.
func TestVerifyDANE(t *testing.T) {
	root := newIssuer(t, "root")
	between := root.issuer("between")
	other := newIssuer(t, "other")
	good := between.server(valid(), "mx.example.com")
	late := between.server(time.Now().Add(-time.Minute), "mx.example.com")
	wrong := between.server(valid(), "elsewhere.example")
	wild := between.server(valid(), "*.example.com")
	domain := between.server(valid(), "example.com")
	self := (&issuer{t: t}).server(time.Now().Add(-time.Minute), "nobody.example")
	chain := func(leaf []byte, more ...*x509.Certificate) []*x509.Certificate {
		c, err := x509.ParseCertificate(leaf)
		if err != nil {
			t.Fatal(err)
		}
		return append([]*x509.Certificate{c}, more...)
	}
	names := []string{"mx.example.com", "example.com"}
	tests := []struct {
		name    string
		chain   []*x509.Certificate
		records []dns.TLSA
		want    string // "" fits, else part of the error
	}{
		{"3 0 0", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 0, 0, good.Leaf)}, ""},
		{"3 0 1", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 0, 1, good.Leaf)}, ""},
		{"3 0 2", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 0, 2, good.Leaf)}, ""},
		{"3 1 0", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 1, 0, good.Leaf)}, ""},
		{"3 1 1", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 1, 1, good.Leaf)}, ""},
		{"3 1 2", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 1, 2, good.Leaf)}, ""},
		{"3 1 1, self-signed, expired, wrong name", chain(self.Certificate[0]), []dns.TLSA{tlsa(3, 1, 1, self.Leaf)}, ""},
		{"3 1 1 of another", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 1, 1, wrong.Leaf)}, "fits none"},
		{"3 1 1 of the issuer", chain(good.Certificate[0], between.cert), []dns.TLSA{tlsa(3, 1, 1, between.cert)}, "fits none"},
		{"one of two", chain(good.Certificate[0]), []dns.TLSA{tlsa(3, 1, 1, wrong.Leaf), tlsa(3, 1, 1, good.Leaf)}, ""},
		{"2 0 1 of the issuer", chain(good.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 0, 1, between.cert)}, ""},
		{"2 1 1 of the root", chain(good.Certificate[0], between.cert, root.cert), []dns.TLSA{tlsa(2, 1, 1, root.cert)}, ""},
		{"2 1 1, root not sent", chain(good.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, root.cert)}, "fits none"},
		{"2 0 0, root not sent", chain(good.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 0, 0, root.cert)}, ""},
		{"2 1 1 of the certificate itself", chain(good.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, good.Leaf)}, "fits none"},
		{"2 1 1, issuer did not sign", chain(self.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, between.cert)}, "x509"},
		{"2 1 1, other root", chain(good.Certificate[0], between.cert, other.cert), []dns.TLSA{tlsa(2, 1, 1, other.cert)}, "unknown authority"},
		{"2 1 1, expired", chain(late.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, between.cert)}, "expired"},
		{"2 1 1, wrong name", chain(wrong.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, between.cert)}, "is valid for elsewhere.example"},
		{"2 1 1, wildcard", chain(wild.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, between.cert)}, ""},
		{"2 1 1, the mail domain's name", chain(domain.Certificate[0], between.cert), []dns.TLSA{tlsa(2, 1, 1, between.cert)}, ""},
		{"no certificate", nil, []dns.TLSA{tlsa(3, 1, 1, good.Leaf)}, "no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			records := unpackTLSA(packTLSA(usableTLSA(tt.records)))
			if len(records) != len(tt.records) {
				t.Fatalf("%d of %d records are usable", len(records), len(tt.records))
			}
			err := verifyDANE(records, tt.chain, names)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestUsableTLSA: what can't vouch for a mail server (RFC 7672 3.1, 2.2).
func TestUsableTLSA(t *testing.T) {
	cert := newIssuer(t, "root").cert
	good := tlsa(3, 1, 1, cert)
	tests := []struct {
		name    string
		records []dns.TLSA
		want    int
	}{
		{"good", []dns.TLSA{good}, 1},
		{"PKIX-TA, PKIX-EE", []dns.TLSA{tlsa(0, 1, 1, cert), tlsa(1, 1, 1, cert)}, 0},
		{"unknown usage", []dns.TLSA{tlsa(4, 1, 1, cert)}, 0},
		{"unknown selector", []dns.TLSA{{Usage: 3, Selector: 2, Matching: 1, Data: good.Data}}, 0},
		{"unknown matching type", []dns.TLSA{{Usage: 3, Selector: 1, Matching: 3, Data: good.Data}}, 0},
		{"digest cut short", []dns.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: good.Data[:31]}}, 0},
		{"no certificate", []dns.TLSA{{Usage: 2, Matching: 0, Data: []byte("what")}}, 0},
		{"no key", []dns.TLSA{{Usage: 3, Selector: 1, Data: []byte("what")}}, 0},
		{"empty", []dns.TLSA{{Usage: 3, Selector: 1, Matching: 1}}, 0},
		{"the stronger digest", []dns.TLSA{tlsa(3, 1, 1, cert), tlsa(3, 1, 2, cert)}, 1},
		{"digests of different things", []dns.TLSA{tlsa(3, 1, 1, cert), tlsa(3, 0, 2, cert), tlsa(2, 1, 2, cert)}, 3},
	}
	for _, tt := range tests {
		if got := usableTLSA(tt.records); len(got) != tt.want {
			t.Errorf("%s: %d usable, want %d", tt.name, len(got), tt.want)
		}
	}
	many := make([]dns.TLSA, 1000)
	for i := range many {
		many[i] = good
	}
	if n := len(usableTLSA(many)); n > maxTLSA {
		t.Errorf("%d of 1000 records are looked at", n)
	}
}
