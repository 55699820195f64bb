package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Key signs in the name of a domain.
type Key struct {
	Domain   string // d=, in lower case, A-labels
	Selector string // s=
	Private  crypto.Signer
}

// MinRSABits is the shortest RSA key that may sign (RFC 8301 3.2).
const MinRSABits = 1024

// Type tells how k signs.
func (k *Key) Type() KeyType {
	if _, ok := k.Private.(ed25519.PrivateKey); ok {
		return Ed25519
	}
	return RSA
}

// Algorithm is a=.
func (k *Key) Algorithm() string { return string(k.Type()) + "-sha256" }

// SignDigest signs a SHA-256.
func (k *Key) SignDigest(digest [sha256.Size]byte) ([]byte, error) {
	var opts crypto.SignerOpts = crypto.SHA256
	if k.Type() == Ed25519 {
		opts = crypto.Hash(0) // the digest is the message (RFC 8463 3)
	}
	sig, err := k.Private.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		return nil, fmt.Errorf("dkim: signing for %s: %w", k.Domain, err)
	}
	return sig, nil
}

// Name is where the DNS has the public key.
func (k *Key) Name() string { return RecordName(k.Selector, k.Domain) }

// RecordName is where the DNS has the key of a selector.
func RecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// Record is the text that the DNS is to have.
func (k *Key) Record() (string, error) {
	var der []byte
	switch pub := k.Private.Public().(type) {
	case ed25519.PublicKey:
		der = pub
	default:
		var err error
		if der, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return "", fmt.Errorf("dkim: public key of %s: %w", k.Name(), err)
		}
	}
	return "v=DKIM1; k=" + string(k.Type()) + "; p=" + base64.StdEncoding.EncodeToString(der), nil
}

// Generate makes a private key; bits are those of an RSA key.
func Generate(kind KeyType, bits int) (crypto.Signer, error) {
	switch {
	case kind == Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case kind != RSA:
		return nil, fmt.Errorf("dkim: %q is not one of rsa, ed25519", string(kind))
	case bits < MinRSABits || bits > 4096:
		return nil, fmt.Errorf("dkim: an RSA key with %d bits; want %d to 4096", bits, MinRSABits)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// EncodeKey writes a private key as PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("dkim: private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

const maxKeyFile = 64 << 10

// ReadKeyFile reads a private key in PEM. The file must not be open to others:
// whoever reads it can sign in the domain's name.
func ReadKeyFile(path string) (crypto.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dkim: key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("dkim: key: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("dkim: key %s: not a file", path)
	case info.Mode().Perm()&0o037 != 0:
		return nil, fmt.Errorf("dkim: key %s: its mode lets others read or change it; want 0600 (or 0640)", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("dkim: key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("dkim: key %s: %w", path, err)
	}
	return key, nil
}

// ParseKey reads a private key in PEM, as our keygen, opendkim-genkey and openssl
// write it.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no key in PEM form")
	}
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("RSA key: %w", err)
		}
		return key, checkKey(key)
	}
	if strings.Contains(block.Type, "ENCRYPTED") {
		return nil, errors.New("it wants a passphrase; store it without one")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", block.Type, err)
	}
	key, ok := any.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that can't sign")
	}
	return key, checkKey(key)
}

func checkKey(key crypto.Signer) error {
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return nil
	case *rsa.PrivateKey:
		if n := key.N.BitLen(); n < MinRSABits {
			return fmt.Errorf("RSA with %d bits: nobody may believe less than %d (RFC 8301)", n, MinRSABits)
		}
		return nil
	}
	return errors.New("neither RSA nor Ed25519")
}
