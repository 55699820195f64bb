package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
)

// newTLSConfig is what all connections to a host have in common.
func newTLSConfig(s settings) *tls.Config {
	c := &tls.Config{
		// The policy decides what is verified, not the library.
		InsecureSkipVerify: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
	if s.cert != nil {
		// Shown whatever issuers the server names: it takes it or leaves it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.cert, nil }
	}
	return c
}

// tlsConfig is how the host is met on this connection. Where nobody could tell a
// certificate from a forged one, the oldest version still hides more than clear
// text would.
func (c *conn) tlsConfig() *tls.Config {
	names := strings.Fields(c.security.names)
	t := c.host.tlsConfig.Clone()
	t.ServerName = names[0]
	t.MinVersion = tls.VersionTLS12
	if c.security.tls == TLSOpportunistic {
		t.MinVersion = tls.VersionTLS10
	}
	// Called for resumed sessions, too, with the certificates of the first.
	t.VerifyConnection = func(state tls.ConnectionState) error {
		if err := c.verify(state.PeerCertificates, names); err != nil {
			return wrongCertificate{err}
		}
		return nil
	}
	return t
}

// verify checks what the policy wants of the certificates.
func (c *conn) verify(chain []*x509.Certificate, names []string) error {
	switch c.security.tls {
	case TLSVerify:
		roots := c.host.roots
		if roots == nil {
			roots = c.host.rootCAs
		}
		return verifyChain(roots, chain, names)
	case TLSSTS:
		return verifyChain(c.host.rootCAs, chain, names)
	case TLSDANE:
		if c.security.tlsa != "" {
			return verifyDANE(unpackTLSA(c.security.tlsa), chain, names)
		}
	}
	return nil
}

// wrongCertificate is a certificate that the policy does not want.
type wrongCertificate struct{ error }

// because tells whose wish it is that failed, and what can be done about a
// certificate.
func (c *conn) because(err error) string {
	name, _, _ := strings.Cut(c.security.names, " ")
	who, wish := "", ""
	switch c.security.tls {
	case TLSVerify:
		who, wish = `the route's tls = "verify"`, "wants a certificate for "+name+" from an issuer we know: see ca_file"
	case TLSSTS:
		who, wish = "the MTA-STS policy of "+c.domain, "wants a valid certificate for "+name
	case TLSDANE:
		who, wish = "the TLSA records of _"+c.host.port+"._tcp."+name, "want their certificate: it was changed without them, or somebody is in between"
	default:
		return ""
	}
	if !errors.As(err, new(wrongCertificate)) {
		wish = "can't be met without TLS"
	}
	return " (" + who + " " + wish + ")"
}

// report logs what MTA-STS in testing would have refused.
func (h hop) report(ctx context.Context, c *conn) {
	why := "no TLS"
	if tc, ok := c.conn.(*tls.Conn); ok {
		err := verifyChain(h.rootCAs, tc.ConnectionState().PeerCertificates, []string{h.name})
		if err == nil {
			return
		}
		why = err.Error()
	}
	h.sts.log.WarnContext(ctx, "MTA-STS in testing: the host would be refused", "domain", h.domain, "host", h.name, "reason", why)
}

// level is how loud the log is to be about a failure.
func (f *failure) level() slog.Level {
	if f.loud {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// stsSource is where the policies come from, nil without DNS.
func (c Config) stsSource() stsSource {
	if c.Resolver == nil {
		return nil
	}
	return newSTSClient(c.Resolver, c.RootCAs, c.STSPort)
}
