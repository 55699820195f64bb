package forward

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/dns"
)

// What TLSA records can say (RFC 6698 2.1, RFC 7671).
const (
	usageTA = 2 // an issuer of the certificate
	usageEE = 3 // the certificate itself, whatever it says

	selectCertificate = 0
	selectKey         = 1

	matchWhole  = 0
	matchSHA256 = 1
	matchSHA512 = 2
)

// maxTLSA is how many records are looked at; nobody has more than a handful.
const maxTLSA = 32

// usableTLSA picks the records that can vouch for an SMTP server. The usages of
// the web, 0 and 1, can't (RFC 7672 3.1.3). Of two digests of the same kind only
// the stronger counts (RFC 7671 9).
func usableTLSA(records []dns.TLSA) []dns.TLSA {
	usable := slices.DeleteFunc(slices.Clone(records), func(r dns.TLSA) bool {
		return r.Usage != usageTA && r.Usage != usageEE || r.Selector > selectKey || !wellFormed(r)
	})
	usable = usable[:min(len(usable), maxTLSA)]
	return slices.DeleteFunc(slices.Clone(usable), func(r dns.TLSA) bool {
		return r.Matching == matchSHA256 && slices.ContainsFunc(usable, func(s dns.TLSA) bool {
			return s.Usage == r.Usage && s.Selector == r.Selector && s.Matching == matchSHA512
		})
	})
}

func wellFormed(r dns.TLSA) bool {
	switch r.Matching {
	case matchSHA256:
		return len(r.Data) == sha256.Size
	case matchSHA512:
		return len(r.Data) == sha512.Size
	case matchWhole:
		if r.Selector == selectKey {
			_, err := x509.ParsePKIXPublicKey(r.Data)
			return err == nil
		}
		_, err := x509.ParseCertificate(r.Data)
		return err == nil
	}
	return false
}

// matchesTLSA reports whether a record speaks of a certificate.
func matchesTLSA(r dns.TLSA, cert *x509.Certificate) bool {
	what := cert.Raw
	if r.Selector == selectKey {
		what = cert.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case matchSHA256:
		sum := sha256.Sum256(what)
		what = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(what)
		what = sum[:]
	}
	return string(what) == string(r.Data)
}

// verifyDANE checks a chain as the server sent it. For the server's own
// certificate nothing but the record counts, neither name nor date
// (RFC 7672 3.1.1). For one of an issuer the chain must lead there and the name
// must be one of the names (RFC 7672 3.2.2).
func verifyDANE(records []dns.TLSA, chain []*x509.Certificate, names []string) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	roots := x509.NewCertPool()
	issuers := 0
	for _, r := range records {
		if r.Usage == usageEE {
			if matchesTLSA(r, chain[0]) {
				return nil
			}
			continue
		}
		for _, cert := range chain[1:] {
			if matchesTLSA(r, cert) {
				roots.AddCert(cert)
				issuers++
			}
		}
		// The issuer's certificate in full need not be sent.
		if r.Selector == selectCertificate && r.Matching == matchWhole {
			if cert, err := x509.ParseCertificate(r.Data); err == nil {
				roots.AddCert(cert)
				issuers++
			}
		}
	}
	if issuers == 0 {
		return errors.New("the certificate fits none of the TLSA records")
	}
	return verifyChain(roots, chain, names)
}

// verifyChain checks that a chain leads to one of the roots, nil for the
// system's, and that its certificate is for one of the names.
func verifyChain(roots *x509.CertPool, chain []*x509.Certificate, names []string) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return err
	}
	wrong := errors.New("no name to compare with")
	for _, name := range names {
		if wrong = chain[0].VerifyHostname(name); wrong == nil {
			return nil
		}
	}
	return wrong
}

// tlsaOf finds the TLSA records of the first name that has some, as far as
// DNSSEC vouches for them; base is "" where there are none. A failed question is not an answer: what it hides
// may be the record that an attacker wants out of the way (RFC 7672 2.1.2).
func tlsaOf(ctx context.Context, r Resolver, port uint16, names ...string) (base string, records []dns.TLSA, err error) {
	for _, name := range names {
		records, authentic, err := r.LookupTLSA(ctx, port, name)
		switch {
		case errors.Is(err, dns.ErrNoName):
		case err != nil:
			return "", nil, err
		case authentic && len(records) > 0:
			return name, records, nil
		}
	}
	return "", nil, nil
}

// packTLSA makes records comparable; unpackTLSA takes them back.
func packTLSA(records []dns.TLSA) string {
	lines := make([]string, len(records))
	for i, r := range records {
		lines[i] = fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data)
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

func unpackTLSA(text string) []dns.TLSA {
	var records []dns.TLSA
	for line := range strings.SplitSeq(text, "\n") {
		var r dns.TLSA
		if n, err := fmt.Sscanf(line, "%d %d %d %x", &r.Usage, &r.Selector, &r.Matching, &r.Data); err == nil && n == 4 {
			records = append(records, r)
		}
	}
	return records
}

// portNumber of an endpoint.
func (e endpoint) portNumber() uint16 {
	n, _ := strconv.ParseUint(e.port, 10, 16) // checked by parseEndpoint
	return uint16(n)
}
