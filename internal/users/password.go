package users

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// hash is an argon2id hash in the form that other programs read, too:
// $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH.
type hash struct {
	memory, time uint32 // memory in KiB
	threads      uint8
	salt, sum    []byte
}

// What new passwords get, and the most that is computed for one in a file.
const (
	newMemory, newTime, newThreads = 19 * 1024, 2, 1
	maxMemory, maxTime, maxThreads = 256 * 1024, 20, 16

	saltSize, sumSize = 16, 32
)

func newHash(password string) hash {
	h := hash{memory: newMemory, time: newTime, threads: newThreads, salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.salt) // never fails
	h.sum = h.compute(password, sumSize)
	return h
}

func (h hash) compute(password string, size int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(size))
}

func (h hash) fits(password string) bool {
	return subtle.ConstantTimeCompare(h.compute(password, len(h.sum)), h.sum) == 1
}

func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum))
}

func parseHash(s string) (h hash, err error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errors.New("want $argon2id$v=19$…; make one with \"gatepost user add\"")
	}
	for _, p := range strings.Split(f[3], ",") {
		key, value, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return h, fmt.Errorf("parameter %q", p)
		}
		switch key {
		case "m":
			h.memory = uint32(n)
		case "t":
			h.time = uint32(n)
		case "p":
			h.threads = uint8(min(n, 255))
		default:
			return h, fmt.Errorf("parameter %q", p)
		}
	}
	if h.memory < 8*uint32(h.threads) || h.memory > maxMemory || h.time < 1 || h.time > maxTime || h.threads < 1 || h.threads > maxThreads {
		return h, fmt.Errorf("parameters %s are too small or too large", f[3])
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(f[4]); err == nil {
		h.sum, err = base64.RawStdEncoding.DecodeString(f[5])
	}
	if err != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return h, errors.New("a salt or hash that is none")
	}
	return h, nil
}

// Credentials are what is kept of a user for SCRAM-SHA-256 (RFC 5802 3). They
// prove a password; they are none.
type Credentials struct {
	Iterations           int
	Salt                 []byte
	StoredKey, ServerKey []byte
}

const (
	scramIterations = 15000
	minIterations   = 4096 // RFC 7677 4
	maxIterations   = 1_000_000
	scramPrefix     = "SCRAM-SHA-256$"
)

func newCredentials(password string) (Credentials, error) {
	c := Credentials{Iterations: scramIterations, Salt: make([]byte, saltSize)}
	_, _ = rand.Read(c.Salt)
	salted, err := pbkdf2.Key(sha256.New, password, c.Salt, c.Iterations, sha256.Size)
	if err != nil {
		return c, err
	}
	key := sha256.Sum256(mac(salted, "Client Key"))
	c.StoredKey, c.ServerKey = key[:], mac(salted, "Server Key")
	return c, nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// Check compares a client's proof for a message and returns the proof that the
// server knows the user, too (RFC 5802 3).
func (c Credentials) Check(message string, proof []byte) (signature []byte, ok bool) {
	signature = mac(c.ServerKey, message)
	if len(proof) != sha256.Size {
		return signature, false
	}
	clientKey := make([]byte, sha256.Size)
	subtle.XORBytes(clientKey, proof, mac(c.StoredKey, message))
	stored := sha256.Sum256(clientKey)
	return signature, subtle.ConstantTimeCompare(stored[:], c.StoredKey) == 1
}

// String is the form of PostgreSQL: SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER.
func (c Credentials) String() string {
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", scramPrefix, c.Iterations, b(c.Salt), b(c.StoredKey), b(c.ServerKey))
}

func parseCredentials(s string) (c Credentials, err error) {
	rest, ok := strings.CutPrefix(s, scramPrefix)
	head, keys, ok2 := strings.Cut(rest, "$")
	count, salt, ok3 := strings.Cut(head, ":")
	stored, server, ok4 := strings.Cut(keys, ":")
	bad := errors.New("want SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER, or -")
	if !ok || !ok2 || !ok3 || !ok4 {
		return c, bad
	}
	if c.Iterations, err = strconv.Atoi(count); err != nil || c.Iterations < minIterations || c.Iterations > maxIterations {
		return c, fmt.Errorf("%q iterations: want %d to %d", count, minIterations, maxIterations)
	}
	for text, to := range map[string]*[]byte{salt: &c.Salt, stored: &c.StoredKey, server: &c.ServerKey} {
		if *to, err = base64.StdEncoding.DecodeString(text); err != nil {
			return c, bad
		}
	}
	if len(c.Salt) < 8 || len(c.Salt) > 64 || len(c.StoredKey) != sha256.Size || len(c.ServerKey) != sha256.Size {
		return c, bad
	}
	return c, nil
}
