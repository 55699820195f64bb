package forward

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

	"golang.org/x/text/unicode/norm"
)

const scramSHA256 = "SCRAM-SHA-256"

// scram is the client's part of SCRAM-SHA-256 (RFC 5802, RFC 7677), without
// channel binding. It is a sasl.Client. The server proves that it knows the
// password, too.
type scram struct {
	user, password string
	nonce          string // "": a random one

	step      int
	bare      string // client-first-message-bare
	signature []byte // what the server has to answer
	proved    bool   // and did
}

// Iterations of the key: RFC 7677 4 has the least; above the most, a server
// would only keep us busy.
const (
	minIterations = 4096
	maxIterations = 1000000
)

// Start returns the first message.
func (s *scram) Start() (mech string, ir []byte, err error) {
	if s.nonce == "" {
		s.nonce = rand.Text()
	}
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(norm.NFKC.String(s.user))
	s.bare = "n=" + name + ",r=" + s.nonce
	return scramSHA256, []byte("n,," + s.bare), nil
}

// Next answers a message of the server.
func (s *scram) Next(challenge []byte) ([]byte, error) {
	s.step++
	switch s.step {
	case 1:
		return s.prove(string(challenge))
	case 2:
		return []byte{}, s.check(string(challenge))
	}
	return nil, errors.New("a message too many")
}

// prove answers server-first-message: r=nonce,s=salt,i=iterations.
func (s *scram) prove(first string) ([]byte, error) {
	parts := strings.Split(first, ",")
	if len(parts) < 3 {
		return nil, errors.New("syntax error in the server's first message")
	}
	nonce, isNonce := strings.CutPrefix(parts[0], "r=")
	salt64, isSalt := strings.CutPrefix(parts[1], "s=")
	count, isCount := strings.CutPrefix(parts[2], "i=")
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if !isNonce || !isSalt || !isCount || err != nil || len(salt) == 0 {
		return nil, errors.New("syntax error in the server's first message")
	}
	if !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return nil, errors.New("the server's nonce does not begin with ours")
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < minIterations || n > maxIterations {
		return nil, fmt.Errorf("%.20q iterations: want %d to %d", count, minIterations, maxIterations)
	}
	salted, err := pbkdf2.Key(sha256.New, norm.NFKC.String(s.password), salt, n, sha256.Size)
	if err != nil {
		return nil, err
	}
	final := "c=biws,r=" + nonce // "n,,"
	message := s.bare + "," + first + "," + final
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, clientKey, mac(stored[:], message))
	s.signature = mac(mac(salted, "Server Key"), message)
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// check reads server-final-message: v=signature or e=error.
func (s *scram) check(final string) error {
	value, _, _ := strings.Cut(final, ",")
	if e, ok := strings.CutPrefix(value, "e="); ok {
		return fmt.Errorf("the server says %.60q", e)
	}
	value, ok := strings.CutPrefix(value, "v=")
	got, err := base64.StdEncoding.DecodeString(value)
	if !ok || err != nil || !hmac.Equal(got, s.signature) {
		return errors.New("the server does not know the password either: is it the right one?")
	}
	s.proved = true
	return nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message)) // never fails
	return h.Sum(nil)
}
