package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"gatepost/internal/mail"
)

// clientCerts are the certificates of clients that a listener knows. The zero
// value asks for none.
type clientCerts struct {
	issuers *x509.CertPool // nil: none is believed
	relay   []string       // as in client_cert_relay
}

func newClientCerts(cfg Config) (c clientCerts, err error) {
	c.relay = cfg.ClientCertRelay
	if cfg.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(cfg.ClientCA)
	if err != nil {
		return c, fmt.Errorf("client_ca: %w", err)
	}
	c.issuers = x509.NewCertPool()
	if !c.issuers.AppendCertsFromPEM(pem) {
		return c, fmt.Errorf("client_ca: %s holds no certificate in PEM", cfg.ClientCA)
	}
	return c, nil
}

// ask makes the handshake ask for a certificate. Whatever comes, the handshake
// goes on: many a mail server shows one that means nothing to us.
func (c clientCerts) ask(cfg *tls.Config) {
	if c.issuers == nil && len(c.relay) == 0 {
		return
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequestClientCert, c.issuers
}

// judge notes what a client has shown. Also in a session that was resumed it is
// looked at anew: it may have expired.
func (c clientCerts) judge(facts *mail.TLS, shown []*x509.Certificate) {
	if len(shown) == 0 {
		return
	}
	leaf := shown[0]
	facts.Subject = mail.CleanText(leaf.Subject.String())
	if c.issuers != nil {
		between := x509.NewCertPool()
		for _, cert := range shown[1:] {
			between.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: c.issuers, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		facts.Verified = err == nil
	}
	sum := sha256.Sum256(leaf.Raw)
	for _, entry := range c.relay {
		if print, ok := fingerprint(entry); ok {
			facts.Relay = facts.Relay || print == sum
			continue
		}
		cn, isCN := strings.CutPrefix(entry, "CN=")
		named := entry == leaf.Subject.String() || isCN && strings.EqualFold(cn, leaf.Subject.CommonName)
		facts.Relay = facts.Relay || facts.Verified && named
	}
}

// fingerprint reads sha256:HEX, with or without colons.
func fingerprint(entry string) (sum [sha256.Size]byte, ok bool) {
	text, ok := strings.CutPrefix(entry, "sha256:")
	if !ok {
		return sum, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(b), true
}

// checkAccess checks the keys about who may do what.
func (c Config) checkAccess(bad func(format string, args ...any)) {
	secure := c.Certificate != "" && c.Key != ""
	if (c.Role == Submission || c.Role == Submissions) && !secure {
		bad("role %q needs TLS; set tls_cert and tls_key", string(c.Role))
	}
	if c.Role == Submission && len(c.Auth) == 0 {
		bad(`role "submission" needs users who log in; set auth`)
	}
	if len(c.Auth) > 0 && !secure {
		bad("auth: passwords are taken over TLS only; set tls_cert and tls_key")
	}
	if err := c.SenderLogin.Validate(); err != nil {
		bad("%w", err)
	} else if c.SenderLogin != SenderLoginOff && len(c.Auth) == 0 {
		bad("sender_login: nobody logs in here; set auth")
	}
	if (c.ClientCA != "" || len(c.ClientCertRelay) > 0) && !secure {
		bad("client_ca and client_cert_relay need TLS; set tls_cert and tls_key")
	}
	for _, entry := range c.ClientCertRelay {
		if err := c.checkCert(entry); err != nil {
			bad("client_cert_relay: %w", err)
		}
	}
}

func (c Config) checkCert(entry string) error {
	if _, ok := fingerprint(entry); ok {
		return nil
	}
	kind, rest, ok := strings.Cut(entry, "=")
	if !ok || kind == "" || rest == "" || strings.HasPrefix(entry, "sha256:") {
		return fmt.Errorf(`%q; write "CN=relay.example.com", a whole subject, or "sha256:" and 64 hexadecimal digits`, entry)
	}
	if c.ClientCA == "" {
		return errors.New("anybody can have a certificate with a name; set client_ca, or give a fingerprint")
	}
	return nil
}
