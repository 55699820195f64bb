package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Record is a public key as the DNS has it (RFC 6376 3.6.1).
type Record struct {
	Type    KeyType
	Key     crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey; nil: revoked
	Hashes  []string         // h=; nil: any
	Service []string         // s=; nil: any
	Flags   []string         // t=: "y" it is only tried out, "s" i= must be d=
}

// KeyType is how a key signs.
type KeyType string

// The types, as k= has them.
const (
	RSA     KeyType = "rsa"
	Ed25519 KeyType = "ed25519"
)

// ErrRecord is wrapped by all that ParseRecord refuses.
var ErrRecord = errors.New("key record")

// maxRecord bounds what is parsed: a key of 4096 bits has less than 800 bytes
// (a longer one is there to cost us time).
const maxRecord = 4 << 10

// ParseRecord reads the text of a TXT record.
func ParseRecord(text string) (Record, error) {
	if len(text) > maxRecord {
		return Record{}, fmt.Errorf("%w: longer than %d bytes", ErrRecord, maxRecord)
	}
	t, err := ParseTags(text)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if v, ok := t["v"]; ok && v != "DKIM1" {
		return Record{}, fmt.Errorf("%w: v= is not DKIM1", ErrRecord)
	}
	r := Record{Type: KeyType(strings.ToLower(t["k"])), Hashes: t.List("h"), Service: t.List("s"), Flags: t.List("t")}
	if r.Type == "" {
		r.Type = RSA
	}
	p, ok := t["p"]
	switch {
	case !ok:
		return Record{}, fmt.Errorf("%w: no p=", ErrRecord)
	case compact(p) == "":
		return r, nil
	}
	der, err := t.Base64("p")
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r.Key, err = parsePublic(r.Type, der)
	return r, err
}

func parsePublic(kind KeyType, der []byte) (crypto.PublicKey, error) {
	switch kind {
	case Ed25519: // the bare key (RFC 8463 4.2)
		if len(der) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: an Ed25519 key of %d bytes", ErrRecord, len(der))
		}
		return ed25519.PublicKey(der), nil
	case RSA:
		if key, err := x509.ParsePKIXPublicKey(der); err == nil {
			if r, ok := key.(*rsa.PublicKey); ok {
				return r, nil
			}
			return nil, fmt.Errorf("%w: k= says rsa, the key is another", ErrRecord)
		}
		key, err := x509.ParsePKCS1PublicKey(der) // RFC 6376's own words; rare
		if err != nil {
			return nil, fmt.Errorf("%w: p= is no key", ErrRecord)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: k= of an unknown kind", ErrRecord)
}

// ForMail reports whether the key may sign mail with SHA-256.
func (r Record) ForMail() error {
	switch {
	case r.Key == nil:
		return fmt.Errorf("%w: revoked", ErrRecord)
	case r.Hashes != nil && !slices.Contains(r.Hashes, "sha256"):
		return fmt.Errorf("%w: h= does not allow sha256", ErrRecord)
	case r.Service != nil && !slices.Contains(r.Service, "*") && !slices.Contains(r.Service, "email"):
		return fmt.Errorf("%w: s= is not for mail", ErrRecord)
	}
	return nil
}

// Check verifies a signature over the SHA-256 of what was signed. An RSA key
// outside of the limits, in bits, does not count (RFC 8301 3.2).
func (r Record) Check(digest [sha256.Size]byte, signature []byte, minBits, maxBits int) error {
	if err := r.ForMail(); err != nil {
		return err
	}
	switch key := r.Key.(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(key, digest[:], signature) {
			return errors.New("the signature does not fit")
		}
		return nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minBits || n > maxBits {
			return fmt.Errorf("%w: RSA with %d bits", ErrRecord, n)
		}
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
			return errors.New("the signature does not fit")
		}
		return nil
	}
	return fmt.Errorf("%w: no key", ErrRecord)
}
