package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate is a self-signed one, as files and for a server of our own.
type Certificate struct {
	Cert, Key string // PEM files
	Pair      tls.Certificate
	Pool      *x509.CertPool // that trusts it
}

// NewCertificate makes a certificate for the names given and for 127.0.0.1, and
// leaves its files in dir.
func NewCertificate(dir string, names ...string) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: append(names, "localhost")[0]},
		DNSNames:     names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	c := &Certificate{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Pool: x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := os.WriteFile(c.Cert, certPEM, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.Key, keyPEM, 0o600); err != nil {
		return nil, err
	}
	if !c.Pool.AppendCertsFromPEM(certPEM) {
		return nil, fmt.Errorf("testkit: certificate: not usable")
	}
	c.Pair, err = tls.X509KeyPair(certPEM, keyPEM)
	return c, err
}
