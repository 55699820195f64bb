package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// issuer makes certificates.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// issue makes one for a client that ends so long from now.
func (i *issuer) issue(name pkix.Name, ends time.Duration, usage x509.ExtKeyUsage) *tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: name, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(ends),
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func fingerprintOf(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// What a client shows changes what it may, never whether it is served.
func TestClientCertificates(t *testing.T) {
	ours, other := newIssuer(t), newIssuer(t)
	name := pkix.Name{CommonName: "Relay.b.example"}
	whole := pkix.Name{CommonName: "two", Organization: []string{"b, example"}}
	pinned := other.issue(pkix.Name{CommonName: "pinned"}, time.Hour, x509.ExtKeyUsageServerAuth)
	for _, tt := range []struct {
		name            string
		shown           *tls.Certificate
		verified, relay bool
	}{
		{"none", nil, false, false},
		{"the one named", ours.issue(name, time.Hour, x509.ExtKeyUsageClientAuth), true, true},
		{"a whole subject", ours.issue(whole, time.Hour, x509.ExtKeyUsageClientAuth), true, true},
		{"another one of the issuer", ours.issue(pkix.Name{CommonName: "x"}, time.Hour, x509.ExtKeyUsageClientAuth), true, false},
		{"the name from another issuer", other.issue(name, time.Hour, x509.ExtKeyUsageClientAuth), false, false},
		{"expired", ours.issue(name, -time.Hour, x509.ExtKeyUsageClientAuth), false, false},
		{"of a server", ours.issue(name, time.Hour, x509.ExtKeyUsageServerAuth), false, false},
		{"by its fingerprint", pinned, false, true},
		{"a name with more in it", ours.issue(pkix.Name{CommonName: "x,CN=relay.b.example"}, time.Hour, x509.ExtKeyUsageClientAuth), true, false},
		{"the name elsewhere in the subject", ours.issue(pkix.Name{CommonName: "x", Organization: []string{"relay.b.example"}}, time.Hour, x509.ExtKeyUsageClientAuth), true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *Config, _ *gate) {
				c.Certificate, c.Key = certificate(t)
				c.ClientCA = ours.file
				c.ClientCertRelay = []string{"CN=relay.b.example", whole.String(), fingerprintOf(pinned)}
			})
			var got mail.TLS
			g.handler.mailFrom = func(tx *mail.Transaction) mail.Verdict {
				got = *tx.Session.TLS
				return mail.Verdict{}
			}
			c := g.hello()
			c.do("STARTTLS", "220")
			cfg := &tls.Config{InsecureSkipVerify: true}
			if tt.shown != nil {
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.shown, nil }
			}
			conn := tls.Client(c.conn, cfg)
			c.conn, c.r = conn, bufio.NewReader(conn)
			c.do("EHLO client.example", "250")
			c.do("MAIL FROM:<s@a.example>", "250")
			if got.Verified != tt.verified || got.Relay != tt.relay || (got.Subject != "") != (tt.shown != nil) {
				t.Errorf("subject %q, verified %v, relay %v; want %v, %v", got.Subject, got.Verified, got.Relay, tt.verified, tt.relay)
			}
		})
	}
}

func TestSenderLogin(t *testing.T) {
	for _, tt := range []struct {
		name         string
		choice       SenderLogin
		user, sender string
		want         string
	}{
		{"her own", SenderLoginReject, "alice@b.example", "alice@b.example", "250"},
		{"her own, in capitals", SenderLoginReject, "alice@b.example", "Alice@B.Example", "250"},
		{"a notice", SenderLoginReject, "alice@b.example", "", "250"},
		{"another one of hers", SenderLoginReject, "alice@b.example", "sales@b.example", "250"},
		{"her domain", SenderLoginReject, "alice@b.example", "anything@shop.example", "250"},
		{"a domain below", SenderLoginReject, "alice@b.example", "x@sub.shop.example", "553 5.7.1"},
		{"somebody else", SenderLoginReject, "alice@b.example", "boss@b.example", "553 5.7.1"},
		{"a name that is no address", SenderLoginReject, "bob", "bob@b.example", "553 5.7.1"},
		{"only warned", SenderLoginWarn, "alice@b.example", "boss@b.example", "250"},
		{"off", SenderLoginOff, "alice@b.example", "boss@b.example", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, b := authGate(t, func(c *Config, _ *gate) { c.SenderLogin = tt.choice })
			b.senders = map[string][]string{"alice@b.example": {"sales@b.example", "@shop.example"}}
			c := g.secured()
			c.do("AUTH PLAIN "+plainLogin(tt.user, b.passwords[tt.user]), "235")
			c.do("MAIL FROM:<"+tt.sender+">", tt.want)
			if warned := strings.Contains(g.log.String(), "sender is not the user's"); warned != (tt.choice == SenderLoginWarn) {
				t.Errorf("warned %v", warned)
			}
		})
	}
	t.Run("nobody can tell", func(t *testing.T) {
		g, b := authGate(t, func(c *Config, _ *gate) { c.SenderLogin = SenderLoginReject })
		c := g.secured()
		c.do("AUTH PLAIN "+plainLogin("bob", "builder"), "235")
		b.err = errors.New("down")
		c.do("MAIL FROM:<bob@b.example>", "451 4.3.0")
	})
	t.Run("who is not logged in is not asked", func(t *testing.T) {
		g, _ := authGate(t, func(c *Config, _ *gate) { c.SenderLogin = SenderLoginReject })
		g.secured().do("MAIL FROM:<anybody@a.example>", "250")
	})
}
